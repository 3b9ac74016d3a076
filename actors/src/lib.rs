//! What is decided: accounts, conversations, sessions and presence. Pure state machines inside thin ractor shells, and
//! plain functions over storage. Never touches a socket, a table, the environment or the wall clock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod conversations;
pub mod gateway;
pub mod settings;
pub mod world;

use std::sync::Arc;

pub use accounts::{Accounts, Caller};
pub use conversations::Conversations;
pub use gateway::{Connection, Flow, Gateway, Next, Outbound};
pub use settings::Settings;
pub use world::{Clock, Random, World};

/// Everything a node decides with, started together.
pub struct Starling {
    /// Who one is.
    pub accounts: Arc<Accounts>,
    /// Conversations, messages, history, presence: what REST does.
    pub conversations: Arc<Conversations>,
    /// What sockets do.
    pub gateway: Arc<Gateway>,
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

impl Starling {
    /// Starts the supervisors and loads (or makes) the signing keys.
    ///
    /// # Errors
    /// The store's, if keys cannot be read or made.
    pub async fn start(world: World, settings: Settings) -> Result<Starling, storage::Error> {
        let _ = (world, settings);
        unimplemented!()
    }

    /// The numbers now.
    pub async fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    /// Stops taking sockets, tells those that are there `bye` at `rate` per second, each with a random `after_ms` up to
    /// `notice_ms`, lets appends in flight finish. Returns when all are gone or `deadline` has passed.
    pub async fn drain(&self, notice: std::time::Duration, rate: u32, deadline: std::time::Duration) {
        let _ = (notice, rate, deadline);
        unimplemented!()
    }
}
