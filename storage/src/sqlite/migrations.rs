//! Brings a database to this release's schema: numbered files, forward only, each applied once and remembered by its
//! checksum. Refuses a database that knows more than this release, or was made by another content of the same file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::explain::explain;
use crate::OpenError;

/// Every migration: its number is its place, from 1. Never change one that was released; add the next.
const FILES: &[(&str, &str)] = &[("0001_start.sql", include_str!("../../schema/sqlite/0001_start.sql"))];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY, file TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL)";

pub(super) fn apply(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |source| explain(path, source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let ours = transaction.table_exists(None, "schema_migrations").map_err(sql)?;
    if !ours {
        let others = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        if others.map_err(sql)? > 0 {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        transaction.execute(TABLE, []).map_err(sql)?;
    }
    let newest: i64 = transaction
        .query_row("SELECT coalesce(max(number), 0) FROM schema_migrations", [], |row| row.get(0))
        .map_err(sql)?;
    if newest > FILES.len() as i64 {
        return Err(OpenError::Newer { path: path.to_owned(), found: newest, known: FILES.len() });
    }
    for (number, (file, text)) in (1_i64..).zip(FILES) {
        let checksum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        let applied: Option<String> = transaction
            .query_row("SELECT sha256 FROM schema_migrations WHERE number = ?1", [number], |row| row.get(0))
            .optional()
            .map_err(sql)?;
        match applied {
            Some(applied) if applied == checksum => continue,
            Some(_) => return Err(OpenError::Drifted { path: path.to_owned(), file }),
            None => {}
        }
        transaction.execute_batch(text).map_err(sql)?;
        let row = (number, file, checksum);
        transaction
            .execute("INSERT INTO schema_migrations VALUES (?1, ?2, ?3, unixepoch() * 1000)", row)
            .map_err(sql)?;
        tracing::info!(file, "migrated the database");
    }
    transaction.commit().map_err(sql)
}
