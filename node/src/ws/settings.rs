//! What every socket shares: its bounds from the configuration, and the meters. Made once; knows no socket.

use std::{sync::Arc, time::Duration};

use super::meters::Meters;
use crate::config::Config;

/// What every socket shares.
pub(crate) struct Settings {
    pub(super) frame_bytes: usize,
    pub(super) hello: Duration,
    pub(super) ping: Duration,
    pub(super) pong: Duration,
    pub(super) allowed_origins: Vec<String>,
    pub(super) meters: Arc<Meters>,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Settings {
        Settings {
            frame_bytes: config.limits_frame_bytes,
            hello: Duration::from_millis(config.limits_hello_ms),
            ping: Duration::from_millis(config.limits_ping_ms),
            pong: Duration::from_millis(config.limits_pong_ms),
            allowed_origins: config.auth_allowed_origins.clone(),
            meters: Arc::new(Meters::new()),
        }
    }
}
