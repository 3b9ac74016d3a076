//! What one device has of one conversation: the end of the contiguous run, what came beyond it, and the head it knows
//! of. Pure; says what is missing, fetches nothing.

use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    position: u64,
    beyond: BTreeSet<u64>,
    head: u64,
}

impl Timeline {
    /// A device that has everything up to `position`.
    pub fn at(position: u64) -> Timeline {
        Timeline { position, beyond: BTreeSet::new(), head: position }
    }

    /// The end of the contiguous run of events received: what `sync` calls `have`.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The highest seq heard of.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// An event came; false if it was there already.
    pub fn event(&mut self, seq: u64) -> bool {
        self.heard_of(seq);
        if seq <= self.position || !self.beyond.insert(seq) {
            return false;
        }
        while self.beyond.first() == Some(&(self.position + 1)) {
            self.beyond.pop_first();
            self.position += 1;
        }
        true
    }

    /// The log reaches at least to `seq`.
    pub fn heard_of(&mut self, seq: u64) {
        self.head = self.head.max(seq);
    }

    /// The first run of events that is missing, both ends included.
    pub fn missing(&self) -> Option<(u64, u64)> {
        let to = self.beyond.first().map_or(self.head, |first| first - 1);
        (self.position < to).then_some((self.position + 1, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_a_gap_until_it_is_filled() {
        let mut timeline = Timeline::at(5);
        assert!(timeline.event(6) && timeline.event(9) && !timeline.event(6));
        assert_eq!((timeline.position(), timeline.missing()), (6, Some((7, 8))));
        timeline.event(8);
        timeline.event(7);
        assert_eq!((timeline.position(), timeline.missing()), (9, None));
        timeline.heard_of(11);
        assert_eq!((timeline.position(), timeline.missing()), (9, Some((10, 11))));
    }
}
