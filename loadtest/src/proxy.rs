//! A wire between clients and a server, of whatever protocol, on which a test makes things go wrong while both run:
//! see [`Fault`], [`Delay`] and, for CQL, [`Odds`]; and between servers that are each other's clients, [`Mesh`]. Changes no byte, and keeps the order of those it passes on.

use std::{
    io::Result,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{random::Random, starter};

mod cql;
mod mesh;
mod wire;

pub use cql::Odds;
pub use mesh::Mesh;

/// What happens to everything on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections are reset, new ones refused.
    Cut,
    /// Connections are accepted, and what either side says waits: first in small buffers here, then at whoever says it.
    Stalled,
    /// What the server says waits, what clients say passes.
    Deaf,
    /// What clients say waits, what the server says passes.
    Mute,
    /// Everything passes, at some 64 KiB a second; what does not waits at whoever says it.
    Slow,
    /// What the server says is thrown away, what clients say passes. The connections it happened to are reset when the
    /// fault ends: they lack something in the middle.
    Swallowing,
}

impl Fault {
    fn holds(self, from_server: bool) -> bool {
        self == Fault::Stalled || self == if from_server { Fault::Deaf } else { Fault::Mute }
    }
}

/// How long bytes take in each direction: `fixed`, and up to `jitter` more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Delay {
    pub fixed: Duration,
    pub jitter: Duration,
}

/// See the module. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What all connections of a proxy look at.
#[derive(Debug)]
struct Shared {
    server: String,
    speaks_cql: bool,
    fault: watch::Sender<Fault>,
    choices: Mutex<Choices>,
    swallowed: AtomicU64,
    statements: AtomicU64,
}

#[derive(Debug)]
struct Choices {
    random: Random,
    delay: Delay,
    odds: Odds,
}

/// Where a piece of what is said goes, and how long it takes.
enum Fate {
    Swallowed,
    /// Not before what came earlier.
    InOrder(Duration),
    Overtaken(Duration),
}

impl Proxy {
    /// A wire to `server`, `host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: &str) -> Result<Proxy> {
        Proxy::new(server, false, Random::unseeded())
    }

    /// A wire to a CQL server that knows which frames are what, so that [`Proxy::cql_odds`] can pick some of them.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_cql(server: &str, seed: u64) -> Result<Proxy> {
        Proxy::new(server, true, Random::seeded(seed))
    }

    fn new(server: &str, speaks_cql: bool, random: Random) -> Result<Proxy> {
        // one that is still free when the wire is mended
        let listener = std::net::TcpListener::bind(starter::free_address()?)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(server, speaks_cql, random));
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let accepting = tokio::spawn(accept(listener, address, shared.clone())).abort_handle();
        Ok(Proxy { address, shared, accepting })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients of HTTP connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, on connections that are there and on new ones.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// How long bytes that come from now on take.
    pub fn delay(&self, delay: Delay) {
        self.shared.choices().delay = delay;
    }

    /// What becomes of single CQL frames that come from now on.
    pub fn cql_odds(&self, odds: Odds) {
        self.shared.choices().odds = odds;
    }

    /// How many CQL replies were swallowed one by one.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }

    /// How many prepared CQL statements and batches were sent through here.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn new(server: &str, speaks_cql: bool, random: Random) -> Shared {
        let choices = Choices { random, delay: Delay::default(), odds: Odds::default() };
        Shared {
            server: server.to_owned(),
            speaks_cql,
            fault: watch::Sender::default(),
            choices: Mutex::new(choices),
            swallowed: AtomicU64::new(0),
            statements: AtomicU64::new(0),
        }
    }

    fn choices(&self) -> std::sync::MutexGuard<'_, Choices> {
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of what has just come.
    fn fate(&self, bytes: &[u8], from_server: bool) -> Fate {
        let Choices { random, delay, odds } = &mut *self.choices();
        let mut unlucky = |per_mille: u64| random.below(1000) < per_mille;
        if self.speaks_cql && from_server && cql::is_conditional_reply(bytes) && unlucky(odds.swallowed_per_mille) {
            self.swallowed.fetch_add(1, Ordering::Relaxed);
            return Fate::Swallowed;
        }
        if self.speaks_cql && !from_server && cql::is_statement(bytes) {
            self.statements.fetch_add(1, Ordering::Relaxed);
        }
        let late = self.speaks_cql && !from_server && cql::is_batch(bytes) && unlucky(odds.late_per_mille);
        let jitter_us = u64::try_from(delay.jitter.as_micros()).unwrap_or(u64::MAX);
        let takes = delay.fixed + Duration::from_micros(random.below(jitter_us));
        if late { Fate::Overtaken(takes + odds.late_by) } else { Fate::InOrder(takes) }
    }
}

/// Takes connections until the wire is cut, and again when it is mended.
async fn accept(mut listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut fault = shared.fault.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            biased;
            _ = fault.wait_for(|fault| *fault == Fault::Cut) => None,
            accepted = listener.accept() => accepted.ok(),
        };
        while connections.try_join_next().is_some() {}
        if let Some((client, _)) = client {
            connections.spawn(connection(client, shared.clone()));
            continue;
        }
        drop(listener);
        let mended = fault.wait_for(|fault| *fault != Fault::Cut).await.is_ok();
        match TcpListener::bind(address).await {
            Ok(again) if mended => listener = again,
            _ => return,
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = wire::connect(&shared.server).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let (mut client, mut server) = (client, server);
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // either side's end is the end of both, as if there were no wire
    let reset = tokio::select! {
        () = wire::carry(from_client, to_server, &shared, false) => false,
        () = wire::carry(from_server, to_client, &shared, true) => false,
        () = broken(shared.fault.subscribe()) => true,
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Comes back when a connection that was there all the time can be no more.
async fn broken(mut fault: watch::Receiver<Fault>) {
    let begun = fault.wait_for(|fault| matches!(fault, Fault::Cut | Fault::Swallowing)).await;
    if begun.is_ok_and(|fault| *fault == Fault::Swallowing) {
        let _ = fault.wait_for(|fault| *fault != Fault::Swallowing).await;
    }
}
