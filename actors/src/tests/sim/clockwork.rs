//! Time, chance, what happens when, and the tasks of all nodes. It knows no node: the world does what is due. The same
//! seed does the same again: one thread, one generator, one order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use loadtest::random::Random;
use protocol::{ConnId, ConversationId, Millis, peer::Slice};
use tokio::time::Instant;

use crate::{Clock, Next, cluster::link::LinkEvent};

/// An entity of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Conversation(ConversationId),
    Channel(Slice),
    Session(ConnId),
}

/// What is due.
pub(super) enum Due {
    /// An entity has mail.
    Mail(Key),
    /// It asked to be woken then.
    Wake(Key, Instant),
    /// It crashed, and may run again.
    Restart(Key),
    /// A task can go on.
    Task(u64),
    /// Somebody has slept enough.
    Alarm(Waker),
    /// A store does what it said was unknown.
    Late(Box<dyn FnOnce() + Send>),
    /// The node looks at what its entities posted.
    Look,
    /// The node is woken.
    Tick,
    /// Something happened on a link while the node was paused.
    Link(LinkEvent),
    /// A run that is no member any more ends.
    End,
    /// A device was sent something on this socket.
    Said { device: usize, socket: u32, frames: Vec<Bytes>, next: Next },
    /// A device does something.
    Device(usize),
    /// Something goes wrong.
    Strike,
    /// A node starts.
    Start(usize),
}

/// Whose doing it is; `None`: the world's.
pub(super) type Run = Option<usize>;

/// See the module.
pub(super) struct Clockwork(Mutex<Works>, Weak<Clockwork>);

struct Works {
    began: Instant,
    now: Instant,
    random: Random,
    n: u64,
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    due: HashMap<u64, (Run, Due)>,
    /// Who acts now: tasks that begin are its own.
    acting: Run,
    tasks: BTreeMap<u64, (Run, BoxFuture<'static, ()>)>,
    /// Of all that happened.
    hash: u64,
}

impl Clockwork {
    pub(super) fn new(seed: u64) -> Arc<Clockwork> {
        let now = Instant::now();
        let works = Works {
            began: now,
            now,
            random: Random::seeded(seed),
            n: 0,
            order: BinaryHeap::new(),
            due: HashMap::new(),
            acting: None,
            tasks: BTreeMap::new(),
            hash: seed,
        };
        Arc::new_cyclic(|me| Clockwork(Mutex::new(works), me.clone()))
    }

    pub(super) fn now(&self) -> Instant {
        self.lock().now
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        let works = self.lock();
        works.now - works.began
    }

    pub(super) fn below(&self, n: u64) -> u64 {
        self.lock().random.below(n)
    }

    /// True so many times in a hundred.
    pub(super) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Up to so many milliseconds.
    pub(super) fn up_to_ms(&self, ms: u64) -> Duration {
        Duration::from_micros(self.below(ms * 1_000 + 1))
    }

    pub(super) fn after(&self, time: Duration, run: Run, due: Due) {
        let mut works = self.lock();
        let at = works.now + time;
        works.push(at, run, due);
    }

    pub(super) fn at(&self, at: Instant, run: Run, due: Due) {
        let mut works = self.lock();
        let at = at.max(works.now);
        works.push(at, run, due);
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lock().order.peek().map(|Reverse((at, _))| *at)
    }

    /// It is later now.
    pub(super) fn pass(&self, until: Instant) {
        let mut works = self.lock();
        works.now = works.now.max(until);
    }

    /// What is due first, with its place in the order.
    pub(super) fn take(&self) -> Option<(u64, Run, Due)> {
        let mut works = self.lock();
        let Reverse((at, n)) = works.order.pop()?;
        works.now = works.now.max(at);
        let (run, due) = works.due.remove(&n)?;
        let what = std::mem::discriminant(&due);
        let began = works.began;
        works.note((at - began, run, what));
        Some((n, run, due))
    }

    /// Puts it off, in its place before everything that comes later.
    pub(super) fn put_off(&self, until: Instant, n: u64, run: Run, due: Due) {
        let mut works = self.lock();
        works.order.push(Reverse((until, n)));
        works.due.insert(n, (run, due));
    }

    /// From now on this one acts.
    pub(super) fn acts(&self, run: Run) {
        self.lock().acting = run;
    }

    /// What happened, as a number: two runs that agree in it are one story.
    pub(super) fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// Something that happened is part of the story.
    pub(super) fn note(&self, what: impl std::hash::Hash) {
        self.lock().note(what);
    }

    /// Begins a task of whoever acts.
    pub(super) fn spawn(&self, work: BoxFuture<'static, ()>) {
        let mut works = self.lock();
        works.n += 1;
        let (id, now, run) = (works.n, works.now, works.acting);
        works.tasks.insert(id, (run, work));
        works.push(now, run, Due::Task(id));
    }

    /// Lets a task go on.
    pub(super) fn poll(&self, id: u64) {
        let Some((run, mut work)) = self.lock().tasks.remove(&id) else { return };
        let waker = Waker::from(Arc::new(Woken { id, run, works: self.1.clone() }));
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.lock().tasks.insert(id, (run, work));
        }
    }

    /// A run is no more, and its tasks neither.
    pub(super) fn kill(&self, run: usize) {
        let killed: Vec<_> = self.lock().tasks.extract_if(.., |_, (of, _)| *of == Some(run)).collect();
        drop(killed);
    }

    /// Nothing happens any more: what refers to it in circles ends.
    pub(super) fn end(&self) {
        let tasks = std::mem::take(&mut self.lock().tasks);
        drop(tasks);
        let due = std::mem::take(&mut self.lock().due);
        drop(due);
    }

    pub(super) fn sleep(&self, time: Duration) -> Sleep {
        Sleep { until: self.now() + time, works: self.1.clone(), set: false }
    }

    fn lock(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap()
    }
}

impl Works {
    fn push(&mut self, at: Instant, run: Run, due: Due) {
        self.n += 1;
        self.order.push(Reverse((at, self.n)));
        self.due.insert(self.n, (run, due));
    }

    fn note(&mut self, what: impl std::hash::Hash) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.hash.hash(&mut hasher);
        what.hash(&mut hasher);
        self.hash = hasher.finish();
    }
}

struct Woken {
    id: u64,
    run: Run,
    works: Weak<Clockwork>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if let Some(works) = self.works.upgrade() {
            works.after(Duration::ZERO, self.run, Due::Task(self.id));
        }
    }
}

/// See [`Clockwork::sleep`].
pub(super) struct Sleep {
    until: Instant,
    works: Weak<Clockwork>,
    set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(works) = self.works.upgrade() else { return Poll::Pending };
        if works.now() >= self.until {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut self.set, true) {
            works.at(self.until, None, Due::Alarm(context.waker().clone()));
        }
        Poll::Pending
    }
}

/// A node's clocks: theirs for people are apart.
pub(super) struct SimClock {
    pub(super) works: Arc<Clockwork>,
    pub(super) ahead_ms: u64,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.works.now()
    }

    fn wall(&self) -> Millis {
        let ms = u64::try_from(self.works.elapsed().as_millis()).unwrap();
        Millis(1_800_000_000_000 + ms + self.ahead_ms)
    }
}
