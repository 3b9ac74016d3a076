//! `starling-load echo`: round trips at a given rate against `raw-echo`, counted from when they were due: what this
//! machine and this client cost before any server does anything.

use std::time::{Duration, Instant};

use clap::Args;
use loadtest::{Socket, socket::Upgrade};
use serde::Serialize;

use super::{
    CommandError, Common, Outcome,
    figures::{Latencies, Percentiles},
    raw,
};

#[derive(Args)]
pub(crate) struct Echo {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections, which take turns
    #[arg(long, default_value_t = 20)]
    pub(crate) connections: u32,
    /// Round trips per second in all
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) round_trip_ms: Percentiles,
}

impl Echo {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        self.common.print(&self.measure().await?);
        Ok(Outcome::Pass)
    }

    pub(crate) async fn measure(&self) -> Result<Report, CommandError> {
        let (target, _) = self.common.server()?;
        let latencies = std::sync::Arc::new(Latencies::new());
        let mut turns = tokio::task::JoinSet::new();
        let start = Instant::now() + Duration::from_millis(200);
        for connection in 0..self.connections {
            let mut socket = Socket::connect(&target, &Upgrade::default()).await?;
            let (latencies, rate, duration) = (latencies.clone(), self.rate, self.duration);
            let step = self.connections;
            turns.spawn(async move {
                for turn in 0u32.. {
                    let after = f64::from(turn * step + connection) / rate;
                    if after >= duration {
                        return Ok(());
                    }
                    let due = start + Duration::from_secs_f64(after);
                    tokio::time::sleep_until(due.into()).await;
                    socket.send_text(raw::frame()).await?;
                    socket.next_text().await?;
                    latencies.record(due.elapsed());
                }
                Ok::<_, loadtest::socket::Ended>(())
            });
        }
        while let Some(turn) = turns.join_next().await {
            if let Ok(Err(e)) = turn {
                return Err(CommandError::Stalled(format!("a socket ended: {e}")));
            }
        }
        Ok(Report { round_trip_ms: latencies.percentiles() })
    }
}
