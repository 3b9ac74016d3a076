//! A real Cassandra whose clock is ten minutes ahead, and is put right while everybody talks.

use loadtest::{random::Random, servers::Server};

use crate::{
    rig::{Rig, judge},
    stores::Stores,
    talk::Talk,
};

const MINUTES_10: i64 = 600;

/// Whether a line says that a server's clock is ahead by about ten minutes.
fn is_told(line: &str) -> bool {
    let Some((before, _)) = line.split_once(" s ahead of this machine's; keep all of them in time (NTP)") else {
        return false;
    };
    let seconds = before.rsplit(' ').next().and_then(|seconds| seconds.parse::<i64>().ok());
    before.contains("the clock of 127.0.0.1:") && seconds.is_some_and(|seconds| (seconds - MINUTES_10).abs() <= 5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_on_a_server_whose_clock_is_ahead_by_minutes_and_put_right() {
    let mut cassandra = tokio::task::block_in_place(|| Server::cassandra_off_by(MINUTES_10));
    let stores = Stores::with(Some(&cassandra), None, 0).await;
    let (starter, place) = stores.starter(&[]);
    let check = tokio::task::block_in_place(|| starter.command(&["check"]).output()).unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("FAIL ") && is_told(line)), "{said}");

    let mut rig = tokio::task::block_in_place(|| Rig::of(starter, place));
    let log = rig.node.log();
    let warned: Vec<&str> = log.lines().filter(|line| is_told(line)).collect();
    assert!(warned.len() == 1 && warned[0].contains("WARN"), "{log}");
    let talk = Talk::start(&rig, &mut Random::unseeded()).await;
    talk.acks(200).await;
    tokio::task::block_in_place(|| cassandra.set_clock(0));
    talk.acks(200).await;
    let history = talk.finish(&mut rig).await;
    assert!(!rig.node.log().lines().any(is_told), "the node was started again, on a clock that is right");
    judge("clocks", &history);
}
