//! `starling-load idle`: connections of different users that do nothing. Memory per connection is the slope of the
//! server's resident size between two counts, so that what it needs anyway does not count.

use std::time::Duration;

use clap::Args;
use loadtest::Socket;
use protocol::{push::PING, rest::SignedIn};
use serde::Serialize;

use super::{
    CommandError, Common, Outcome, crowd, fanout,
    figures::{Process, ratio},
};

#[derive(Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many connections, each of another user
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// The slope begins at this many
    #[arg(long, default_value_t = 2_000)]
    pub(crate) from: usize,
    /// Seconds to wait before each reading
    #[arg(long, default_value_t = 3.0)]
    pub(crate) pause: f64,
    /// Stay connected for this many seconds at the end
    #[arg(long, default_value_t = 0.0)]
    pub(crate) hold: f64,
    /// The server's process
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Fail above this many bytes per connection
    #[arg(long, requires = "pid")]
    pub(crate) bytes_max: Option<f64>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    connections: usize,
    /// Those that are still there at the end.
    alive: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_from_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_to_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_connection: Option<f64>,
}

impl Idle {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        let (_, rest) = self.common.server()?;
        // before the first reading, so that no sign-up falls between the two
        let users = crowd::users(&rest, self.connections).await?;
        let report = self.measure(&users).await?;
        self.common.print(&report);
        let fat = report.bytes_per_connection.zip(self.bytes_max).is_some_and(|(bytes, most)| bytes > most);
        Ok(if fat || report.alive < self.connections { Outcome::Failed } else { Outcome::Pass })
    }

    /// One connection for each of `users`. What signing them up left free in the server's heap would be used again by
    /// the connections: `bench` starts the server anew in between.
    pub(crate) async fn measure(&self, users: &[SignedIn]) -> Result<Report, CommandError> {
        if self.from >= self.connections {
            return Err(CommandError::Usage("--from is less than --connections".into()));
        }
        let (target, _) = self.common.server()?;
        let server = self.pid.map(Process);
        let mut sockets = tokio::task::JoinSet::new();
        let mut readings = Vec::new();
        for (number, user) in users.iter().enumerate() {
            sockets.spawn(stay(fanout::open(&target, Some(user)).await?));
            if [self.from, self.connections].contains(&(number + 1)) {
                tokio::time::sleep(Duration::from_secs_f64(self.pause)).await;
                readings.push(server.map(Process::rss_bytes).transpose()?);
            }
        }
        tokio::time::sleep(Duration::from_secs_f64(self.hold)).await;
        while sockets.try_join_next().is_some() {}
        let (from, to) = (readings[0], readings[1]);
        let grown = from.zip(to).map(|(from, to)| to.saturating_sub(from) as f64);
        let per_connection = grown.map(|grown| ratio(grown, (self.connections - self.from) as f64));
        Ok(Report {
            connections: self.connections,
            alive: sockets.len(),
            rss_from_bytes: from,
            rss_to_bytes: to,
            bytes_per_connection: per_connection,
        })
    }
}

/// Answers pings until the server has enough.
pub(super) async fn stay(mut socket: Socket) {
    while let Ok(text) = socket.next_text().await {
        if text.as_str() == PING && socket.send_text(PING).await.is_err() {
            return;
        }
    }
}
