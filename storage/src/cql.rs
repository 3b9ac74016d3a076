//! History on servers of CQL: ScyllaDB and Apache Cassandra, one code path. Appends are conditional batches; everything else
//! is written so that writing it again, or late, changes nothing. Never reads a clock and never lets the servers' clocks order
//! anything but accounts.

mod accounts;
mod call;
mod connect;
mod directory;
mod errors;
mod events;
mod follow;
mod health;
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
mod sessions;
mod settings;
mod statements;
mod values;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use scylla::client::session::Session;
use tokio::sync::Semaphore;

pub use self::settings::{InvalidReplication, Replication, Settings};
use self::{connect::Profiles, migrations::Migrations, statements::Preparer};
use crate::{OpenError, meters::Meters};

/// All faces of one keyspace.
pub struct Cql {
    session: Session,
    profiles: Profiles,
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
    /// One permit for each statement under way.
    in_flight: Semaphore,
    /// Statements turned away because too many were.
    turned_away: AtomicU64,
    /// Conditional and plain writes that were sent.
    writes: AtomicU64,
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
        let profiles = Profiles::new(settings);
        let session = connect::connect(settings, &profiles).await?;
        Migrations::new(&session, settings, &profiles).apply().await?;
        let with = Preparer { session: &session, profiles: &profiles, settings };
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
            session,
            profiles,
            in_flight: Semaphore::new(call::IN_FLIGHT_MAX),
            turned_away: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            meters: Meters::new("cql"),
        };
        cql.prove().await.map_err(|error| match error {
            crate::Error::Corrupt(why) => errors::unusable(settings, &why, "the servers must take conditional writes"),
            other => errors::unreachable(settings, &format!("a conditional write failed: {other}")),
        })?;
        Ok(Arc::new(cql))
    }
}

/// What opening the store would do to the keyspace, one line each.
///
/// # Errors
/// As [`Cql::open`]; changes nothing.
pub async fn plan(settings: &Settings) -> Result<Vec<String>, OpenError> {
    let profiles = Profiles::new(settings);
    let session = connect::connect(settings, &profiles).await?;
    Migrations::new(&session, settings, &profiles).plan().await
}

/// Does it, and names the files that were applied.
///
/// # Errors
/// As [`Cql::open`].
pub async fn apply(settings: &Settings) -> Result<Vec<&'static str>, OpenError> {
    let profiles = Profiles::new(settings);
    let session = connect::connect(settings, &profiles).await?;
    Migrations::new(&session, settings, &profiles).apply().await
}
