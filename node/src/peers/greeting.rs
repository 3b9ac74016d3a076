//! What this node says of itself to others, and what must be the same with them. Never says a secret.

use std::time::Duration;

use actors::{
    Random, Settings,
    cluster::membership::{Me, RELEASE},
};
use aws_lc_rs::hmac;
use protocol::{
    NodeId,
    limits::PRESENCE_SLICES,
    peer::{Greeting, VERSIONS},
};

use crate::{config::Config, world::SecureRandom};

/// The greeting of this run. The error is one line for the operator.
pub(crate) fn greeting(config: &Config, settings: &Settings) -> Result<Greeting, String> {
    let node = NodeId::try_from(settings.node.clone());
    let node =
        node.map_err(|reason| format!("cannot use node.id {}: {reason}; choose a shorter one", settings.node))?;
    let pairs =
        |pairs: &[(&str, String)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Ok(Greeting {
        versions: VERSIONS,
        node,
        incarnation: settings.incarnation,
        equal: pairs(&[
            ("cluster.name", config.cluster_name.clone()),
            ("storage.backend", config.storage_backend.clone()),
            ("storage.cql.keyspace", config.storage_cql_keyspace.clone()),
            ("storage.cql.datacenter", config.storage_cql_datacenter.clone().unwrap_or_default()),
            ("tokens.backend", config.tokens_backend.clone()),
            ("auth.issuer", config.auth_issuer.clone()),
            ("auth.secret (a hash)", hashed(&settings.auth.secret.0)),
            ("slices of presence", PRESENCE_SLICES.to_string()),
        ]),
        alike: pairs(&[
            ("auth.access_ttl_s", config.auth_access_ttl_s.to_string()),
            ("auth.single_session", config.auth_single_session.to_string()),
            ("auth.sessions_per_user_max", config.auth_sessions_per_user_max.to_string()),
            ("limits.frame_bytes", config.limits_frame_bytes.to_string()),
            ("limits.members", config.limits_members.to_string()),
            ("limits.text_chars", config.limits_text_chars.to_string()),
            (RELEASE, env!("CARGO_PKG_VERSION").to_owned()),
        ]),
    })
}

/// This node as a member; `peer_at`: where `listen.peer` really listens.
pub(crate) fn me(config: &Config, greeting: &Greeting, peer_at: &str) -> Me {
    let mut random = [0; 8];
    SecureRandom.fill(&mut random);
    Me {
        node: greeting.node.clone(),
        incarnation: greeting.incarnation,
        address: config.cluster_advertise.clone().unwrap_or_else(|| peer_at.to_owned()),
        weight: config.node_weight,
        has_seeds: !config.cluster_seeds.is_empty(),
        dead: Duration::from_millis(config.cluster_dead_ms),
        random: u64::from_le_bytes(random),
    }
}

/// Tells two secrets apart and nothing about either: they are 32 random bytes.
fn hashed(secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, b"starling: the same secret?");
    tag.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
