//! P2 on the real stores, and how the appends of a hot conversation form batches by themselves.

use super::{Bench, CommandError, Metrics, Row, batch_events, median, row};

/// Members of the hot conversation, and how many sends each keeps unanswered.
const HOT_MEMBERS: usize = 8;
const HOT_OUTSTANDING: usize = 32;
/// Bounds of what is counted; an append has 64 events at most.
const BATCHES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

impl Bench {
    /// Beside the same store, alone, in batches of the same size.
    pub(super) async fn durable_sends_on_servers(&self) -> Result<Vec<Row>, CommandError> {
        let mut rows = Vec::new();
        for (users, outstanding) in [(64, 1), (100, 10)] {
            let (mut rates, mut alone, mut cpu, mut acks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let server = self.server("cql")?;
                let report = self.chat(&server, users, Some(outstanding), 0.0).measure().await?;
                rates.push(report.sends_per_s);
                cpu.extend(report.cpu_us_per_send);
                acks.push(report.ack_ms.p50);
                let batch = batch_events(&server)?;
                drop(server);
                alone.extend(self.store_alone(users / 2, batch)?);
            }
            let under_way = users * outstanding;
            let what = format!("sends/s on CQL, {under_way} outstanding, beside the store alone");
            rows.push(row("P2", what, Some(median(alone)), median(rates), "≥ 0.7"));
            rows.push(row("P2", format!("ack p50 ms on CQL, {under_way} outstanding"), None, median(acks), ""));
            rows.push(row(
                "P2",
                format!("µs CPU of the node per send, {under_way} outstanding"),
                None,
                median(cpu),
                "",
            ));
        }
        rows.extend(self.hot_batches().await?);
        Ok(rows)
    }

    /// Everybody talks in one conversation: what share of its appends carries how many events.
    async fn hot_batches(&self) -> Result<Vec<Row>, CommandError> {
        let server = self.server("cql")?;
        let mut chat = self.chat(&server, HOT_MEMBERS, Some(HOT_OUTSTANDING), 0.0);
        (chat.conversations, chat.members) = (1, HOT_MEMBERS);
        let report = chat.measure().await?;
        let metrics = Metrics::of(&server.node)?;
        let up_to = |events: u32| metrics.value(&format!("starling_append_batch_events_bucket{{le=\"{events}\"}}"));
        let all = metrics.value("starling_append_batch_events_count").unwrap_or(f64::NAN);
        let under_way = HOT_MEMBERS * HOT_OUTSTANDING;
        let what = format!("sends/s in one conversation on CQL, {under_way} outstanding");
        let mut rows = vec![row("", what, None, report.sends_per_s, "")];
        let (mut below, mut counted) = (0, 0.0);
        for events in BATCHES {
            let count = up_to(events).unwrap_or(f64::NAN);
            let what = format!("of its appends with {} to {events} events, %", below + 1);
            rows.push(row("", what, None, ((count - counted) / all * 1000.0).round() / 10.0, ""));
            (below, counted) = (events, count);
        }
        Ok(rows)
    }
}
