//! A copy of the database at one moment, made while a node writes: nothing stops for it, and nothing is half in it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{migrations, open};
use crate::{OpenError, fresh::Fresh};

/// For what a starting node does to the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no backup. One line each: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing to copy.
    #[error("there is no database in {}: is this the configuration of the node?", dir.display())]
    NoDatabase {
        /// Where.
        dir: PathBuf,
    },
    /// The copy cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite cannot copy.
    #[error("cannot copy the database to {}: {source}; is there space for it?", path.display())]
    Copy {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The copy, or the database itself, is not what it should be.
    #[error(transparent)]
    Unusable(#[from] OpenError),
}

/// Copies the database of a data directory to a file that is not there yet, looks through the copy, and answers its size
/// in bytes. The directory may be in use.
///
/// # Errors
/// [`BackupError`]: there is no file then.
pub fn backup(dir: &Path, to: &Path) -> Result<u64, BackupError> {
    let path = dir.join(open::DATABASE);
    if !path.is_file() {
        return Err(BackupError::NoDatabase { dir: dir.to_owned() });
    }
    let file = |source| BackupError::File { path: to.to_owned(), source };
    let copy = |source| BackupError::Copy { path: to.to_owned(), source };
    let (fresh, _) = Fresh::begin(to).map_err(file)?;
    let Some(part) = fresh.part().to_str() else { return Err(file(std::io::Error::other("its name is not text"))) };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(&path, flags).map_err(copy)?;
    source.busy_timeout(PATIENCE).map_err(copy)?;
    source.execute("VACUUM INTO ?1", [part]).map_err(copy)?;
    drop(source);
    let copied = Connection::open_with_flags(part, flags).map_err(copy)?;
    migrations::pending(&copied, to)?;
    open::look_through(&copied, to)?;
    drop(copied);
    let bytes = fresh.part().metadata().map_err(file)?.len();
    fresh.keep().map_err(file)?;
    Ok(bytes)
}
