//! What is decided: accounts, conversations, sessions and presence. Pure state machines inside thin ractor shells, and
//! plain functions over storage. Never touches a socket, a table, the environment or the wall clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod cluster;
pub mod conversations;
pub mod drain;
pub mod gateway;
pub mod settings;
pub mod world;

mod connections;
mod conversation;
mod entities;
mod history;
mod kinds;
mod listing;
mod maps;
mod meters;
mod naming;
mod outbound;
mod planted;
mod presence;
mod presence_query;
mod refusals;
mod restarts;
mod router;
mod session;
mod sync;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use protocol::{close::CloseCode, push::Bye};
use ractor::Actor;
use tokio::{sync::watch, time::Instant};

pub use accounts::{Accounts, Caller};
pub use conversations::Conversations;
pub use gateway::{Connection, Flow, Gateway, Next, Outbound};
pub use settings::Settings;
pub use world::{Clock, Random, World};

use crate::{
    cluster::{
        driver::{Membership, Parts},
        notes::Notes,
    },
    connections::Connections,
    entities::{Entities, Entity, NodeSupervisor},
    kinds::Kinds,
    router::Router,
    turns::Turns,
};

/// Everything a node decides with, started together.
pub struct Starling {
    /// Who one is.
    pub accounts: Arc<Accounts>,
    /// Conversations, messages, history, presence: what REST does.
    pub conversations: Arc<Conversations>,
    /// What sockets do.
    pub gateway: Arc<Gateway>,
    router: Arc<Router>,
    membership: OnceLock<Membership>,
    world: World,
    connections: Arc<Connections>,
    kinds: Kinds,
    draining: watch::Sender<drain::Progress>,
}

/// A plain copy of the node's numbers, for readiness, `status` and tests.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Snapshot {
    /// Sockets that said hello.
    pub connections: usize,
    /// Running session actors.
    pub sessions: usize,
    /// Running conversation actors.
    pub conversations: usize,
    /// Running presence channels.
    pub presence_channels: usize,
    /// Why the node should not get traffic; empty: it should.
    pub unready: Vec<String>,
    /// What does not work though it should get traffic.
    pub degraded: Vec<String>,
}

/// Why the deciding part of a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The accounts, their keys or the store behind them.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// The actor runtime.
    #[error("cannot start the supervisors: {0}")]
    Supervisors(#[from] ractor::SpawnErr),
}

impl Starling {
    /// Starts the supervisors and loads (or makes) the signing keys.
    ///
    /// # Errors
    /// [`StartError`]: the store's, if keys cannot be read or made.
    pub async fn start(world: World, settings: Settings) -> Result<Starling, StartError> {
        let (me, limits) = (settings.incarnation, settings.limits);
        let connections = Arc::new(Connections::default());
        let router = Arc::new(Router::new(me, world.clock.clone(), connections.clone()));
        let accounts = Arc::new(Accounts::start(world.clone(), &settings, router.clone()).await?);

        let (root, _) = Actor::spawn(None, NodeSupervisor, ()).await?;
        let root = root.get_cell();
        let notes = world.store.cluster.clone().map(|cluster| Notes::new(cluster, me));
        router.note_in(notes.clone());
        let orphaning = router.clone();
        let conversations = Entities::start(
            &root,
            world.clock.clone(),
            Arc::new(conversation::Context {
                store: world.store.clone(),
                me,
                members_max: limits.members,
                router: router.clone(),
                notes: notes.clone(),
                lives: AtomicU64::new(1),
            }),
            move |entities, c, until| {
                orphaning.orphaned(c);
                restart_after_pause(entities, c, until);
            },
        )
        .await?;
        let crashing = router.clone();
        let presence = Entities::start(
            &root,
            world.clock.clone(),
            Arc::new(presence::Context { me, router: router.clone() }),
            move |entities, slice, until| {
                crashing.crashed();
                restart_after_pause(entities, slice, until);
            },
        )
        .await?;
        let turns = Arc::new(Turns::new());
        let context = Arc::new(session::Context {
            store: world.store.clone(),
            clock: world.clock.clone(),
            me,
            limits,
            router: router.clone(),
            connections: connections.clone(),
            accounts: accounts.clone(),
            turns: turns.clone(),
        });
        // a socket cannot go on without what its session knew; the client comes back and syncs
        let closing = connections.clone();
        let sessions = Entities::start(&root, world.clock.clone(), context.clone(), move |_, conn, _| {
            if let Some(outbound) = closing.socket(conn) {
                outbound.close(Bye::of(CloseCode::ServerError));
            }
        })
        .await?;
        let kinds = Kinds { conversations, presence, sessions: sessions.clone(), accounts: accounts.clone() };
        router.open(kinds.clone());
        let service =
            Conversations::new(world.clone(), me, limits.text_chars, router.clone(), connections.clone(), turns);
        Ok(Starling {
            accounts,
            conversations: Arc::new(service),
            gateway: Arc::new(Gateway::new(context, sessions, settings.node)),
            router,
            membership: OnceLock::new(),
            world,
            connections,
            kinds,
            draining: watch::Sender::default(),
        })
    }

    /// Becomes one of many nodes that share a store, once: from now on conversations and presence channels are where the
    /// view places them. False: this store can have one node only.
    pub fn join(&self, parts: Parts) -> bool {
        let Some(store) = self.world.store.cluster.clone() else { return false };
        let health = self.world.store.health.clone();
        self.membership.get_or_init(|| Membership::start(parts, store, health, self.router.clone()));
        true
    }

    /// Its place among other nodes, if it has [joined](Starling::join).
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.get()
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut unready = Vec::new();
        let draining = self.draining.borrow().phase != drain::Phase::Serving;
        if draining {
            unready.push("draining".to_owned());
        }
        let place = self.membership.get().map(Membership::snapshot).unwrap_or_default();
        unready.extend(place.unready.into_iter().filter(|reason| reason != "draining" || !draining));
        let storms = [
            (conversation::state::State::KIND, self.kinds.conversations.storming()),
            (presence::State::KIND, self.kinds.presence.storming()),
            (session::state::State::KIND, self.kinds.sessions.storming()),
        ];
        let storms = storms.iter().filter(|(_, storming)| *storming);
        unready.extend(storms.map(|(kind, _)| format!("{kind} actors crash in a storm")));
        Snapshot {
            connections: self.connections.len(),
            sessions: self.kinds.sessions.len(),
            conversations: self.kinds.conversations.len(),
            presence_channels: self.kinds.presence.len(),
            unready,
            degraded: place.degraded,
        }
    }
}

/// What was at work when it crashed runs again at once after its pause: what it had under way must be looked after.
fn restart_after_pause<E: Entity>(entities: &Arc<Entities<E>>, key: E::Key, until: Instant) {
    let entities = entities.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(until).await;
        entities.restart(key);
    });
}
