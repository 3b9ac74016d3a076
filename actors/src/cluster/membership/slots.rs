//! The slots of one run: stretches of [`SLOT`] since it began. The store knows the last one it lived in.

use std::time::Duration;

use protocol::cluster::SLOT;
use tokio::time::Instant;

/// A beat of the store that is not answered by then is sent again; that changes nothing.
const AGAIN: Duration = Duration::from_secs(1);

/// The slot of a run that began at `began`, from 1. Not of the wall's clock: slots are compared within one run only, and
/// these move on whatever is done to the machine's clock.
#[must_use]
pub fn slot(began: Instant, now: Instant) -> u64 {
    now.duration_since(began).as_secs() / SLOT.as_secs() + 1
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slots {
    began: Instant,
    /// The store knows of it.
    stored: u64,
    asked: Option<Instant>,
}

impl Slots {
    pub(super) fn new(began: Instant) -> Slots {
        Slots { began, stored: 0, asked: None }
    }

    /// The slot to tell the store of, if it is time.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        let slot = slot(self.began, now);
        if slot <= self.stored || self.asked.is_some_and(|asked| now < asked + AGAIN) {
            return None;
        }
        self.asked = Some(now);
        Some(slot)
    }

    /// The store knows of one: what is noted in it would be looked after.
    pub(super) fn has_lived(&self) -> bool {
        self.stored > 0
    }

    pub(super) fn stored(&mut self, slot: u64, ok: bool) {
        if ok {
            self.stored = self.stored.max(slot);
            self.asked = None;
        }
    }
}
