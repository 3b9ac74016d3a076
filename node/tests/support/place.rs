//! Where a node under test remembers things: a directory of its own and, with `STARLING_TEST_STORES=real`, a keyspace and
//! a prefix of its own on the servers that `loadtest/servers` started. All of it is gone with the place.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use loadtest::{
    Starter,
    servers::{self, Cql, Keyspace, Prefix},
};
use storage::{
    History, Settings, Store, TokenStore,
    cql::{self, Replication},
    redis,
};

pub(crate) struct Place {
    real: Option<(Keyspace, Prefix)>,
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place::of(tempfile::tempdir().unwrap())
    }

    pub(crate) fn of(dir: tempfile::TempDir) -> Place {
        Place::made(dir, are_real())
    }

    /// On the real servers, whatever other tests run on: only there several nodes share what they remember.
    pub(crate) fn shared() -> Place {
        Place::made(tempfile::tempdir().unwrap(), true)
    }

    fn made(dir: tempfile::TempDir, on_servers: bool) -> Place {
        let real = on_servers.then(|| {
            let keyspace = Cql::started().keyspace();
            let prefix = Prefix { url: servers::redis_url(), name: keyspace.name.clone() };
            let secrets = [("cql", keyspace.server.password.clone()), ("redis", Some(prefix.url.clone()))];
            for (name, secret) in secrets.into_iter().chain([("seal", Some("5e".repeat(32)))]) {
                let mut file = fs::OpenOptions::new();
                let mut file = file.write(true).create_new(true).mode(0o600).open(dir.path().join(name)).unwrap();
                file.write_all(secret.unwrap_or_default().as_bytes()).unwrap();
            }
            (keyspace, prefix)
        });
        Place { real, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The keyspace, and where it is.
    pub(crate) fn keyspace(&self) -> (Cql, String) {
        let (keyspace, _) = self.real.as_ref().expect("this place is on the real servers");
        (keyspace.server.clone(), keyspace.name.clone())
    }

    /// The node's own directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A node that remembers here. `storage.backend` among the keys says what is good enough when the stores are not
    /// the real ones.
    pub(crate) fn starter(&self, set: &[(&str, &str)]) -> Starter {
        let mut starter = Starter::new(env!("CARGO_BIN_EXE_starling"), self.data());
        for (key, value) in set.iter().filter(|(key, _)| self.real.is_none() || *key != "storage.backend") {
            starter = starter.set(key, value);
        }
        let Some((keyspace, prefix)) = &self.real else { return starter };
        let file = |name| self.path().join(name).display().to_string();
        let starter = starter
            .set("storage.backend", "cql")
            .set("storage.cql.nodes", &keyspace.server.node)
            .set("storage.cql.keyspace", &keyspace.name)
            .set("storage.cql.replication", 1)
            .set("tokens.backend", "redis")
            .set("tokens.redis.url_file", file("redis"))
            .set("cluster.name", &prefix.name)
            .set("auth.secret_file", file("seal"));
        match &keyspace.server.username {
            Some(name) => starter.set("storage.cql.username", name).set("storage.cql.password_file", file("cql")),
            None => starter,
        }
    }

    /// What the node opens, for what a test wants to be there before it starts.
    pub(crate) async fn store(&self) -> Store {
        let settings = match &self.real {
            None => Settings { history: History::Sqlite { dir: self.data() }, tokens: TokenStore::Embedded },
            Some((keyspace, prefix)) => {
                let Cql { node, username, password } = keyspace.server.clone();
                let history = History::Cql(cql::Settings {
                    nodes: vec![node],
                    keyspace: keyspace.name.clone(),
                    username,
                    password,
                    replication: Replication::Everywhere(1),
                    datacenter: None,
                    tls_ca: None,
                    members_max: 10_000,
                });
                let (url, prefix) = (prefix.url.clone(), format!("{}:", prefix.name));
                Settings { history, tokens: TokenStore::Redis(redis::Settings { url, tls_ca: None, prefix }) }
            }
        };
        Store::connect(&settings).await.unwrap()
    }
}

/// Whether tests run on real servers.
pub(crate) fn are_real() -> bool {
    match std::env::var("STARLING_TEST_STORES").as_deref() {
        Ok("real") => true,
        Err(_) => false,
        Ok(other) => panic!("STARLING_TEST_STORES={other}: it is `real` or not set"),
    }
}
