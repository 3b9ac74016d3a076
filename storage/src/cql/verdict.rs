//! What a conditional statement answered. Sends nothing.

use scylla::{
    response::query_result::QueryResult,
    value::{CqlValue, Row},
};

use crate::Error;

/// What a conditional statement answered.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Whether the condition held, and everything was written.
    pub(super) applied: bool,
    names: Vec<String>,
    rows: Vec<Row>,
}

impl Verdict {
    /// `Unknown` if the server did something and it cannot be read what.
    pub(super) fn of(result: QueryResult) -> Result<Verdict, Error> {
        let result = result.into_rows_result().map_err(unclear)?;
        let names: Vec<String> = result.column_specs().iter().map(|column| column.name().to_owned()).collect();
        let rows = result.rows::<Row>().map_err(unclear)?.collect::<Result<Vec<_>, _>>().map_err(unclear)?;
        let mut verdict = Verdict { applied: false, names, rows };
        // Sought by name: ScyllaDB and Cassandra answer with other columns around it.
        match verdict.get("[applied]") {
            Some(CqlValue::Boolean(applied)) => verdict.applied = *applied,
            _ => return Err(unclear("the answer does not say whether it was applied")),
        }
        Ok(verdict)
    }

    /// What stood in a column. ScyllaDB always tells, Cassandra only if the condition did not hold.
    pub(super) fn get(&self, column: &str) -> Option<&CqlValue> {
        let place = self.names.iter().position(|name| name == column)?;
        self.rows.iter().find_map(|row| row.columns.get(place)?.as_ref())
    }
}

fn unclear(error: impl std::fmt::Display) -> Error {
    Error::Unknown(error.to_string())
}
