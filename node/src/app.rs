//! What every handler can reach, of REST and of the sockets. Only handed around: decides nothing, opens nothing.

use std::sync::Arc;

use actors::{Starling, World};

use crate::{config::Config, ws::settings::Settings};

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) starling: Starling,
    pub(crate) world: World,
    pub(crate) config: Config,
    pub(crate) sockets: Settings,
}

impl App {
    pub(crate) fn new(starling: Starling, world: World, config: Config) -> App {
        let sockets = Settings::of(&config);
        App(Arc::new(Parts { starling, world, config, sockets }))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
