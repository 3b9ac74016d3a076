//! The entities of one kind on this node: found by key, started when first needed, stopped when idle without losing
//! mail, restarted after a crash with a growing pause. The one ractor shell that all three kinds share lives here too.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use crate::{restarts::Restarts, timers::Timers, world::Clock};

/// A state machine that can be an actor. Pure but for [`Entity::perform`].
pub(crate) trait Entity: Sized + Send + 'static {
    /// The label in metrics and logs.
    const KIND: &'static str;
    /// Events that may wait in a mailbox before clients are refused.
    const MAILBOX_MAX: usize;
    /// Its name.
    type Key: Copy + Eq + Hash + Ord + Debug + Send + Sync;
    /// What it is told.
    type Event: Send + 'static;
    /// What it wants done.
    type Action: Send;
    /// What it needs to do that.
    type Context: Send + Sync + 'static;

    /// A fresh one. `restarted`: its predecessor crashed.
    fn fresh(key: Self::Key, context: &Arc<Self::Context>, restarted: bool) -> Self;

    /// The event that a timer is.
    fn tick() -> Self::Event;

    /// Decides.
    fn on(&mut self, event: Self::Event, now: Now) -> Vec<Self::Action>;

    /// Does what was decided. Never waits: what takes time is spawned and comes back as an event through `me`.
    fn perform(action: Self::Action, me: &Me<Self>, context: &Arc<Self::Context>) -> Performed;
}

/// What the shell has to do after an action.
pub(crate) enum Performed {
    /// Nothing.
    Done,
    /// Send a tick at this time.
    WakeAt(Instant),
    /// Stop, unless there is mail.
    StopIfIdle,
    /// Stop: nobody will ask for this key again.
    Stop,
}

/// The two times a decision may need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For durations.
    pub(crate) mono: Instant,
    /// For people.
    pub(crate) wall: protocol::Millis,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// Its mailbox is full.
    Full,
    /// It crashed and may not run before then.
    Paused(Instant),
    /// It does not run, and the event is not worth starting it.
    Absent,
}

/// Counts an event from its admission until it is handled.
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An event on its way, with its permit. Never remotable: entities get mail from other nodes as data.
pub(crate) struct Mailed<E> {
    event: E,
    permit: Permit,
}

impl<E: Send + 'static> ractor::Message for Mailed<E> {}

struct Slot<E: Entity> {
    /// Tells it from its predecessors under the same key.
    life: u64,
    actor: ActorRef<Mailed<E::Event>>,
    admitted: Arc<AtomicUsize>,
}

struct Table<E: Entity> {
    slots: HashMap<E::Key, Slot<E>>,
    keys: HashMap<ActorId, E::Key>,
    restarts: Restarts<E::Key>,
    lives: u64,
}

/// Runs after each crash: who, and when it may run again.
type OnCrash<E> = Box<dyn Fn(&Arc<Entities<E>>, <E as Entity>::Key, Instant) + Send + Sync>;

/// All entities of a kind.
pub(crate) struct Entities<E: Entity> {
    table: Mutex<Table<E>>,
    timers: Arc<Timers<E::Key>>,
    clock: Arc<dyn Clock>,
    context: Arc<E::Context>,
    supervisor: ActorCell,
    on_crash: OnCrash<E>,
}

/// Where the entities of a kind live.
pub(crate) trait Home<E: Entity>: Send + Sync {
    /// Hands an event to an entity, if it still lives this life.
    fn tell(&self, key: E::Key, life: u64, event: E::Event);
}

/// An entity's way to itself: answers come back through it.
pub(crate) struct Me<E: Entity> {
    key: E::Key,
    life: u64,
    home: Arc<dyn Home<E>>,
}

impl<E: Entity> Clone for Me<E> {
    fn clone(&self) -> Self {
        Me { key: self.key, life: self.life, home: self.home.clone() }
    }
}

impl<E: Entity> Me<E> {
    /// The one that lives this life there.
    pub(crate) fn new(key: E::Key, life: u64, home: Arc<dyn Home<E>>) -> Me<E> {
        Me { key, life, home }
    }

    /// Its name.
    pub(crate) fn key(&self) -> E::Key {
        self.key
    }

    /// Sends an event to oneself; lost if one has crashed meanwhile, as the successor did not ask.
    pub(crate) fn tell(&self, event: E::Event) {
        self.home.tell(self.key, self.life, event);
    }
}

impl<E: Entity> Home<E> for Entities<E> {
    fn tell(&self, key: E::Key, life: u64, event: E::Event) {
        let table = self.lock();
        if let Some(slot) = table.slots.get(&key).filter(|slot| slot.life == life) {
            deliver(slot, event);
        }
    }
}

