//! The stores as the configuration names them, and how a node waits for those that are not there yet. Asks them nothing.

use std::{path::PathBuf, time::Duration};

use actors::StartError;
use storage::{History, Settings, Store, TokenStore, cql, redis};
use tokio::sync::watch;

use crate::{
    app::{App, Stage},
    config::Config,
};

/// Between two tries, the first and the longest: a store that comes back is used within a second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where things are kept.
pub(crate) fn settings(config: &Config) -> Settings {
    let history = match config.storage_backend.as_str() {
        "cql" => History::Cql(cql::Settings {
            nodes: config.storage_cql_nodes.clone(),
            keyspace: config.storage_cql_keyspace.clone(),
            username: config.storage_cql_username.clone(),
            password: config.storage_cql_password.clone(),
            replication: config.storage_cql_replication.clone(),
            datacenter: config.storage_cql_datacenter.clone(),
            tls_ca: config.storage_cql_tls_ca.as_ref().map(PathBuf::from),
            members_max: config.limits_members,
        }),
        "memory" => History::Memory,
        _ => History::Sqlite { dir: PathBuf::from(&config.node_data_dir) },
    };
    let tokens = match &config.tokens_redis_url {
        Some(url) => TokenStore::Redis(redis::Settings {
            url: url.clone(),
            tls_ca: config.tokens_redis_tls_ca.as_ref().map(PathBuf::from),
            prefix: format!("{}:", config.cluster_name),
        }),
        None => TokenStore::Embedded,
    };
    Settings { history, tokens }
}

/// Opens the stores and begins on them, for as long as it takes them to come. Meanwhile the stage says why not yet. The
/// error is one line for the operator: about what waiting does not mend.
pub(crate) async fn wait(
    settings: &Settings, begin: impl AsyncFn(Store) -> Result<App, StartError>, stage: &watch::Sender<Stage>,
) -> Result<App, String> {
    let mut pause = PAUSE_MIN;
    let mut told = String::new();
    loop {
        let reason = match Store::connect(settings).await {
            Ok(store) => match begin(store).await {
                Ok(app) => return Ok(app),
                Err(error @ StartError::Store(storage::Error::Refused(_) | storage::Error::Unknown(_))) => {
                    format!("cannot start on the store: {error}")
                }
                Err(error) => return Err(format!("cannot start on the store: {error}")),
            },
            Err(error) if error.is_transient() => error.to_string(),
            Err(error) => return Err(error.to_string()),
        };
        // The same line every second helps nobody.
        if told != reason {
            tracing::warn!(reason, "waiting for the stores");
            told.clone_from(&reason);
        }
        stage.send_replace(Stage::Waiting(reason));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
