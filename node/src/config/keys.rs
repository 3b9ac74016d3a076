//! Every key there is: name, type, default, bound and what it means. The one place; `Config`, `cluster.toml`, the
//! environment's names and all refusals follow from it. Holds no logic.

use std::net::SocketAddr;

use storage::cql::Replication;

use super::value::{Kind, Network};

/// One key, as operators write it.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) docs: &'static [&'static str],
    pub(crate) kind: Kind,
    /// `None`: unset unless given.
    pub(crate) default: Option<&'static str>,
}

/// `field: type = "name", kind, default;`, or without a field what is known but has nothing to act on yet.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $($field:ident: $type:ty)? = $name:literal, $kind:expr, $default:expr;)*) => {
        /// All keys, in the order of `cluster.toml`.
        pub(crate) const KEYS: &[Key] =
            &[$(Key { name: $name, docs: &[$($doc),+], kind: $kind, default: $default }),*];

        /// What the operator chose, checked key by key. Each field is described where its key stands.
        #[derive(Clone)]
        pub(crate) struct Config { $($(pub(crate) $field: $type,)?)* }

        impl Config {
            /// From one value per key, all of them checked against their kind.
            pub(super) fn from_checked(value: impl Fn(&str) -> super::value::Value) -> Config {
                Config { $($($field: <$type as super::value::FromValue>::from_value(value($name)),)?)* }
            }
        }
    };
}

const DAY_S: u64 = 24 * 3600;

