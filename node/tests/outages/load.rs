//! Groups whose members send all the time, each as soon as the send before is answered, and again under the same client
//! id until it is stored. Notes what every single attempt was told, and after how long.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use loadtest::{
    Client, History,
    client::{Failed, Handle},
};
use protocol::{
    ConversationId, push,
    request::{ListWindow, Sync, Target, Verb, Watch},
    rest,
};
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use crate::rig::{Part, Rig, memory_kib, post};

/// See the module.
pub(crate) struct Load {
    groups: Vec<Group>,
    told: Arc<Told>,
    senders: JoinSet<()>,
}

/// A group and its members' sockets.
pub(crate) struct Group {
    pub(crate) c: ConversationId,
    pub(crate) people: Vec<rest::SignedIn>,
    pub(crate) clients: Vec<Client>,
}

#[derive(Default)]
struct Told {
    over: AtomicBool,
    answers: Mutex<Vec<Answer>>,
}

/// What one attempt was told: `ok`, `dup` if it was stored by an earlier one, or the code of an error.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
    pub(crate) code: String,
}

impl Load {
    /// `n_groups` of `n_members`, each with `outstanding` sends unanswered. Nobody sends before everybody is there.
    pub(crate) async fn start(rig: &Rig, n_groups: usize, n_members: usize, outstanding: usize) -> Load {
        let begun = Instant::now();
        let everybody = rig.people(n_groups * n_members).await;
        let mut groups = Vec::new();
        for people in everybody.chunks(n_members) {
            groups.push(Group::make(rig, people.to_vec()).await);
        }
        println!("{n_groups} groups of {n_members} after {:?}", begun.elapsed());
        let (told, mut senders) = (Arc::<Told>::default(), JoinSet::new());
        for (number, group) in groups.iter().enumerate() {
            for (member, client) in group.clients.iter().enumerate() {
                for line in 0..outstanding {
                    let name = format!("{number}-{member}-{line}");
                    senders.spawn(sender(client.handle(), group.c, name, told.clone()));
                }
            }
        }
        Load { groups, told, senders }
    }

    /// The first group, to talk in.
    pub(crate) fn group(&mut self) -> &mut Group {
        &mut self.groups[0]
    }

    /// Lets it run for a while; answers what was asked and answered meanwhile, and the most memory the node had, KiB.
    pub(crate) async fn watch(&self, rig: &Rig, lasts: Duration) -> (Vec<Answer>, u64) {
        let (begun, mut most) = (Instant::now(), 0);
        while begun.elapsed() < lasts {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(memory_kib(rig.node.pid()));
        }
        (self.since(begun), most)
    }

    /// What attempts that were made since then were told.
    pub(crate) fn since(&self, begun: Instant) -> Vec<Answer> {
        let answers = self.told.answers.lock().unwrap();
        answers.iter().filter(|answer| answer.asked >= begun).cloned().collect()
    }

    /// Waits until `n` attempts made from now on are answered `ok`; says how long that took.
    pub(crate) async fn acks(&self, n: usize, within: Duration) -> Duration {
        let begun = Instant::now();
        while self.since(begun).iter().filter(|answer| ["ok", "dup"].contains(&answer.code.as_str())).count() < n {
            assert!(
                begun.elapsed() < within,
                "no {n} sends were stored within {within:?}: {:?}",
                summary(&self.since(begun))
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    /// Everybody finishes what they began; then each log is read back.
    pub(crate) async fn finish(mut self, rig: &mut Rig) -> History {
        self.told.over.store(true, Ordering::Relaxed);
        while let Some(sender) = self.senders.join_next().await {
            sender.unwrap();
        }
        let mut logs = Vec::new();
        for Group { c, people, clients } in self.groups {
            drop(clients);
            let device = rig.device(&people[0], 0, rig.target()).await;
            logs.append(&mut rig.settle(&[Part { c, devices: vec![(people[0].user.id, &device)] }]).await);
        }
        rig.history(logs)
    }
}

impl Group {
    /// Everybody has it on screen and watches the others: they are told of that while the store is away, too.
    async fn make(rig: &Rig, people: Vec<rest::SignedIn>) -> Group {
        let c = rig.group(&people).await;
        let list = Sync { list: ListWindow { limit: 10, cursor: None }, ..Sync::default() };
        let users: Vec<_> = people.iter().map(|other| other.user.id).collect();
        let mut clients = Vec::new();
        for user in &people {
            let client = rig.socket(user, list.clone()).await;
            client.request::<IgnoredAny>(Verb::Open(Target { c })).await.unwrap();
            client.request::<IgnoredAny>(Verb::Watch(Watch { users: users.clone() })).await.unwrap();
            clients.push(client);
        }
        Group { c, people, clients }
    }
}

/// How many attempts were told what, and the slowest of each.
pub(crate) fn summary(answers: &[Answer]) -> BTreeMap<&str, (usize, Duration)> {
    let mut summary = BTreeMap::new();
    for Answer { took, code, .. } in answers {
        let entry: &mut (usize, Duration) = summary.entry(code.as_str()).or_default();
        *entry = (entry.0 + 1, entry.1.max(*took));
    }
    summary
}

async fn sender(handle: Handle, c: ConversationId, name: String, told: Arc<Told>) {
    for number in 0.. {
        if told.over.load(Ordering::Relaxed) {
            return;
        }
        let send = post(c, &format!("{name}-{number}"), "as ever");
        loop {
            let asked = Instant::now();
            let answer = handle.request::<push::Sent>(Verb::Send(send.clone())).await;
            let code = match &answer {
                Ok(sent) if sent.dup => "dup",
                Ok(_) => "ok",
                Err(failed @ Failed::Refused { code, .. }) => {
                    assert!(code.retry(), "{failed}");
                    code.as_str()
                }
                Err(Failed::Lost(why)) => panic!("a socket that obeys was ended: {why}"),
            };
            let noted = Answer { asked, took: asked.elapsed(), code: code.to_owned() };
            told.answers.lock().unwrap().push(noted);
            match answer {
                Err(Failed::Refused { after_ms, .. }) => {
                    tokio::time::sleep(Duration::from_millis(after_ms.unwrap_or(10))).await;
                }
                _ => break,
            }
        }
    }
}
