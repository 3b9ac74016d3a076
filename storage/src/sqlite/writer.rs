//! The one thread that writes: takes everything that waits into one transaction, syncs once, then answers.
//! Never answers before the COMMIT; a job that fails is undone alone, by its savepoint.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode};

use super::{
    job::{Job, refused},
    open,
    queue::Queue,
};
use crate::Error;

/// Jobs in one transaction: bounds how long the first of them waits for the last.
const GROUP_JOBS_MAX: usize = 512;

/// What the writer and its callers share.
pub(super) struct Shared {
    pub(super) queue: Queue<Box<dyn Job>>,
    /// The last transaction that wrote failed; a ping must write to find out whether the next one will.
    pub(super) failing: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) commits: AtomicU64,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Gone after a failed COMMIT, until it can be opened again.
    connection: Option<Connection>,
}

/// If the thread dies, whoever waits must hear of it.
impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, path: PathBuf, connection: Connection) -> Writer {
        Writer { shared, path, connection: Some(connection) }
    }

    /// Until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut group = Vec::new();
        while self.shared.queue.drain(GROUP_JOBS_MAX, &mut waiting) {
            while !waiting.is_empty() {
                let lost = self.transaction(&mut waiting, &mut group);
                if let Some(error) = &lost {
                    tracing::warn!(jobs = group.len(), error = %error, "a transaction did not commit");
                    self.shared.failing.store(true, Ordering::Relaxed);
                }
                self.shared.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
                group.drain(..).for_each(|job| job.finish(lost.as_ref()));
            }
        }
    }

    /// Moves jobs that were begun from `waiting` to `group`. `Some`: none of them is known to be stored.
    fn transaction(&mut self, waiting: &mut VecDeque<Box<dyn Job>>, group: &mut Vec<Box<dyn Job>>) -> Option<Error> {
        let begun = self.connection().and_then(|connection| {
            execute(connection, "BEGIN IMMEDIATE").map_err(|e| refused(&e))?;
            Ok(connection)
        });
        let connection = match begun {
            Ok(connection) => connection,
            Err(error) => {
                group.extend(waiting.drain(..).filter(|job| job.begin()));
                return Some(error);
            }
        };
        let changes_before = connection.total_changes();
        while let Some(mut job) = waiting.pop_front() {
            if !job.begin() {
                continue;
            }
            let kept = savepoint(connection, job.as_mut());
            group.push(job);
            if let Err(error) = kept {
                // Full, or an I/O error: SQLite has undone the whole transaction, or cannot go on with it.
                let undone = connection.is_autocommit() || execute(connection, "ROLLBACK").is_err();
                return Some(match refused(&error) {
                    Error::Refused(_) if undone => Error::Refused("the transaction failed as a whole".into()),
                    error => error,
                });
            }
        }
        match execute(connection, "COMMIT") {
            Ok(()) => {
                if connection.total_changes() > changes_before {
                    self.shared.failing.store(false, Ordering::Relaxed);
                    self.shared.commits.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
            // Without room for its last frame a transaction is not in the write-ahead log: definitely not applied.
            Err(e) if matches!(e.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)) => {
                let _ = execute(connection, "ROLLBACK");
                Some(refused(&e))
            }
            Err(e) => {
                self.connection = None;
                Some(Error::Unknown(format!("commit failed: {e}")))
            }
        }
    }

    fn connection(&mut self) -> Result<&Connection, Error> {
        if self.connection.is_none() {
            let opened = open::connection(&self.path).map_err(|e| refused(&e))?;
            tracing::info!(path = %self.path.display(), "opened the database again");
            self.connection = Some(opened);
        }
        self.connection.as_ref().ok_or_else(|| Error::Refused("the database is closed".into()))
    }
}

/// Runs a job in a savepoint of its own. An error is one of the transaction, not of the job.
fn savepoint(connection: &Connection, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    execute(connection, "SAVEPOINT job")?;
    if !job.run(connection) {
        // After a full disk SQLite may have undone the whole transaction by itself: then this fails, as it should.
        execute(connection, "ROLLBACK TO job")?;
    }
    execute(connection, "RELEASE job")
}

fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
