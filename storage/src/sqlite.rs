//! The embedded store: one SQLite file, one thread that writes, a few that read. Everything that follows from an append
//! is written in its transaction, so nothing is ever unsettled here.

mod accounts;
mod backup;
mod directory;
mod explain;
mod inventory;
mod job;
mod log;
mod migrations;
mod open;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod plans;
mod queue;
mod row;
mod tokens;
mod writer;

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use protocol::limits::STORE_DEADLINE_MS;
use rusqlite::Connection;
use tokio::time::timeout;

use self::{
    job::{Fail, Job, Reply, Stage, pack},
    queue::{Queue, Turned},
    writer::{Shared, Writer},
};
use crate::{
    Error, OpenError, Store,
    gcra::Buckets,
    health::{Health, Snapshot},
    meters::Meters,
};

/// Calls that may wait for the writer: at 15,000 a second, half of the deadline's worth.
const WRITES_WAITING_MAX: usize = 16_384;
/// Calls that may wait for the readers.
const READS_WAITING_MAX: usize = 16_384;
/// Threads that read. Reads wait for the disk at worst; more threads than this only compete for the cores.
const READERS: usize = 3;

pub use backup::{BackupError, backup};

/// What opening the database in `dir` would apply to it.
pub(crate) fn plan(dir: &Path) -> Result<Vec<&'static str>, OpenError> {
    open::plan(dir)
}

/// Brings the database in `dir` to this release's schema, and names what was applied.
pub(crate) fn migrate(dir: &Path) -> Result<Vec<&'static str>, OpenError> {
    open::open(dir).map(|opened| opened.migrated)
}

/// Opens, or makes, the database in `dir`.
pub(crate) fn open(dir: &Path) -> Result<Store, OpenError> {
    let sqlite = Arc::new(Sqlite::open(dir)?);
    Ok(Store {
        log: sqlite.clone(),
        directory: sqlite.clone(),
        accounts: sqlite.clone(),
        sessions: sqlite.clone(),
        tokens: sqlite.clone(),
        health: sqlite.clone(),
        token_health: sqlite.clone(),
        inventory: sqlite.clone(),
        families: sqlite,
        cluster: None,
    })
}

/// All faces of one file.
struct Sqlite {
    writer: Arc<Shared>,
    readers: Arc<Queue<Box<dyn Job>>>,
    queue_full: AtomicU64,
    buckets: Mutex<Buckets>,
    meters: Meters,
    threads: Vec<JoinHandle<()>>,
    lock: File,
}

impl Sqlite {
    fn open(dir: &Path) -> Result<Sqlite, OpenError> {
        let opened = open::open(dir)?;
        let readers = (0..READERS).map(|_| open::reader(&opened.path)).collect::<Result<Vec<_>, _>>()?;
        let writer = Arc::new(Shared {
            queue: Queue::new(WRITES_WAITING_MAX),
            // until a write has shown otherwise: a node that starts on a full disk is not ready
            failing: AtomicBool::new(true),
            writes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        });
        let mut sqlite = Sqlite {
            writer: writer.clone(),
            readers: Arc::new(Queue::new(READS_WAITING_MAX)),
            queue_full: AtomicU64::new(0),
            buckets: Mutex::default(),
            meters: Meters::new("sqlite"),
            threads: Vec::with_capacity(1 + READERS),
            lock: opened.lock,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|source: io::Error| OpenError::Directory { dir: dir.to_owned(), source })
        };
        let main = Writer::new(writer, opened.path, opened.connection);
        sqlite.threads.push(spawn("store-write", Box::new(move || main.run()))?);
        for connection in readers {
            let queue = sqlite.readers.clone();
            sqlite.threads.push(spawn("store-read", Box::new(move || read_until_closed(&queue, &connection)))?);
        }
        Ok(sqlite)
    }

    /// Writes in a savepoint of the next transaction; durable when it answers. Refused unless it was begun in time.
    async fn write<T, F>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fail> + Send + 'static,
    {
        let (job, reply, stage) = pack(call);
        let outcome = match self.writer.queue.push(job) {
            Ok(()) => wait(reply, &stage).await.unwrap_or_else(|late| Err(late.of_a_write())),
            Err(turned) => Err(self.turned(turned, "write")),
        };
        self.meters.count(outcome)
    }

    /// Reads what is committed.
    async fn read<T, F>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fail> + Send + 'static,
    {
        let (job, reply, stage) = pack(call);
        let outcome = match self.readers.push(job) {
            Ok(()) => wait(reply, &stage).await.unwrap_or_else(|late| Err(late.of_a_read())),
            Err(turned) => Err(self.turned(turned, "read")),
        };
        self.meters.count(outcome)
    }

    fn turned(&self, turned: Turned, queue: &str) -> Error {
        match turned {
            Turned::Full => {
                self.queue_full.fetch_add(1, Ordering::Relaxed);
                Error::Refused(format!("the {queue} queue is full, {WRITES_WAITING_MAX} calls wait"))
            }
            Turned::Closed => Error::Refused(format!("the store's {queue} thread has stopped")),
        }
    }
}

