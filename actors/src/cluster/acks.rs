//! What was handed over and is to be acknowledged: with the next batch that goes the other way, at once where the peer's
//! window fills, else after a moment. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Most requests are answered by a batch within this time, which then acknowledges them. Nothing waits for an acknowledgement
/// but a window that fills, which asks for it, and the end of a conversation.
const ACK_AFTER: Duration = Duration::from_millis(50);

/// See the module. Numbers are of batches, from 1 on each link.
#[derive(Debug, Default)]
pub(super) struct Acks {
    handed_over: u64,
    acked: u64,
    /// When what is not acknowledged is to be.
    due: Option<Instant>,
}

impl Acks {
    /// Everything up to this batch is where it belongs.
    pub(super) fn handed_over(&mut self, number: u64) {
        self.handed_over = number;
    }

    /// The number that acknowledges everything; it is said now.
    pub(super) fn say(&mut self) -> u64 {
        (self.acked, self.due) = (self.handed_over, None);
        self.acked
    }

    /// True if something was handed over that is not acknowledged.
    pub(super) fn owes(&self) -> bool {
        self.acked < self.handed_over
    }

    /// Something is owed. When to look whether it still is; `None`: that was said before.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        if self.due.is_some() {
            return None;
        }
        self.due = Some(now + ACK_AFTER);
        self.due
    }

    /// When what is owed is to be said. A batch may have said what it was meant for first, and be later itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}
