//! A keyspace for one test, on the server that `make test` starts.

use std::{
    panic, process,
    sync::atomic::{AtomicU32, Ordering},
};

use loadtest::servers;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use storage::cql::{Replication, Settings};

/// Settings for a keyspace that nobody else uses, and that is not there yet.
pub(crate) fn settings() -> Settings {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let no = NEXT.fetch_add(1, Ordering::Relaxed);
    let server = servers::Cql::started();
    Settings {
        nodes: vec![server.node],
        keyspace: format!("opening_{}_{no}", process::id()),
        username: server.username,
        password: server.password,
        replication: Replication::Everywhere(1),
        datacenter: None,
        tls_ca: None,
        members_max: 10_000,
    }
}

/// An operator's own session.
pub(crate) async fn operator() -> Session {
    let server = servers::Cql::started();
    let builder = SessionBuilder::new().known_node(&server.node);
    let builder = match (&server.username, &server.password) {
        (Some(username), Some(password)) => builder.user(username, password),
        _ => builder,
    };
    builder.build().await.unwrap()
}

/// Runs a test and drops its keyspace, whatever became of it.
pub(crate) async fn with_keyspace<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Settings) -> F) {
    let settings = settings();
    let keyspace = settings.keyspace.clone();
    let outcome = tokio::spawn(test(settings)).await;
    operator().await.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
    if let Err(failed) = outcome {
        panic::resume_unwind(failed.into_panic());
    }
}