impl Drop for Sqlite {
    /// Carries out what waits, then lets go of the file, so that it can be opened again at once.
    fn drop(&mut self) {
        self.writer.queue.close();
        self.readers.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // By name: a child process that is just being made has this file open too, for a moment.
        let _ = self.lock.unlock();
    }
}

/// Why there is no answer.
enum Late {
    NotBegun,
    Begun,
    ThreadDied,
}

impl Late {
    fn of_a_write(self) -> Error {
        match self {
            Late::NotBegun => Error::Refused(format!("the write did not begin within {STORE_DEADLINE_MS} ms")),
            Late::Begun => Error::Unknown(format!("the write began and took more than {STORE_DEADLINE_MS} ms")),
            Late::ThreadDied => Error::Unknown("the writer has stopped".into()),
        }
    }

    fn of_a_read(self) -> Error {
        match self {
            Late::NotBegun | Late::Begun => Error::Refused(format!("the read took more than {STORE_DEADLINE_MS} ms")),
            Late::ThreadDied => Error::Refused("a reader has stopped".into()),
        }
    }
}

async fn wait<T>(reply: Reply<T>, stage: &Stage) -> Result<Result<T, Error>, Late> {
    match timeout(Duration::from_millis(STORE_DEADLINE_MS), reply).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) if stage.give_up() => Err(Late::NotBegun),
        Ok(Err(_)) => Err(Late::ThreadDied),
        Err(_) if stage.give_up() => Err(Late::NotBegun),
        Err(_) => Err(Late::Begun),
    }
}

fn read_until_closed(queue: &Queue<Box<dyn Job>>, connection: &Connection) {
    while let Some(mut job) = queue.pop() {
        if job.begin() {
            job.run(connection);
            job.finish(None);
        }
    }
}

#[async_trait]
impl Health for Sqlite {
    async fn ping(&self) -> Result<(), Error> {
        let shared = self.writer.clone();
        self.write(move |connection| {
            if shared.failing.load(Ordering::Relaxed) {
                // More than a page, so that a little room at the end of the write-ahead log does not count as space.
                connection.execute("INSERT OR REPLACE INTO probe VALUES (1, zeroblob(65536))", [])?;
            }
            Ok(())
        })
        .await?;
        self.read(|connection| Ok(connection.query_row("SELECT count(*) FROM probe", [], |_| Ok(()))?)).await
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            writes: self.writer.writes.load(Ordering::Relaxed),
            commits: self.writer.commits.load(Ordering::Relaxed),
            queue_full: self.queue_full.load(Ordering::Relaxed),
            waiting: self.writer.queue.len() as u64,
        }
    }
}
