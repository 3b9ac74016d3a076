//! Read and delivered marks on their way to the store. Marks that wait while a write is under way are merged into the
//! next one; they are told to others only once they are stored, so nobody ever sees one go back (G11). Pure.

use protocol::{Seq, UserId, peer::MarkRequest, push::Marks};
use storage::directory::MarkUpdate;

use crate::maps::HashMap;

/// See the module.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct MarkBoard {
    waiting: Vec<MarkRequest>,
    under_way: Option<(Vec<MarkRequest>, Vec<MarkUpdate>)>,
    stored: HashMap<UserId, Marks>,
}

/// One user's marks after a write.
#[derive(Debug, PartialEq)]
pub(crate) struct Moved {
    pub(crate) user: UserId,
    pub(crate) marks: Marks,
    /// True if the read mark moved.
    pub(crate) read: bool,
}

impl MarkBoard {
    pub(crate) fn add(&mut self, request: MarkRequest) {
        self.waiting.push(request);
    }

    /// How many wait for the next write.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Requests that wait for the conversation to be known.
    pub(crate) fn take_waiting(&mut self) -> Vec<MarkRequest> {
        std::mem::take(&mut self.waiting)
    }

    /// The next write, if none is under way. `accept` answers whether a request may be stored (it answers those that may
    /// not itself).
    pub(crate) fn begin(&mut self, accept: impl FnMut(&MarkRequest) -> bool) -> Option<Vec<MarkUpdate>> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        let mut accept = accept;
        let mut requests = std::mem::take(&mut self.waiting);
        requests.retain(|request| accept(request));
        let mut merged: HashMap<UserId, Marks> = HashMap::default();
        for request in &requests {
            let marks = merged.entry(request.by).or_default();
            marks.delivered = marks.delivered.max(request.seq);
            if request.read {
                marks.read = marks.read.max(request.seq);
            }
        }
        if merged.is_empty() {
            return None;
        }
        let updates: Vec<_> = merged.into_iter().map(|(user, marks)| MarkUpdate { user, marks }).collect();
        self.under_way = Some((requests, updates.clone()));
        Some(updates)
    }

    /// The write succeeded; `now` are the marks that stand, in the order of the updates. Answers who asked, and what moved.
    pub(crate) fn stored(&mut self, now: &[Marks]) -> (Vec<MarkRequest>, Vec<Moved>) {
        let (requests, updates) = self.under_way.take().unwrap_or_default();
        let mut moved = Vec::new();
        for (update, marks) in updates.iter().zip(now) {
            let before = self.stored.insert(update.user, *marks);
            // without knowing what was before, what reaches exactly what was asked for counts as moved
            let read = before.map_or(marks.read == update.marks.read, |b| marks.read > b.read) && marks.read > Seq(0);
            let delivered = before.map_or(marks.delivered == update.marks.delivered, |b| marks.delivered > b.delivered);
            if read || delivered {
                moved.push(Moved { user: update.user, marks: *marks, read });
            }
        }
        (requests, moved)
    }

    /// The write failed; answers who asked.
    pub(crate) fn failed(&mut self) -> Vec<MarkRequest> {
        self.under_way.take().map(|(requests, _)| requests).unwrap_or_default()
    }
}