impl<E: Entity> Entities<E> {
    /// Starts the kind's supervisor under `parent`. `on_crash(entities, key, until)` runs after each crash.
    pub(crate) async fn start(
        parent: &ActorCell, clock: Arc<dyn Clock>, context: Arc<E::Context>,
        on_crash: impl Fn(&Arc<Entities<E>>, E::Key, Instant) + Send + Sync + 'static,
    ) -> Result<Arc<Entities<E>>, ractor::SpawnErr> {
        let cell: Arc<std::sync::OnceLock<std::sync::Weak<Entities<E>>>> = Arc::default();
        let (supervisor, _) =
            Actor::spawn_linked(None, KindSupervisor::<E> { entities: cell.clone() }, (), parent.clone()).await?;
        let woken = cell.clone();
        let timers = Timers::start(move |key| {
            if let Some(entities) = woken.get().and_then(std::sync::Weak::upgrade) {
                let _ = entities.tell_running(key, E::tick());
            }
        });
        let entities = Arc::new(Entities {
            table: Mutex::new(Table {
                slots: HashMap::new(),
                keys: HashMap::new(),
                restarts: Restarts::default(),
                lives: 0,
            }),
            timers,
            clock,
            context,
            supervisor: supervisor.get_cell(),
            on_crash: Box::new(on_crash),
        });
        let _ = cell.set(Arc::downgrade(&entities));
        Ok(entities)
    }

    /// Sends an event from a client, starting the entity if need be.
    pub(crate) fn admit(self: &Arc<Self>, key: E::Key, event: E::Event) -> Result<(), NotAdmitted> {
        self.send(key, event, Some(E::MAILBOX_MAX))
    }

    /// Sends an event of the node's own, starting the entity if need be. Such events are bounded by their causes.
    pub(crate) fn tell(self: &Arc<Self>, key: E::Key, event: E::Event) -> Result<(), NotAdmitted> {
        self.send(key, event, None)
    }

    /// Sends an event only to an entity that runs.
    pub(crate) fn tell_running(&self, key: E::Key, event: E::Event) -> Result<(), NotAdmitted> {
        let table = self.lock();
        let slot = table.slots.get(&key).ok_or(NotAdmitted::Absent)?;
        deliver(slot, event);
        Ok(())
    }

    /// Starts an entity after a crash, if its pause is over and nobody did it already.
    pub(crate) fn restart(self: &Arc<Self>, key: E::Key) {
        let mut table = self.lock();
        if !table.slots.contains_key(&key) && table.restarts.paused(&key, self.clock.now()).is_none() {
            self.spawn(&mut table, key);
        }
    }

    /// How many run.
    pub(crate) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Who runs.
    pub(crate) fn keys(&self) -> Vec<E::Key> {
        self.lock().slots.keys().copied().collect()
    }

    /// True while any of them has mail it has not handled.
    pub(crate) fn is_busy(&self) -> bool {
        self.lock().slots.values().any(|slot| slot.admitted.load(Ordering::Acquire) > 0)
    }

    /// True while the kind crashes in a storm.
    pub(crate) fn storming(&self) -> bool {
        self.lock().restarts.storming(self.clock.now())
    }

    fn send(self: &Arc<Self>, key: E::Key, event: E::Event, bound: Option<usize>) -> Result<(), NotAdmitted> {
        let mut table = self.lock();
        if let Some(slot) = table.slots.get(&key) {
            if bound.is_some_and(|bound| slot.admitted.load(Ordering::Acquire) >= bound) {
                metrics::counter!("starling_admission_refused_total", "kind" => E::KIND).increment(1);
                return Err(NotAdmitted::Full);
            }
            deliver(slot, event);
            return Ok(());
        }
        if let Some(until) = table.restarts.paused(&key, self.clock.now()) {
            metrics::counter!("starling_admission_refused_total", "kind" => E::KIND).increment(1);
            return Err(NotAdmitted::Paused(until));
        }
        if let Some(slot) = self.spawn(&mut table, key) {
            deliver(slot, event);
        }
        Ok(())
    }

