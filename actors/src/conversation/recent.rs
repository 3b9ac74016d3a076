//! The client ids of the end of a log: what makes a retry the same event. Exact from `reach` on; below it the store's
//! index is asked.

use std::collections::{HashMap, VecDeque};

use protocol::{ClientId, Event, Seq, UserId};
use storage::log::Known;

/// Ids kept beyond those that must be.
const KEEP: usize = 1024;

type Key = (UserId, ClientId);

/// See the module.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Recent {
    /// Every event above this seq that has a client id is in the map.
    reach: Seq,
    known: HashMap<Key, Known>,
    order: VecDeque<(Seq, Key)>,
}

impl Recent {
    /// Begins anew with a tail that is complete above `reach`.
    pub(crate) fn from_tail(reach: Seq, tail: &[Event]) -> Recent {
        let mut recent = Recent { reach, ..Recent::default() };
        tail.iter().for_each(|event| recent.add(event));
        recent
    }

    /// Adds the next event.
    pub(crate) fn add(&mut self, event: &Event) {
        let Some(cid) = &event.cid else { return };
        let key = (event.by, cid.clone());
        let known = Known { seq: event.seq, post_no: event.post_no, at: event.at, request_hash: event.request_hash };
        self.known.insert(key.clone(), known);
        self.order.push_back((event.seq, key));
    }

    /// Forgets the oldest, but none above `settled`: the index does not have those yet.
    pub(crate) fn trim(&mut self, settled: Seq) {
        while self.order.len() > KEEP && self.order.front().is_some_and(|(seq, _)| *seq <= settled) {
            if let Some((seq, key)) = self.order.pop_front() {
                self.known.remove(&key);
                self.reach = seq;
            }
        }
    }

    /// What is known of a client id.
    pub(crate) fn find(&self, by: UserId, cid: &ClientId) -> Option<Known> {
        if crate::planted::is(crate::planted::Mistake::NoDedupe) {
            return None;
        }
        // the key is cloned because a borrowed pair cannot be looked up; ids are at most 64 bytes
        self.known.get(&(by, cid.clone())).copied()
    }

    /// True if an id made by a client that knew the log up to `base`, and not found here, is not in the log at all.
    pub(crate) fn is_exact_from(&self, base: Option<Seq>) -> bool {
        base.is_some_and(|base| base >= self.reach) || self.reach == Seq(0)
    }
}

/// For the model checker. What is known follows from the order, up to which events those are.
#[cfg(test)]
impl std::hash::Hash for Recent {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.reach.hash(hasher);
        for (seq, key) in &self.order {
            (seq, key, self.known.get(key).map(|known| (known.seq, known.post_no))).hash(hasher);
        }
    }
}