keys! {
    /// Name of this node, stable over restarts: 1 to 63 letters, digits, `.`, `_`, `-`. Its peers know it by this name.
    /// `auto`: made at the first start and kept in `data_dir`.
    node_id: String = "node.id", Kind::Name, Some("auto");
    /// Everything this node keeps. Created with mode 0700; a second process on it is refused.
    node_data_dir: String = "node.data_dir", Kind::Text, Some("./starling-data");
    /// Share of the conversations this node takes, relative to other nodes.
    node_weight: u32 = "node.weight", Kind::Number(1, 100), Some("1");

    /// WebSocket and REST, for clients. Address and port; port 0 takes a free one.
    listen_client: SocketAddr = "listen.client", Kind::Address, Some("127.0.0.1:8080");
    /// Health, metrics and the admin API. Never for the public: beyond loopback it needs `admin.token_file`.
    listen_admin: SocketAddr = "listen.admin", Kind::Address, Some("127.0.0.1:8081");
    /// Other nodes. Beyond loopback it needs `cluster.tls`: whoever reaches it could call itself a node.
    listen_peer: SocketAddr = "listen.peer", Kind::Address, Some("127.0.0.1:7946");
    /// Addresses or networks (`10.0.0.0/8`) whose `Forwarded` and `X-Forwarded-For` are believed; from all others the
    /// address of the connection counts.
    listen_trusted_proxies: Vec<Network> = "listen.trusted_proxies", Kind::Networks, Some("");

    /// Certificate chain for clients, a PEM file. With `key_file`, `listen.client` speaks TLS only. Read again when it
    /// changes and on SIGHUP.
    listen_tls_cert: Option<String> = "listen.tls.cert", Kind::Text, None;
    /// Its private key, a PEM file that only this user may read.
    listen_tls_key_file: Option<String> = "listen.tls.key_file", Kind::PrivateFile, None;

    /// What callers of `/admin/*` present as bearer token; 16 bytes at least. Better in a file: `token_file`.
    admin_token: Option<String> = "admin.token", Kind::Secret, None;
    /// A file with that token, which only this user may read. Required when `listen.admin` is not loopback.
    admin_token_file: Option<String> = "admin.token_file", Kind::PrivateFile, None;

    /// Nodes of one cluster share a name, a keyspace and a Redis. Keys in Redis begin with it, so that clusters can share a
    /// server.
    cluster_name: String = "cluster.name", Kind::Name, Some("starling");
    /// Some of the other nodes, to find all of them: `host:port`, or `dns:name:port` for a node at each address of a name.
    /// Looked up anew each time. One that answers is enough; this node itself may be among them, so that all nodes can
    /// have the same list.
    cluster_seeds: Vec<String> = "cluster.seeds", Kind::Seeds, Some("");
    /// How peers reach this node, `host:port`. Unset: at `listen.peer`; must be set where that is all addresses.
    cluster_advertise: Option<String> = "cluster.advertise", Kind::Server, None;
    /// A peer not heard of for this long is dead, milliseconds. Less finds a dead node sooner and a slow one dead.
    cluster_dead_ms: u64 = "cluster.dead_ms", Kind::Number(500, 60_000), Some("3000");

    /// Who issues the certificates of the nodes, a PEM file: whoever has one of them is a node. `starling cluster init`
    /// makes an authority and certificates. The three of this section go together; without them nodes speak plainly, and
    /// only on loopback. Read again when they change and on SIGHUP.
    cluster_tls_ca: Option<String> = "cluster.tls.ca", Kind::Text, None;
    /// This node's certificate chain, a PEM file: its DNS name is `node.id`; for servers and clients.
    cluster_tls_cert: Option<String> = "cluster.tls.cert", Kind::Text, None;
    /// Its private key, a PEM file that only this user may read.
    cluster_tls_key_file: Option<String> = "cluster.tls.key_file", Kind::PrivateFile, None;

    /// Where conversations and accounts are kept: `sqlite` (one synced file in `node.data_dir`), `cql` (ScyllaDB or
    /// Apache Cassandra: see `storage.cql`; needs `tokens.backend` redis) or `memory` (gone when the process ends: for
    /// trying out). All nodes on one `cql` keyspace are one cluster; the others are for a lone node.
    storage_backend: String = "storage.backend", Kind::Choice(&["sqlite", "cql", "memory"]), Some("sqlite");

    /// Some of the servers, `host:port`, with `storage.backend` cql; the others are learnt from them.
    storage_cql_nodes: Vec<String> = "storage.cql.nodes", Kind::Nodes, Some("");
    /// Keyspace, made at the first start if it is not there. A small letter, then small letters, digits and `_`.
    storage_cql_keyspace: String = "storage.cql.keyspace", Kind::Keyspace, Some("starling");
    /// Who signs in at the servers, if they ask; with `password` or `password_file`.
    storage_cql_username: Option<String> = "storage.cql.username", Kind::Text, None;
    /// The password. Better in a file: `password_file`.
    storage_cql_password: Option<String> = "storage.cql.password", Kind::Secret, None;
    /// A file with the password, which only this user may read.
    storage_cql_password_file: Option<String> = "storage.cql.password_file", Kind::PrivateFile, None;
    /// Copies of everything: `3` in every datacenter, or a number for each, `dc1:3,dc2:2`. What is acknowledged is in more
    /// than half of them. A keyspace that says otherwise is refused. A single server, for trying out, takes 1.
    storage_cql_replication: Replication = "storage.cql.replication", Kind::Replication, Some("3");
    /// The servers' datacenter in which this cluster runs. Unset: what is written must be in more than half of all copies,
    /// wherever they are. Set: in more than half of those here, so every node must name the same one.
    storage_cql_datacenter: Option<String> = "storage.cql.datacenter", Kind::Text, None;
    /// Speak TLS to the servers, whose certificates this authority (a PEM file) has issued for their addresses.
    storage_cql_tls_ca: Option<String> = "storage.cql.tls_ca", Kind::Text, None;

    /// Where refresh tokens, tickets and rate limits are kept: `embedded` (beside the conversations) or `redis` (Redis or
    /// Valkey: see `tokens.redis`).
    tokens_backend: String = "tokens.backend", Kind::Choice(&["embedded", "redis"]), Some("embedded");

    /// `redis://user:password@host:port/database`, or `rediss://` for TLS. Better in a file if there is a password in it:
    /// `url_file`.
    tokens_redis_url: Option<String> = "tokens.redis.url", Kind::Secret, None;
    /// A file with the URL, which only this user may read.
    tokens_redis_url_file: Option<String> = "tokens.redis.url_file", Kind::PrivateFile, None;
    /// With `rediss://`: the authority (a PEM file) that has issued the server's certificate.
    tokens_redis_tls_ca: Option<String> = "tokens.redis.tls_ca", Kind::Text, None;

    /// `iss` and `aud` of the access tokens.
    auth_issuer: String = "auth.issuer", Kind::Text, Some("starling");
    /// Life of an access token, seconds. A stolen one is good for this long unless its session is ended.
    auth_access_ttl_s: u64 = "auth.access_ttl_s", Kind::Number(30, DAY_S), Some("900");
    /// Life of a refresh token, seconds: who stays away longer signs in again. 30 days.
    auth_refresh_ttl_s: u64 = "auth.refresh_ttl_s", Kind::Number(60, 400 * DAY_S), Some("2592000");
    /// Seals the signing keys: 64 hexadecimal digits. Better in a file: `secret_file`. With neither, one is made at the
    /// first start and kept in `data_dir`; with `storage.backend` cql one must be given, the same to every node. Who loses
    /// it signs everybody out.
    auth_secret: Option<String> = "auth.secret", Kind::Secret, None;
    /// A file with that secret, which only this user may read.
    auth_secret_file: Option<String> = "auth.secret_file", Kind::PrivateFile, None;
    /// Sessions (signed-in devices) of one user; the oldest ends when one more begins.
    auth_sessions_per_user_max: usize = "auth.sessions_per_user_max", Kind::Number(1, 1000), Some("20");
    /// Whether signing in ends all other sessions of the user.
    auth_single_session: bool = "auth.single_session", Kind::Flag, Some("false");
    /// Web origins (`https://chat.example`) that may open sockets and call REST, besides the node's own.
    auth_allowed_origins: Vec<String> = "auth.allowed_origins", Kind::Origins, Some("");
    /// Memory of one password hash (argon2id), KiB. Less makes stolen hashes cheaper to guess.
    auth_password_memory_kib: u32 = "auth.password_memory_kib", Kind::Number(8, 4 << 20), Some("19456");
    /// Passes of one password hash.
    auth_password_passes: u32 = "auth.password_passes", Kind::Number(1, 100), Some("2");

    /// Open connections of clients. One more is answered 503 at once. Also bound by the descriptors of the process.
    limits_connections: usize = "limits.connections", Kind::Number(1, 10_000_000), Some("100000");
    /// Open connections of one address (IPv6: one /64); 0: no limit. Loopback and trusted proxies are not counted.
    limits_address_connections: u32 = "limits.address_connections", Kind::Number(0, 1_000_000), Some("1024");
    /// New connections per second, lasting; 0: no limit. Twice as many at once: a TLS handshake costs 0.3 ms.
    limits_handshakes_per_s: u32 = "limits.handshakes_per_s", Kind::Number(0, 1_000_000), Some("2000");
    /// One WebSocket message of a client, bytes. Larger ones close the socket (4509). Backend cql: at most 245760.
    limits_frame_bytes: usize = "limits.frame_bytes", Kind::Number(1024, 1 << 20), Some("65536");
    /// Text of one post, characters. Up to 4 bytes each, so it must fit `frame_bytes`.
    limits_text_chars: usize = "limits.text_chars", Kind::Number(1, 100_000), Some("8000");
    /// Requests of one socket unanswered at once.
    limits_inflight: usize = "limits.inflight", Kind::Number(1, 1024), Some("32");
    /// Queue of one slow socket, bytes, above which it is told of gaps instead of events.
    limits_queue_soft_bytes: usize = "limits.queue_soft_bytes", Kind::Number(4096, 64 << 20), Some("262144");
    /// Queue of one slow socket, bytes, above which it is closed (4003) and resumes from the log.
    limits_queue_hard_bytes: usize = "limits.queue_hard_bytes", Kind::Number(8192, 256 << 20), Some("1048576");
    /// A socket that was silent for this long is pinged, milliseconds. Below the 30 s after which phones' networks forget.
    limits_ping_ms: u64 = "limits.ping_ms", Kind::Number(100, 600_000), Some("25000");
    /// How long it may take to answer, milliseconds (4004).
    limits_pong_ms: u64 = "limits.pong_ms", Kind::Number(100, 600_000), Some("8000");
    /// How long a socket may take for its `hello`, milliseconds (4008).
    limits_hello_ms: u64 = "limits.hello_ms", Kind::Number(100, 60_000), Some("10000");
    /// Sends of one session per second, lasting; 0: no limit.
    limits_send_per_s: u32 = "limits.send_per_s", Kind::Number(0, 1_000_000), Some("10");
    /// Sends of one session at once.
    limits_send_burst: u32 = "limits.send_burst", Kind::Number(1, 1_000_000), Some("30");
    /// REST requests per minute of one session, or of one address where nobody is signed in; 0: no limit.
    limits_rest_per_min: u32 = "limits.rest_per_min", Kind::Number(0, 1_000_000), Some("600");
    /// Failed sign-ins per minute of one account and of one address; 0: no limit.
    limits_login_per_min: u32 = "limits.login_per_min", Kind::Number(0, 1_000_000), Some("10");
    /// Registrations per minute of one address; 0: no limit.
    limits_register_per_min: u32 = "limits.register_per_min", Kind::Number(0, 1_000_000), Some("60");
    /// Members of one conversation.
    limits_members: usize = "limits.members", Kind::Number(2, 1_000_000), Some("10000");

    /// At drain clients are told to come back after a random time up to this, milliseconds. Their sockets work on for that
    /// time and 5 s more, if there is another node for them. Unset: 5000 if there is one, to spread those who go; else 0.
    drain_notice_ms: Option<u64> = "drain.notice_ms", Kind::Number(0, 600_000), None;
    /// Sockets told per second.
    drain_rate: u32 = "drain.rate", Kind::Number(1, 1_000_000), Some("500");
    /// When this is over the process ends whoever is still there, milliseconds. Sockets / rate + notice_ms + 13 s is enough.
    drain_deadline_ms: u64 = "drain.deadline_ms", Kind::Number(100, 3_600_000), Some("30000");

    /// `auto`: `pretty` when stderr is a terminal, else `json`.
    log_format: String = "log.format", Kind::Choice(&["auto", "pretty", "json"]), Some("auto");
    /// The least that is logged; read again on SIGHUP.
    log_level: String = "log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Some("info");
}
