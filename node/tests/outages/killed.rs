//! A real Cassandra dies by `kill -9` while everybody talks, and comes back on what it had written.

use std::time::{Duration, Instant};

use loadtest::{random::Random, servers::Server};

use crate::{rig::judge, stores::Stores, talk::Talk};

const KILLS: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_cassandra_is_killed_and_comes_back() {
    let cassandra = tokio::task::block_in_place(Server::cassandra);
    let stores = Stores::with(Some(&cassandra), None, 0).await;
    let mut rig = stores.rig(&[]);
    let talk = Talk::start(&rig, &mut Random::unseeded()).await;
    talk.acks(200).await;
    for _ in 0..KILLS {
        let killed = Instant::now();
        tokio::task::block_in_place(|| cassandra.kill());
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| cassandra.restart());
        let answers = Instant::now();
        talk.acks(1).await;
        println!("killed, answered after {:?}, the next send stored {:?} later", answers - killed, answers.elapsed());
        talk.acks(100).await;
    }
    let history = talk.finish(&mut rig).await;
    judge("killed-store", &history);
}
