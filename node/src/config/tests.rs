//! Each mistake an operator can make, and the agreement of `cluster.toml` with the built-in defaults.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn sources(text: &str) -> (Sources, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    (Sources { config: Some(path), ..Sources::default() }, dir)
}

fn load_file(text: &str) -> Result<Loaded, Vec<Mistake>> {
    let (sources, _dir) = sources(text);
    load(&sources, [])
}

fn load_set(pairs: &[&str]) -> Result<Loaded, Vec<Mistake>> {
    let (mut sources, _dir) = sources("");
    sources.set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    load(&sources, [])
}

#[track_caller]
fn refused(result: Result<Loaded, Vec<Mistake>>, words: &[&str]) {
    let text = result.err().expect("refused").iter().map(|m| format!("{m}\n")).collect::<String>();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn cluster_toml_is_the_table_of_keys() {
    let file = include_str!("../../../cluster.toml");
    assert_eq!(file, defaults(), "write it anew: cargo run -- config print --defaults > cluster.toml");
    let loaded = load_file(file).map_err(|m| m[0].to_string()).unwrap();
    let built_in = load_file("").map_err(|m| m[0].to_string()).unwrap();
    for ((key, file), built_in) in KEYS.iter().zip(&loaded.values).zip(&built_in.values) {
        assert_eq!(file.0, built_in.0, "{}", key.name);
    }
}

#[test]
fn every_bound_fits_its_type_and_every_default_its_bound() {
    for key in KEYS {
        let Some(default) = key.default else { continue };
        assert!(key.kind.read_text(default).is_ok(), "{}", key.name);
        assert!(key.docs.iter().all(|line| line.starts_with(' ') && line.len() < 120), "{}", key.name);
    }
    for pick in [|min, _| min, |_, max| max] as [fn(u64, u64) -> u64; 2] {
        Config::from_checked(|name| {
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            match (key.kind, key.default) {
                (value::Kind::Number(min, max), _) => Value::Number(pick(min, max)),
                (kind, Some(default)) => kind.read_text(default).unwrap(),
                (_, None) => Value::Unset,
            }
        });
    }
}

#[test]
fn later_sources_win() {
    let (mut sources, _dir) = sources("[limits]\nping_ms = 1000\npong_ms = 1000\nhello_ms = 1000\n");
    sources.set = vec!["limits.hello_ms=3000".into()];
    let environment = [("STARLING_LIMITS__PONG_MS", "2000"), ("STARLING_LIMITS__HELLO_MS", "2000")];
    let loaded = load(&sources, environment.map(|(k, v)| (k.into(), v.into()))).map_err(drop).unwrap();
    let config = &loaded.config;
    assert_eq!((config.limits_ping_ms, config.limits_pong_ms, config.limits_hello_ms), (1000, 2000, 3000));
    let printed = effective(&loaded);
    assert!(printed.contains("limits.hello_ms = 3000  # flag"), "{printed}");
    assert!(printed.contains("limits.pong_ms = 2000  # environment STARLING_LIMITS__PONG_MS"), "{printed}");
    assert!(printed.contains("node.id = \"auto\"  # default"), "{printed}");
}

#[test]
fn lists_come_by_commas_from_the_environment() {
    let environment =
        [("STARLING_AUTH__ALLOWED_ORIGINS".to_owned(), "https://a.example, https://b.example".to_owned())];
    let (sources, _dir) = sources("");
    let loaded = load(&sources, environment).map_err(drop).unwrap();
    assert_eq!(loaded.config.auth_allowed_origins, ["https://a.example", "https://b.example"]);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    refused(load_file("[limits]\nping_mss = 1"), &["limits.ping_mss: no such key", "did you mean limits.ping_ms?"]);
    refused(load_file("[limit]\nping_ms = 1"), &["limit: no such key"]);
    refused(load_set(&["listen.cleint=127.0.0.1:1"]), &["listen.cleint", "did you mean listen.client?"]);
    let (sources, _dir) = sources("");
    for name in ["STARLING_LIMITS_PING_MS", "STARLING_LIMITS__PING_MSS"] {
        let result = load(&sources, [(name.to_owned(), "1".to_owned())]);
        refused(result, &[name, "did you mean STARLING_LIMITS__PING_MS?"]);
    }
    let foreign = [("STARLING_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())];
    assert!(load(&sources, foreign).is_ok(), "Kubernetes sets these");
}

#[test]
fn each_value_is_checked_and_the_mistake_says_how_to_mend_it() {
    let mistakes: &[(&str, &[&str])] = &[
        ("listen.client=8080", &["listen.client = \"8080\"", "not an address with a port", "127.0.0.1:8080"]),
        ("limits.ping_ms=5", &["not between 100 and 600000", "give a number"]),
        ("limits.ping_ms=soon", &["not a whole number"]),
        ("auth.single_session=maybe", &["neither true nor false"]),
        ("node.id=über uns", &["not a name"]),
        ("node.data_dir=", &["empty"]),
        ("log.level=loud", &["no such choice", "use error or warn"]),
        ("storage.backend=mysql", &["no such choice", "use sqlite or cql or memory"]),
        ("storage.cql.nodes=db", &["`db` is no server", "10.0.0.7:9042"]),
        ("storage.cql.keyspace=Chat-1", &["not a keyspace", "small letters"]),
        ("storage.cql.replication=many", &["`many` is neither a number of copies", "each"]),
        ("tokens.redis.url=http://redis", &["tokens.redis.url: neither redis:// nor rediss://"]),
        ("cluster.seeds=n1", &["`n1` is no seed", "dns:nodes.example:7946"]),
        ("cluster.seeds=n1:7946,dns:nodes", &["`dns:nodes` is no seed"]),
        ("cluster.advertise=n1", &["not a host with a port"]),
        ("listen.trusted_proxies=10.0.0.0/40", &["no address or network"]),
        ("auth.allowed_origins=chat.example", &["no origin", "https://chat.example"]),
        ("listen.client", &["no `=` in it"]),
    ];
    for (pair, words) in mistakes {
        refused(load_set(&[pair]), words);
    }
    refused(load_file("[limits]\nping_ms = \"5\""), &["not a whole number"]);
    refused(load_file("[listen]\ntrusted_proxies = \"10.0.0.1\""), &["not a list"]);
    refused(load_file("limits = 3"), &["limits: no such key"]);
    refused(load_file("[limits\n"), &["not TOML"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    refused(load_set(&["limits.ping_ms=1", "log.level=loud"]), &["limits.ping_ms", "log.level"]);
}

#[test]
fn what_contradicts_is_refused() {
    refused(load_set(&["listen.tls.cert=/c.pem"]), &["listen.tls.cert", "listen.tls.key_file"]);
    refused(load_set(&["listen.admin=0.0.0.0:8081"]), &["not loopback", "admin.token_file"]);
    refused(load_set(&["limits.queue_hard_bytes=262144"]), &["limits.queue_hard_bytes", "limits.queue_soft_bytes"]);
    refused(load_set(&["limits.text_chars=60000"]), &["limits.text_chars", "limits.frame_bytes"]);
    refused(load_set(&["auth.refresh_ttl_s=100"]), &["outlive"]);
    refused(load_set(&["listen.admin=127.0.0.1:8080"]), &["listen.client has the same address"]);
}

#[test]
fn stores_that_cannot_work_together_are_refused() {
    let secret = format!("auth.secret={}", "ab".repeat(32));
    let cql = ["storage.backend=cql", "storage.cql.nodes=a:9042,b:9042"];
    let redis = ["tokens.backend=redis", "tokens.redis.url=rediss://u:hush@r:6379/1"];
    let whole = [&cql[..], &redis, &[&secret]].concat();
    let loaded = load_set(&whole).map_err(|m| m[0].to_string()).unwrap();
    let printed = effective(&loaded);
    assert!(!printed.contains("hush"), "{printed}");
    assert!(printed.contains(r#"storage.cql.nodes = ["a:9042", "b:9042"]  # flag"#), "{printed}");
    assert!(load_set(&redis).is_ok(), "tokens on Redis beside any history");
    for (bytes, fits) in [("245760", true), ("245761", false)] {
        let frame = format!("limits.frame_bytes={bytes}");
        let loaded = load_set(&[&whole[..], &[frame.as_str()]].concat());
        assert_eq!(loaded.is_ok(), fits, "{bytes}");
        if !fits {
            refused(loaded, &["limits.frame_bytes = \"245761\": nodes that share a store", "give at most 245760"]);
        }
    }

    refused(
        load_set(&["storage.backend=cql"]),
        &[
            "storage.cql.nodes",
            "no server is named",
            "tokens.backend = \"embedded\": storage.backend cql keeps no tokens",
            "auth.secret_file: storage.backend is cql",
            "openssl rand -hex 32",
        ],
    );
    refused(load_set(&cql[1..]), &["storage.cql.nodes = \"a:9042,b:9042\"", "storage.backend is not cql"]);
    refused(load_set(&redis[..1]), &["tokens.redis.url: tokens.backend is redis, and there is no URL"]);
    let refusal = load_set(&redis[1..]);
    assert!(!format!("{:?}", refusal.as_ref().err()).contains("hush"));
    refused(refusal, &["tokens.redis.url: a server is named", "set tokens.backend to redis"]);
    let plain = ["tokens.backend=redis", "tokens.redis.url=redis://r", "tokens.redis.tls_ca=/ca.pem"];
    refused(load_set(&plain), &["tokens.redis.tls_ca", "rediss://"]);
    refused(load_set(&[&whole[..], &["storage.cql.username=ada"]].concat()), &["there is no password"]);
    refused(load_set(&[&whole[..], &["storage.cql.password=hush"]].concat()), &["there is nobody whose it is"]);
}

#[test]
fn a_secret_file_that_others_may_read_is_refused_and_secrets_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "0123456789abcdef-hush\n").unwrap();
    let set = [format!("admin.token_file={}", path.display())];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    for mode in [0o644, 0o640] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        refused(load_set(&set), &["admin.token_file", "others may read it", "chmod 600"]);
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let loaded = load_set(&set).map_err(drop).unwrap();
    assert_eq!(loaded.config.admin_token.as_deref(), Some("0123456789abcdef-hush"));
    let secret = format!("auth.secret={}", "ab".repeat(32));
    let loaded = load_set(&["admin.token=0123456789abcdef-hush", &secret]).map_err(drop).unwrap();
    let printed = effective(&loaded);
    assert!(!printed.contains("hush") && !printed.contains("abab"), "{printed}");

    let mistake = load_set(&["admin.token=hush"]).err().unwrap();
    assert!(!mistake[0].to_string().contains("hush"), "{}", mistake[0]);
    refused(load_set(&["auth.secret=abc"]), &["64 hexadecimal digits", "openssl"]);
    refused(load_set(&["admin.token_file=/does/not/exist"]), &["cannot be read"]);
    let both = [set[0], "admin.token=0123456789abcdef"];
    refused(load_set(&both), &["admin.token is set as well"]);
}

#[test]
fn other_nodes_are_met_with_certificates_or_on_loopback() {
    let words = ["there are no certificates", "starling cluster init"];
    refused(load_set(&["listen.peer=0.0.0.0:7946"]), &[&words[..], &["listen.peer"]].concat());
    refused(load_set(&["cluster.advertise=n1.example:7946"]), &[&words[..], &["cluster.advertise"]].concat());
    for here in ["127.0.0.1:7946", "[::1]:7946", "localhost:7946"] {
        assert!(load_set(&[&format!("cluster.advertise={here}")]).is_ok(), "{here}");
    }
    refused(load_set(&["cluster.tls.ca=/ca.pem"]), &["cluster.tls.cert: not set", "cluster.tls.key_file: not set"]);
}

#[test]
fn nodes_that_are_to_join_share_a_store_and_say_where_they_are() {
    refused(
        load_set(&["cluster.seeds=n1:7946"]),
        &["cluster.seeds", "storage.backend is sqlite", "set storage.backend to cql"],
    );
    let (dir, set) = certified("n1");
    let everywhere = "listen.peer=0.0.0.0:7946".to_owned();
    refused(
        load_owned(&[&set[..], std::slice::from_ref(&everywhere)].concat()),
        &["cluster.advertise", "listen.peer is all addresses"],
    );
    let advertised = [everywhere, "cluster.advertise=n1.example:7946".to_owned()];
    assert!(load_owned(&[&set[..], &advertised].concat()).is_ok());
    drop(dir);
}

#[test]
fn a_certificate_that_peers_would_refuse_is_refused_here() {
    let (dir, set) = certified("n1");
    assert!(load_owned(&set).is_ok());
    let with = |extra: &str| load_owned(&[&set[..], &[extra.to_owned()]].concat());
    assert!(with("node.id=auto").is_ok(), "compared when the name is known");
    refused(with("node.id=n2"), &["cluster.tls.cert", "it is for n1, and node.id is n2"]);
    refused(load_set(&[&format!("node.id={}", "n".repeat(64))]), &["node.id", "longer than", "1 to 63"]);
    refused(with("node.id=-n2"), &["node.id", "a certificate cannot bear such a name"]);
    refused(with("cluster.tls.cert=/none.pem"), &["cluster.tls.cert", "cannot be read"]);
    let key = dir.path().join("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    refused(load_owned(&set), &["cluster.tls.key_file", "others may read it (mode 640)", "chmod 600"]);
}

/// What a node with this name and certificate would set.
fn certified(node: &str) -> (tempfile::TempDir, Vec<String>) {
    use crate::peers::issue;
    let dir = tempfile::tempdir().unwrap();
    let authority = issue::authority().unwrap();
    let own = issue::certificate(node, &authority.key).unwrap();
    let mut set = vec![format!("node.id={node}")];
    for (key, name, pem) in [("ca", "ca", &authority.cert), ("cert", "cert", &own.cert), ("key_file", "key", &own.key)]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        set.push(format!("cluster.tls.{key}={}", path.display()));
    }
    (dir, set)
}

fn load_owned(pairs: &[String]) -> Result<Loaded, Vec<Mistake>> {
    load_set(&pairs.iter().map(String::as_str).collect::<Vec<_>>())
}
