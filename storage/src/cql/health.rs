//! Whether the servers answer and take conditional writes.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::{Cql, call::IN_FLIGHT_MAX, statements::statements, values::bigint};
use crate::{
    Error,
    health::{Health, Snapshot},
};

statements! {
    // Rows of their own, so that many nodes that ask at once do not stand in each other's way.
    Conditional probe = "INSERT INTO ks.probe (process, no) VALUES (?, ?) IF NOT EXISTS USING TTL 3600";
    Read look = "SELECT no FROM ks.probe WHERE process = ? AND no = ?";
}

impl Cql {
    /// One conditional write, read as any other.
    pub(super) async fn prove(&self) -> Result<(), Error> {
        let no = bigint(self.probes.fetch_add(1, Ordering::Relaxed));
        self.conditional(&self.health.probe, (self.process, no)).await?;
        self.failing.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Health for Cql {
    async fn ping(&self) -> Result<(), Error> {
        self.reading(async {
            if self.failing.load(Ordering::Relaxed) {
                return self.prove().await;
            }
            self.row::<(i64,)>(&self.health.look, (self.process, 0_i64)).await.map(drop)
        })
        .await
    }

    fn snapshot(&self) -> Snapshot {
        let writes = self.writes.load(Ordering::Relaxed);
        Snapshot {
            writes,
            commits: writes,
            queue_full: self.turned_away.load(Ordering::Relaxed),
            waiting: (IN_FLIGHT_MAX - self.in_flight.available_permits()) as u64,
        }
    }
}
