//! What operators should know of a Redis before anything relies on it. Changes nothing that lasts.

use ::redis::cmd;
use protocol::Millis;
use tokio::time::Instant;

use super::{Redis, Settings, open};
use crate::{
    Error,
    inspect::Finding,
    tokens::{Rate, Tokens},
};

/// Limits taken to see how long that takes.
const ROUND_TRIPS: usize = 21;
/// Every request to a node waits for one.
const ROUND_TRIP_MS_MAX: f64 = 20.0;
/// Nothing of it is ever refused.
const ANY: Rate = Rate { count: 1_000, period_ms: 1_000, burst: 1_000 };

/// Looks whether the Redis answers, how fast, and whether it keeps what it is told.
pub async fn inspect(settings: &Settings) -> Vec<Finding> {
    let redis = match open(settings).await {
        Ok(redis) => redis,
        Err(error) => return vec![Finding { name: "reachable", outcome: Err(error.to_string()) }],
    };
    let mut findings = vec![Finding { name: "round trip", outcome: round_trip(&redis).await }];
    let mut get = cmd("INFO");
    get.arg("everything");
    let found = match redis.gate.read(async |mut line| get.query_async::<String>(&mut line).await).await {
        Ok(text) => {
            let info = Info(&text);
            let version = format!("{settings} answers, {}", info.version());
            [("reachable", Ok(version)), ("memory", info.memory()), ("persistence", Ok(info.persistence()))]
        }
        Err(error) => {
            let unknown = || Err(format!("cannot tell: {error}; let this user run INFO"));
            [("reachable", Ok(format!("{settings} answers"))), ("memory", unknown()), ("persistence", unknown())]
        }
    };
    findings.extend(found.map(|(name, outcome)| Finding { name, outcome }));
    findings
}

async fn round_trip(redis: &Redis) -> Result<String, String> {
    let mut took_ms = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let asked = Instant::now();
        let taken: Result<_, Error> = redis.take("inspect", ANY, Millis(0)).await;
        taken.map_err(|error| error.to_string())?.ok();
        took_ms.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    took_ms.sort_by(f64::total_cmp);
    let (median, longest) = (took_ms[ROUND_TRIPS / 2], took_ms[ROUND_TRIPS - 1]);
    let took = format!("{median:.2} ms to take from a limit, {longest:.2} ms at most");
    if median <= ROUND_TRIP_MS_MAX {
        return Ok(took);
    }
    Err(format!("{took}; every request waits for it: put Redis nearer, {ROUND_TRIP_MS_MAX} ms away at most"))
}

/// What INFO says, line by line.
struct Info<'a>(&'a str);

impl Info<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn version(&self) -> String {
        match (self.value("valkey_version"), self.value("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "of an unknown version".to_owned(),
        }
    }

    /// Everything here has a time to live, so every policy but one takes from it.
    fn memory(&self) -> Result<String, String> {
        let (policy, limit) = (self.value("maxmemory_policy"), self.value("maxmemory"));
        match (policy.unwrap_or("unknown"), limit) {
            ("noeviction", _) => Ok("what is kept is never dropped to make room (noeviction)".to_owned()),
            (policy, Some("0")) => Ok(format!("there is no maxmemory, so {policy} drops nothing")),
            (policy, _) => Err(format!(
                "maxmemory-policy is {policy}: when memory is full it drops revocations, and signs people out; set noeviction"
            )),
        }
    }

    fn persistence(&self) -> String {
        match self.value("aof_enabled") {
            Some("1") => "it keeps an append-only file: a restart signs nobody out".to_owned(),
            _ => "it keeps no append-only file: after a restart people may have to sign in again".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Info;

    #[test]
    fn only_what_never_drops_a_revocation_is_found_good() {
        let memory = |policy: &str, limit: &str| {
            Info(&format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n")).memory()
        };
        assert!(memory("noeviction", "1000000").is_ok());
        assert!(memory("allkeys-lru", "0").is_ok());
        for policy in ["allkeys-lru", "volatile-ttl"] {
            assert!(memory(policy, "1000000").unwrap_err().contains("set noeviction"));
        }
        assert!(Info("").memory().is_err());
    }
}
