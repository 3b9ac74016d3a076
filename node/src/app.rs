//! What every handler can reach, of REST and of the sockets, and whether there is anything to reach yet. Only handed
//! around: decides nothing, opens nothing.

use std::sync::Arc;

use actors::{Starling, World};

use crate::{config::Config, ws::settings::Settings};

/// How far the node has got.
pub(crate) enum Stage {
    /// Its stores are not there yet, and why.
    Waiting(String),
    /// It takes its place among other nodes; clients are not let in yet.
    Joining(App),
    /// It serves.
    Serving(App),
}

impl Stage {
    /// What there is to look at: from when the node begins to join.
    pub(crate) fn begun(&self) -> Result<App, String> {
        match self {
            Stage::Waiting(reason) => Err(reason.clone()),
            Stage::Joining(app) | Stage::Serving(app) => Ok(app.clone()),
        }
    }

    /// What serves.
    pub(crate) fn serving(&self) -> Result<App, String> {
        match self {
            Stage::Joining(app) => Err(app.starling.snapshot().unready.join("; ")),
            other => other.begun(),
        }
    }
}

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) starling: Starling,
    pub(crate) world: World,
    pub(crate) sockets: Settings,
}

impl App {
    pub(crate) fn new(starling: Starling, world: World, config: &Config) -> App {
        App(Arc::new(Parts { starling, world, sockets: Settings::of(config) }))
    }

    /// Waits until something is placed on this node; a node that shares its store with nobody has everything.
    pub(crate) async fn placed(&self) {
        if let Some(membership) = self.starling.membership() {
            membership.placed().await;
        }
    }
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
