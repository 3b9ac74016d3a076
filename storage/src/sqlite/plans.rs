//! P7: the statements of the conversations cost the same however much is stored. Asked of SQLite's planner, statement by
//! statement: each seeks in an index, none walks a table or sorts.

use super::{directory::sql, log, open};
use crate::log::Lane;

#[test]
fn p7_no_statement_scans_or_sorts() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open::open(dir.path()).unwrap();
    let ranges = [Lane::Posts, Lane::Events, Lane::Both].map(|lane| [false, true].map(|n| log::range_sql(lane, n)));
    let statements = sql::all().into_iter().chain(log::STATEMENTS.iter().copied());
    for statement in statements.chain(ranges.iter().flatten().map(String::as_str)) {
        let mut explain = opened.connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let n_parameters = explain.parameter_count();
        let parameters = rusqlite::params_from_iter(std::iter::repeat_n(1, n_parameters));
        let plan: Vec<String> =
            explain.query_map(parameters, |row| row.get("detail")).unwrap().collect::<Result<_, _>>().unwrap();
        let slow = |step: &&String| step.starts_with("SCAN ") || step.contains("TEMP B-TREE");
        assert_eq!(plan.iter().find(slow), None, "{statement}\n{plan:#?}");
        assert!(plan.iter().any(|step| step.starts_with("SEARCH ")), "{statement}\n{plan:#?}");
    }
}
