//! Commands that work on the stores themselves, without a node: migrate, backup, export, import. Knows no table.

use std::path::Path;

use actors::{Clock, Random};
use protocol::{Incarnation, Millis};
use storage::{
    History, OpenError, Settings, Store,
    moving::{self, Import},
};

use crate::{
    config::Config,
    report::{Failure, say},
    stores,
    world::{SecureRandom, SteadyClock},
};

type Done = Result<(), Failure>;

/// What a start would apply.
pub(super) fn plan(config: &Config) -> Done {
    let planned = blocking(storage::plan(&stores::settings(config)))?.map_err(cannot_open)?;
    for step in &planned {
        say(&format!("would apply {step}"));
    }
    if planned.is_empty() {
        say("nothing to apply");
    }
    Ok(())
}

pub(super) fn migrate(config: &Config) -> Done {
    let applied = blocking(storage::migrate(&stores::settings(config)))?.map_err(cannot_open)?;
    for step in &applied {
        say(&format!("applied {step}"));
    }
    if applied.is_empty() {
        say("nothing to apply");
    }
    Ok(())
}

pub(super) fn backup(config: &Config, file: &Path) -> Done {
    let History::Sqlite { dir } = stores::settings(config).history else {
        let line =
            "only SQLite is copied so: storage.backend is another; the operator's guide says how to back that up";
        return Err(Failure::Failed(line.to_owned()));
    };
    let bytes = storage::backup(&dir, file).map_err(|error| Failure::Failed(error.to_string()))?;
    say(&format!("{bytes} bytes in {}, looked through", file.display()));
    if config.auth_secret.is_none() {
        say(&format!("keep {} beside it: without that secret everybody has to sign in again", secret_of(&dir)));
    }
    Ok(())
}

pub(super) fn export(config: &Config, file: &Path) -> Done {
    let settings = stores::settings(config);
    if let History::Sqlite { dir } = &settings.history
        && !dir.exists()
    {
        let line = format!("there is no node.data_dir {}: is this the configuration of the node?", dir.display());
        return Err(Failure::Failed(line));
    }
    let counts = blocking(async {
        let store = open(&settings).await?;
        moving::export(&store, file, fresh_owner(), now(config))
            .await
            .map_err(|error| Failure::Failed(error.to_string()))
    })??;
    say(&format!("exported {counts}"));
    say(&format!("{} holds every message, password hashes and keys: keep it as you keep those", file.display()));
    if let (History::Sqlite { dir }, None) = (&settings.history, &config.auth_secret) {
        say(&format!("give the new home the same auth.secret: it is in {}", secret_of(dir)));
    }
    Ok(())
}

pub(super) fn import(config: &Config, file: &Path, resume: bool) -> Done {
    let how = Import { path: file, resume, owner: fresh_owner(), now: now(config) };
    let counts = blocking(async {
        let store = open(&stores::settings(config)).await?;
        moving::import(&store, how).await.map_err(|error| Failure::Failed(error.to_string()))
    })??;
    say(&format!("imported and compared {counts}"));
    if config.auth_secret.is_none() {
        say(&format!("now put the old home's secret into {}", secret_of(Path::new(&config.node_data_dir))));
    }
    Ok(())
}

async fn open(settings: &Settings) -> Result<Store, Failure> {
    if settings.history == History::Memory {
        return Err(Failure::Failed("storage.backend memory keeps nothing that could be moved".to_owned()));
    }
    Store::connect(settings).await.map_err(cannot_open)
}

fn cannot_open(error: OpenError) -> Failure {
    match error.is_transient() {
        true => Failure::Unreachable(error.to_string()),
        false => Failure::Failed(error.to_string()),
    }
}

/// The time as the node of this data directory would tell it.
fn now(config: &Config) -> Millis {
    SteadyClock::start(&Path::new(&config.node_data_dir).join("clock")).wall()
}

/// Of this run, as every process that writes to a log.
fn fresh_owner() -> Incarnation {
    let mut id = [0; 16];
    SecureRandom.fill(&mut id);
    Incarnation(id)
}

fn secret_of(dir: &Path) -> String {
    dir.join("auth.secret").display().to_string()
}

/// Does something that waits for a store.
pub(super) fn blocking<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?.block_on(work))
}
