//! SIGSTOP: a node stands still for so long that its peers take it out, and wakes as one that believes it still is the
//! owner. It must commit nothing, and come back as another run.

use std::time::{Duration, Instant};

use loadtest::random::Random;

use crate::{cluster::Cluster, probes::Probes, talk::Talk};

/// Well above `cluster.dead_ms`.
const PAUSE: Duration = Duration::from_secs(7);
/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_a_frozen_node_is_replaced_and_wakes() {
    let mut cluster = Cluster::start();
    let mut probes = Probes::start(&cluster).await;
    let talk = Talk::start(&cluster.rig, &mut Random::unseeded()).await;
    for (victim, other) in [(1, 2), (2, 0)] {
        talk.acks(50).await;
        let frozen = Instant::now();
        cluster.node(victim).signal("STOP").unwrap();
        let accepted = probes.write(other, frozen, &format!("n{victim} frozen")).await;
        assert!(accepted < ACCEPTED_WITHIN);
        tokio::time::sleep(PAUSE.saturating_sub(frozen.elapsed())).await;
        cluster.node(victim).signal("CONT").unwrap();
        let woken = Instant::now();
        talk.acks(50).await;
        probes.write(victim, woken, "the woken node").await;
        println!("n{victim} was frozen for {:?}", woken - frozen);
    }
    probes.finish(talk, cluster, "frozen").await;
}
