//! P6: what a delivery costs one node, two and three, under a load that grows with them, as it does where they are added,
//! and under the same load spread over all of them; and what nodes send each other for it. Nothing is taken off: also what a
//! node does while nobody talks is a price of there being more of them.

use std::sync::Arc;

use loadtest::device::BACKOFF_MAX;
use protocol::rest::SignedIn;

use super::{
    super::{
        CommandError, Common, crowd,
        fanout::{Fanout, Gathering, Mode},
        figures::{median, ratio},
        rows::{Row, row},
        talk::{Crew, Group, Seat, Talk},
    },
    BenchCluster, Figures,
    house::{House, Spent},
    reading::{self, Reading},
};

/// Clusters of 1, 2 and 3 nodes, side by side: who is not measured is idle.
const SIZES: usize = 3;
/// People per node, and half as many groups they talk in, so that everybody is in some.
const PEOPLE: usize = 60;
/// Bytes of a text.
const SIZE: usize = 100;
const WANTED: &str = "≤ 1.5";

impl BenchCluster {
    pub(super) async fn scale_out(&self) -> Result<Figures, CommandError> {
        let houses = (1..=SIZES).map(|n_nodes| self.house(n_nodes)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = self.groups_talk(&houses, 2, self.rate).await?;
        rows.extend(self.groups_talk(&houses, 10, self.rate / 4.0).await?);
        rows.extend(self.fan_out(&houses).await?);
        Ok(rows.into())
    }

    /// Groups of so many members, each of whom is on another node than the one before.
    async fn groups_talk(&self, houses: &[House], n_members: usize, rate: f64) -> Result<Vec<Row>, CommandError> {
        let mut talks = Vec::new();
        for house in houses {
            let (rest, targets) = (house.rest()?, house.targets()?);
            let people = PEOPLE * house.nodes.len();
            let users = crowd::users(&rest, people).await?;
            let mut groups = Vec::new();
            for first in (0..people).step_by(2) {
                let members: Vec<usize> = (first..first + n_members).map(|place| place % people).collect();
                let others: Vec<_> = members[1..].iter().map(|place| users[*place].user.id).collect();
                groups.push(Group { c: crowd::group(&rest, &users[first], &others).await?, members });
            }
            let seat = |(place, user): (usize, SignedIn)| {
                let targets = vec![targets[place % targets.len()].clone()];
                Seat { user, number: 0, targets, backoff_max: BACKOFF_MAX }
            };
            let seats = users.into_iter().enumerate().map(seat).collect();
            let crew = Arc::new(Crew::gather(&rest, seats, false).await?);
            talks.push((house, crew.clone(), Talk::new(crew, groups, SIZE)));
        }
        let mut rows = Vec::new();
        for (grows, of, wanted) in [(true, "per node", WANTED), (false, "in all", "")] {
            let mut readings: Vec<Vec<Reading>> = talks.iter().map(|_| Vec::new()).collect();
            for round in 0..=self.rounds {
                for ((house, crew, talk), readings) in talks.iter().zip(&mut readings) {
                    let rate = if grows { rate * house.nodes.len() as f64 } else { rate };
                    let reading = Reading::take(house, crew, talk, rate, self.seconds, None).await?;
                    // the first round warms up
                    readings.extend((round > 0).then_some(reading));
                }
            }
            let cpu: Vec<f64> =
                readings.iter().map(|of| reading::of(of, |reading| reading.per_delivery.cpu_us)).collect();
            let what = format!("groups of {n_members}, {rate} sends/s {of}");
            rows.extend(costs(&what, &cpu, wanted));
            if let Some(most) = readings.last() {
                let between = |figure: &str, value| row("", format!("{what}, 3 nodes: {figure}"), None, value, "");
                rows.push(between("frames per delivery", reading::of(most, |reading| reading.per_delivery.frames)));
                rows.push(between("bytes per delivery", reading::of(most, |reading| reading.per_delivery.bytes)));
            }
        }
        Ok(rows)
    }

    /// One sender, a thousand receivers.
    async fn fan_out(&self, houses: &[House]) -> Result<Vec<Row>, CommandError> {
        let mut gatherings: Vec<(&House, Fanout, Gathering)> = Vec::new();
        for house in houses {
            let mut urls = house.nodes.iter().map(|node| node.client.clone());
            let common = Common::local(&urls.next().unwrap_or_default());
            let (members, duration, pid) = (self.members, self.seconds, house.pids());
            let run = Fanout { common, also: urls.collect(), members, mode: Mode::Lone, duration, raw: false, pid };
            let gathering = run.gather().await?;
            gatherings.push((house, run, gathering));
        }
        let mut cpu = vec![Vec::new(); houses.len()];
        let mut per_message = Vec::new();
        for round in 0..=self.rounds {
            for ((house, run, gathering), cpu) in gatherings.iter_mut().zip(&mut cpu) {
                let before = house.spent()?;
                let report = gathering.measure(run).await?;
                // the first round warms up
                if round > 0 {
                    cpu.push(report.cpu_us_per_delivery.unwrap_or(f64::NAN));
                    per_message.push((house.nodes.len(), house.spent()?.since(before).each(report.messages as f64)));
                }
            }
        }
        let cpu: Vec<f64> = cpu.into_iter().map(median).collect();
        let mut rows = costs(&format!("one to {}", self.members), &cpu, WANTED);
        let between = |what: &str, of: fn(&Spent) -> f64, wanted| {
            let of_three = per_message.iter().filter(|(n_nodes, _)| *n_nodes == SIZES).map(|(_, spent)| of(spent));
            let what = format!("one to {}, 3 nodes: {what} per message", self.members);
            row("", what, None, ratio(median(of_three.collect()), 1.0), wanted)
        };
        rows.push(between("parcels with the event between nodes", |spent| spent.events, "2: one for each other node"));
        rows.push(between("frames between nodes", |spent| spent.frames, ""));
        rows.push(between("bytes between nodes", |spent| spent.bytes, ""));
        Ok(rows)
    }
}

/// With more nodes, beside one.
fn costs(what: &str, cpu: &[f64], wanted: &'static str) -> Vec<Row> {
    let of = |n_nodes: usize| format!("µs of CPU per delivery, {what}, {n_nodes} nodes");
    (2..=cpu.len()).map(|n_nodes| row("P6", of(n_nodes), Some(cpu[0]), cpu[n_nodes - 1], wanted)).collect()
}
