//! A session with the servers, and how statements of each kind are sent. Reconnecting is the driver's business; waiting for
//! servers that are not there at the start is the caller's.

use std::{fs, num::NonZeroUsize, sync::Arc, time::Duration};

use protocol::limits::STORE_DEADLINE_MS;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use scylla::{
    client::{
        PoolSize,
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    policies::{
        load_balancing::{DefaultPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy},
        retry::{DefaultRetryPolicy, FallthroughRetryPolicy, RetryPolicy},
    },
    statement::{Consistency, SerialConsistency},
};

use super::{Settings, errors, settings::is_keyspace_name};
use crate::OpenError;

/// Connections to each server of Cassandra, and to each shard of one of ScyllaDB: one is decoded by one thread at a time.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("two");
/// Making a connection, TLS and the password's check included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which nothing comes back is given up after both, not after the driver's minute: until then, some of the
/// calls run into their deadline.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Of the kernel's own signs of life.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);
/// For changes of the schema, which all servers must take in.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(20);

/// How each kind of statement is sent.
pub(super) struct Profiles {
    /// Sent again by the driver as it sees fit.
    pub(super) read: ExecutionProfileHandle,
    /// Sent once.
    pub(super) write: ExecutionProfileHandle,
    /// Sent once, and judged serially.
    pub(super) conditional: ExecutionProfileHandle,
    /// For reads that must see what conditional writes have under way.
    pub(super) serial_read: Consistency,
}

impl Profiles {
    pub(super) fn new(settings: &Settings) -> Profiles {
        let local = settings.datacenter.is_some();
        let consistency = if local { Consistency::LocalQuorum } else { Consistency::Quorum };
        // Coordinators in two datacenters, each serial by itself, would be two elections for one log.
        let serial = if local { SerialConsistency::LocalSerial } else { SerialConsistency::Serial };
        let policy = DefaultPolicy::builder();
        let policy = match &settings.datacenter {
            Some(datacenter) => policy.prefer_datacenter(datacenter.clone()),
            None => policy,
        };
        let policy = policy.build();
        let profile = |retries: Arc<dyn RetryPolicy>| {
            ExecutionProfile::builder()
                .consistency(consistency)
                .serial_consistency(Some(serial))
                .request_timeout(Some(Duration::from_millis(STORE_DEADLINE_MS)))
                .load_balancing_policy(policy.clone())
                .retry_policy(retries)
                .speculative_execution_policy(None)
                .build()
                .into_handle()
        };
        Profiles {
            read: profile(Arc::new(DefaultRetryPolicy::new())),
            write: profile(Arc::new(FallthroughRetryPolicy::new())),
            conditional: profile(Arc::new(FallthroughRetryPolicy::new())),
            serial_read: if local { Consistency::LocalSerial } else { Consistency::Serial },
        }
    }
}

/// Changes of the schema all go to one server, the same for every node, which puts them in order.
pub(super) fn for_changes_of_the_schema(session: &Session) -> ExecutionProfileHandle {
    let state = session.get_cluster_state();
    let first = state.get_nodes_info().iter().filter(|node| node.is_connected()).min_by_key(|node| node.host_id);
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(SCHEMA_TIMEOUT))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()));
    match first {
        Some(node) => {
            let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
            profile.load_balancing_policy(only)
        }
        None => profile,
    }
    .build()
    .into_handle()
}

/// Connects to at least one server.
pub(super) async fn connect(settings: &Settings, profiles: &Profiles) -> Result<Session, OpenError> {
    if !is_keyspace_name(&settings.keyspace) {
        let remedy = "a name has lowercase letters, digits and underscores, a letter first, at most 48";
        return Err(errors::unusable(settings, "this is not a name of a keyspace", remedy));
    }
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .default_execution_profile_handle(profiles.read.clone())
        .pool_size(PoolSize::PerShard(CONNECTIONS))
        .connection_timeout(CONNECT_TIMEOUT)
        .hostname_resolution_timeout(Some(CONNECT_TIMEOUT))
        .tcp_nodelay(true)
        .tcp_keepalive_interval(TCP_KEEPALIVE)
        .keepalive_interval(KEEPALIVE_INTERVAL)
        .keepalive_timeout(KEEPALIVE_TIMEOUT)
        .schema_agreement_timeout(SCHEMA_TIMEOUT)
        .keyspaces_to_fetch([&settings.keyspace])
        .fetch_full_schema_metadata(false);
    if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
        builder = builder.user(username, password);
    }
    if let Some(tls) = tls(settings)? {
        builder = builder.tls_context(Some(tls));
    }
    let session = builder.build().await.map_err(|error| errors::of_opening(settings, &error))?;
    check_datacenter(&session, settings)?;
    Ok(session)
}

fn check_datacenter(session: &Session, settings: &Settings) -> Result<(), OpenError> {
    let Some(wished) = &settings.datacenter else { return Ok(()) };
    let state = session.get_cluster_state();
    let mut found: Vec<_> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    if found.is_empty() || found.contains(&wished.as_str()) {
        return Ok(());
    }
    found.sort_unstable();
    found.dedup();
    let reason = format!("no server is in the datacenter {wished}, they are in {}", found.join(", "));
    Err(errors::unusable(settings, &reason, "correct storage.cql.datacenter"))
}

/// The driver checks certificates against the addresses it connects to: names in them do not count.
fn tls(settings: &Settings) -> Result<Option<Arc<ClientConfig>>, OpenError> {
    let Some(path) = &settings.tls_ca else { return Ok(None) };
    let unusable = |reason: String| {
        let reason = format!("cannot use the certificate authority {}: {reason}", path.display());
        errors::unusable(settings, &reason, "storage.cql.tls_ca names a PEM file with its certificate")
    };
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".into()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}
