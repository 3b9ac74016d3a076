//! A node of the model: an owner, and what it has asked of the store and not heard of yet.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use protocol::{
    ClientId, ConversationId, Epoch, Event, Incarnation, Seq, UserId,
    peer::{ToConnections, ToConversation, ToPresence},
};
use storage::{
    Error,
    fence::{self, Answer as Said, Ask, Bucket, Steps},
    log::{Appended, Claimed, Head, Standing},
};

use super::{
    clients::{Clients, device},
    partitions::{Partitions, Write},
    scenes::{Luck, Planted, Scene},
};
use crate::{
    cluster::places::Places,
    conversation::{
        audience::Telling,
        state::{
            Action, Answer, Ground, Input, Job, Loaded, State,
            digest::{hash_event, unordered},
        },
    },
    entities::Now,
};

const LOG: ConversationId = ConversationId([7; 16]);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Node {
    me: Incarnation,
    pub(super) state: State,
    pub(super) tasks: Vec<Task>,
    digest: u64,
}

/// A call of the store under way.
#[derive(Clone, Debug)]
pub(super) struct Task {
    what: What,
    /// Who asked has crashed: nobody hears the answer.
    orphan: bool,
}

#[derive(Clone, Debug)]
enum What {
    Claim(fence::Claim),
    Append(fence::Append, Vec<Event>),
    Verify(fence::Standing),
    Peek(UserId),
    Find(UserId, ClientId, Epoch),
    Load(Epoch),
    Follow(Vec<Event>),
    /// Answered; the owner has not heard it yet.
    Done(Answer),
}

/// What a node's step may change beside it.
pub(super) struct Around<'a> {
    pub(super) store: &'a mut Partitions,
    pub(super) clients: &'a mut Clients,
    pub(super) scene: &'a Scene,
    pub(super) now: Now,
}

impl Node {
    pub(super) fn new(nth: u8, life: u8, restarted: bool, scene: &Scene) -> Node {
        let me = Incarnation([nth + 1, life, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let ground = Ground { me, names: 0, members_max: 100, noting: false, places: Places::alone(me) };
        let mut state = State::new(LOG, ground, restarted);
        if let Some(Planted::Owner(mistake)) = scene.planted {
            state.plant(Some(mistake));
        }
        Node { me, state, tasks: Vec::new(), digest: 0 }
    }

    /// Hands an input over, and what follows from it at once.
    pub(super) fn feed(&mut self, input: Input, around: &mut Around<'_>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.state.on(input, around.now) {
                match action {
                    Action::Store(job) => inputs.extend(self.begin(job, around)),
                    Action::Tell(Telling::Channel(_, slice, ToPresence::WatchMembers { watch, users, .. })) => {
                        let devices = users.into_iter().map(|user| (user, device(user))).collect();
                        let watched = ToConversation::Watched { slice, watch, devices, complete: true };
                        inputs.push_back(Input::Mail(watched));
                    }
                    Action::Tell(Telling::Node(_, ToConnections::Answer(conn, _, outcome))) => {
                        around.clients.answered(conn, &outcome, around.store, around.scene);
                    }
                    Action::Tell(Telling::Node(_, ToConnections::Event(fanout))) => {
                        around.clients.told(&fanout, around.store, around.scene);
                    }
                    Action::Forward(..) | Action::AskComplete(_) | Action::AskArrived | Action::ReadView => {}
                    Action::LookedAfter => {}
                    Action::Tell(_) | Action::Flush | Action::FlushSoon | Action::WakeAt(_) | Action::StopIfIdle => {}
                }
            }
        }
        let mut hasher = DefaultHasher::new();
        self.hash_all(&mut hasher);
        self.digest = hasher.finish();
    }

