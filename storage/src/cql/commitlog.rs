//! When what a server acknowledges is in its commit log for good: Cassandra's `commitlog_sync`. By default it is some time
//! later, and what a killed server had acknowledged until then only others have. Asks and judges, and changes nothing.

use std::collections::BTreeSet;

use super::servers::Servers;

/// Cassandra's default: a write does not wait.
const PERIODIC: &str = "periodic";

/// How it is, or what may be lost, and what to do. `None` where no server tells: ScyllaDB, Cassandra before 4.0, or a user
/// who may not read its settings.
pub(super) async fn look(servers: &Servers) -> Option<Result<String, String>> {
    let settings = &servers.settings;
    let copies = settings.replication.copies(&servers.by_datacenter(), settings.datacenter.as_deref());
    judge(&modes(servers).await, copies)
}

/// What each connected server says whose acknowledgement counts, by address.
async fn modes(servers: &Servers) -> Vec<(String, String)> {
    let wished = servers.settings.datacenter.as_ref();
    let state = servers.session().get_cluster_state();
    let mut modes = Vec::new();
    for node in state.get_nodes_info().iter().filter(|node| node.is_connected()) {
        if wished.is_some() && wished != node.datacenter.as_ref() {
            continue;
        }
        let text = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
        match servers.ask::<(String,)>(node, text).await {
            Ok((mode,)) => modes.push((format!("{}:{}", node.address.ip(), node.address.port()), mode)),
            Err(error) => tracing::debug!(%error, "a server does not tell its commitlog_sync"),
        }
    }
    modes
}

fn judge(modes: &[(String, String)], copies: usize) -> Option<Result<String, String>> {
    let periodic: Vec<_> =
        modes.iter().filter(|(_, mode)| mode == PERIODIC).map(|(address, _)| address.as_str()).collect();
    if modes.is_empty() {
        return None;
    }
    Some(if periodic.is_empty() {
        let distinct: BTreeSet<_> = modes.iter().map(|(_, mode)| mode.as_str()).collect();
        let distinct: Vec<_> = distinct.into_iter().collect();
        Ok(format!("{}: what is acknowledged is on disk", distinct.join(", ")))
    } else if copies > 1 {
        Ok(format!(
            "periodic at {}: a server that is killed loses nothing that the others have, a power cut of all of them at \
             once what was acknowledged last",
            periodic.join(", ")
        ))
    } else {
        Err(format!(
            "commitlog_sync is periodic at {} and there is one copy of everything: a server that is killed loses messages \
             it acknowledged in its last moments (some 100 ms; after a power cut 10 s); set commitlog_sync: batch, or \
             group, in its cassandra.yaml and restart it",
            periodic.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(modes: &[&str], copies: usize) -> Option<Result<String, String>> {
        let modes: Vec<_> =
            modes.iter().enumerate().map(|(n, mode)| (format!("s{n}:9042"), (*mode).to_owned())).collect();
        judge(&modes, copies)
    }

    #[test]
    fn a_server_that_does_not_wait_for_its_disk_may_not_have_the_only_copy() {
        let wrong = said(&["batch", "periodic"], 1).unwrap().unwrap_err();
        assert!(wrong.starts_with("commitlog_sync is periodic at s1:9042 and"), "{wrong}");
        assert!(wrong.contains("set commitlog_sync: batch"), "{wrong}");
        assert!(said(&["periodic", "batch", "periodic"], 3).unwrap().unwrap().contains("at s0:9042, s2:9042: "));
    }

    #[test]
    fn servers_that_wait_for_their_disks_are_fine_with_any_copies() {
        for copies in [1, 3] {
            let fine = said(&["group", "batch", "batch"], copies).unwrap().unwrap();
            assert_eq!(fine, "batch, group: what is acknowledged is on disk");
        }
    }

    #[test]
    fn nothing_is_said_where_no_server_tells() {
        assert_eq!(said(&[], 1), None);
    }
}
