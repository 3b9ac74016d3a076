//! What is decided: accounts, conversations, sessions and presence. Pure state machines inside thin ractor shells, and
//! plain functions over storage. Never touches a socket, a table, the environment or the wall clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod conversations;
pub mod gateway;
pub mod settings;
pub mod world;

mod connections;
mod conversation;
mod entities;
mod history;
mod kinds;
mod listing;
mod meters;
mod naming;
mod outbound;
mod presence;
mod presence_query;
mod refusals;
mod restarts;
mod router;
mod session;
mod sync;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

use std::{sync::Arc, time::Duration};

use protocol::{
    close::CloseCode,
    peer::{Slice, ToConnections, ToConversation},
    push::Bye,
};
use ractor::Actor;
use tokio::time::Instant;

pub use accounts::{Accounts, Caller};
pub use conversations::Conversations;
pub use gateway::{Connection, Flow, Gateway, Next, Outbound};
pub use settings::Settings;
pub use world::{Clock, Random, World};

use crate::{
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
    world: World,
    connections: Arc<Connections>,
    kinds: Kinds,
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
        let ending = connections.clone();
        let on_end = Arc::new(move |session, code| ending.end_session(session, code));
        let accounts = Arc::new(Accounts::start(world.clone(), &settings, on_end).await?);
        let router = Arc::new(Router::new(me, world.clock.clone(), connections.clone()));

        let (root, _) = Actor::spawn(None, NodeSupervisor, ()).await?;
        let root = root.get_cell();
        let conversations = Entities::start(
            &root,
            world.clock.clone(),
            Arc::new(conversation::Context {
                store: world.store.clone(),
                me,
                members_max: limits.members,
                router: router.clone(),
            }),
            restart_after_pause,
        )
        .await?;
        let (watching, asking) = (conversations.clone(), router.clone());
        let refill = Box::new(move |slice: Slice| {
            asking.send_to(me, ToConnections::RegisterAgain(slice));
            for c in watching.keys() {
                let again = conversation::state::Input::Mail(ToConversation::WatchAgain(slice));
                let _ = watching.tell_running(c, again);
            }
        });
        let presence = Entities::start(
            &root,
            world.clock.clone(),
            Arc::new(presence::Context { router: router.clone(), refill }),
            restart_after_pause,
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
        let kinds = Kinds { conversations, presence, sessions: sessions.clone() };
        router.open(kinds.clone());
        let service = Conversations::new(world.clone(), me, limits.text_chars, router, connections.clone(), turns);
        Ok(Starling {
            accounts,
            conversations: Arc::new(service),
            gateway: Arc::new(Gateway::new(context, sessions, settings.node)),
            world,
            connections,
            kinds,
        })
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut unready = Vec::new();
        if self.gateway.is_draining() {
            unready.push("draining".to_owned());
        }
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
        }
    }

    /// Stops taking sockets, tells those that are there `bye` at `rate` per second, each with a random `after_ms` up to
    /// `notice`, lets appends in flight finish. Returns when all are gone or `deadline` has passed.
    pub async fn drain(&self, notice: Duration, rate: u32, deadline: Duration) {
        let done = async {
            self.gateway.drain(notice, rate, self.world.random.as_ref()).await;
            while self.connections.len() > 0 || self.kinds.conversations.is_busy() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(deadline, done).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "the drain's deadline passed; closing what is left");
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