    /// Whether mail starts it or the end of its pause: after a crash it begins as restarted.
    fn spawn<'t>(self: &Arc<Self>, table: &'t mut Table<E>, key: E::Key) -> Option<&'t Slot<E>> {
        let restarted = table.restarts.begins(&key);
        table.lives += 1;
        let life = table.lives;
        let me = Me::new(key, life, self.clone());
        let shell = Shell::<E> { state: E::fresh(key, &self.context, restarted), me, entities: self.clone() };
        // `spawn_linked_instant` fails only for a name that is taken, and entities have none
        let (actor, _) = ractor::ActorRuntime::spawn_linked_instant(
            None,
            Body(std::marker::PhantomData),
            shell,
            self.supervisor.clone(),
        )
        .ok()?;
        table.keys.insert(actor.get_id(), key);
        metrics::gauge!("starling_actors", "kind" => E::KIND).increment(1.0);
        let slot = table.slots.entry(key).or_insert(Slot { life, actor, admitted: Arc::default() });
        if restarted {
            deliver(slot, E::tick());
        }
        Some(slot)
    }

    /// Takes the entity out of the table so that it can stop; false if mail has come meanwhile. `handling`: the event in
    /// hand still counts.
    fn retire(&self, key: E::Key, even_with_mail: bool) -> bool {
        let mut table = self.lock();
        let Some(slot) = table.slots.get(&key) else { return true };
        if !even_with_mail && slot.admitted.load(Ordering::Acquire) > 1 {
            return false;
        }
        let id = slot.actor.get_id();
        table.slots.remove(&key);
        table.keys.remove(&id);
        self.timers.forget(key);
        metrics::gauge!("starling_actors", "kind" => E::KIND).decrement(1.0);
        true
    }

    /// An actor has ended. Who retired first is gone from the table; who did not has crashed.
    fn ended(self: &Arc<Self>, id: ActorId, why: &str) {
        let mut table = self.lock();
        let Some(key) = table.keys.remove(&id) else { return };
        table.slots.remove(&key);
        let until = table.restarts.crashed(key, self.clock.now());
        drop(table);
        metrics::gauge!("starling_actors", "kind" => E::KIND).decrement(1.0);
        metrics::counter!("starling_actor_restarts_total", "kind" => E::KIND).increment(1);
        tracing::error!(kind = E::KIND, key = ?key, why, "an actor crashed; it is restarted from what is stored");
        (self.on_crash)(self, key, until);
    }

    fn lock(&self) -> MutexGuard<'_, Table<E>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an entity as a crash would.
    #[cfg(test)]
    pub(crate) fn kill(&self, key: E::Key) {
        if let Some(slot) = self.lock().slots.get(&key) {
            slot.actor.kill();
        }
    }
}

/// Counts the event in, under the lock of the table, so that an idle stop sees it.
fn deliver<E: Entity>(slot: &Slot<E>, event: E::Event) {
    slot.admitted.fetch_add(1, Ordering::AcqRel);
    let permit = Permit(slot.admitted.clone());
    // an actor that has just crashed drops its mail; who waits is answered by its deadline
    let _ = slot.actor.send_message(Mailed { event, permit });
}

struct Shell<E: Entity> {
    state: E,
    me: Me<E>,
    entities: Arc<Entities<E>>,
}

struct Body<E>(std::marker::PhantomData<fn() -> E>);

impl<E: Entity> Actor for Body<E> {
    type Msg = Mailed<E::Event>;
    type State = Shell<E>;
    type Arguments = Shell<E>;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, shell: Shell<E>) -> Result<Shell<E>, ActorProcessingErr> {
        Ok(shell)
    }

    async fn handle(
        &self, myself: ActorRef<Self::Msg>, mail: Self::Msg, shell: &mut Shell<E>,
    ) -> Result<(), ActorProcessingErr> {
        let entities = &shell.entities;
        let now = Now { mono: entities.clock.now(), wall: entities.clock.wall() };
        for action in shell.state.on(mail.event, now) {
            match E::perform(action, &shell.me, &entities.context) {
                Performed::Done => {}
                Performed::WakeAt(at) => entities.timers.at(at, shell.me.key),
                Performed::StopIfIdle => {
                    if entities.retire(shell.me.key, false) {
                        myself.stop(None);
                    }
                }
                Performed::Stop => {
                    entities.retire(shell.me.key, true);
                    myself.stop(None);
                }
            }
        }
        drop(mail.permit);
        Ok(())
    }
}

struct KindSupervisor<E: Entity> {
    entities: Arc<std::sync::OnceLock<std::sync::Weak<Entities<E>>>>,
}

/// A supervisor has no mail, only children.
pub(crate) struct NoMail;

impl ractor::Message for NoMail {}

impl<E: Entity> Actor for KindSupervisor<E> {
    type Msg = NoMail;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NoMail>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self, _: ActorRef<NoMail>, event: SupervisionEvent, (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Some(entities) = self.entities.get().and_then(std::sync::Weak::upgrade) else { return Ok(()) };
        match event {
            SupervisionEvent::ActorFailed(who, error) => entities.ended(who.get_id(), &error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                entities.ended(who.get_id(), reason.as_deref().unwrap_or("ended without being asked"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The root of the tree: one supervisor per kind below it. Supervisors have no mail and no state, so nothing in them can
/// fail.
pub(crate) struct NodeSupervisor;

impl Actor for NodeSupervisor {
    type Msg = NoMail;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NoMail>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
