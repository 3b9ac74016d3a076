//! Nothing bad happens: what is said on one node is heard on all. And all nodes come at once, first where there is
//! nothing, then after all of them were killed at once.

use std::time::Instant;

use loadtest::random::Random;

use crate::{cluster::Cluster, probes::Probes, talk::Talk};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_everybody_talks_across_three_nodes() {
    let cluster = Cluster::start();
    let probes = Probes::start(&cluster).await;
    let talk = Talk::start(&cluster.rig, &mut Random::seeded(1)).await;
    let begun = Instant::now();
    for _ in 0..5 {
        talk.acks(100).await;
    }
    println!("500 acknowledgements after {:?}", begun.elapsed());
    probes.finish(talk, cluster, "together").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_all_nodes_start_at_once_and_are_killed_at_once() {
    let mut cluster = Cluster::start_at_once();
    let mut probes = Probes::start(&cluster).await;
    let talk = Talk::start(&cluster.rig, &mut Random::seeded(2)).await;
    talk.acks(100).await;
    let killed = Instant::now();
    (0..3).for_each(|n| cluster.kill(n));
    cluster.restart(&[0, 1, 2]);
    println!("all ready {:?} after they were killed", killed.elapsed());
    for n in 0..3 {
        probes.write(n, killed, "all killed and started at once").await;
    }
    talk.acks(50).await;
    probes.finish(talk, cluster, "at-once").await;
}
