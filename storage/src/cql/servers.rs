//! The servers of one keyspace: the session with them, and the way back to them. Sends the few statements that are not worth
//! preparing; whatever a serving node sends goes through `call.rs`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use scylla::{
    client::{execution_profile::ExecutionProfileHandle, session::Session},
    cluster::Node,
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    response::query_result::QueryResult,
    statement::unprepared::Statement,
};
use tokio::time::{Instant, sleep};

use super::{
    Settings,
    connect::{Profiles, connect},
    errors,
    verdict::Verdict,
};
use crate::OpenError;

/// How often it is looked whether there is a connection, and a new session is tried where there is none.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the driver is left to find the way back by itself. It tries again after up to 10 s, when it has failed often:
/// longer than senders should wait once the servers are back.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session, renewed when it has lost all servers for long.
pub(super) struct Servers {
    pub(super) settings: Settings,
    pub(super) profiles: Profiles,
    session: RwLock<Arc<Session>>,
}

impl Servers {
    pub(super) async fn connect(settings: &Settings) -> Result<Servers, OpenError> {
        let profiles = Profiles::new(settings);
        let session = RwLock::new(Arc::new(connect(settings, &profiles).await?));
        Ok(Servers { settings: settings.clone(), profiles, session })
    }

    pub(super) fn session(&self) -> Arc<Session> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether one of them can be spoken to now, as far as the driver knows.
    pub(super) fn is_connected(&self) -> bool {
        self.session().get_cluster_state().get_nodes_info().iter().any(|node| node.is_connected())
    }

    /// How many there are in each datacenter.
    pub(super) fn by_datacenter(&self) -> BTreeMap<String, usize> {
        let mut servers = BTreeMap::new();
        for node in self.session().get_cluster_state().get_nodes_info() {
            *servers.entry(node.datacenter.clone().unwrap_or_default()).or_default() += 1;
        }
        servers
    }

    /// Looks after the connection as long as anybody else has these servers.
    pub(super) fn watch(self: &Arc<Servers>) {
        let servers = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut away_since = None;
            loop {
                sleep(LOOK_EVERY).await;
                let Some(servers) = servers.upgrade() else { return };
                if servers.is_connected() {
                    away_since = None;
                    continue;
                }
                let since: Instant = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE
                    && let Ok(session) = connect(&servers.settings, &servers.profiles).await
                {
                    tracing::info!(store = %servers.settings, "connected again");
                    *servers.session.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(session);
                }
            }
        });
    }

    /// Sends one statement, once, as a profile says.
    pub(super) async fn run(
        &self, text: &str, profile: &ExecutionProfileHandle,
    ) -> Result<QueryResult, ExecutionError> {
        let mut statement = Statement::new(self.settings.qualified(text));
        statement.set_execution_profile_handle(Some(profile.clone()));
        self.session().query_unpaged(statement, ()).await
    }

    /// A small read.
    pub(super) async fn rows<R>(&self, text: &str) -> Result<Vec<R>, OpenError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        self.read_rows(self.run(text, &self.profiles.read).await)
    }

    /// The rows of what has been read.
    pub(super) fn read_rows<R>(&self, outcome: Result<QueryResult, ExecutionError>) -> Result<Vec<R>, OpenError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let odd = |error: &dyn fmt::Display| {
            let reason = format!("the servers answer in a way that is not understood: {error}");
            errors::unusable(&self.settings, &reason, "they must be ScyllaDB or Apache Cassandra")
        };
        let result = outcome.map_err(|error| errors::of_a_statement(&self.settings, "cannot read", &error))?;
        let result = result.into_rows_result().map_err(|error| odd(&error))?;
        let rows = result.rows::<R>().map_err(|error| odd(&error))?;
        rows.map(|row| row.map_err(|error| odd(&error))).collect()
    }

    /// What one server says of itself.
    pub(super) async fn ask<R>(&self, node: &Arc<Node>, text: &str) -> Result<R, OpenError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut statement = Statement::new(text);
        let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
        statement.set_load_balancing_policy(Some(only));
        let mut rows = self.read_rows(self.session().query_unpaged(statement, ()).await)?;
        rows.pop().ok_or_else(|| errors::unreachable(&self.settings, "a server says nothing of itself"))
    }

    pub(super) async fn conditional(&self, text: &str, doing: &str) -> Result<Verdict, OpenError> {
        let outcome = self.run(text, &self.profiles.conditional).await;
        let result = outcome.map_err(|error| errors::of_a_statement(&self.settings, doing, &error))?;
        Verdict::of(result).map_err(|error| errors::unreachable(&self.settings, &error.to_string()))
    }

    /// A conditional write, on a row that nobody else uses. `no`: another one each time.
    pub(super) async fn prove(&self, no: u32) -> Result<(), OpenError> {
        let me = self.session().session_id();
        let probe = format!("INSERT INTO ks.probe (process, no) VALUES ({me}, {no}) IF NOT EXISTS USING TTL 3600");
        self.conditional(&probe, "a conditional write failed").await.map(drop)
    }
}
