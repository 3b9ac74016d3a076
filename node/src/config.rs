//! Configuration: built-in defaults < file < environment < flags, checked before anything is opened. A mistake names
//! key, value, reason and remedy; all mistakes are reported at once. Reads files that keys name, opens nothing else.

mod cluster;
mod keys;
mod print;
mod secret;
mod value;

use std::path::{Path, PathBuf};

pub(crate) use keys::Config;
use keys::{KEYS, Key};
pub(crate) use print::{defaults, effective};
pub(crate) use secret::parse_key;
pub(crate) use value::{Network, is_server};
use value::{Refusal, Value};

/// The file that is read when `--config` names no other.
const DEFAULT_FILE: &str = "cluster.toml";

/// Where configuration comes from, as the command line says.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Sources {
    /// Configuration file [default: cluster.toml, if there is one]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// One key of the configuration, over file and environment; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
    /// Short for --set listen.client=
    #[arg(long, value_name = "ADDRESS", global = true)]
    listen: Option<String>,
    /// Short for --set listen.admin=
    #[arg(long, value_name = "ADDRESS", global = true)]
    admin: Option<String>,
    /// Short for --set node.data_dir=
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
}

/// The checked configuration and where each value came from.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// One per key, in the order of the table.
    values: Vec<(Value, Origin)>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// Something the operator has to mend.
#[derive(Debug)]
pub(crate) struct Mistake {
    key: String,
    /// Not shown for secrets.
    value: Option<String>,
    reason: String,
    remedy: String,
    origin: Origin,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}; {} (from {})", self.reason, self.remedy, self.origin)
    }
}

