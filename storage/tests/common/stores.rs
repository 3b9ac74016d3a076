//! The stores that every suite runs on.

use storage::{History, Settings, Store, TokenStore, redis};

use super::ids;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Memory,
    Sqlite,
    /// Tokens only; all else in memory.
    Redis,
}

pub const HISTORIES: [Kind; 2] = [Kind::Memory, Kind::Sqlite];
pub const TOKENS: [Kind; 3] = [Kind::Memory, Kind::Sqlite, Kind::Redis];

/// Where a store is as long as it is used: dropped after it.
#[derive(Default)]
pub struct Place {
    dir: Option<tempfile::TempDir>,
}

pub async fn open(kind: Kind) -> (Store, Place) {
    match kind {
        Kind::Memory => (Store::memory(), Place::default()),
        Kind::Sqlite => {
            let dir = tempfile::tempdir().unwrap();
            (Store::open_sqlite(dir.path()).unwrap(), Place { dir: Some(dir) })
        }
        Kind::Redis => (on_redis(&loadtest::servers::redis_url()).await, Place::default()),
    }
}

/// Under keys that nobody else has; they go by themselves.
pub fn redis_settings(url: &str) -> redis::Settings {
    let prefix = format!("test-{}-{}:", std::process::id(), ids::name(""));
    redis::Settings { url: url.to_owned(), tls_ca: None, prefix }
}

async fn on_redis(url: &str) -> Store {
    let tokens = TokenStore::Redis(redis_settings(url));
    Store::connect(&Settings { history: History::Memory, tokens }).await.unwrap()
}
