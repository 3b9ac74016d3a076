//! `kill -9`: of one node again and again, and of all but one.

use std::time::{Duration, Instant};

use loadtest::random::Random;

use crate::{
    cluster::{Cluster, N_NODES},
    probes::Probes,
    talk::Talk,
};

/// Every node twice.
const ROUNDS: usize = 2 * N_NODES;
/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(20);
/// Who is left alone of three has no majority and waits until the others' signs of life stand still for 30 s.
const ALONE_WITHIN: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_one_node_after_the_other_is_killed() {
    let mut cluster = Cluster::start();
    let mut probes = Probes::start(&cluster).await;
    let mut random = Random::unseeded();
    let talk = Talk::start(&cluster.rig, &mut random).await;
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let (victim, other) = (round % N_NODES, (round + 1) % N_NODES);
        talk.acks(1 + random.below(40)).await;
        let killed = Instant::now();
        cluster.kill(victim);
        slowest = slowest.max(probes.write(other, killed, &format!("n{victim} killed")).await);
        let started = Instant::now();
        cluster.restart(&[victim]);
        println!("n{victim} ready again {:?} after its start", started.elapsed());
        probes.write(victim, started, "the same node").await;
    }
    println!("kill to accepted writes, the slowest of all: {slowest:?}");
    assert!(slowest < ACCEPTED_WITHIN);
    probes.finish(talk, cluster, "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_all_but_one_are_killed() {
    let mut cluster = Cluster::start();
    let mut probes = Probes::start(&cluster).await;
    let talk = Talk::start(&cluster.rig, &mut Random::unseeded()).await;
    talk.acks(50).await;
    let killed = Instant::now();
    cluster.kill(1);
    cluster.kill(2);
    let accepted = probes.write(0, killed, "n1 and n2 killed").await;
    assert!(accepted < ALONE_WITHIN);
    talk.acks(50).await;
    let started = Instant::now();
    cluster.restart(&[1, 2]);
    println!("both ready again {:?} after their start", started.elapsed());
    for n in [1, 2] {
        probes.write(n, started, "the same nodes").await;
    }
    probes.finish(talk, cluster, "alone").await;
}
