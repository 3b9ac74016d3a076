//! What is found out about servers before a node relies on them.

use loadtest::{servers, starter::free_address};
use storage::cql::{Cql, Replication, Settings, inspect};

use crate::keyspace::{settings, with_keyspace};

async fn findings(settings: &Settings) -> Vec<(&'static str, Result<String, String>)> {
    inspect(settings).await.into_iter().map(|finding| (finding.name, finding.outcome)).collect()
}

#[tokio::test]
async fn an_inspection_tells_what_a_node_would_meet() {
    with_keyspace(async |settings| {
        let before = findings(&settings).await;
        let names: Vec<_> = before.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["reachable", "replication", "schema", "commit log", "clocks"]);
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
async fn the_only_copy_is_not_safe_with_a_server_that_does_not_wait_for_its_disk() {
    let told = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    let mode = String::from_utf8(servers::Cql::started().run(told).unwrap().remove(0).remove(0)).unwrap();
    let findings = findings(&settings()).await;
    let (_, outcome) = findings.iter().find(|(name, _)| *name == "commit log").unwrap();
    match (mode.as_str(), outcome) {
        ("periodic", Err(wrong)) => {
            assert!(wrong.starts_with("commitlog_sync is periodic at ") && wrong.contains("one copy"), "{wrong}");
        }
        ("batch" | "group", Ok(fine)) => assert!(fine.starts_with(&mode), "{fine}"),
        odd => panic!("{odd:?}"),
    }
}

#[tokio::test]
async fn an_inspection_ends_where_nobody_answers() {
    let nobody = free_address().unwrap();
    let findings = findings(&Settings { nodes: vec![nobody.to_string()], ..settings() }).await;
    let [(name, Err(why))] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(*name, "reachable");
    assert!(why.contains("cannot reach"), "{why}");
}
