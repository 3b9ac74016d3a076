//! `kill -9` at any moment, with sends on their way: while the log is written, between a commit and its answer, while
//! the database is opened. Everybody comes back with one number per conversation and sends again what had no answer.
//!
//! `TORTURE_ROUNDS` says how often, `TORTURE_SEED` replays the choice of moments.

use std::{
    collections::HashMap,
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use loadtest::{
    history::{Record, What},
    random::Random,
};

use crate::{
    rig::{PATIENCE, Rig, judge},
    talk::Talk,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_the_node_is_killed_at_any_moment() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("TORTURE_ROUNDS").unwrap_or(30);
    let seed = number("TORTURE_SEED").unwrap_or_else(|| Random::unseeded().bits());
    println!("TORTURE_ROUNDS={rounds} TORTURE_SEED={seed}");
    let mut random = Random::seeded(seed);
    let mut rig = Rig::start(&[]);
    let talk = Talk::start(&rig, &mut random).await;

    let (mut in_flight, mut recoveries) = (InFlight::default(), Vec::new());
    let started = Instant::now();
    while (in_flight.counts.len() as u64) < rounds {
        talk.acks(1 + random.below(60)).await;
        tokio::time::sleep(Duration::from_micros(random.below(5000))).await;
        let (killed, killed_us) = (Instant::now(), rig.clock.now_us());
        tokio::task::block_in_place(|| {
            rig.node.kill();
            if random.below(4) == 0 {
                kill_while_opening(&rig, Duration::from_micros(random.below(60_000)));
            }
        });
        rig.restart();
        talk.acks(1).await;
        recoveries.push(killed.elapsed());
        in_flight.count(rig.news(), killed_us);
        assert!(in_flight.none <= rounds, "most kills found nothing in flight: {:?}", in_flight.counts);
    }
    let took = started.elapsed();
    let history = talk.finish(&mut rig).await;
    let stored = history.records.iter().filter(|r| matches!(r.what, What::Acked { dup: true, .. })).count();
    recoveries.sort_unstable();
    println!(
        "{rounds} kills and {} idle ones in {took:?}; in flight at each: {:?}; answers `dup`: {stored}; kill to next \
         ack: median {:?}, longest {:?}",
        in_flight.none,
        in_flight.counts,
        recoveries[recoveries.len() / 2],
        recoveries[recoveries.len() - 1],
    );
    judge("kills", &history);
    assert!(recoveries[recoveries.len() - 1] < PATIENCE);
}

/// How many sends were in flight at each kill: gone before it, and without an answer when their socket ended.
#[derive(Default)]
struct InFlight {
    left: HashMap<(u32, u64), u64>,
    counts: Vec<usize>,
    /// Kills that found nothing in flight prove nothing, and do not count.
    none: u64,
}

impl InFlight {
    fn count(&mut self, news: &[Record], killed_us: u64) {
        let mut open = 0;
        for Record { at_us, device, what, .. } in news {
            match what {
                What::Sent { attempt, .. } => {
                    self.left.insert((*device, *attempt), *at_us);
                }
                What::Unknown { attempt, .. } => {
                    let sent_us = self.left.remove(&(*device, *attempt));
                    open += usize::from(*at_us >= killed_us && sent_us.is_some_and(|sent| sent < killed_us));
                }
                What::Acked { attempt, .. } | What::Refused { attempt, .. } => {
                    self.left.remove(&(*device, *attempt));
                }
                _ => {}
            }
        }
        if open > 0 { self.counts.push(open) } else { self.none += 1 }
    }
}

/// A process that is killed before it is ready, whatever it was doing.
fn kill_while_opening(rig: &Rig, after: Duration) {
    let mut command = rig.starter.command(&["serve"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}
