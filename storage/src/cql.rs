//! History on servers of CQL: ScyllaDB and Apache Cassandra, one code path. Appends are conditional batches; everything else
//! is written so that writing it again, or late, changes nothing. Never reads a clock and never lets the servers' clocks order
//! anything but accounts.

mod accounts;
mod call;
mod clocks;
mod cluster;
mod commitlog;
mod connect;
mod directory;
mod errors;
mod events;
mod follow;
mod health;
mod inspect;
mod inventory;
mod log;
mod marks;
mod members;
mod migrations;
mod partition;
mod places;
mod product;
mod read;
mod roster;
mod schema;
mod servers;
mod sessions;
mod settings;
mod statements;
mod values;
mod verdict;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::{
    inspect::inspect,
    settings::{InvalidReplication, Replication, Settings, is_keyspace_name},
};
use self::{migrations::Migrations, servers::Servers, statements::Preparer};
use crate::{OpenError, Store, meters::Meters, redis::Redis};

/// All faces of one keyspace.
pub struct Cql {
    servers: Arc<Servers>,
    accounts: accounts::Statements,
    sessions: sessions::Statements,
    health: health::Statements,
    partition: partition::Statements,
    log: log::Statements,
    read: read::Statements,
    follow: follow::Statements,
    members: members::Statements,
    directory: directory::Statements,
    marks: marks::Statements,
    places: places::Places,
    /// So many members a conversation may have; new ones are divided for it.
    members_max: usize,
    inventory: inventory::Statements,
    cluster: cluster::Statements,
    /// One permit for each statement under way.
    in_flight: Semaphore,
    /// Statements turned away because too many were.
    turned_away: AtomicU64,
    /// Conditional and plain writes that were sent.
    writes: AtomicU64,
    /// Whose probes are whose; never used again after this process ended.
    process: Uuid,
    /// Numbers the probes, each a row of its own.
    probes: AtomicU64,
    /// A write has failed, and none has succeeded since.
    failing: AtomicBool,
    meters: Meters,
}

impl Cql {
    /// Connects, brings the keyspace to this release's schema, and proves that conditional writes work.
    ///
    /// # Errors
    /// [`OpenError::Unreachable`]: try again later. Any other: somebody has to do something first.
    pub async fn open(settings: &Settings) -> Result<Arc<Cql>, OpenError> {
        let servers = Arc::new(Servers::connect(settings).await?);
        Migrations::new(&servers).apply().await?;
        servers.prove(0).await?;
        for wrong in clocks::wrong(&clocks::gaps(&servers).await?) {
            tracing::warn!(store = %settings, "{wrong}");
        }
        if let Some(Err(wrong)) = commitlog::look(&servers).await {
            tracing::warn!(store = %settings, "{wrong}");
        }
        let session = servers.session();
        let with = Preparer::new(&session, &servers);
        let cql = Cql {
            accounts: accounts::Statements::prepare(&with).await?,
            sessions: sessions::Statements::prepare(&with).await?,
            health: health::Statements::prepare(&with).await?,
            partition: partition::Statements::prepare(&with).await?,
            log: log::Statements::prepare(&with).await?,
            read: read::Statements::prepare(&with).await?,
            follow: follow::Statements::prepare(&with).await?,
            members: members::Statements::prepare(&with).await?,
            directory: directory::Statements::prepare(&with).await?,
            marks: marks::Statements::prepare(&with).await?,
            places: places::Places::default(),
            members_max: settings.members_max,
            inventory: inventory::Statements::prepare(&with).await?,
            cluster: cluster::Statements::prepare(&with).await?,
            process: session.session_id(),
            servers: servers.clone(),
            in_flight: Semaphore::new(call::IN_FLIGHT_MAX),
            turned_away: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            probes: AtomicU64::new(1),
            failing: AtomicBool::new(false),
            meters: Meters::new("cql"),
        };
        servers.watch();
        Ok(Arc::new(cql))
    }
}

/// Opens a keyspace beside the server that keeps the tokens.
pub(crate) async fn open(settings: &Settings, redis: &Arc<Redis>) -> Result<Store, OpenError> {
    let cql = Cql::open(settings).await?;
    Ok(Store {
        log: cql.clone(),
        directory: cql.clone(),
        accounts: cql.clone(),
        sessions: cql.clone(),
        tokens: redis.clone(),
        health: cql.clone(),
        token_health: redis.clone(),
        inventory: cql.clone(),
        families: redis.clone(),
        cluster: Some(cql),
    })
}

/// Why a keyspace alone is not enough.
pub(crate) fn keeps_no_tokens(settings: &Settings) -> OpenError {
    errors::unusable(
        settings,
        "it keeps no tokens and limits",
        "set tokens.backend to redis, and tokens.redis.url_file",
    )
}

/// What opening the store would do to the keyspace, one line each.
///
/// # Errors
/// As [`Cql::open`]; changes nothing.
pub async fn plan(settings: &Settings) -> Result<Vec<String>, OpenError> {
    Migrations::new(&Servers::connect(settings).await?).plan().await
}

/// Does it, and names the files that were applied.
///
/// # Errors
/// As [`Cql::open`].
pub async fn apply(settings: &Settings) -> Result<Vec<&'static str>, OpenError> {
    Migrations::new(&Servers::connect(settings).await?).apply().await
}
