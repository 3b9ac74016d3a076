//! A rolling restart: every node is asked to end by SIGTERM and started again, one after the other, while everybody talks.
//! Nothing is lost or doubled, and what it costs in waiting is printed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use loadtest::history::{Record, What};
use protocol::{ClientId, ConversationId, UserId};

use crate::{cluster::N_NODES, scene::Scene, support::get};

/// Sends that are looked at before the first restart, and between two.
const ACKS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_every_node_is_restarted_one_after_the_other() {
    let mut scene = Scene::start_with("rolling", &[("drain.notice_ms", "300")]).await;
    let Scene { cluster, talk, .. } = &mut scene;
    talk.acks(ACKS / 4).await;
    cluster.rig.news();
    for _ in 0..2 {
        talk.acks(ACKS).await;
    }
    let mut records = cluster.rig.news().to_vec();
    let began_us = cluster.rig.clock.now_us();
    for n in 0..N_NODES {
        let asked = Instant::now();
        let status = cluster.terminate(n);
        assert_eq!(status.code(), Some(0), "{}", cluster.node(n).log());
        let drained = asked.elapsed();
        cluster.restart(&[n]);
        let admin = cluster.node(n).admin_address().to_owned();
        assert_eq!(tokio::task::block_in_place(|| get(&admin, "/ready")).status, 200);
        println!("n{n} drained after {drained:.1?}, ready again after {:.1?}", asked.elapsed());
        talk.acks(ACKS / 2).await;
    }
    let ended_us = cluster.rig.clock.now_us();
    records.extend_from_slice(cluster.rig.news());
    let waits = Waits::of(&records);
    println!("sends before:              {}", waits.within(0, began_us));
    println!("sends during the restarts: {}", waits.within(began_us, ended_us));
    scene.finish().await;
}

/// When each send was begun, and how long after it was acknowledged, over all its attempts; microseconds.
struct Waits(Vec<(u64, u64)>);

impl Waits {
    /// What is sent over REST has one node only and is not looked at.
    fn of(records: &[Record]) -> Waits {
        let mut begun: HashMap<(UserId, ConversationId, &ClientId), u64> = HashMap::new();
        let mut attempts = HashMap::new();
        let mut acked = HashMap::new();
        let mut by_time: Vec<_> = records.iter().collect();
        by_time.sort_by_key(|record| record.at_us);
        for record in by_time {
            match &record.what {
                What::Sent { attempt, c, cid, .. } if !cid.as_str().starts_with("rest-") => {
                    let key = (record.user, *c, cid);
                    begun.entry(key).or_insert(record.at_us);
                    attempts.insert((record.device, *attempt), key);
                }
                What::Acked { attempt, .. } => {
                    if let Some(key) = attempts.get(&(record.device, *attempt)) {
                        acked.entry(*key).or_insert(record.at_us);
                    }
                }
                _ => {}
            }
        }
        Waits(begun.iter().filter_map(|(key, at)| Some((*at, acked.get(key)? - at))).collect())
    }

    fn within(&self, from_us: u64, to_us: u64) -> String {
        let mut waits: Vec<_> = self.0.iter().filter(|(at, _)| (from_us..to_us).contains(at)).map(|w| w.1).collect();
        waits.sort_unstable();
        let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0);
        let [p50, p99, max] = [at(0.5), at(0.99), at(1.0 - f64::EPSILON)].map(Duration::from_micros);
        format!("{} of them, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}", waits.len())
    }
}
