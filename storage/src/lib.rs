//! What is remembered: the faces of the stores and their back ends. Answers questions, never decides.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod cluster;
mod codes;
pub mod cql;
mod derive;
pub mod directory;
pub mod error;
pub mod fence;
mod fresh;
pub mod gcra;
pub mod health;
pub mod inspect;
pub mod inventory;
pub mod log;
pub mod memory;
mod meters;
pub mod moving;
pub mod redis;
mod sqlite;
pub mod tokens;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use error::Error;
pub use sqlite::{BackupError, backup};

/// Every face of one store; all of them speak to the same data.
#[derive(Clone)]
pub struct Store {
    /// The logs of the conversations.
    pub log: Arc<dyn log::Log>,
    /// Who is in which conversation, and how far.
    pub directory: Arc<dyn directory::Directory>,
    /// Users, their credentials and the signing keys.
    pub accounts: Arc<dyn accounts::Accounts>,
    /// Who is signed in.
    pub sessions: Arc<dyn accounts::Sessions>,
    /// Tokens and limits.
    pub tokens: Arc<dyn tokens::Tokens>,
    /// Whether the store answers.
    pub health: Arc<dyn health::Health>,
    /// Whether the store of tokens answers; the same one where tokens are kept beside everything else.
    pub token_health: Arc<dyn health::Health>,
    /// All there is, for moving house.
    pub inventory: Arc<dyn inventory::Inventory>,
    /// Refresh families as they stand, for moving house.
    pub families: Arc<dyn inventory::Families>,
    /// What nodes that share the store know of each other. `None` where one process owns the store, as it does a file of
    /// SQLite: there is nobody else.
    pub cluster: Option<Arc<dyn cluster::Cluster>>,
}

/// Where to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Conversations and accounts.
    pub history: History,
    /// Tokens and limits.
    pub tokens: TokenStore,
}

/// Where conversations and accounts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// In one file of this directory, which is made if it is not there.
    Sqlite {
        /// One process at a time may use it.
        dir: PathBuf,
    },
    /// On servers that all nodes share.
    Cql(cql::Settings),
    /// Nowhere: everything is gone when the process ends.
    Memory,
}

/// Where tokens and limits are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenStore {
    /// Beside conversations and accounts.
    Embedded,
    /// On a server that all nodes share.
    Redis(redis::Settings),
}

/// Why a store cannot be opened. One line each: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is a file in its place.
    #[error("cannot use the data directory {}: it is not a directory; name another one, or move it away", dir.display())]
    NotADirectory {
        /// Where.
        dir: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot use the data directory {}: {source}; it must be on a writable disk and belong to this user", dir.display())]
    Directory {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the data directory {} is in use by another process; stop it, or name another directory", dir.display())]
    InUse {
        /// Where.
        dir: PathBuf,
    },
    /// The file is not what was written.
    #[error("the database {} is damaged ({reason}); restore it from a backup, or move it away to begin anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else's database.
    #[error("the database {} was not made by this program; name another data directory", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// It has migrations that this release does not know.
    #[error(
        "the database {} was written by a newer release (migration {found}, this one knows {known}); run that release",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its newest migration.
        found: i64,
        /// The newest that is known here.
        known: usize,
    },
    /// A migration was applied that had another content.
    #[error(
        "the database {} was made by another version of {file}; run the release that made it, or restore a backup",
        path.display()
    )]
    Drifted {
        /// Which file.
        path: PathBuf,
        /// The migration that differs.
        file: &'static str,
    },
    /// The servers are away, or do not answer in time.
    #[error("cannot reach {store}: {reason}; start it, or check the addresses")]
    Unreachable {
        /// Which, and where.
        store: String,
        /// What happened.
        reason: String,
    },
    /// The servers answer, and it cannot work with them as they are.
    #[error("cannot use {store}: {reason}; {remedy}")]
    Unusable {
        /// Which, and where.
        store: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Anything else.
    #[error("cannot open the database {}: {reason}; check the disk, then try again", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
}

impl OpenError {
    /// Whether trying again later may do, without anybody changing anything here. All other errors are for good.
    pub fn is_transient(&self) -> bool {
        matches!(self, OpenError::Unreachable { .. })
    }
}

impl Store {
    /// Opens a store. Install a metrics recorder before: the store keeps its handles.
    ///
    /// # Errors
    /// [`OpenError`]: unless it [is transient](OpenError::is_transient), trying again without a remedy fails again.
    pub async fn connect(settings: &Settings) -> Result<Store, OpenError> {
        let redis = match &settings.tokens {
            TokenStore::Embedded => None,
            TokenStore::Redis(settings) => Some(redis::open(settings).await?),
        };
        let store = match (&settings.history, &redis) {
            (History::Sqlite { dir }, _) => blocking(dir, Store::open_sqlite).await?,
            (History::Cql(settings), Some(redis)) => cql::open(settings, redis).await?,
            (History::Cql(settings), None) => return Err(cql::keeps_no_tokens(settings)),
            (History::Memory, _) => Store::memory(),
        };
        Ok(match redis {
            Some(redis) => Store { tokens: redis.clone(), token_health: redis.clone(), families: redis, ..store },
            None => store,
        })
    }

    /// The embedded store in a directory. Dropping the last clone of its faces closes it.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub fn open_sqlite(dir: &Path) -> Result<Store, OpenError> {
        sqlite::open(dir)
    }

    /// A store without a disk.
    pub fn memory() -> Store {
        memory::Memory::store()
    }
}

/// What opening the store would apply to its schema, in order.
///
/// # Errors
/// As [`Store::connect`]; changes nothing.
pub async fn plan(settings: &Settings) -> Result<Vec<String>, OpenError> {
    match &settings.history {
        History::Sqlite { dir } => blocking(dir, sqlite::plan).await.map(named),
        History::Cql(settings) => cql::plan(settings).await,
        History::Memory => Ok(Vec::new()),
    }
}

/// Brings the store to this release's schema as opening it does, and says what was applied.
///
/// # Errors
/// As [`Store::connect`].
pub async fn migrate(settings: &Settings) -> Result<Vec<String>, OpenError> {
    match &settings.history {
        History::Sqlite { dir } => blocking(dir, sqlite::migrate).await.map(named),
        History::Cql(settings) => cql::apply(settings).await.map(named),
        History::Memory => Ok(Vec::new()),
    }
}

/// Looks at the servers behind the settings: `(store, finding)`, none for embedded stores. Changes nothing that lasts.
pub async fn inspect(settings: &Settings) -> Vec<(&'static str, inspect::Finding)> {
    let mut found = Vec::new();
    if let History::Cql(settings) = &settings.history {
        found.extend(cql::inspect(settings).await.into_iter().map(|finding| ("storage.cql", finding)));
    }
    if let TokenStore::Redis(settings) = &settings.tokens {
        found.extend(redis::inspect(settings).await.into_iter().map(|finding| ("tokens.redis", finding)));
    }
    found
}

fn named(files: Vec<&'static str>) -> Vec<String> {
    files.into_iter().map(str::to_owned).collect()
}

/// Does something with a directory, off the threads that must not wait for a disk.
async fn blocking<T: Send + 'static>(
    dir: &Path, work: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (dir, path) = (dir.to_owned(), dir.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&dir)).await;
    done.unwrap_or_else(|crash| Err(OpenError::Database { path, reason: crash.to_string() }))
}