    /// Begins a call; its answer, if it takes no step of its own.
    fn begin(&mut self, job: Job, around: &mut Around<'_>) -> Option<Input> {
        let hint = Bucket::of(Seq(around.scene.head));
        let what = match job {
            Job::Claim { tail_from } => What::Claim(fence::Claim::new(self.me, hint, tail_from)),
            Job::Append { epoch, head, settled, events } => {
                match fence::Append::new(epoch, head, settled, &events, 0) {
                    Ok(append) => What::Append(append, events),
                    Err(error) => return Some(Input::Store(Answer::Appended(Err(error)))),
                }
            }
            Job::Verify if around.scene.planted == Some(Planted::Unverified) => {
                let standing = |epoch| Standing { epoch, owner: self.me, head: Head::default() };
                return Some(Input::Store(Answer::Verified(Ok(self.state.ready().map(standing)))));
            }
            Job::Verify => What::Verify(fence::Standing::new(hint)),
            Job::Peek(user) => What::Peek(user),
            Job::Find(by, cid, epoch) => What::Find(by, cid, epoch),
            Job::Load(epoch, _) => What::Load(epoch),
            Job::Follow(events) => What::Follow(events),
            job @ (Job::Create(_) | Job::Mark(_) | Job::Note) => unreachable!("no scene asks for {job:?}"),
        };
        let mut task = Task { what, orphan: false };
        if around.scene.fine || !task.only_looks() {
            self.tasks.push(task);
            return None;
        }
        let answer = task.run(Luck::Fine, around);
        if answer.is_none() {
            self.tasks.push(task);
        }
        answer.map(Input::Store)
    }

    /// Moves one call on by a statement.
    pub(super) fn step(&mut self, at: usize, luck: Luck, around: &mut Around<'_>) {
        let mut task = self.tasks.remove(at);
        match task.run(luck, around) {
            None => self.tasks.insert(at, task),
            Some(_) if task.orphan => {}
            // where something else is under way, that may be heard of first
            Some(answer) if !self.tasks.is_empty() && !matches!(task.what, What::Done(_)) => {
                self.tasks.insert(at, Task { what: What::Done(answer), orphan: false });
            }
            Some(answer) => return self.feed(Input::Store(answer), around),
        }
        let mut hasher = DefaultHasher::new();
        self.hash_all(&mut hasher);
        self.digest = hasher.finish();
    }

    /// What it asked of the store and may still happen when it is gone.
    pub(super) fn writes(self) -> impl Iterator<Item = Write> {
        self.tasks.into_iter().filter_map(Task::into_write)
    }

    /// Leaves a successor what nobody will hear of.
    pub(super) fn orphans(&self) -> Vec<Task> {
        self.tasks.iter().map(|task| Task { orphan: true, ..task.clone() }).collect()
    }

