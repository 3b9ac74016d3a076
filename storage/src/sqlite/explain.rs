//! What an error of SQLite means to who starts a node: at the opening and at the migration. Changes nothing, tries
//! nothing again.

use std::{io, path::Path};

use rusqlite::ErrorCode;

use crate::OpenError;

/// Says what an error at the opening means.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, reason: source.to_string() }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::Directory { dir: path, source: io::Error::other(source) }
        }
        _ => OpenError::Database { path, reason: source.to_string() },
    }
}
