//! A keyspace for one test, on the server that `make test` starts.
#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the server is")]

use std::{
    env, panic, process,
    sync::atomic::{AtomicU32, Ordering},
};

use scylla::client::{session::Session, session_builder::SessionBuilder};
use storage::cql::{Replication, Settings};

/// Where the server is.
pub(crate) fn server() -> String {
    env::var("STARLING_TEST_CQL").unwrap_or_else(|_| {
        panic!(
            "STARLING_TEST_CQL is not set: run `make test`, or start servers with `make servers` and set what it prints"
        )
    })
}

/// Settings for a keyspace that nobody else uses, and that is not there yet.
pub(crate) fn settings() -> Settings {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let no = NEXT.fetch_add(1, Ordering::Relaxed);
    Settings {
        nodes: vec![server()],
        keyspace: format!("opening_{}_{no}", process::id()),
        username: None,
        password: None,
        replication: Replication::Everywhere(1),
        datacenter: None,
        tls_ca: None,
    }
}

/// An operator's own session.
pub(crate) async fn operator() -> Session {
    SessionBuilder::new().known_node(server()).build().await.unwrap()
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
