//! Logs on stderr: JSON, or for people when stderr is a terminal. The level can be changed while running.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Changes the level of a running process.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

/// Starts logging. Once per process.
pub(crate) fn start(format: &str, level: &str) -> Level {
    let terminal = std::io::stderr().is_terminal();
    let pretty = format == "pretty" || (format == "auto" && terminal);
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let base = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if pretty {
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        registry.with(base.with_ansi(color).with_target(false)).init();
    } else {
        registry.with(base.json().flatten_event(true).with_current_span(true).with_span_list(false)).init();
    }
    Level(handle)
}

impl Level {
    pub(crate) fn set(&self, level: &str) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

/// The chosen level for our own code. Libraries stay at `warn`: below it some of them log what clients send.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,starling={level},actors={level},storage={level},starling_actors={level},starling_storage={level}"
    ))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};

    use super::*;

    #[test]
    fn libraries_never_log_what_nodes_or_clients_say_to_each_other() {
        with_default(tracing_subscriber::registry().with(filter("trace")), || {
            assert!(enabled!(target: "actors::cluster::transport", Level::TRACE));
            assert!(enabled!(target: "ractor_cluster::net::session", Level::WARN));
            // every frame with its body
            assert!(!enabled!(target: "ractor_cluster::net::session", Level::DEBUG));
            assert!(!enabled!(target: "tungstenite::protocol", Level::DEBUG));
        });
    }
}
