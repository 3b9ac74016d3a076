//! `kill -9` at any moment, with sends on their way: while the log is written, between a commit and its answer, while
//! the database is opened. Everybody comes back with one number per conversation and sends again what had no answer.
//!
//! `TORTURE_ROUNDS` says how often, `TORTURE_SEED` replays the choice of moments.

use std::{
    collections::HashMap,
    env,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::Method;
use loadtest::{
    Device, Recorder, Rest, RestFailed,
    history::{Record, What},
    random::Random,
    rest::Call,
};
use protocol::{
    ClientId, Code, ConversationId, Seq, UserId, push,
    request::{Mark, Send, Target, Verb},
    rest::SignedIn,
};
use serde::de::IgnoredAny;
use tokio::{sync::watch, task::JoinSet};

use crate::rig::{PATIENCE, Part, Rig, judge, post};

/// Sends that every device keeps unanswered.
const OUTSTANDING: u64 = 3;
/// How long one send may take over all its attempts: several rounds.
const SEND_WITHIN: Duration = Duration::from_secs(60);

/// Somebody with two devices.
struct Person {
    user: UserId,
    devices: [Device; 2],
}

struct Run {
    rest: Rest,
    people: Vec<Person>,
    direct: ConversationId,
    group: ConversationId,
    acked: watch::Sender<u64>,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_the_node_is_killed_at_any_moment() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("TORTURE_ROUNDS").unwrap_or(30);
    let seed = number("TORTURE_SEED").unwrap_or_else(|| Random::unseeded().bits());
    println!("TORTURE_ROUNDS={rounds} TORTURE_SEED={seed}");
    let mut random = Random::seeded(seed);

    let mut rig = Rig::start(&[]);
    let users = rig.people(4).await;
    let run = start(&rig, &users).await;
    let mut talkers = JoinSet::new();
    for (who, device) in (0..run.people.len()).flat_map(|who| [(who, 0), (who, 1)]) {
        for line in 0..OUTSTANDING {
            let random = Random::seeded(random.bits());
            talkers.spawn(run.clone().talk(who, device, line, random));
        }
    }
    talkers.spawn(run.clone().talk_over_rest(rig.recorder(users[1].user.id)));
    talkers.spawn(run.clone().invite_and_remove(Random::seeded(random.bits())));

    let (mut in_flight, mut recoveries) = (InFlight::default(), Vec::new());
    let started = Instant::now();
    while (in_flight.counts.len() as u64) < rounds {
        run.acks(1 + random.below(60)).await;
        tokio::time::sleep(Duration::from_micros(random.below(5000))).await;
        let killed = Instant::now();
        let killed_us = rig.clock.now_us();
        tokio::task::block_in_place(|| {
            rig.node.kill();
            if random.below(4) == 0 {
                kill_while_opening(&rig, Duration::from_micros(random.below(60_000)));
            }
        });
        rig.restart();
        run.acks(1).await;
        recoveries.push(killed.elapsed());
        in_flight.count(rig.news(), killed_us);
        assert!(in_flight.none <= rounds, "most kills found nothing in flight: {:?}", in_flight.counts);
    }
    let took = started.elapsed();
    run.over.store(true, Ordering::Relaxed);
    while let Some(talker) = talkers.join_next().await {
        talker.unwrap();
    }
    // what is read back at the end comes from the disk
    rig.restart();

    let devices = || run.people.iter().flat_map(|person| person.devices.iter().map(|device| (person.user, device)));
    let direct = Part { c: run.direct, devices: devices().take(4).collect() };
    let group = Part { c: run.group, devices: devices().collect() };
    let logs = rig.settle(&[direct, group]).await;
    let history = rig.history(logs);
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

async fn start(rig: &Rig, users: &[SignedIn]) -> Arc<Run> {
    let (direct, group) = (rig.direct(&users[0], &users[1]).await, rig.group(users).await);
    let mut people = Vec::new();
    for user in users {
        let devices = [rig.device(user, 0, rig.target()).await, rig.device(user, 1, rig.target()).await];
        people.push(Person { user: user.user.id, devices });
    }
    let (acked, over) = (watch::Sender::new(0), AtomicBool::new(false));
    Arc::new(Run { rest: rig.rest.clone(), people, direct, group, acked, over })
}

impl Run {
    /// Waits for `n` more sends to be acknowledged.
    async fn acks(&self, n: u64) {
        let mut acked = self.acked.subscribe();
        let wanted = *acked.borrow() + n;
        let waited = tokio::time::timeout(PATIENCE, acked.wait_for(|acked| *acked >= wanted)).await;
        assert!(waited.is_ok(), "no {n} acknowledgements within {PATIENCE:?}");
    }

    /// Sends on and on, now and then on both devices at once; reads what others say.
    async fn talk(self: Arc<Run>, who: usize, device: usize, line: u64, mut random: Random) {
        let Person { devices, .. } = &self.people[who];
        let mine = &devices[device];
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let c = if who < 2 && random.below(3) == 0 { self.direct } else { self.group };
            let base = (random.below(2) == 0).then(|| Seq(mine.position(c)));
            let send = Send { base, ..post(c, &format!("{device}-{line}-{number}"), "as ever") };
            if random.below(8) == 0 {
                let (a, b) = tokio::join!(self.send(mine, &send), self.send(&devices[1 - device], &send));
                if let (Some(a), Some(b)) = (a, b) {
                    assert_eq!((a.seq, a.post_no), (b.seq, b.post_no), "G5: one client id on two devices");
                }
            } else {
                self.send(mine, &send).await;
            }
            if random.below(8) == 0 {
                self.read(mine, c).await;
            }
        }
    }

    /// `None`: refused for good, because the sender is no member now.
    async fn send(&self, device: &Device, send: &Send) -> Option<push::Sent> {
        match device.send(send, SEND_WITHIN).await {
            Ok(sent) => {
                self.acked.send_modify(|acked| *acked += 1);
                Some(sent)
            }
            Err(failed) => {
                assert!(!failed.is_unknown(), "no definite outcome within {SEND_WITHIN:?}: {failed}");
                assert_eq!(failed.code(), Some(Code::NotFound), "{failed}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
        }
    }

    /// On screen, delivered, read. A node that is not there hears nothing of it.
    async fn read(&self, device: &Device, c: ConversationId) {
        let Ok(handle) = device.live(PATIENCE).await else { return };
        let mark = Mark { c, seq: Seq(device.position(c)) };
        for verb in [Verb::Open(Target { c }), Verb::Ack(mark), Verb::Read(mark)] {
            let _ = handle.request::<IgnoredAny>(verb).await;
        }
    }

    /// The second person also sends over REST, one at a time.
    async fn talk_over_rest(self: Arc<Run>, recorder: Recorder) {
        let mut attempts = 0..;
        for number in 0.. {
            let cid = ClientId::try_from(format!("rest-{number}")).unwrap();
            while !self.post(&recorder, attempts.next().unwrap(), &cid).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if self.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// True if the outcome is definite. Every attempt is a stream of its own for the checker.
    async fn post(&self, recorder: &Recorder, attempt: u64, cid: &ClientId) -> bool {
        let note = |what| recorder.note(u32::try_from(attempt).unwrap(), what);
        let Send { post, .. } = post(self.group, cid.as_str(), "by REST");
        let content = loadtest::history::content(&post);
        note(What::Sent { attempt, c: self.group, cid: cid.clone(), content });
        let body = serde_json::json!({"cid": cid, "text": post.text});
        let token = self.people[1].devices[0].access_token();
        let path = format!("conversations/{}/messages", self.group);
        match self.rest.call::<push::Sent>(Call::new(Method::POST, path).by(&token).body(&body)).await {
            Ok((status, sent)) => {
                assert_eq!(status, if sent.dup { 200 } else { 201 });
                note(What::Acked { attempt, seq: sent.seq.0, dup: sent.dup });
                true
            }
            Err(failed) => {
                let why = failed.to_string();
                match failed {
                    RestFailed::Refused { failure, .. }
                        if !matches!(failure.error.code, Code::Timeout | Code::Internal) =>
                    {
                        let code = failure.error.code;
                        note(What::Refused { attempt, code });
                        !code.retry()
                    }
                    _ => {
                        note(What::Unknown { attempt, why });
                        false
                    }
                }
            }
        }
    }

    /// The first person removes the last two from the group and takes them back, whatever becomes of the requests.
    async fn invite_and_remove(self: Arc<Run>, mut random: Random) {
        let members = format!("conversations/{}/members", self.group);
        while !self.over.load(Ordering::Relaxed) {
            let Person { user, .. } = &self.people[2 + usize::try_from(random.below(2)).unwrap()];
            let token = self.people[0].devices[0].access_token();
            let call = match random.below(3) {
                0 => Call::new(Method::DELETE, format!("{members}/{user}")),
                _ => Call::new(Method::POST, &members).body(&protocol::rest::AddMembers { users: vec![*user] }),
            };
            let _ = self.rest.call::<IgnoredAny>(call.by(&token)).await;
            tokio::time::sleep(Duration::from_millis(50 + random.below(200))).await;
        }
    }
}
