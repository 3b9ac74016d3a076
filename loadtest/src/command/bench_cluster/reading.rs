//! One measurement of people who talk on a cluster: how long it took, and what the nodes spent on it per delivery.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        CommandError,
        figures::{Percentiles, median},
        talk::{Crew, Talk},
    },
    house::{House, Spent},
};

/// For what is still on its way when the last send is answered.
const ARRIVE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Reading {
    pub(super) ack: Percentiles,
    pub(super) deliver: Percentiles,
    /// A delivery is one event that another device than the sender's has received.
    pub(super) per_delivery: Spent,
}

impl Reading {
    /// They talk. `idle`: what the nodes spend while nobody does, which is taken off.
    pub(super) async fn take(
        house: &House, crew: &Crew, talk: &Arc<Talk>, rate: f64, seconds: f64, idle: Option<Spent>,
    ) -> Result<Reading, CommandError> {
        let before = house.spent()?;
        talk.open_loop(rate, seconds).await;
        tokio::time::sleep(ARRIVE).await;
        let spent = house.spent()?.since(before);
        if let Some((code, n)) = talk.errors().first_key_value() {
            return Err(CommandError::Stalled(format!("{n} sends were answered {code}")));
        }
        let (ack, deliver) = (talk.acks.take(), crew.deliveries().take());
        let spent = idle.map_or(spent, |idle| spent.without(idle));
        Ok(Reading { ack, deliver, per_delivery: spent.each(deliver.count as f64) })
    }
}

/// The median of several readings.
pub(super) fn of(readings: &[Reading], what: impl Fn(&Reading) -> f64) -> f64 {
    median(readings.iter().map(what).collect())
}
