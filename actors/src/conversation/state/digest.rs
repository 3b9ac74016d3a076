//! A state as the model checker tells it from others: without clocks and counters of failures, and in one order. Marks
//! and typing are left out: they touch no log.

use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::{Body, Epoch, Event};

use super::{Stage, State, Wish};

/// The same number whatever the order.
pub(crate) fn unordered<T: Hash>(items: impl IntoIterator<Item = T>) -> u64 {
    items.into_iter().fold(0, |sum, item| {
        let mut hasher = DefaultHasher::new();
        item.hash(&mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}

/// Ids are made anew in each history, so the same id may name different events: what is said counts too.
pub(crate) fn hash_event<H: Hasher>(event: &Event, hasher: &mut H) {
    (event.seq, event.id, &event.cid, event.post_no, event.body.kind()).hash(hasher);
    if let Body::Post(post) = &event.body {
        post.text.hash(hasher);
    }
}

impl Hash for Wish {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.what.cid, self.what.requester, self.what.base).hash(hasher);
        if let protocol::peer::Change::Post(envelope) = &self.what.change {
            envelope.hash(hasher);
        }
        (self.index, self.peek, self.exists, self.unknown).hash(hasher);
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(&self.stage).hash(hasher);
        if let Stage::Creating(creating) = &self.stage {
            creating.0.hash(hasher);
        }
        (self.me, self.epoch, self.made, self.continues, self.loading, self.restarted, self.recalls).hash(hasher);
        (self.head.seq, self.head.post_no, self.head.settled).hash(hasher);
        self.roster.as_ref().map(|roster| unordered(&roster.members)).hash(hasher);
        self.recent.hash(hasher);
        (&self.waiting, self.unasked, self.limbo_from, self.following).hash(hasher);
        self.flight.is_some().hash(hasher);
        if let Some(flight) = &self.flight {
            flight.wishes.hash(hasher);
            flight.events.iter().for_each(|event| hash_event(event, hasher));
        }
        self.limbo.hash(hasher);
        for (wish, outcome) in self.refusing.iter().chain(&self.verifying) {
            (wish, format!("{outcome:?}")).hash(hasher);
        }
        (self.refusing.len(), self.unsettled.len(), self.held.len()).hash(hasher);
        self.unsettled.iter().for_each(|event| hash_event(event, hasher));
        self.held.iter().for_each(|stored| (stored.event.seq, stored.event.id, stored.requester).hash(hasher));
        self.audience.hash(hasher);
        (self.retry_at.is_some(), self.returned, self.untold_since.is_some(), self.parting).hash(hasher);
    }
}

impl State {
    /// The epoch under which it would append now.
    pub(crate) fn ready(&self) -> Option<Epoch> {
        matches!(self.stage, Stage::Ready).then_some(self.epoch)
    }

    /// True if only the clock moves it on.
    pub(crate) fn is_paused(&self) -> bool {
        self.retry_at.is_some()
    }

    /// True if nothing is left to do.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_idle()
    }
}
