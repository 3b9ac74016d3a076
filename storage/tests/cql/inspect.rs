//! What is found out about servers before a node relies on them.

use storage::cql::{Cql, Replication, Settings, inspect};
use tokio::net::TcpListener;

use crate::keyspace::{settings, with_keyspace};

async fn findings(settings: &Settings) -> Vec<(&'static str, Result<String, String>)> {
    inspect(settings).await.into_iter().map(|finding| (finding.name, finding.outcome)).collect()
}

#[tokio::test]
async fn an_inspection_tells_what_a_node_would_meet() {
    with_keyspace(async |settings| {
        let before = findings(&settings).await;
        let names: Vec<_> = before.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["reachable", "replication", "schema", "clocks"]);
        assert!(before[1].1.as_ref().unwrap().contains("is not there yet"), "{before:?}");
        assert!(before[2].1.as_ref().unwrap().contains("0001_start.cql"), "{before:?}");

        Cql::open(&settings).await.map(drop).unwrap();
        let after = findings(&settings).await;
        let said = |name: &str| after.iter().find(|(found, _)| *found == name).unwrap().1.clone().unwrap();
        assert!(said("reachable").contains("1 of 1 servers connected"), "{after:?}");
        assert_eq!(said("replication"), "1, as configured");
        assert_eq!(said("schema"), "up to date");
        assert!(said("conditional writes").starts_with("work, in "), "{after:?}");
        assert!(said("clocks").starts_with("within "), "{after:?}");

        let other = Settings { replication: Replication::Everywhere(3), ..settings };
        let (_, replication) = findings(&other).await.remove(1);
        assert!(replication.unwrap_err().contains("the configuration says 3"));
    })
    .await;
}

#[tokio::test]
async fn an_inspection_ends_where_nobody_answers() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let findings = findings(&Settings { nodes: vec![nobody.to_string()], ..settings() }).await;
    let [(name, Err(why))] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(*name, "reachable");
    assert!(why.contains("cannot reach"), "{why}");
}
