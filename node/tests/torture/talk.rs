//! People who never stop talking: four of them on two devices each, in a direct conversation and a group whose members
//! change, and one over REST as well. Several nodes they share among them. They come back whatever happens and send again
//! what had no answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::Method;
use loadtest::{Device, History, Recorder, Rest, RestFailed, history::What, random::Random, rest::Call};
use protocol::{
    ClientId, Code, ConversationId, Seq, UserId, push,
    request::{Mark, Send, Target, Verb},
};
use serde::de::IgnoredAny;
use tokio::{sync::watch, task::JoinSet};

use crate::rig::{PATIENCE, Part, Rig, post};

/// Sends that every device keeps unanswered.
const OUTSTANDING: u64 = 3;
/// How long one send may take over all its attempts: several ends of the node, on a machine that is busy with more.
const SEND_WITHIN: Duration = Duration::from_secs(180);

/// See the module.
pub(crate) struct Talk {
    run: Arc<Run>,
    talkers: JoinSet<()>,
}

struct Run {
    rest: Rest,
    people: Vec<Person>,
    direct: ConversationId,
    group: ConversationId,
    acked: watch::Sender<u64>,
    over: AtomicBool,
}

/// Somebody with two devices.
struct Person {
    user: UserId,
    devices: [Device; 2],
}

impl Talk {
    /// Everybody comes, and begins.
    pub(crate) async fn start(rig: &Rig, random: &mut Random) -> Talk {
        let users = rig.people(4).await;
        let (direct, group) = (rig.direct(&users[0], &users[1]).await, rig.group(&users).await);
        let mut people = Vec::new();
        for (turn, user) in users.iter().enumerate() {
            let devices = [
                rig.device_of(user, 0, rig.targets(2 * turn)).await,
                rig.device_of(user, 1, rig.targets(2 * turn + 1)).await,
            ];
            people.push(Person { user: user.user.id, devices });
        }
        let (acked, over) = (watch::Sender::new(0), AtomicBool::new(false));
        let run = Arc::new(Run { rest: rig.rest.clone(), people, direct, group, acked, over });
        let mut talkers = JoinSet::new();
        for (who, device) in (0..users.len()).flat_map(|who| [(who, 0), (who, 1)]) {
            for line in 0..OUTSTANDING {
                talkers.spawn(run.clone().talk(who, device, line, Random::seeded(random.bits())));
            }
        }
        talkers.spawn(run.clone().talk_over_rest(rig.recorder(users[1].user.id)));
        talkers.spawn(run.clone().invite_and_remove(Random::seeded(random.bits())));
        Talk { run, talkers }
    }

    /// Waits for `n` more sends to be acknowledged.
    pub(crate) async fn acks(&self, n: u64) {
        let mut acked = self.run.acked.subscribe();
        let wanted = *acked.borrow() + n;
        let waited = tokio::time::timeout(PATIENCE, acked.wait_for(|acked| *acked >= wanted)).await;
        assert!(waited.is_ok(), "no {n} acknowledgements within {PATIENCE:?}");
    }

    /// Lets everybody finish their sentence, restarts the node so that what is read back comes from the disk, and
    /// reads it back.
    pub(crate) async fn finish(mut self, rig: &mut Rig) -> History {
        self.hush().await;
        rig.restart();
        self.read_back(rig).await
    }

    /// Lets everybody finish their sentence.
    pub(crate) async fn hush(&mut self) {
        self.run.over.store(true, Ordering::Relaxed);
        while let Some(talker) = self.talkers.join_next().await {
            talker.unwrap();
        }
    }

    /// What everybody was told, once all have everything that was said.
    pub(crate) async fn read_back(self, rig: &mut Rig) -> History {
        let run = self.run;
        let devices = || run.people.iter().flat_map(|person| person.devices.iter().map(|device| (person.user, device)));
        let direct = Part { c: run.direct, devices: devices().take(4).collect() };
        let group = Part { c: run.group, devices: devices().collect() };
        let logs = rig.settle(&[direct, group]).await;
        rig.history(logs)
    }
}

impl Run {
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
