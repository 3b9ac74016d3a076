//! SIGTERM, SIGSTOP and SIGCONT while everybody talks.

use std::time::{Duration, Instant};

use loadtest::{history::What, random::Random};

use crate::{
    rig::{PATIENCE, Rig, judge},
    talk::Talk,
};

/// How often each is done.
const ROUNDS: u32 = 3;
/// Longer than anything a client would take for a hiccup.
const PAUSE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_says_4001_to_everybody_exits_0_and_loses_nothing() {
    let mut rig = Rig::start(&[("drain.notice_ms", "100")]);
    let talk = Talk::start(&rig, &mut Random::seeded(1)).await;
    for _ in 0..ROUNDS {
        talk.acks(50).await;
        rig.news();
        let asked = Instant::now();
        let status = tokio::task::block_in_place(|| rig.node.terminate(PATIENCE)).unwrap();
        println!("drained in {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0), "{}", rig.node.log());
        rig.restart();
        talk.acks(50).await;
        let news = rig.news();
        let ends: Vec<_> =
            news.iter().filter_map(|r| if let What::Closed { code } = r.what { Some(code) } else { None }).collect();
        let told = ends.iter().filter(|code| **code == Some(4001)).count();
        assert!(told >= 8, "each of the eight devices is told: {ends:?}");
        assert_eq!(told, ends.iter().flatten().count(), "nothing else is told: {ends:?}");
    }
    judge("drain", &talk.finish(&mut rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_for_three_seconds_goes_on() {
    let mut rig = Rig::start(&[]);
    let talk = Talk::start(&rig, &mut Random::seeded(2)).await;
    for _ in 0..ROUNDS {
        talk.acks(50).await;
        rig.news();
        rig.node.signal("STOP").unwrap();
        tokio::time::sleep(PAUSE).await;
        rig.node.signal("CONT").unwrap();
        let woken = Instant::now();
        talk.acks(50).await;
        let ended = rig.news().iter().filter(|r| matches!(r.what, What::Closed { .. })).count();
        println!("50 acknowledgements {:?} after it went on; sockets lost: {ended}", woken.elapsed());
        assert_eq!(ended, 0, "a pause below the ping's deadline ends no socket");
    }
    judge("pause", &talk.finish(&mut rig).await);
}
