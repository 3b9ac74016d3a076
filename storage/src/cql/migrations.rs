//! Brings a keyspace to this release's schema: numbered files, forward only, each applied once by one node while the others
//! wait. Refuses what knows more than this release, was made by another content of a file, or was altered by hand.

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{
    Settings, connect,
    errors::{self, of_a_statement, unreachable, unusable},
    product::Product,
    schema::{self, Column, Tables},
    servers::Servers,
};
use crate::OpenError;

/// Every migration: its number is its place, from 1. Never change one that was released; add the next.
const FILES: &[(&str, &str)] = &[
    ("0001_start.cql", include_str!("../../schema/cql/0001_start.cql")),
    ("0002_cluster.cql", include_str!("../../schema/cql/0002_cluster.cql")),
];

/// What must be there before the first file. Made by every node that finds it missing, always through the same server:
/// Cassandra lets two servers each make a table of one name.
const BEFORE: &str = "
CREATE TABLE IF NOT EXISTS ks.schema_lock (
  name text,
  holder uuid,
  PRIMARY KEY ((name))
);
CREATE TABLE IF NOT EXISTS ks.schema_migrations (
  name text,
  number int,
  file text,
  sha256 text,
  applied_at timestamp,
  PRIMARY KEY ((name), number)
);
";

/// The lock of a node that died ends by itself.
const LOCK_TTL_S: u32 = 60;
const LOCK_POLL: Duration = Duration::from_millis(200);
/// Longer than a lock, and than any migration takes.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(180);

/// Changes of the schema, and what must be known for them.
pub(super) struct Migrations<'a> {
    servers: &'a Servers,
    settings: &'a Settings,
}

impl<'a> Migrations<'a> {
    pub(super) fn new(servers: &'a Servers) -> Migrations<'a> {
        Migrations { servers, settings: &servers.settings }
    }

    /// What [`Migrations::apply`] would do, one line each. Changes nothing, refuses what `apply` would refuse.
    pub(super) async fn plan(&self) -> Result<Vec<String>, OpenError> {
        let mut steps = Vec::new();
        match self.replication().await? {
            None => {
                self.check_servers()?;
                steps.push(self.create_keyspace(&Product::of(self.servers).await?));
            }
            Some(found) => self.check_replication(&found)?,
        }
        let tables = self.tables().await?;
        let missing = self.missing(&tables).await?;
        if missing.is_empty() {
            self.check_tables(&tables)?;
        }
        steps.extend(missing.iter().map(|(_, file, _)| (*file).to_owned()));
        Ok(steps)
    }

    /// Makes the keyspace, and applies what is missing, unless another node does.
    pub(super) async fn apply(&self) -> Result<Vec<&'static str>, OpenError> {
        self.make_keyspace().await?;
        self.agree().await?;
        let mut applied = Vec::new();
        if !self.missing(&self.tables().await?).await?.is_empty() {
            for statement in schema::statements(BEFORE) {
                self.change(&statement).await?;
            }
            if self.wait_for_lock().await? {
                let outcome = self.apply_missing(&mut applied).await;
                self.unlock().await;
                outcome?;
            }
        }
        self.agree().await?;
        self.check_tables(&self.tables().await?)?;
        // Tables that this session has not seen being made: it must know where their rows are.
        let refreshed = self.servers.session().refresh_metadata().await;
        refreshed.map_err(|error| unreachable(self.settings, &error.to_string()))?;
        Ok(applied)
    }

    /// True: this node has the lock. False: another had it, and has done what there was to do.
    async fn wait_for_lock(&self) -> Result<bool, OpenError> {
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        while Instant::now() < deadline {
            match self.lock().await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // Many who try at once: perhaps it is taken, and the next look will tell.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            sleep(LOCK_POLL).await;
            if self.missing(&self.tables().await?).await?.is_empty() {
                return Ok(false);
            }
        }
        Err(unreachable(self.settings, "another node has been changing the schema for minutes"))
    }

