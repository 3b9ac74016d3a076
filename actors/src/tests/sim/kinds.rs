//! The entities of one run without actors: each has its mail, takes one piece after another, and does what its state
//! decides through the same shell as an actor.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    time::Duration,
};

use protocol::{
    ConnId, ConversationId,
    peer::{EndedSession, Slice},
};
use tokio::time::Instant;

use super::clockwork::{Clockwork, Due, Key};
use crate::{
    Clock,
    conversation::state as conversation,
    entities::{Entity, Home, Me, NotAdmitted, Now, Performed},
    presence,
    restarts::Restarts,
    router::Mailboxes,
    session::state as session,
};

/// All entities of a kind.
pub(super) struct Table<E: Entity> {
    run: usize,
    works: Arc<Clockwork>,
    clock: Arc<dyn Clock>,
    key: fn(E::Key) -> Key,
    context: OnceLock<Arc<E::Context>>,
    lives: Mutex<Lives<E>>,
    me: Weak<Table<E>>,
}

struct Lives<E: Entity> {
    of: BTreeMap<E::Key, Life<E>>,
    restarts: Restarts<E::Key>,
    born: u64,
}

struct Life<E: Entity> {
    life: u64,
    /// `None` while it decides.
    state: Option<E>,
    mail: VecDeque<E::Event>,
    wake_at: Option<Instant>,
}

