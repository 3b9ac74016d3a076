//! Opens the data directory: one process at a time, a database of this release or an older one, and otherwise one clear
//! line that says what to do.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{explain::explain, migrations};
use crate::OpenError;

/// The database in its directory.
pub(super) const DATABASE: &str = "starling.db";
/// Locked as long as a process uses the directory.
const LOCK: &str = "starling.lock";
/// Pages of the write-ahead log (4 KiB each) after which it is written back: 16 MiB, so that a page that changes often is
/// written back once for many commits, and a start after a crash reads little.
const CHECKPOINT_PAGES: i64 = 4096;
/// The writer's pages in memory, KiB: the upper levels of the indexes. Readers drop theirs at every commit anyway.
const WRITER_CACHE_KIB: i64 = 16 << 10;
/// Up to this size a database is read through at start; beyond it, damage is found when it is met.
const CHECK_BYTES_MAX: u64 = 8 << 20;

/// The directory, locked; dropping it unlocks.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    /// The migrations that were applied now.
    pub(super) migrated: Vec<&'static str>,
    pub(super) lock: File,
}

/// Opens the database and brings it to this release's schema.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let directory = |source| OpenError::Directory { dir: dir.to_owned(), source };
    if dir.metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(OpenError::NotADirectory { dir: dir.to_owned() });
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(directory)?;
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(dir.join(LOCK));
    let lock = lock.map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(directory(source)),
    }
    let path = dir.join(DATABASE);
    let failed = |source| explain(&path, source);
    let mut connection = connection(&path).map_err(failed)?;
    let migrated = migrations::apply(&mut connection, &path)?;
    check(&connection, &path)?;
    Ok(Opened { path, connection, migrated, lock })
}

/// What [`open`] would apply to the database of a directory. Changes nothing; the directory may be in use.
pub(super) fn plan(dir: &Path) -> Result<Vec<&'static str>, OpenError> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Ok(migrations::all());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|source| explain(&path, source))?;
    let pending = migrations::pending(&connection, &path)?;
    Ok(pending.into_iter().map(|migration| migration.file).collect())
}

/// A connection for the writer.
pub(super) fn connection(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // Savepoints copy the pages they change; in memory, not into a file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.set_prepared_statement_cache_capacity(128);
        Ok(connection)
    };
    open().map_err(|source| explain(path, source))
}

fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match path.metadata().is_ok_and(|found| found.len() > CHECK_BYTES_MAX) {
        true => Ok(()),
        false => look_through(connection, path),
    }
}

/// Reads the whole database.
pub(super) fn look_through(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict: Result<String, _> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(reason) => Err(OpenError::Damaged { path: path.to_owned(), reason: reason.replace('\n', " ") }),
        Err(source) => Err(explain(path, source)),
    }
}