    async fn apply_missing(&self, applied: &mut Vec<&'static str>) -> Result<(), OpenError> {
        for (number, file, text) in self.missing(&self.tables().await?).await? {
            for statement in schema::statements(text) {
                if !self.lock().await? {
                    return Err(unreachable(self.settings, &format!("lost the lock in the middle of {file}")));
                }
                self.change(&statement).await?;
            }
            let sha256 = checksum(text);
            let row = format!(
                "INSERT INTO ks.schema_migrations (name, number, file, sha256, applied_at)
                 VALUES ('schema', {number}, '{file}', '{sha256}', toTimestamp(now())) IF NOT EXISTS"
            );
            self.servers.conditional(&row, "cannot note a migration").await?;
            tracing::info!(file, keyspace = self.settings.keyspace, "migrated the keyspace");
            applied.push(file);
        }
        Ok(())
    }

    /// The files that are not applied yet.
    async fn missing(&self, tables: &Tables) -> Result<Vec<(usize, &'static str, &'static str)>, OpenError> {
        let noted = tables.contains_key("schema_migrations");
        let applied = if noted { self.applied().await? } else { BTreeMap::new() };
        let known = FILES.len();
        if let Some((newest, _)) = applied.last_key_value().filter(|(newest, _)| **newest > known as i32) {
            let reason = format!("it was made by a newer release (migration {newest}, this one knows {known})");
            return Err(unusable(self.settings, &reason, "run that release"));
        }
        let mut missing = Vec::new();
        for (number, (file, text)) in (1..).zip(FILES) {
            match applied.get(&(number as i32)) {
                Some(Some(sha256)) if *sha256 == checksum(text) => {}
                Some(_) => {
                    let reason = format!("it was made by another version of {file}");
                    return Err(unusable(self.settings, &reason, "run the release that made it, or restore a backup"));
                }
                None => missing.push((number, *file, *text)),
            }
        }
        Ok(missing)
    }

    /// Checksums by number. A server may describe a table a moment before it can be read: then nothing is applied yet.
    async fn applied(&self) -> Result<BTreeMap<i32, Option<String>>, OpenError> {
        let text = "SELECT number, sha256 FROM ks.schema_migrations WHERE name = 'schema'";
        match self.servers.run(text, &self.servers.profiles.read).await {
            Err(error) if errors::is_invalid(&error) => Ok(BTreeMap::new()),
            outcome => Ok(self.servers.read_rows::<(i32, Option<String>)>(outcome)?.into_iter().collect()),
        }
    }

    fn check_tables(&self, found: &Tables) -> Result<(), OpenError> {
        let statements: Vec<_> = FILES.iter().flat_map(|(_, text)| schema::statements(text)).collect();
        let wished = schema::tables(&statements).map_err(|statement| {
            unusable(
                self.settings,
                &format!("a schema file cannot be read back: {statement}"),
                "this is a mistake in this release",
            )
        })?;
        match schema::difference(&wished, found) {
            Some((what, remedy)) => Err(unusable(self.settings, &what, remedy)),
            None => Ok(()),
        }
    }

    /// The keyspace's tables as the servers describe them; none if it is not there.
    async fn tables(&self) -> Result<Tables, OpenError> {
        let keyspace = &self.settings.keyspace;
        let text = format!(
            "SELECT table_name, column_name, kind, type FROM system_schema.columns WHERE keyspace_name = '{keyspace}'"
        );
        let mut tables = Tables::new();
        for (table, name, kind, kind_of_value) in self.servers.rows::<(String, String, String, String)>(&text).await? {
            tables.entry(table).or_default().insert(name, Column { kind, kind_of_value });
        }
        Ok(tables)
    }

    /// How the keyspace is replicated; `None`: it is not there.
    pub(super) async fn replication(&self) -> Result<Option<BTreeMap<String, String>>, OpenError> {
        let keyspace = &self.settings.keyspace;
        let text = format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'");
        Ok(self.servers.rows::<(BTreeMap<String, String>,)>(&text).await?.pop().map(|(replication,)| replication))
    }

