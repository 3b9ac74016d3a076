//! The tests' own way to speak to a CQL server, against a real one.
#![allow(clippy::unwrap_used)]

use loadtest::servers::Cql;

#[test]
fn statements_are_run_and_a_keyspace_ends_with_its_test() {
    let server = Cql::started();
    let keyspace = server.keyspace();
    let there = |name: &str| {
        let found = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{name}'");
        server.run(&found).unwrap().len()
    };
    let name = &keyspace.name;
    assert_eq!(there(name), 0);
    let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
    server.run(&format!("CREATE KEYSPACE {name} WITH replication = {replication}")).unwrap();
    server.run(&format!("CREATE TABLE {name}.notes (n int PRIMARY KEY, text text, more text)")).unwrap();
    server.run(&format!("INSERT INTO {name}.notes (n, text) VALUES (7, 'seven')")).unwrap();
    let rows = server.run(&format!("SELECT n, text, more FROM {name}.notes")).unwrap();
    assert_eq!(rows, [[vec![0, 0, 0, 7], b"seven".to_vec(), vec![]]]);
    let refused = server.run(&format!("SELECT n FROM {name}.nothing")).unwrap_err().to_string();
    assert!(refused.contains("does not exist"), "{refused}");
    assert_eq!(there(&keyspace.name), 1);
    let name = keyspace.name.clone();
    drop(keyspace);
    assert_eq!(there(&name), 0);
}
