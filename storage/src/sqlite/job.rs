//! One call on its way to a thread and back: what to do, who waits, and who was first, the deadline or the thread.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::Error;

/// Why a job failed.
#[derive(Debug)]
pub(super) enum Fail {
    Sql(rusqlite::Error),
    Store(Error),
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Fail {
        Fail::Sql(error)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        Fail::Store(error)
    }
}

impl Fail {
    /// What it means before a COMMIT was tried: nothing has happened.
    pub(super) fn into_error(self) -> Error {
        match self {
            Fail::Store(error) => error,
            Fail::Sql(error) => refused(&error),
        }
    }
}

/// What an error of SQLite means when nothing was committed.
pub(super) fn refused(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(error.to_string()),
        Some(ErrorCode::DiskFull) => Error::Refused("the disk of the data directory is full: make space on it".into()),
        None if !matches!(error, rusqlite::Error::QueryReturnedNoRows) => Error::Corrupt(error.to_string()),
        _ => Error::Refused(error.to_string()),
    }
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Decides between the thread that begins a job and the deadline that gives it up: exactly one of them is first.
#[derive(Clone)]
pub(super) struct Stage(Arc<AtomicU8>);

impl Stage {
    fn new() -> Stage {
        Stage(Arc::new(AtomicU8::new(WAITING)))
    }

    fn move_to(&self, next: u8) -> bool {
        self.0.compare_exchange(WAITING, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// True: it has not begun and never will.
    pub(super) fn give_up(&self) -> bool {
        self.move_to(GIVEN_UP)
    }
}

/// A call, whatever it answers.
pub(super) trait Job: Send {
    /// False: its deadline was first, leave it alone.
    fn begin(&self) -> bool;

    /// Does it. False: undo what it wrote.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Answers; `lost` is what became of the transaction, if it did not commit.
    fn finish(self: Box<Self>, lost: Option<&Error>);
}

struct Call<F, T> {
    stage: Stage,
    call: Option<F>,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

/// What the caller waits for.
pub(super) type Reply<T> = oneshot::Receiver<Result<T, Error>>;

/// Packs a call for a thread.
pub(super) fn pack<T, F>(call: F) -> (Box<dyn Job>, Reply<T>, Stage)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Fail> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let stage = Stage::new();
    (Box::new(Call { stage: stage.clone(), call: Some(call), outcome: None, reply }), answer, stage)
}

impl<F, T> Job for Call<F, T>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Fail> + Send,
{
    fn begin(&self) -> bool {
        self.stage.move_to(BEGUN)
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(call) = self.call.take() else { return false };
        let outcome = call(connection).map_err(Fail::into_error);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn finish(self: Box<Self>, lost: Option<&Error>) {
        let outcome = match (self.outcome, lost) {
            (Some(Ok(_)), Some(error)) => Err(error.clone()),
            (Some(outcome), _) => outcome,
            (None, Some(error)) => Err(error.clone()),
            (None, None) => return,
        };
        // Whoever no longer waits has been told something by its deadline already.
        let _ = self.reply.send(outcome);
    }
}
