//! Brings a database to this release's schema: numbered files, forward only, each applied once and remembered by its
//! checksum. Refuses a database that knows more than this release, or was made by another content of the same file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::explain::explain;
use crate::OpenError;

/// One file: its number is its place, from 1.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    pub(super) file: &'static str,
    text: &'static str,
}

/// Every migration. Never change one that was released; add the next.
const FILES: &[Migration] = &[
    Migration { file: "0001_start.sql", text: include_str!("../../schema/sqlite/0001_start.sql") },
    Migration { file: "0002_sign_ins.sql", text: include_str!("../../schema/sqlite/0002_sign_ins.sql") },
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY, file TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL)";

/// The names of all files.
pub(super) fn all() -> Vec<&'static str> {
    FILES.iter().map(|migration| migration.file).collect()
}

/// Applies what is missing, all of it or nothing, and names it.
pub(super) fn apply(connection: &mut Connection, path: &Path) -> Result<Vec<&'static str>, OpenError> {
    let sql = |source| explain(path, source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let pending = pending(&transaction, path)?;
    transaction.execute(TABLE, []).map_err(sql)?;
    let first = FILES.len() - pending.len() + 1;
    for (number, migration) in (first..).zip(&pending) {
        transaction.execute_batch(migration.text).map_err(sql)?;
        let row = (number as i64, migration.file, checksum(migration.text));
        transaction
            .execute("INSERT INTO schema_migrations VALUES (?1, ?2, ?3, unixepoch() * 1000)", row)
            .map_err(sql)?;
        tracing::info!(file = migration.file, "migrated the database");
    }
    transaction.commit().map_err(sql)?;
    Ok(pending.into_iter().map(|migration| migration.file).collect())
}

/// The files that are not applied yet: the last ones, because all are applied in order.
pub(super) fn pending(connection: &Connection, path: &Path) -> Result<Vec<Migration>, OpenError> {
    let sql = |source| explain(path, source);
    if !connection.table_exists(None, "schema_migrations").map_err(sql)? {
        let others = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        if others.map_err(sql)? > 0 {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        return Ok(FILES.to_vec());
    }
    let newest: i64 = connection
        .query_row("SELECT coalesce(max(number), 0) FROM schema_migrations", [], |row| row.get(0))
        .map_err(sql)?;
    if newest > FILES.len() as i64 {
        return Err(OpenError::Newer { path: path.to_owned(), found: newest, known: FILES.len() });
    }
    let mut pending = Vec::new();
    for (number, migration) in (1_i64..).zip(FILES) {
        let applied: Option<String> = connection
            .query_row("SELECT sha256 FROM schema_migrations WHERE number = ?1", [number], |row| row.get(0))
            .optional()
            .map_err(sql)?;
        match applied {
            Some(applied) if applied == checksum(migration.text) => {}
            Some(_) => return Err(OpenError::Drifted { path: path.to_owned(), file: migration.file }),
            None => pending.push(*migration),
        }
    }
    Ok(pending)
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
