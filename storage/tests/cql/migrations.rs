//! A keyspace is made, brought to this release's schema once, and watched over after.

use std::sync::Arc;

use futures_util::future::join_all;
use protocol::{Millis, UserId, cluster::View};
use storage::{
    OpenError,
    accounts::Sessions,
    cluster::Cluster,
    cql::{Cql, Replication, Settings, apply, plan},
};
use uuid::Uuid;

use crate::{
    common::views,
    keyspace::{operator, with_keyspace},
};

const FILES: [&str; 2] = ["0001_start.cql", "0002_cluster.cql"];

/// The one line of a refusal for good.
fn refusal<T>(outcome: Result<T, OpenError>) -> String {
    let Err(error) = outcome else { panic!("it was opened") };
    assert!(!error.is_transient(), "{error}");
    error.to_string()
}

/// As a node does: what is transient is tried again. A Cassandra that is about to have a table may know it and not find it.
async fn open(settings: &Settings) -> Arc<Cql> {
    loop {
        match Cql::open(settings).await {
            Err(error) if error.is_transient() => println!("once more: {error}"),
            outcome => return outcome.unwrap(),
        }
    }
}

#[tokio::test]
async fn ten_nodes_that_start_at_once_migrate_once() {
    with_keyspace(async |settings| {
        join_all((0..10).map(|_| open(&settings))).await;
        let operator = operator().await;
        let count = format!("SELECT number FROM {}.schema_migrations WHERE name = 'schema'", settings.keyspace);
        let rows = operator.query_unpaged(count, ()).await.unwrap().into_rows_result().unwrap();
        assert_eq!(rows.rows_num(), FILES.len());
        let locks = format!("SELECT holder FROM {}.schema_lock", settings.keyspace);
        let rows = operator.query_unpaged(locks, ()).await.unwrap().into_rows_result().unwrap();
        assert_eq!(rows.rows_num(), 0, "the lock was given back");
    })
    .await;
}

#[tokio::test]
async fn a_plan_says_what_there_is_to_do_and_does_nothing() {
    with_keyspace(async |settings| {
        let planned = plan(&settings).await.unwrap();
        assert!(planned[0].starts_with(&format!("CREATE KEYSPACE IF NOT EXISTS {}", settings.keyspace)), "{planned:?}");
        assert_eq!(planned[1..], FILES);
        assert_eq!(plan(&settings).await.unwrap(), planned);
        assert_eq!(apply(&settings).await.unwrap(), FILES);
        assert_eq!(plan(&settings).await.unwrap(), [""; 0]);
        assert_eq!(apply(&settings).await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_keyspace_of_the_first_release_is_brought_up_with_what_is_in_it() {
    with_keyspace(async |settings| {
        apply(&settings).await.unwrap();
        let operator = operator().await;
        let keyspace = &settings.keyspace;
        for undo in [
            format!("DROP TABLE {keyspace}.cluster_view"),
            format!("DROP TABLE {keyspace}.nodes"),
            format!("DROP TABLE {keyspace}.activity"),
            format!("DELETE FROM {keyspace}.schema_migrations WHERE name = 'schema' AND number = 2 IF EXISTS"),
            format!("INSERT INTO {keyspace}.last_seen (user_id, at) VALUES ({}, 7)", Uuid::from_bytes([1; 16])),
        ] {
            operator.query_unpaged(undo, ()).await.unwrap();
        }
        assert_eq!(plan(&settings).await.unwrap(), FILES[1..]);
        let nodes = join_all((0..3).map(|_| open(&settings))).await;
        assert_eq!(plan(&settings).await.unwrap(), [""; 0]);
        assert_eq!(nodes[0].last_seen(&[UserId([1; 16])]).await.unwrap(), [(UserId([1; 16]), Millis(7))]);
        assert_eq!(nodes[0].view().await.unwrap(), View::default());
        join_all((1..=3).zip(&nodes).map(|(n, node)| views::enter(&**node, [n]))).await;
        views::assert_entered(&*nodes[0], &View::default(), 1..=3).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_differs_is_named() {
    with_keyspace(async |settings| {
        apply(&settings).await.unwrap();
        let other = format!(
            "UPDATE {}.schema_migrations SET sha256 = 'other' WHERE name = 'schema' AND number = 1 IF EXISTS",
            settings.keyspace
        );
        operator().await.query_unpaged(other, ()).await.unwrap();
        let refused = refusal(Cql::open(&settings).await);
        assert!(refused.contains("another version of 0001_start.cql"), "{refused}");
        assert_eq!(refusal(plan(&settings).await), refused);
    })
    .await;
}

#[tokio::test]
async fn a_newer_keyspace_is_left_alone() {
    with_keyspace(async |settings| {
        apply(&settings).await.unwrap();
        let newer = format!(
            "INSERT INTO {}.schema_migrations (name, number, file) VALUES ('schema', 99, 'later.cql') IF NOT EXISTS",
            settings.keyspace
        );
        operator().await.query_unpaged(newer, ()).await.unwrap();
        let refused = refusal(Cql::open(&settings).await);
        assert!(refused.contains("newer release (migration 99"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_table_altered_by_hand_is_named_with_the_column() {
    with_keyspace(async |settings| {
        apply(&settings).await.unwrap();
        let operator = operator().await;
        let alter = async |change: &str| {
            operator
                .query_unpaged(format!("ALTER TABLE {}.conversations {change}", settings.keyspace), ())
                .await
                .unwrap();
        };
        alter("ADD note text").await;
        let refused = refusal(Cql::open(&settings).await);
        assert!(refused.contains("the table conversations has an unknown column note"), "{refused}");
        alter("DROP note").await;
        Cql::open(&settings).await.map(drop).unwrap();
        alter("DROP title").await;
        let refused = refusal(plan(&settings).await);
        assert!(refused.contains("the table conversations has no column title"), "{refused}");
        operator.query_unpaged(format!("DROP TABLE {}.activity", settings.keyspace), ()).await.unwrap();
        let refused = refusal(Cql::open(&settings).await);
        assert!(refused.contains("the table activity is not there"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_keyspace_with_other_copies_than_configured_is_refused() {
    with_keyspace(async |mut settings| {
        apply(&settings).await.unwrap();
        settings.replication = Replication::Everywhere(3);
        let refused = refusal(Cql::open(&settings).await);
        let alter = format!("ALTER KEYSPACE {} WITH replication = {{", settings.keyspace);
        for expected in ["replicated datacenter1:1", "the configuration says 3", &alter] {
            assert!(refused.contains(expected), "{refused}");
        }
        settings.replication = "datacenter1:1".parse().unwrap();
        Cql::open(&settings).await.map(drop).unwrap();
    })
    .await;
}
