//! P5: a conversation whose owner is another node, beside one whose owner is the node of its people. The same people, on
//! the first of three nodes, talk in pairs that the cluster has placed there or on the second: on one, so that an owner has
//! the same to do either way. Who has less to do at a time pays more for each thing.

use std::sync::Arc;

use loadtest::device::BACKOFF_MAX;

use super::{
    super::{
        CommandError, crowd,
        rows::{Row, row},
        talk::{Crew, Group, Seat, Talk},
    },
    BenchCluster, Figures,
    reading::{self, Reading},
};

/// Pairs of each kind.
const PAIRS: usize = 16;
/// With three nodes a third of all is owned by each: so many are never needed.
const TRIES_MAX: usize = 20 * PAIRS;
/// So many times the rate: whoever has more to do is woken less often for it.
const TIMES: [f64; 3] = [1.0, 4.0, 16.0];
/// Bytes of a text.
const SIZE: usize = 100;

impl BenchCluster {
    pub(super) async fn across_nodes(&self) -> Result<Figures, CommandError> {
        let house = self.house(3)?;
        let (rest, here) = (house.rest()?, house.targets()?.swap_remove(0));
        let users = crowd::users(&rest, 2 * PAIRS).await?;
        let mut pairs = [Vec::new(), Vec::new()];
        for number in 0..TRIES_MAX {
            let (a, b) = (number % users.len(), (number + 1 + number / users.len()) % users.len());
            if a == b || pairs.iter().all(|pairs| pairs.len() == PAIRS) {
                continue;
            }
            let before = house.owned()?;
            let c = crowd::group(&rest, &users[a], &[users[b].user.id]).await?;
            let after = house.owned()?;
            let owner = before.iter().zip(&after).position(|(before, after)| after > before);
            let Some(pairs) = owner.and_then(|owner| pairs.get_mut(owner)) else { continue };
            if pairs.len() < PAIRS {
                pairs.push(Group { c, members: vec![a, b] });
            }
        }
        let seat = |user| Seat { user, number: 0, targets: vec![here.clone()], backoff_max: BACKOFF_MAX };
        let crew = Arc::new(Crew::gather(&rest, users.into_iter().map(seat).collect(), false).await?);
        let talks = pairs.map(|pairs| Talk::new(crew.clone(), pairs, SIZE));
        let mut rows = Vec::new();
        for rate in TIMES.map(|times| times * self.rate) {
            let mut readings = [Vec::new(), Vec::new()];
            for round in 0..=self.rounds {
                for (talk, readings) in talks.iter().zip(&mut readings) {
                    // taken off: it would make the two more alike than they are
                    let idle = Some(house.idle(self.seconds / 2.0).await?);
                    let reading = Reading::take(&house, &crew, talk, rate, self.seconds, idle).await?;
                    // the first round warms up
                    readings.extend((round > 0).then_some(reading));
                }
            }
            rows.extend(compared(rate, &readings));
        }
        Ok(rows.into())
    }
}

/// Conversations owned by the node of their people, and by another.
fn compared(rate: f64, [here, elsewhere]: &[Vec<Reading>; 2]) -> Vec<Row> {
    let figure = |what: &str| format!("owner on another node, {rate} sends/s: {what}");
    let line = |what: &str, of: fn(&Reading) -> f64, wanted| {
        row("P5", figure(what), Some(reading::of(here, of)), reading::of(elsewhere, of), wanted)
    };
    let between = |what: &str, of: fn(&Reading) -> f64| row("P5", figure(what), None, reading::of(elsewhere, of), "");
    let apart = "baseline + 0.5";
    vec![
        line("send → ack p50, ms", |reading| reading.ack.p50, apart),
        line("send → ack p99, ms", |reading| reading.ack.p99, ""),
        line("send → deliver p50, ms", |reading| reading.deliver.p50, apart),
        line("send → deliver p99, ms", |reading| reading.deliver.p99, ""),
        line("µs of CPU per delivery, all nodes", |reading| reading.per_delivery.cpu_us, "≤ 1.5 × baseline"),
        between("frames between nodes per delivery", |reading| reading.per_delivery.frames),
        between("bytes between nodes per delivery", |reading| reading.per_delivery.bytes),
    ]
}