impl<E: Entity> Table<E> {
    fn new(run: usize, works: &Arc<Clockwork>, clock: &Arc<dyn Clock>, key: fn(E::Key) -> Key) -> Arc<Table<E>> {
        Arc::new_cyclic(|me| Table {
            run,
            works: works.clone(),
            clock: clock.clone(),
            key,
            context: OnceLock::new(),
            lives: Mutex::new(Lives { of: BTreeMap::new(), restarts: Restarts::default(), born: 0 }),
            me: me.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Lives<E>> {
        self.lives.lock().unwrap()
    }

    fn context(&self) -> &Arc<E::Context> {
        self.context.get().unwrap()
    }

    pub(super) fn keys(&self) -> Vec<E::Key> {
        self.lock().of.keys().copied().collect()
    }

    /// True if any of them has mail.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().of.values().any(|life| !life.mail.is_empty())
    }

    /// Starts it if need be.
    pub(super) fn send(&self, key: E::Key, event: E::Event) -> Result<(), NotAdmitted> {
        let runs = self.lock().of.contains_key(&key);
        if !runs {
            let paused = self.lock().restarts.paused(&key, self.clock.now());
            if let Some(until) = paused {
                return Err(NotAdmitted::Paused(until));
            }
            self.start(key);
        }
        self.inform(key, event);
        Ok(())
    }

    /// Only if it runs.
    pub(super) fn inform(&self, key: E::Key, event: E::Event) -> bool {
        let mut lives = self.lock();
        let Some(life) = lives.of.get_mut(&key) else { return false };
        life.mail.push_back(event);
        drop(lives);
        let busy = if self.works.happens(3) { self.works.up_to_ms(5) } else { Duration::ZERO };
        let soon = Duration::from_micros(1 + self.works.below(150));
        self.works.after(soon + busy, Some(self.run), Due::Mail((self.key)(key)));
        true
    }

    fn start(&self, key: E::Key) {
        let restarted = self.lock().restarts.begins(&key);
        let state = E::fresh(key, self.context(), restarted);
        let mut lives = self.lock();
        lives.born += 1;
        let life = lives.born;
        lives.of.insert(key, Life { life, state: Some(state), mail: VecDeque::new(), wake_at: None });
    }

    /// It takes what came first.
    pub(super) fn step(&self, key: E::Key) {
        let mut lives = self.lock();
        let Some(Life { life, state, mail, .. }) = lives.of.get_mut(&key) else { return };
        let (life, Some(event)) = (*life, mail.pop_front()) else { return };
        let mut state = state.take().unwrap();
        drop(lives);
        let home = self.me.upgrade().unwrap();
        let (me, now) = (Me::new(key, life, home), Now { mono: self.clock.now(), wall: self.clock.wall() });
        let mut ends = false;
        for action in state.on(event, now) {
            match E::perform(action, &me, self.context()) {
                Performed::Done => {}
                Performed::WakeAt(at) => {
                    if let Some(life) = self.lock().of.get_mut(&key) {
                        life.wake_at = Some(at);
                    }
                    self.works.at(at, Some(self.run), Due::Wake((self.key)(key), at));
                }
                Performed::StopIfIdle => ends |= self.lock().of[&key].mail.is_empty(),
                Performed::Stop => ends = true,
            }
        }
        let mut lives = self.lock();
        if ends {
            lives.of.remove(&key);
        } else if let Some(life) = lives.of.get_mut(&key) {
            life.state = Some(state);
        }
    }

    /// It asked to be woken at this time, if it has not asked for another since.
    pub(super) fn wake(&self, key: E::Key, at: Instant) {
        let mut lives = self.lock();
        let due = lives.of.get_mut(&key).is_some_and(|life| life.wake_at.take_if(|wake| *wake == at).is_some());
        drop(lives);
        if due {
            self.inform(key, E::tick());
        }
    }

    /// It ends as if it had failed, and runs again after its pause; false: it does not run.
    pub(super) fn crash(&self, key: E::Key) -> bool {
        let mut lives = self.lock();
        if lives.of.remove(&key).is_none() {
            return false;
        }
        let until = lives.restarts.crashed(key, self.clock.now());
        drop(lives);
        self.works.at(until, Some(self.run), Due::Restart((self.key)(key)));
        true
    }

    pub(super) fn restart(&self, key: E::Key) {
        if !self.lock().of.contains_key(&key) {
            self.start(key);
            self.inform(key, E::tick());
        }
    }
}

impl<E: Entity> Home<E> for Table<E> {
    fn tell(&self, key: E::Key, life: u64, event: E::Event) {
        if self.lock().of.get(&key).is_some_and(|lives| lives.life == life) {
            self.inform(key, event);
        }
    }
}

/// The three kinds of one run.
pub(super) struct Kinds {
    pub(super) conversations: Arc<Table<conversation::State>>,
    pub(super) presence: Arc<Table<presence::State>>,
    pub(super) sessions: Arc<Table<session::State>>,
}

impl Kinds {
    pub(super) fn new(run: usize, works: &Arc<Clockwork>, clock: &Arc<dyn Clock>) -> Arc<Kinds> {
        Arc::new(Kinds {
            conversations: Table::new(run, works, clock, Key::Conversation),
            presence: Table::new(run, works, clock, Key::Channel),
            sessions: Table::new(run, works, clock, Key::Session),
        })
    }

    pub(super) fn begin(
        &self, conversations: Arc<crate::conversation::Context>, presence: Arc<presence::Context>,
        sessions: Arc<crate::session::Context>,
    ) {
        assert!(self.conversations.context.set(conversations).is_ok());
        assert!(self.presence.context.set(presence).is_ok());
        assert!(self.sessions.context.set(sessions).is_ok());
    }

    pub(super) fn step(&self, key: Key) {
        match key {
            Key::Conversation(c) => self.conversations.step(c),
            Key::Channel(slice) => self.presence.step(slice),
            Key::Session(conn) => self.sessions.step(conn),
        }
    }

    pub(super) fn wake(&self, key: Key, at: Instant) {
        match key {
            Key::Conversation(c) => self.conversations.wake(c, at),
            Key::Channel(slice) => self.presence.wake(slice, at),
            Key::Session(conn) => self.sessions.wake(conn, at),
        }
    }

    /// A session that fails takes its socket along; nobody starts it again.
    pub(super) fn restart(&self, key: Key) {
        match key {
            Key::Conversation(c) => self.conversations.restart(c),
            Key::Channel(slice) => self.presence.restart(slice),
            Key::Session(_) => {}
        }
    }
}

/// As a router sees them. Entities hold the router: it must not hold them.
pub(super) struct Post(pub(super) Weak<Kinds>);

impl Post {
    fn kinds(&self) -> Arc<Kinds> {
        self.0.upgrade().unwrap()
    }
}

impl Mailboxes for Post {
    fn ask(&self, c: ConversationId, input: conversation::Input) -> Result<(), NotAdmitted> {
        self.kinds().conversations.send(c, input)
    }

    fn inform(&self, c: ConversationId, input: conversation::Input) {
        self.kinds().conversations.inform(c, input);
    }

    fn channel(&self, slice: Slice, input: presence::Input) -> Result<(), NotAdmitted> {
        self.kinds().presence.send(slice, input)
    }

    fn inform_channel(&self, slice: Slice, input: presence::Input) -> bool {
        self.kinds().presence.inform(slice, input)
    }

    fn session(&self, conn: ConnId, input: session::Input) {
        self.kinds().sessions.inform(conn, input);
    }

    fn conversations(&self) -> Vec<ConversationId> {
        self.kinds().conversations.keys()
    }

    fn channels(&self) -> Vec<Slice> {
        self.kinds().presence.keys()
    }

    fn sessions(&self) -> Vec<ConnId> {
        self.kinds().sessions.keys()
    }

    /// Nobody signs out here.
    fn ended(&self, _: EndedSession) {}
}
