//! A Redis that a test may do anything to, and what a test asks of the store on it.

use std::{
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::redis::{AsyncConnectionConfig, Client, FromRedisValue, aio::MultiplexedConnection};
use loadtest::starter;
use protocol::{Millis, SessionId, UserId};
use storage::{
    Error, History, OpenError, Settings, Store, TokenStore, redis,
    tokens::{Rate, Rotated, Rotation, Ticket},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) const FAMILY: SessionId = SessionId([1; 16]);
pub(crate) const RATE: Rate = Rate { count: 1_000_000, period_ms: 1000, burst: 1_000_000 };

/// A process of its own, with nothing kept on disk. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
    process: Child,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_with(|_, _| vec![]).await
    }

    /// `arguments`: of the port in plain and of the directory.
    pub(crate) async fn start_with(arguments: impl FnOnce(u16, &std::path::Path) -> Vec<String>) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = starter::free_address().unwrap().port();
        let arguments = arguments(port, dir.path());
        let process = spawn(port, dir.path(), &arguments);
        let mut server = Server { port, arguments, dir, process };
        server.listens().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn settings(&self) -> redis::Settings {
        settings(&self.url())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Again on the same port, empty.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, self.dir.path(), &self.arguments);
        self.listens().await;
    }

    /// Sends `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let client = Client::open(self.url()).unwrap();
        let patient = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    /// One command, as people type it.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split_whitespace();
        let mut command = ::redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    /// Until it speaks, be it to refuse: that somebody listens does not say that it is this one.
    async fn listens(&mut self) {
        let started = Instant::now();
        while !speaks(self.port).await {
            assert_eq!(self.process.try_wait().unwrap(), None, "redis-server has ended");
            assert!(started.elapsed() < Duration::from_secs(30), "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn speaks(port: u16) -> bool {
    let Ok(mut tcp) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return false };
    let answer = async {
        tcp.write_all(b"PING\r\n").await?;
        tcp.read_u8().await
    };
    timeout(Duration::from_secs(1), answer).await.is_ok_and(|answer| answer.is_ok())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, dir: &std::path::Path, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(dir).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot start redis-server: {error}; install it, or run `make test`"))
}

pub(crate) fn settings(url: &str) -> redis::Settings {
    redis::Settings { url: url.to_owned(), tls_ca: None, prefix: "t:".to_owned() }
}

pub(crate) async fn connect(settings: redis::Settings) -> Result<Store, OpenError> {
    Store::connect(&Settings { history: History::Memory, tokens: TokenStore::Redis(settings) }).await
}

/// Asks for one more until the answer is as wanted. Answers how long that took.
pub(crate) async fn until(store: &Store, mut wanted: impl FnMut(&Result<Result<(), u64>, Error>) -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let answer = store.tokens.take("until", RATE, Millis(0)).await;
        if wanted(&answer) {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn hash(generation: u64) -> [u8; 32] {
    [u8::try_from(generation).unwrap(); 32]
}

pub(crate) fn rotation(presented: u64, now: u64) -> Rotation {
    Rotation {
        family: FAMILY,
        presented,
        presented_hash: hash(presented),
        successor_hash: hash(presented + 1),
        now: Millis(now),
        expires_at: Millis(now + 60_000),
        known: presented,
        grace_ms: 20_000,
    }
}

pub(crate) async fn begin(store: &Store) {
    store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(60_000)).await.unwrap();
}

pub(crate) async fn rotate(store: &Store, presented: u64, now: u64) -> Result<Rotated, Error> {
    store.tokens.rotate(rotation(presented, now)).await
}

pub(crate) fn ticket() -> Ticket {
    Ticket { user: UserId([2; 16]), session: FAMILY, token_expires_at: Millis(900_000), expires_at: Millis(30_000) }
}