/// The process's environment; what is not text is not ours.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads every source and checks all of it.
///
/// `environment`: names and values; those that are not ours are ignored.
pub(crate) fn load(
    sources: &Sources, environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Vec<Mistake>> {
    let mut layers = Layers::new();
    layers.file(sources);
    layers.environment(environment);
    layers.flags(sources);
    if !layers.mistakes.is_empty() {
        return Err(layers.mistakes);
    }
    let values = layers.values;
    let config = Config::from_checked(|name| {
        let place = KEYS.iter().position(|key| key.name == name).expect("both come from one table");
        values[place].0.clone()
    });
    let mut loaded = Loaded { config, values };
    let mistakes = secret::resolve(&mut loaded).into_iter().chain(contradictions(&loaded)).collect::<Vec<_>>();
    if mistakes.is_empty() { Ok(loaded) } else { Err(mistakes) }
}

impl Loaded {
    fn mistake(&self, name: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        let place = KEYS.iter().position(|key| key.name == name).expect("named from the table");
        let (value, origin) = &self.values[place];
        let shown = (!KEYS[place].kind.is_secret() && *value != Value::Unset).then(|| print::plain(value));
        Mistake { key: name.into(), value: shown, reason: reason.into(), remedy: remedy.into(), origin: origin.clone() }
    }
}

/// What each key by itself may be, but not together.
fn contradictions(loaded: &Loaded) -> Vec<Mistake> {
    let config = &loaded.config;
    let mut found = Vec::new();
    if config.listen_tls_cert.is_some() != config.listen_tls_key_file.is_some() {
        let (there, missing) = match config.listen_tls_cert {
            Some(_) => ("listen.tls.cert", "listen.tls.key_file"),
            None => ("listen.tls.key_file", "listen.tls.cert"),
        };
        found.push(loaded.mistake(there, format!("TLS also needs {missing}"), format!("set {missing}, or neither")));
    }
    if !config.listen_admin.ip().is_loopback() && config.admin_token.is_none() {
        let remedy = "set admin.token_file, or listen on 127.0.0.1";
        found.push(loaded.mistake("listen.admin", "not loopback, and there is no admin token", remedy));
    }
    let soft = config.limits_queue_soft_bytes;
    if config.limits_queue_hard_bytes < soft + config.limits_frame_bytes {
        let remedy = format!("give at least {}", soft + config.limits_frame_bytes);
        let reason = "not above limits.queue_soft_bytes by at least limits.frame_bytes";
        found.push(loaded.mistake("limits.queue_hard_bytes", reason, remedy));
    }
    if config.limits_text_chars * 4 > config.limits_frame_bytes {
        let remedy = format!("give at most {}, or raise limits.frame_bytes", config.limits_frame_bytes / 4);
        found.push(loaded.mistake("limits.text_chars", "such a text may not fit limits.frame_bytes", remedy));
    }
    if config.auth_refresh_ttl_s <= config.auth_access_ttl_s {
        let remedy = "make it longer than auth.access_ttl_s";
        found.push(loaded.mistake("auth.refresh_ttl_s", "a refresh token must outlive the access token", remedy));
    }
    stores(loaded, &mut found);
    cluster::contradictions(loaded, &mut found);
    let mut taken = std::collections::HashMap::new();
    for (name, address) in [
        ("listen.client", config.listen_client),
        ("listen.admin", config.listen_admin),
        ("listen.peer", config.listen_peer),
    ] {
        if let Some(other) = (address.port() != 0).then(|| taken.insert(address, name)).flatten() {
            found.push(loaded.mistake(name, format!("{other} has the same address"), "choose another port"));
        }
    }
    found
}

/// Stores that cannot work together, and servers named for a store that is not used: a node that quietly keeps things
/// elsewhere than its operator thinks is worse than one that does not start.
fn stores(loaded: &Loaded, found: &mut Vec<Mistake>) {
    let config = &loaded.config;
    let cql = config.storage_backend == "cql";
    let redis = config.tokens_backend == "redis";
    let mut refuse = |key, reason, remedy| found.push(loaded.mistake(key, reason, remedy));
    if cql && config.storage_cql_nodes.is_empty() {
        refuse("storage.cql.nodes", "storage.backend is cql, and no server is named", "name some, host:port");
    }
    if !cql && !config.storage_cql_nodes.is_empty() {
        let reason = "servers are named, and storage.backend is not cql: nothing would be kept there";
        refuse("storage.cql.nodes", reason, "set storage.backend to cql, or name none");
    }
    if cql && !redis {
        let reason = "storage.backend cql keeps no tokens: they would have no home";
        refuse("tokens.backend", reason, "set it to redis, and tokens.redis.url_file");
    }
    if cql && config.auth_secret.is_none() {
        let reason = "storage.backend is cql, and every node must have the same secret";
        refuse("auth.secret_file", reason, "make one with: openssl rand -hex 32, and give it to every node");
    }
    if config.storage_cql_username.is_some() && config.storage_cql_password.is_none() {
        refuse("storage.cql.username", "there is no password for it", "set storage.cql.password_file");
    }
    if config.storage_cql_password.is_some() && config.storage_cql_username.is_none() {
        refuse("storage.cql.password", "there is nobody whose it is", "set storage.cql.username");
    }
    match &config.tokens_redis_url {
        None if redis => {
            refuse("tokens.redis.url", "tokens.backend is redis, and there is no URL", "set tokens.redis.url_file")
        }
        Some(_) if !redis => {
            let reason = "a server is named, and tokens.backend is not redis: nothing would be kept there";
            refuse("tokens.redis.url", reason, "set tokens.backend to redis, or remove it");
        }
        Some(url) if config.tokens_redis_tls_ca.is_some() && !url.starts_with("rediss://") => {
            refuse("tokens.redis.tls_ca", "the URL says redis://, which is not TLS", "write rediss:// in the URL");
        }
        _ => {}
    }
}

/// The sources in their order, each over the one before.
struct Layers {
    values: Vec<(Value, Origin)>,
    mistakes: Vec<Mistake>,
}

impl Layers {
    fn new() -> Layers {
        let default = |key: &Key| match key.default {
            Some(text) => key.kind.read_text(text).unwrap_or_else(|refusal| panic!("{}: {}", key.name, refusal.reason)),
            None => Value::Unset,
        };
        Layers { values: KEYS.iter().map(|key| (default(key), Origin::Default)).collect(), mistakes: Vec::new() }
    }

    fn file(&mut self, sources: &Sources) {
        let path = match &sources.config {
            Some(path) => path.as_path(),
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return,
        };
        let origin = Origin::File(path.to_owned());
        let whole = |reason: String, remedy: &str| Mistake {
            key: "--config".into(),
            value: Some(path.display().to_string()),
            reason,
            remedy: remedy.into(),
            origin: if sources.config.is_some() { Origin::Flag } else { Origin::Default },
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.mistakes.push(whole(format!("cannot be read: {error}"), "name a file that can be read"));
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.table(&table, "", &origin),
            Err(error) => {
                let reason = format!("not TOML: {}", error.to_string().trim_end().replace('\n', " "));
                self.mistakes.push(whole(reason, "see the lines named above"));
            }
        }
    }

    fn table(&mut self, table: &toml::Table, prefix: &str, origin: &Origin) {
        for (word, value) in table {
            let name = if prefix.is_empty() { word.clone() } else { format!("{prefix}.{word}") };
            let is_section = KEYS.iter().any(|key| key.name.starts_with(&format!("{name}.")));
            match value {
                toml::Value::Table(inner) if is_section => self.table(inner, &name, origin),
                _ => self.put(&name, &value.to_string(), origin.clone(), |key| key.kind.read_toml(value)),
            }
        }
    }

    fn environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let mut ours: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with("STARLING_")).collect();
        ours.sort();
        for (name, text) in ours {
            let key = KEYS.iter().find(|key| environment_name(key) == name);
            // Kubernetes sets STARLING_SERVICE_HOST and the like for a service called starling: not ours, unless they
            // look very much like a key.
            let alike = KEYS.iter().find(|key| strsim::levenshtein(&environment_name(key), &name) <= 2);
            match (key, alike) {
                (Some(key), _) => {
                    self.put(key.name, &text, Origin::Environment(name.clone()), |key| key.kind.read_text(&text));
                }
                (None, Some(alike)) => self.mistakes.push(Mistake {
                    key: name.clone(),
                    value: None,
                    reason: "no such key".into(),
                    remedy: format!("did you mean {}?", environment_name(alike)),
                    origin: Origin::Environment(name),
                }),
                (None, None) if name.contains("__") => {
                    let dotted = name["STARLING_".len()..].replace("__", ".").to_lowercase();
                    self.unknown(&dotted, Origin::Environment(name));
                }
                (None, None) => {}
            }
        }
    }

    fn flags(&mut self, sources: &Sources) {
        for pair in &sources.set {
            match pair.split_once('=') {
                Some((name, text)) => self.put(name.trim(), text, Origin::Flag, |key| key.kind.read_text(text)),
                None => self.mistakes.push(Mistake {
                    key: "--set".into(),
                    value: Some(pair.clone()),
                    reason: "no `=` in it".into(),
                    remedy: "write --set key=value".into(),
                    origin: Origin::Flag,
                }),
            }
        }
        let short = [
            ("listen.client", &sources.listen),
            ("listen.admin", &sources.admin),
            ("node.data_dir", &sources.data_dir),
        ];
        for (name, text) in short {
            if let Some(text) = text {
                self.put(name, text, Origin::Flag, |key| key.kind.read_text(text));
            }
        }
    }

    fn put(&mut self, name: &str, shown: &str, origin: Origin, read: impl Fn(&Key) -> Result<Value, Refusal>) {
        let Some(place) = KEYS.iter().position(|key| key.name == name) else { return self.unknown(name, origin) };
        match read(&KEYS[place]) {
            Ok(value) => self.values[place] = (value, origin),
            Err(Refusal { reason, remedy }) => {
                let value = (!KEYS[place].kind.is_secret()).then(|| shown.trim_matches('"').to_owned());
                self.mistakes.push(Mistake { key: name.into(), value, reason, remedy, origin });
            }
        }
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        let closest = KEYS.iter().max_by(|a, b| {
            let [a, b] = [a, b].map(|key| strsim::jaro_winkler(key.name, name));
            a.total_cmp(&b)
        });
        let remedy = format!("did you mean {}?", closest.expect("there are keys").name);
        self.mistakes.push(Mistake { key: name.into(), value: None, reason: "no such key".into(), remedy, origin });
    }
}

fn environment_name(key: &Key) -> String {
    format!("STARLING_{}", key.name.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests;