    /// Whether a keyspace could be written to at all if it were made now.
    fn check_servers(&self) -> Result<(), OpenError> {
        self.settings.replication.fits(&self.servers.by_datacenter()).map_err(|missing| {
            let reason = format!("storage.cql.replication asks for {missing}");
            unusable(self.settings, &reason, "add servers, or set it lower: a single server, for trying out, takes 1")
        })
    }

    pub(super) fn check_replication(&self, found: &BTreeMap<String, String>) -> Result<(), OpenError> {
        let Settings { keyspace, replication, .. } = self.settings;
        replication.check(found).map_err(|found| {
            let reason = format!("it is replicated {found}, the configuration says {replication}");
            let alter = format!("ALTER KEYSPACE {keyspace} WITH replication = {}", replication.to_cql());
            let remedy = format!("correct storage.cql.replication, or run: {alter}; then repair every server fully");
            unusable(self.settings, &reason, &remedy)
        })
    }

    async fn make_keyspace(&self) -> Result<(), OpenError> {
        if let Some(found) = self.replication().await? {
            return self.check_replication(&found);
        }
        self.check_servers()?;
        let statement = self.create_keyspace(&Product::of(self.servers).await?);
        match self.change(&statement).await {
            Err(OpenError::Unusable { store, reason, .. }) => {
                let reason = format!("it is not there and cannot be made: {reason}");
                Err(OpenError::Unusable { store, reason, remedy: format!("let somebody who may run: {statement}") })
            }
            other => other,
        }
    }

    fn create_keyspace(&self, product: &Product) -> String {
        let Settings { keyspace, replication, .. } = self.settings;
        // Conditional writes are refused there on tablets.
        let tablets =
            if product.lacks_conditional_writes_on_tablets() { " AND tablets = {'enabled': false}" } else { "" };
        format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {}{tablets}", replication.to_cql())
    }

    /// Takes the lock, or holds it for longer. False: another node has it.
    async fn lock(&self) -> Result<bool, OpenError> {
        let me = self.servers.session().session_id();
        let take = format!(
            "INSERT INTO ks.schema_lock (name, holder) VALUES ('migrations', {me}) IF NOT EXISTS USING TTL {LOCK_TTL_S}"
        );
        if self.servers.conditional(&take, "cannot take the schema lock").await?.applied {
            return Ok(true);
        }
        let hold = format!(
            "UPDATE ks.schema_lock USING TTL {LOCK_TTL_S} SET holder = {me} WHERE name = 'migrations' IF holder = {me}"
        );
        Ok(self.servers.conditional(&hold, "cannot hold the schema lock").await?.applied)
    }

    async fn unlock(&self) {
        let me = self.servers.session().session_id();
        let unlock = format!("DELETE FROM ks.schema_lock WHERE name = 'migrations' IF holder = {me}");
        if let Err(error) = self.servers.conditional(&unlock, "cannot give back the schema lock").await {
            tracing::warn!(%error, ttl_s = LOCK_TTL_S, "the schema lock stays until its time is up");
        }
    }

    /// Waits until all servers that are up have the same schema: tables that one has just been told of are not everywhere.
    async fn agree(&self) -> Result<(), OpenError> {
        let agreed = self.servers.session().await_schema_agreement().await;
        agreed.map(drop).map_err(|error| unreachable(self.settings, &format!("the servers' schemas differ: {error}")))
    }

    async fn change(&self, statement: &str) -> Result<(), OpenError> {
        let profile = connect::for_changes_of_the_schema(&self.servers.session());
        let outcome = self.servers.run(statement, &profile).await;
        outcome.map(drop).map_err(|error| of_a_statement(self.settings, "cannot change the schema", &error))
    }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_can_be_read_back() {
        for (file, text) in FILES {
            let tables = schema::tables(&schema::statements(text));
            assert!(tables.is_ok(), "{file}: {tables:?}");
        }
        assert_eq!(schema::statements(BEFORE).len(), 2);
    }

    #[test]
    fn sign_ins_are_kept_as_long_as_on_other_stores() {
        let kept = format!("default_time_to_live = {}", crate::accounts::SIGN_INS_KEPT_S);
        assert!(FILES.iter().any(|(_, text)| text.contains(&kept)), "{kept}");
    }
}
