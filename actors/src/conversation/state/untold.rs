//! What its node would leave untold if it died now. Where several nodes share the store, that is noted there before the
//! first append of a slot, and again in each slot until everybody knows everything; and what a dead node noted is looked
//! after: claimed, repaired and told, although nobody posts.

use protocol::{Seq, cluster::SLOT, peer::ToConnections};
use tokio::time::Instant;

use super::{Action, Job, Stage, State, clock::TICK, outcomes::give_up, placed::moved};
use crate::{conversation::audience::Telling, entities::Now};

/// Events after which somebody who has left is watched no more, whatever they know: as long as they are, what came since
/// is not settled, and whoever claims the log reads all of it and writes again what follows from it.
pub(super) const DEPARTED_EVENTS_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Untold {
    /// There is somebody to look after it.
    pub(super) noting: bool,
    /// Something may be stored that not everybody knows.
    pub(super) owing: bool,
    /// Since when a note stands.
    noted: Option<Instant>,
    /// Since when one is under way.
    under_way: Option<Instant>,
    /// The log was claimed meanwhile.
    outdated: bool,
    /// Told to other nodes, and not known to have arrived there.
    in_transit: bool,
    /// It was asked whether that has arrived; true: more was told since.
    asking: Option<bool>,
    /// When was last asked what is not known: an answer must not lead to the next question at once.
    asked: Option<Instant>,
    /// Somebody waits to hear that everybody knows everything, or that a note of this node's own says who does not.
    awaited: bool,
    /// A dead node may have owned the log since it was claimed here: whose it is must be read.
    pub(super) unproved: bool,
    /// That is being read.
    pub(super) proving: bool,
}

impl Untold {
    pub(super) fn new(noting: bool, restarted: bool) -> Untold {
        Untold { noting, owing: noting && restarted, ..Untold::default() }
    }

    /// When there is something to do about it: a moment before a note is over it is asked whether another one is needed.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match self.noted {
            _ if self.awaited => Some(now),
            Some(at) if self.owing => Some(at + SLOT - TICK),
            None if self.owing => Some(now),
            _ => None,
        }
    }

    /// The log was claimed. Whoever owned it before may have done so because this node was taken out of the view, and has
    /// looked after all that was noted until then: that this node is a member must be read anew before it appends.
    pub(super) fn claimed(&mut self) {
        self.noted = None;
        self.outdated = self.under_way.is_some();
    }

    fn is_noted(&self, now: Instant) -> bool {
        self.noted.is_some_and(|at| now < at + SLOT)
    }
}

impl State {
    /// True if what is appended now would be looked after; else that is seen to first.
    pub(super) fn may_append(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        if !self.untold.noting || self.places.is_alone() {
            return true;
        }
        if self.untold.is_noted(now.mono) {
            self.untold.owing = true;
            return true;
        }
        self.note(now, out);
        false
    }

    /// True if what follows from the log may be written now. A conversation is there for others once its first rows are:
    /// from then on it has to be noted, and before that nobody who looks after a note would find it.
    pub(super) fn may_show(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let begins = self.unsettled.front().is_some_and(|first| first.seq == Seq(1));
        !begins || self.may_append(now, out)
    }

    pub(super) fn noted(&mut self, result: Result<bool, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Some(since) = self.untold.under_way.take() else { return };
        let outdated = std::mem::take(&mut self.untold.outdated);
        match result {
            Ok(true) => self.untold.noted = Some(since).filter(|_| !outdated),
            // it was taken out of the view: nobody would look after what it appends
            Ok(false) => {
                out.push(Action::ReadView);
                std::mem::take(&mut self.waiting).into_iter().for_each(|wish| moved(wish.what.requester, out));
                self.pause(now);
            }
            Err(_) => {
                std::mem::take(&mut self.waiting).iter().for_each(|wish| give_up(wish, out));
                self.pause(now);
            }
        }
    }

    /// What a dead node noted is placed here now.
    pub(super) fn look_after(&mut self) {
        // an owner has told its devices how far the log goes, if it is the owner still
        self.untold.unproved = true;
        self.untold.awaited = true;
        self.untold.owing = self.untold.noting;
    }

    /// Notes again what is still untold, and says so once nothing is, or once all of it is this node's own debt.
    pub(super) fn settle_debts(&mut self, now: Now, out: &mut Vec<Action>) {
        let paused = self.retry_at.is_some_and(|at| at > now.mono);
        if paused || self.untold.due(now.mono).is_none_or(|at| at > now.mono) {
            return;
        }
        if self.is_idle() && self.is_known_to_all(now, out) {
            self.untold.owing = false;
            if std::mem::take(&mut self.untold.awaited) {
                out.push(Action::LookedAfter);
            }
        } else if self.untold.owing && !self.untold.is_noted(now.mono) && !self.places.is_alone() {
            self.note(now, out);
        } else if self.untold.owing && self.is_own_debt() {
            // Noted as this node's to tell: who is never idle never owes nothing.
            if std::mem::take(&mut self.untold.awaited) {
                out.push(Action::LookedAfter);
            }
        }
    }

    /// True if the log is ours, and was claimed, or read to be ours, since a dead node may have owned it.
    fn is_own_debt(&self) -> bool {
        matches!(self.stage, Stage::Ready) && !self.untold.unproved && !self.untold.proving
    }

    /// True if no device can be left behind any more; else asks about what is not known.
    pub(super) fn is_known_to_all(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let doubtful = self.audience.watches.doubtful();
        let known = doubtful.is_empty() && !self.untold.in_transit;
        if !known && self.untold.asked.is_none_or(|at| now.mono >= at + TICK) {
            self.untold.asked = Some(now.mono);
            out.extend(doubtful.into_iter().map(Action::AskComplete));
            if self.untold.in_transit && self.untold.asking.is_none() {
                self.untold.asking = Some(false);
                out.push(Action::AskArrived);
            }
        }
        known
    }

    /// Watches those no more who have left and know it; asks about what is not known of them.
    pub(super) fn let_go(&mut self, now: Now, out: &mut Vec<Action>) {
        // before the members are known, what is watched is from before the log was claimed
        if !self.audience.has_departed() || self.roster.is_none() || self.audience.watches.are_ending() {
            return;
        }
        let arrived = !self.untold.in_transit;
        let bound = Seq(self.head.seq.0.saturating_sub(DEPARTED_EVENTS_MAX as u64));
        let mut telling = Vec::new();
        self.audience.let_go(arrived, bound, &mut telling);
        out.extend(telling.into_iter().map(Action::Tell));
        if self.audience.has_departed() {
            self.is_known_to_all(now, out);
        }
    }

    /// What was told to other nodes before this was asked has arrived, or not.
    pub(super) fn arrived(&mut self, all: bool) {
        let more = self.untold.asking.take().unwrap_or_default();
        self.untold.in_transit = !all || more;
    }

    /// Notices what leaves for other nodes.
    pub(super) fn watch_transit(&mut self, out: &[Action]) {
        if self.places.is_alone() {
            return;
        }
        let leaves = out.iter().any(|action| match action {
            Action::Tell(Telling::Node(node, mail)) => {
                *node != self.me && matches!(mail, ToConnections::Event(_) | ToConnections::Head { .. })
            }
            _ => false,
        });
        self.untold.in_transit |= leaves;
        if let Some(more) = &mut self.untold.asking {
            *more |= leaves;
        }
    }

    fn note(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.untold.under_way.is_none() {
            self.untold.under_way = Some(now.mono);
            out.push(Action::Store(Job::Note));
        }
    }
}
