//! How far the servers' clocks are from this machine's. Nothing here orders messages by them; but what two conditional writes
//! are judged by, and when rows end, is. The only place of this crate that reads a clock, and only to compare.

use std::time::{SystemTime, UNIX_EPOCH};

use scylla::value::CqlTimestamp;

use super::{errors, servers::Servers};
use crate::OpenError;

/// Clocks that are kept in time differ by milliseconds; this is one that is not.
pub(super) const GAP_MS_MAX: u64 = 10_000;

/// By how much each connected server's clock is ahead of this machine's, milliseconds, by address.
pub(super) async fn gaps(servers: &Servers) -> Result<Vec<(String, i64)>, OpenError> {
    let session = servers.session();
    let state = session.get_cluster_state();
    let mut gaps = Vec::new();
    for node in state.get_nodes_info().iter().filter(|node| node.is_connected()) {
        let before = now_ms(servers)?;
        let (theirs,): (CqlTimestamp,) = servers.ask(node, "SELECT toTimestamp(now()) FROM system.local").await?;
        // The moment of the answer is as likely early as late in between.
        let ours = before + (now_ms(servers)? - before) / 2;
        gaps.push((format!("{}:{}", node.address.ip(), node.address.port()), theirs.0 - ours));
    }
    Ok(gaps)
}

/// One line for each clock that is not kept in time.
pub(super) fn wrong(gaps: &[(String, i64)]) -> Vec<String> {
    let far = gaps.iter().filter(|(_, gap)| gap.unsigned_abs() > GAP_MS_MAX);
    far.map(|(address, gap)| {
        let (s, how) = ((gap.unsigned_abs() + 500) / 1000, if *gap > 0 { "ahead of" } else { "behind" });
        format!("the clock of {address} is {s} s {how} this machine's; keep all of them in time (NTP)")
    })
    .collect()
}

fn now_ms(servers: &Servers) -> Result<i64, OpenError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis());
    let ms = since.ok().and_then(|ms| i64::try_from(ms).ok());
    ms.ok_or_else(|| errors::unusable(&servers.settings, "this machine's clock is before 1970", "set it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_apart_by_minutes_are_named_and_milliseconds_are_not() {
        let gaps = [("a:1".to_owned(), 12), ("b:1".to_owned(), -180_000), ("c:1".to_owned(), 61_000)];
        let wrong = wrong(&gaps);
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with("the clock of b:1 is 180 s behind"), "{wrong:?}");
        assert!(wrong[1].starts_with("the clock of c:1 is 61 s ahead"), "{wrong:?}");
    }
}
