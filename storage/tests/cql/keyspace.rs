//! A keyspace for one test, on the server that `make test` starts.

use loadtest::servers;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use storage::cql::{Replication, Settings};

/// Settings for a keyspace that is not there.
pub(crate) fn settings() -> Settings {
    let server = servers::Cql::started();
    Settings {
        nodes: vec![server.node],
        keyspace: "nobodys".into(),
        username: server.username,
        password: server.password,
        replication: Replication::Everywhere(1),
        datacenter: None,
        tls_ca: None,
        members_max: 10_000,
    }
}

/// As [`settings`], to a server that speaks TLS and asks for a password.
pub(crate) fn secure_settings() -> Settings {
    let said = servers::variable;
    Settings {
        nodes: vec![said("STARLING_TEST_CQL_SECURE")],
        username: Some("cassandra".into()),
        password: Some("cassandra".into()),
        tls_ca: Some(said("STARLING_TEST_CQL_CA").into()),
        ..settings()
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

/// Runs a test on a keyspace that nobody else uses, and drops it, whatever became of the test.
pub(crate) async fn with_keyspace(test: impl AsyncFnOnce(Settings)) {
    let keyspace = servers::Cql::started().keyspace();
    test(Settings { keyspace: keyspace.name.clone(), ..settings() }).await;
}
