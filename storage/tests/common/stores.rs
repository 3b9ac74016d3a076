//! The stores that every suite runs on.

use std::sync::OnceLock;

use loadtest::servers::{Cql, Keyspace};
use storage::{History, Settings, Store, TokenStore, cql, redis};

use super::ids;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Memory,
    Sqlite,
    /// All but tokens; those in memory.
    Cql,
    /// Tokens only; all else in memory.
    Redis,
}

pub const HISTORIES: [Kind; 3] = [Kind::Memory, Kind::Sqlite, Kind::Cql];
pub const SHARED: [Kind; 2] = [Kind::Memory, Kind::Cql];
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
        Kind::Cql => (on_cql(&cql_settings()).await, Place::default()),
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

/// In one keyspace for all tests of a process: tables take longer to make than most tests to run. The next process drops it.
pub fn cql_settings() -> cql::Settings {
    static KEYSPACE: OnceLock<Keyspace> = OnceLock::new();
    let Keyspace { server, name } = KEYSPACE.get_or_init(|| Cql::started().keyspace());
    cql::Settings {
        nodes: vec![server.node.clone()],
        keyspace: name.clone(),
        username: server.username.clone(),
        password: server.password.clone(),
        replication: cql::Replication::Everywhere(1),
        datacenter: None,
        tls_ca: None,
        members_max: 10_000,
    }
}

/// Tries again what may pass, as a node does: right after its start Cassandra may know a table and not find it.
pub async fn on_cql(settings: &cql::Settings) -> Store {
    let cql = loop {
        match cql::Cql::open(settings).await {
            Err(error) if error.is_transient() => println!("once more: {error}"),
            opened => break opened.unwrap(),
        }
    };
    Store {
        log: cql.clone(),
        directory: cql.clone(),
        accounts: cql.clone(),
        sessions: cql.clone(),
        inventory: cql.clone(),
        cluster: Some(cql.clone()),
        health: cql,
        ..Store::memory()
    }
}
