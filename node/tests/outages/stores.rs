//! The real servers, each behind a wire of its own, and how a node is told to use them.

use loadtest::{
    Starter,
    proxy::Proxy,
    servers::{Cql, Keyspace, Server, redis_url},
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
        let server = cassandra.map_or_else(Cql::started, Server::cql);
        let redis = redis.map_or_else(redis_url, |server| server.address().to_owned());
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
        let (starter, place) = self.starter(set);
        tokio::task::block_in_place(|| Rig::of(starter, place))
    }

    /// The same node before it is started, and the place it keeps things in.
    pub(crate) fn starter(&self, set: &[(&str, &str)]) -> (Starter, Place) {
        let keys = self.keys.iter().map(|(key, value)| (*key, value.as_str()));
        let place = Place::new();
        let starter = Starter::new(env!("CARGO_BIN_EXE_starling"), place.data()).keeping_ports().unwrap();
        let starter = keys.chain(set.iter().copied()).fold(starter, |starter, (key, value)| starter.set(key, value));
        (starter, place)
    }
}
