//! What the schema files say, and whether the servers' tables are so. Understands as much of CQL as these files need, and
//! never changes anything.

use std::collections::BTreeMap;

/// Tables by name, columns by name.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, Column>>;

/// A column as `system_schema.columns` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) kind: String,
    pub(super) kind_of_value: String,
}

/// The statements of a file, without comments. Each ends with a semicolon at the end of a line.
pub(super) fn statements(text: &str) -> Vec<String> {
    let plain: Vec<&str> =
        text.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code).trim_end()).collect();
    let plain = plain.join("\n");
    plain
        .split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';'))
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The tables that these statements make.
pub(super) fn tables(statements: &[String]) -> Result<Tables, String> {
    statements.iter().map(|statement| table(statement).ok_or_else(|| statement.clone())).collect()
}

fn table(statement: &str) -> Option<(String, BTreeMap<String, Column>)> {
    let rest = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ks.")?;
    let (name, rest) = rest.split_once('(')?;
    let body = rest.split_once("\n)").map_or(rest, |(body, _options)| body);
    let (columns, key) = body.split_once("PRIMARY KEY")?;
    let (partition, clustering) = key.trim().strip_prefix("((")?.split_once(')')?;
    let names = |list: &str| -> Vec<String> {
        list.split(',')
            .map(|name| name.trim().trim_end_matches(')').trim().to_owned())
            .filter(|n| !n.is_empty())
            .collect()
    };
    let (partition, clustering) = (names(partition), names(clustering));
    let column = |line: &str| -> Option<(String, Column)> {
        let mut words = line.split_whitespace();
        let (name, value) = (words.next()?.to_owned(), words.next()?.to_owned());
        let kind = match words.next() {
            Some("STATIC") => "static",
            Some(_) => return None,
            None if partition.contains(&name) => "partition_key",
            None if clustering.contains(&name) => "clustering",
            None => "regular",
        };
        Some((name, Column { kind: kind.to_owned(), kind_of_value: value }))
    };
    let columns = columns.split(',').map(str::trim).filter(|line| !line.is_empty());
    Some((name.trim().to_owned(), columns.map(column).collect::<Option<_>>()?))
}

/// The first thing in which `found` is not as `wished`, and what to do about it. Tables of somebody else are not looked at.
pub(super) fn difference(wished: &Tables, found: &Tables) -> Option<(String, &'static str)> {
    const ALTERED: &str = "it was altered by hand: alter it back, or restore a backup";
    for (name, columns) in wished {
        let Some(found) = found.get(name) else {
            return Some((format!("the table {name} is not there"), "it was dropped by hand: restore a backup"));
        };
        for (column, wished) in columns {
            match found.get(column) {
                None => return Some((format!("the table {name} has no column {column}"), ALTERED)),
                Some(found) if found != wished => {
                    let (a, b) = (&found.kind_of_value, &found.kind);
                    let (c, d) = (&wished.kind_of_value, &wished.kind);
                    return Some((
                        format!("the column {column} of the table {name} is {a} ({b}), not {c} ({d})"),
                        ALTERED,
                    ));
                }
                Some(_) => {}
            }
        }
        if let Some(foreign) = found.keys().find(|column| !columns.contains_key(*column)) {
            let remedy = "it was altered by hand: drop the column, or run the release that made it";
            return Some((format!("the table {name} has an unknown column {foreign}"), remedy));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- About it; with a semicolon;
CREATE TABLE IF NOT EXISTS ks.log (
  id uuid, -- the key, or half of it
  bucket int,
  seq bigint,
  epoch bigint STATIC,
  body blob,
  PRIMARY KEY ((id, bucket), seq)
) WITH CLUSTERING ORDER BY (seq DESC)
  AND compaction = {'class': 'X'};

CREATE TABLE IF NOT EXISTS ks.small (
  id uuid,
  PRIMARY KEY ((id))
);
";

    fn column(kind: &str, value: &str) -> Column {
        Column { kind: kind.into(), kind_of_value: value.into() }
    }

    #[test]
    fn a_file_is_split_at_semicolons_that_end_a_line() {
        let statements = statements(FILE);
        assert_eq!(statements.len(), 2);
        assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS ks.log (\n  id uuid,"));
        assert!(statements[1].ends_with(')'));
    }

    #[test]
    fn a_table_is_read_from_its_statement() {
        let tables = tables(&statements(FILE)).unwrap();
        let log: Vec<_> = tables["log"].iter().map(|(name, column)| (name.as_str(), column.clone())).collect();
        let expected = [
            ("body", column("regular", "blob")),
            ("bucket", column("partition_key", "int")),
            ("epoch", column("static", "bigint")),
            ("id", column("partition_key", "uuid")),
            ("seq", column("clustering", "bigint")),
        ];
        assert_eq!(log, expected);
        assert_eq!(tables["small"].len(), 1);
    }

    #[test]
    fn what_was_altered_is_named() {
        let wished = tables(&statements(FILE)).unwrap();
        let differs = |alter: &dyn Fn(&mut Tables)| {
            let mut found = wished.clone();
            alter(&mut found);
            difference(&wished, &found).map(|(what, _)| what)
        };
        assert_eq!(differs(&|_| {}), None);
        let of_log = |tables: &mut Tables| tables.get_mut("log").unwrap().clone();
        assert_eq!(of_log(&mut wished.clone()).len(), 5);
        let gone = differs(&|found| drop(found.remove("small")));
        assert_eq!(gone.unwrap(), "the table small is not there");
        let gone = differs(&|found| drop(found.get_mut("log").unwrap().remove("body")));
        assert_eq!(gone.unwrap(), "the table log has no column body");
        let other =
            differs(&|found| drop(found.get_mut("log").unwrap().insert("body".into(), column("regular", "text"))));
        assert_eq!(other.unwrap(), "the column body of the table log is text (regular), not blob (regular)");
        let more =
            differs(&|found| drop(found.get_mut("log").unwrap().insert("note".into(), column("regular", "text"))));
        assert_eq!(more.unwrap(), "the table log has an unknown column note");
    }
}
