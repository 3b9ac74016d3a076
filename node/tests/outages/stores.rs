//! The real servers, each behind a wire of its own, and how a node is told to use them.

use std::process::{Command, Stdio};

use loadtest::{
    Starter,
    proxy::Proxy,
    servers::{Cql, Keyspace, redis_url},
};

use crate::{rig::Rig, support::Place};

/// What seals the signing keys: any will do.
const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// See the module.
pub(crate) struct Stores {
    pub(crate) cql: Proxy,
    pub(crate) redis: Proxy,
    keys: Vec<(&'static str, String)>,
    _keyspace: Keyspace,
}

impl Stores {
    /// Those that `make test` started. `seed` decides which replies are swallowed.
    pub(crate) async fn shared(seed: u64) -> Stores {
        Stores::with(None, None, seed).await
    }

    /// The same, but for those that are given.
    pub(crate) async fn with(cassandra: Option<&Server>, redis: Option<&Server>, seed: u64) -> Stores {
        let own = |server: &Server| Cql { node: server.address.clone(), username: None, password: None };
        let server = cassandra.map_or_else(Cql::started, own);
        let redis = redis.map_or_else(redis_url, |server| server.address.clone());
        let redis = redis.trim_start_matches("redis://").trim_end_matches('/');
        let cql = Proxy::start_cql(&server.node, seed).await.unwrap();
        let redis = Proxy::start(redis).await.unwrap();
        let keyspace = tokio::task::block_in_place(|| server.keyspace());
        let mut keys = vec![
            ("storage.backend", "cql".to_owned()),
            ("storage.cql.nodes", cql.address().to_string()),
            ("storage.cql.keyspace", keyspace.name.clone()),
            ("storage.cql.replication", "1".to_owned()),
            ("tokens.backend", "redis".to_owned()),
            ("tokens.redis.url", format!("redis://{}/", redis.address())),
            ("auth.secret", SECRET.to_owned()),
            ("cluster.name", keyspace.name.clone()),
        ];
        let unlimited = [
            "limits.send_per_s",
            "limits.rest_per_min",
            "limits.login_per_min",
            "limits.register_per_min",
            "limits.handshakes_per_s",
        ];
        keys.extend(unlimited.map(|key| (key, "0".to_owned())));
        keys.extend(server.username.map(|username| ("storage.cql.username", username)));
        keys.extend(server.password.map(|password| ("storage.cql.password", password)));
        Stores { cql, redis, keys, _keyspace: keyspace }
    }

    /// A node that uses them, and everything that is recorded about it.
    pub(crate) fn rig(&self, set: &[(&str, &str)]) -> Rig {
        let keys = self.keys.iter().map(|(key, value)| (*key, value.as_str()));
        let place = Place::new();
        let starter = Starter::new(env!("CARGO_BIN_EXE_starling"), place.data()).keeping_ports().unwrap();
        let starter = keys.chain(set.iter().copied()).fold(starter, |starter, (key, value)| starter.set(key, value));
        tokio::task::block_in_place(|| Rig::of(starter, place))
    }
}

/// A server of one's own, which may be killed and comes back on the same data and port.
pub(crate) struct Server {
    script: String,
    environment: Vec<(&'static str, &'static str)>,
    dir: tempfile::TempDir,
    address: String,
}

impl Server {
    /// A Cassandra that answers once what it was told is on disk. By default it writes down where its log ends every
    /// 100 ms only, and what it has acknowledged since then is gone with its process, if nobody else has it.
    pub(crate) fn cassandra() -> Server {
        Server::start("cassandra", vec![("CASSANDRA_SYNC", "batch")])
    }

    /// A Redis that keeps nothing.
    pub(crate) fn redis() -> Server {
        Server::start("redis", Vec::new())
    }

    fn start(name: &str, environment: Vec<(&'static str, &'static str)>) -> Server {
        let script = format!("{}/../loadtest/servers/{name}", env!("CARGO_MANIFEST_DIR"));
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server { script, environment, dir, address: String::new() };
        server.address = server.run(&["start"]);
        server
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.run(&["kill"]);
    }

    /// Waits until it answers again.
    pub(crate) fn restart(&self) {
        let (_, port) = self.address.rsplit_once(':').unwrap();
        self.run(&["start", port]);
    }

    /// The script's verb and what follows the directory; answers what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.script);
        command.arg(arguments[0]).arg(self.dir.path()).args(&arguments[1..]).envs(self.environment.iter().copied());
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{} {arguments:?}: {}", self.script, output.status);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
