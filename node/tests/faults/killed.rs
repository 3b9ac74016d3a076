//! `kill -9`: of one node again and again, of all at once, and of all but one; and all are started at once.

use std::time::{Duration, Instant};

use loadtest::random::Random;

use crate::{
    cluster::N_NODES,
    scene::{Scene, is_long},
};

/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(50);
/// Who is left alone of three has no majority and waits until the others' signs of life stand still for 30 s.
const ALONE_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_one_node_after_the_other_is_killed() {
    let mut scene = Scene::start("killed").await;
    let mut random = Random::unseeded();
    let mut slowest = Duration::ZERO;
    for round in 0..if is_long() { 3 * N_NODES } else { 2 } {
        let (victim, other) = (round % N_NODES, (round + 1) % N_NODES);
        scene.talk.acks(1 + random.below(40)).await;
        let killed = Instant::now();
        scene.cluster.kill(victim);
        slowest = slowest.max(scene.write(other, killed, &format!("n{victim} is killed")).await);
        let started = Instant::now();
        scene.cluster.restart(&[victim]);
        scene.tell(format_args!("n{victim} ready again {:.1?} after its start", started.elapsed()));
        scene.write(victim, started, "the same node").await;
    }
    scene.heals(Instant::now()).await;
    scene.tell(format_args!("kill to accepted writes, the slowest of all: {slowest:.1?}"));
    assert!(slowest < ACCEPTED_WITHIN);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_all_start_at_once_and_are_killed_at_once_or_but_for_one() {
    let mut scene = Scene::start_at_once("all at once").await;
    let killed = Instant::now();
    (0..N_NODES).for_each(|n| scene.cluster.kill(n));
    scene.cluster.restart(&[0, 1, 2]);
    scene.tell(format_args!("all ready again {:.1?} after they were killed", killed.elapsed()));
    for n in 0..N_NODES {
        scene.write(n, killed, "all were killed and started at once").await;
    }
    scene.heals(killed).await;
    if is_long() {
        let killed = Instant::now();
        scene.cluster.kill(1);
        scene.cluster.kill(2);
        let accepted = scene.write(0, killed, "n1 and n2 are killed").await;
        assert!(accepted < ALONE_WITHIN);
        scene.talk.acks(50).await;
        let started = Instant::now();
        scene.cluster.restart(&[1, 2]);
        for n in [1, 2] {
            scene.write(n, started, "the same nodes").await;
        }
        scene.heals(started).await;
    }
    scene.finish().await;
}
