//! The way to the server: one connection for all, and whether anybody may go. While the server does not answer, calls are
//! refused at once, and one task tries to reach it. Never repeats a call, and never lets calls queue up.

use std::{
    future::Future,
    io,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection,
};
use metrics::{Gauge, gauge};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::TAKE;
use crate::{Error, health::Snapshot};

/// One call that takes longer closes the gate: by then a healthy server has answered a thousand others.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// TCP, TLS, password and a first write.
const CONNECT_WITHIN: Duration = Duration::from_millis(1000);
/// Between two tries to reach a server that is away.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// The key of the first write is kept so long.
const PROBE_MS: u64 = 1000;
/// Calls under way at once; at a round trip of a millisecond, a million a second.
const CALLS_MAX: usize = 1024;

/// See the module. The task that tries ends with it.
pub(super) struct Gate(Arc<Shared>);

struct Shared {
    client: Client,
    /// A key that anybody may write: a connection counts only if a write works.
    probe: String,
    line: RwLock<Line>,
    calls: Semaphore,
    n_writes: AtomicU64,
    n_turned_away: AtomicU64,
    is_open: Gauge,
}

#[derive(Clone)]
enum Line {
    Open {
        /// Each connection has its own, so that only calls on this one can close it.
        no: u64,
        connection: MultiplexedConnection,
    },
    Closed {
        reason: Arc<str>,
    },
}

impl Gate {
    /// Reaches the server, or says why not.
    pub(super) async fn open(client: Client, probe: String) -> RedisResult<Gate> {
        let connection = connect(&client, &probe).await?;
        let is_open = gauge!("starling_redis_reachable");
        is_open.set(1.0);
        let line = RwLock::new(Line::Open { no: 0, connection });
        Ok(Gate(Arc::new(Shared {
            client,
            probe,
            line,
            calls: Semaphore::new(CALLS_MAX),
            n_writes: AtomicU64::new(0),
            n_turned_away: AtomicU64::new(0),
            is_open,
        })))
    }

    /// A call that changes something: without an answer, nobody knows whether it did.
    pub(super) async fn write<T, F>(&self, act: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Error>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.0.n_writes.fetch_add(1, Ordering::Relaxed);
        self.call(act).await
    }

    /// A call that changes nothing that matters: without an answer, it was refused.
    pub(super) async fn read<T, F>(&self, act: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Error>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.call(act).await.map_err(|error| match error {
            Error::Unknown(reason) => Error::Refused(reason),
            other => other,
        })
    }

    /// A write that means nothing.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        self.read(async |mut line| try_out(&mut line, &self.0.probe).await).await
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let writes = self.0.n_writes.load(Ordering::Relaxed);
        let waiting = CALLS_MAX - self.0.calls.available_permits();
        let queue_full = self.0.n_turned_away.load(Ordering::Relaxed);
        Snapshot { writes, commits: writes, queue_full, waiting: waiting as u64 }
    }

    async fn call<T, F>(&self, act: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Error>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let (no, connection) = match self.0.line() {
            Line::Open { no, connection } => (no, connection),
            Line::Closed { reason } => return Err(Error::Refused(format!("Redis is away: {reason}"))),
        };
        let Ok(_permit) = self.0.calls.try_acquire() else {
            self.0.n_turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Refused(format!("{CALLS_MAX} calls wait for Redis already")));
        };
        let outcome = timeout(ANSWER_WITHIN, act(connection)).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {} ms", ANSWER_WITHIN.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
        });
        outcome.map_err(|error| {
            if is_away(&error) {
                self.0.close(no, &error);
            }
            meaning(&error)
        })
    }
}

impl Shared {
    fn line(&self) -> Line {
        self.line.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the gate, unless that connection is not the one in use any more.
    fn close(self: &Arc<Self>, closed: u64, error: &RedisError) {
        let mut line = self.line.write().unwrap_or_else(PoisonError::into_inner);
        let Line::Open { no, .. } = *line else { return };
        if no != closed {
            return;
        }
        *line = Line::Closed { reason: error.to_string().into() };
        self.is_open.set(0.0);
        tracing::warn!(%error, "Redis is away; going on without shared limits, refreshing and tickets");
        tokio::spawn(reopen(Arc::downgrade(self), no + 1));
    }
}

/// Tries until the server can be written to, or nobody asks any more.
async fn reopen(shared: Weak<Shared>, no: u64) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        match connect(&shared.client, &shared.probe).await {
            Ok(connection) => {
                *shared.line.write().unwrap_or_else(PoisonError::into_inner) = Line::Open { no, connection };
                shared.is_open.set(1.0);
                tracing::info!("Redis is back");
                return;
            }
            Err(error) => {
                *shared.line.write().unwrap_or_else(PoisonError::into_inner) =
                    Line::Closed { reason: error.to_string().into() };
            }
        }
        drop(shared);
        sleep(TRY_EVERY).await;
    }
}

/// A connection on which a script wrote something.
async fn connect(client: &Client, probe: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(CALLS_MAX);
    let connected = timeout(CONNECT_WITHIN, async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        try_out(&mut connection, probe).await?;
        Ok(connection)
    });
    connected.await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} ms", CONNECT_WITHIN.as_millis());
        Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
    })
}

/// Takes one of a billion: a server counts only if it runs scripts and may be written.
async fn try_out(connection: &mut MultiplexedConnection, probe: &str) -> RedisResult<()> {
    TAKE.key(probe).arg(0).arg(1).arg(1_000_000_000).arg(PROBE_MS).invoke_async(connection).await
}

/// Whether it is the connection that failed, or the server behind it was made a replica: another connection may do.
fn is_away(error: &RedisError) -> bool {
    let replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    error.is_io_error() || error.is_unrecoverable_error() || replica
}

/// What the caller is told.
fn meaning(error: &RedisError) -> Error {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => Error::Unknown(format!("Redis: {error}")),
        ErrorKind::UnexpectedReturnType => Error::Corrupt(format!("Redis: {error}")),
        _ if error.code() == Some("WRONGTYPE") => Error::Corrupt(format!("Redis: {error}")),
        // its own word that it did not do it
        _ => Error::Refused(format!("Redis: {error}")),
    }
}