    fn hash_all<H: Hasher>(&self, hasher: &mut H) {
        self.state.hash(hasher);
        self.tasks.iter().for_each(|task| task.hash_all(hasher));
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

impl Task {
    fn hash_all<H: Hasher>(&self, hasher: &mut H) {
        (std::mem::discriminant(&self.what), self.orphan).hash(hasher);
        let mut hash_events = |events: &[Event]| {
            events.len().hash(hasher);
            events.iter().for_each(|event| hash_event(event, hasher));
        };
        match &self.what {
            What::Append(append, events) => {
                hash_events(events);
                format!("{append:?}").hash(hasher);
            }
            What::Follow(events) => hash_events(events),
            What::Claim(claim) => format!("{claim:?}").hash(hasher),
            What::Verify(standing) => format!("{standing:?}").hash(hasher),
            What::Peek(user) => user.hash(hasher),
            What::Find(by, cid, epoch) => (by, cid, epoch).hash(hasher),
            What::Load(epoch) => epoch.hash(hasher),
            What::Done(answer) => match answer {
                Answer::Claimed(Ok(Claimed::Claimed(tenancy))) => {
                    hash_events(&tenancy.tail);
                    (tenancy.epoch, tenancy.head.seq, tenancy.head.settled).hash(hasher);
                }
                Answer::Loaded(epoch, Ok(Some(Loaded { roster, .. }))) => {
                    (epoch, unordered(&roster.members)).hash(hasher)
                }
                answer => format!("{answer:?}").hash(hasher),
            },
        }
    }

    /// Its next statement.
    pub(super) fn in_short(&self) -> String {
        let whole = match &self.what {
            What::Claim(claim) => format!("{:?}", claim.ask()),
            What::Append(append, _) => format!("{:?}", append.ask()),
            what => format!("{what:?}"),
        };
        whole.split(['{', '(']).next().unwrap_or_default().trim().to_owned()
    }

    /// The conditional write that comes next, if one does.
    pub(super) fn write(&self) -> Option<Ask> {
        let ask = match &self.what {
            What::Claim(claim) => claim.ask(),
            What::Append(append, _) => append.ask(),
            _ => return None,
        };
        (!matches!(ask, Ask::Look { .. } | Ask::Tail { .. })).then_some(ask)
    }

    fn into_write(self) -> Option<Write> {
        let ask = self.write()?;
        let events = if let What::Append(_, events) = self.what { events } else { Vec::new() };
        Some(Write { ask, events })
    }

    /// Reads that find a place or a name. Nothing is lost if they take no step of their own: what they read is acted on
    /// in a later step, when it may be old.
    fn only_looks(&self) -> bool {
        match &self.what {
            What::Peek(_) | What::Find(..) => true,
            What::Claim(claim) => matches!(claim.ask(), Ask::Look { .. }),
            What::Append(append, _) => matches!(append.ask(), Ask::Look { .. }),
            What::Verify(_) | What::Load(_) | What::Follow(_) | What::Done(_) => false,
        }
    }

    /// One statement, and those that only look after it.
    fn run(&mut self, luck: Luck, around: &mut Around<'_>) -> Option<Answer> {
        let mut luck = luck;
        loop {
            let answer = self.statement(luck, around);
            if answer.is_some() || around.scene.fine || !self.only_looks() {
                return answer;
            }
            luck = Luck::Fine;
        }
    }

    fn statement(&mut self, luck: Luck, around: &mut Around<'_>) -> Option<Answer> {
        let membership = around.scene.membership;
        Some(match &mut self.what {
            What::Claim(claim) => {
                let ask = claim.ask();
                let skipped = around.scene.planted == Some(Planted::StopAtFull) && matches!(ask, Ask::Open { .. });
                let said = if skipped { Said::Applied } else { perform(ask, &[], luck, around) };
                let claimed = claim.answer(said)?;
                if let (Ok(Claimed::Claimed(tenancy)), false) = (&claimed, self.orphan) {
                    around.clients.claimed(tenancy.epoch);
                }
                Answer::Claimed(claimed)
            }
            What::Append(append, events) => match append.answer(perform(append.ask(), events, luck, around))? {
                Err(Error::Unknown(_)) if around.scene.planted == Some(Planted::AckOnUnknown) => {
                    Answer::Appended(Ok(Appended::Applied { settled: Seq(around.scene.head) }))
                }
                appended => Answer::Appended(appended),
            },
            What::Verify(standing) => loop {
                let said = around.store.read(&standing.ask());
                if let Some(stands) = standing.answer(said) {
                    break Answer::Verified(stands);
                } else if around.scene.fine {
                    return None;
                }
            },
            What::Peek(user) => Answer::Peeked(*user, Ok(around.store.is_known(*user, membership))),
            What::Find(by, cid, epoch) => Answer::Found(*by, cid.clone(), *epoch, Ok(around.store.find(*by, cid))),
            What::Load(epoch) => {
                let head = around.store.last().map(|statics| statics.head).unwrap_or_default();
                let roster = around.store.roster(membership);
                // who left is in the tail: these stores settle later
                Answer::Loaded(*epoch, Ok(Some(Loaded { roster, head, recalled: Vec::new() })))
            }
            What::Done(answer) => answer.clone(),
            What::Follow(events) => {
                around.store.follow(events);
                Answer::Followed(Ok(()))
            }
        })
    }
}

/// A statement and its luck.
fn perform(ask: Ask, events: &[Event], luck: Luck, around: &mut Around<'_>) -> Said {
    let planted = around.scene.planted;
    let unknown = || Said::Failed(Error::Unknown("by plan".into()));
    match luck {
        Luck::Away => return Said::Failed(Error::Refused("by plan".into())),
        Luck::Late => {
            around.store.keep(Write { ask, events: events.to_vec() }, planted);
            return unknown();
        }
        Luck::Fine | Luck::Lost | Luck::Lies => {}
    }
    let holds = around.store.holds(&ask, planted);
    if holds {
        let from = around.store.log.len();
        around.store.write(&ask, events, planted);
        around.clients.committed(from, around.store, around.scene);
    }
    match luck {
        Luck::Lost => unknown(),
        Luck::Fine if holds => Said::Applied,
        _ => around.store.read(&ask),
    }
}
