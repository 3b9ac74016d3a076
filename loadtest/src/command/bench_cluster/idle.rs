//! What sessions that do nothing cost where nodes compare, twice a second, what is registered at whom: beside one node,
//! which has nobody to compare with.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{
    super::{CommandError, crowd, fanout, figures::ratio, idle::stay, rows::row},
    BenchCluster, Figures,
    house::Spent,
};

/// Far beyond the run: pings would cost more than what is measured.
const PING_MS: &str = "600000";
/// After everybody has come.
const CALM: Duration = Duration::from_secs(3);

impl BenchCluster {
    pub(super) async fn idle_sessions(&self) -> Result<Figures, CommandError> {
        let alone = self.sessions_rest(1).await?;
        let together = self.sessions_rest(3).await?;
        let cpu = |spent: &Spent| ratio(spent.cpu_us, 1000.0);
        let what = |who: &str| format!("ms of CPU per s, 3 nodes together, {who}; baseline: 1 node");
        let all = format!("{} idle sessions", self.sessions);
        Ok(Figures::from(vec![
            row("", what("nobody there"), Some(cpu(&alone[0])), cpu(&together[0]), ""),
            row("", what(&all), Some(cpu(&alone[1])), cpu(&together[1]), ""),
            row("", format!("bytes between 3 nodes per s, {all}"), None, together[1].bytes.round(), ""),
        ]))
    }

    /// In a second: without and with them.
    async fn sessions_rest(&self, n_nodes: usize) -> Result<[Spent; 2], CommandError> {
        let mut house = self.lot(n_nodes, &[("limits.ping_ms", PING_MS)]).map_err(CommandError::Start)?;
        house.grow(n_nodes).map_err(CommandError::Start)?;
        let users = crowd::users(&house.rest()?, self.sessions).await?;
        tokio::time::sleep(CALM).await;
        let without = house.idle(2.0 * self.seconds).await?;
        let targets = house.targets()?;
        let mut sockets = JoinSet::new();
        for (number, user) in users.iter().enumerate() {
            sockets.spawn(stay(fanout::open(&targets[number % n_nodes], Some(user)).await?));
        }
        tokio::time::sleep(CALM).await;
        let with = house.idle(2.0 * self.seconds).await?;
        Ok([without.per_second(), with.per_second()])
    }
}
