//! What does not fit together of what concerns other nodes. Reads the certificates, so that a node finds them wrong before
//! its peers do.

use std::net::SocketAddr;

use protocol::limits::PEER_REQUEST_BYTES_MAX;

use super::{Loaded, Mistake};
use crate::{
    config::Config,
    peers::{
        certificates::{Certificates, Files},
        issue,
    },
};

const TLS: [&str; 3] = ["cluster.tls.ca", "cluster.tls.cert", "cluster.tls.key_file"];

pub(super) fn contradictions(loaded: &Loaded, found: &mut Vec<Mistake>) {
    let config = &loaded.config;
    let mut refuse = |key: &str, reason: String, remedy: &str| found.push(loaded.mistake(key, reason, remedy));
    if protocol::NodeId::try_from(config.node_id.clone()).is_err() {
        refuse(
            "node.id",
            "longer than a name of a node may be".to_owned(),
            "use 1 to 63 letters, digits, `.`, `_`, `-`",
        );
    }
    let set = [&config.cluster_tls_ca, &config.cluster_tls_cert, &config.cluster_tls_key_file].map(Option::is_some);
    for ((key, is_set), missing) in TLS.iter().zip(set).zip(["a certificate authority", "a certificate", "its key"]) {
        if !is_set && set.contains(&true) {
            let reason = format!("not set, and the others of cluster.tls are: {missing} is missing");
            refuse(key, reason, "set all three, or none; `starling cluster init` makes them");
        }
    }
    if set == [false; 3] {
        let remedy = "set cluster.tls (`starling cluster init` makes certificates), or stay on 127.0.0.1";
        let reason = || "not loopback, and there are no certificates: whoever reaches it could be a node".to_owned();
        if !config.listen_peer.ip().is_loopback() {
            refuse("listen.peer", reason(), remedy);
        }
        if config.cluster_advertise.as_deref().is_some_and(|at| !is_here(at)) {
            refuse("cluster.advertise", reason(), remedy);
        }
    }
    let joins = !config.cluster_seeds.is_empty();
    if (joins || set == [true; 3]) && config.listen_peer.ip().is_unspecified() && config.cluster_advertise.is_none() {
        let reason = "not set, and listen.peer is all addresses: peers would not know which to dial".to_owned();
        refuse("cluster.advertise", reason, "write it like n1.example:7946");
    }
    if joins && config.storage_backend != "cql" {
        let reason = format!("storage.backend is {}, which nodes cannot share", config.storage_backend);
        refuse("cluster.seeds", reason, "set storage.backend to cql, or leave the list empty");
    }
    if config.storage_backend == "cql" && config.limits_frame_bytes > PEER_REQUEST_BYTES_MAX {
        let reason = "nodes that share a store could not hand such a request to each other: their frames are smaller";
        refuse("limits.frame_bytes", reason.to_owned(), &format!("give at most {PEER_REQUEST_BYTES_MAX}"));
    }
    if set == [true; 3] {
        certificates(loaded, config, found);
    }
}

fn certificates(loaded: &Loaded, config: &Config, found: &mut Vec<Mistake>) {
    // made at the first start and kept; compared then
    let node = Some(config.node_id.as_str()).filter(|node| *node != "auto");
    if node.is_some_and(|node| !issue::is_certifiable(node)) {
        let remedy = "use up to 63 letters, digits, `_` and, inside, `-` and `.`";
        found.push(loaded.mistake("node.id", "a certificate cannot bear such a name", remedy));
        return;
    }
    // a key that others may read is another mistake, found already
    let others: &[Mistake] = found;
    if others.iter().any(|mistake| TLS.contains(&mistake.key.as_str())) {
        return;
    }
    if let Some(Err(unusable)) = Files::of(config).map(|files| Certificates::load(files, node)) {
        found.push(loaded.mistake(unusable.key, unusable.reason, unusable.remedy));
    }
}

/// A name or an address of this machine that no other one reaches.
fn is_here(at: &str) -> bool {
    match at.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => at.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}
