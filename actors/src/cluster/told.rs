//! What this node has told its peers, and itself: which sockets it has registered where, and which watches its
//! conversations have where; and what they have told it, as far as numbers go. Both sides compare (`CLUSTER.md`, "Who is
//! told", rule 7). Pure: who holds it sends what it notes, in the same order.

use std::sync::Arc;

use protocol::{
    ConnId, ConversationId, Incarnation, UserId,
    peer::{Digest, Slice, WatchId},
};

use super::{
    places::Places,
    tally::{Mark, Tally},
};
use crate::maps::{HashMap, HashSet};

/// Digests in a row that must differ before everything is made again: one may be on its way while something changes.
const DIFFERENT_MAX: u8 = 2;

#[derive(Debug)]
struct Registration {
    user: UserId,
    at: Option<Incarnation>,
    /// It was confirmed once: conversations may have told this socket something, and none may forget it.
    confirmed: bool,
}

/// A peer's digest that is being compared with what the channels here have.
#[derive(Debug)]
struct Round {
    number: u64,
    view: u64,
    claim: Digest,
    /// Channels that have not said how much they have.
    silent: usize,
    have: Tally,
}

/// What comes of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Not all channels have spoken, or nobody asked.
    NotYet,
    /// It agrees, or it differs for the first time.
    Noted,
    /// It differs again: forget all of that node, and have it say everything again.
    Rebuild,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Told {
    places: Arc<Places>,
    registrations: HashMap<ConnId, Registration>,
    /// Those once confirmed that are not registered where they belong.
    waiting: HashSet<ConnId>,
    watches: HashMap<(ConversationId, Slice), (Incarnation, WatchId)>,
    tallies: HashMap<Incarnation, Tally>,
    rounds: HashMap<Incarnation, Round>,
    n_rounds: u64,
    different: HashMap<Incarnation, u8>,
    /// Who agrees, on this view, and has nobody that waits to be registered here again.
    agreed: HashSet<Incarnation>,
    /// Conversations that want to hear when a node has all its members' agreement.
    curious: HashMap<Incarnation, HashSet<ConversationId>>,
}

impl Told {
    pub(crate) fn new(places: Arc<Places>) -> Told {
        Told {
            places,
            registrations: HashMap::default(),
            waiting: HashSet::default(),
            watches: HashMap::default(),
            tallies: HashMap::default(),
            rounds: HashMap::default(),
            n_rounds: 0,
            different: HashMap::default(),
            agreed: HashSet::default(),
            curious: HashMap::default(),
        }
    }

    /// A socket is being registered there.
    pub(crate) fn registered(&mut self, to: Incarnation, user: UserId, conn: ConnId) {
        let entry = self.registrations.entry(conn).or_insert(Registration { user, at: None, confirmed: false });
        let before = entry.at.replace(to);
        if before != Some(to) {
            self.uncount(before, Mark::registration(user, conn));
            self.tallies.entry(to).or_default().add(Mark::registration(user, conn));
        }
        self.judge(conn);
    }

    /// It was confirmed from there.
    pub(crate) fn confirmed(&mut self, by: Incarnation, conn: ConnId) {
        if let Some(entry) = self.registrations.get_mut(&conn).filter(|entry| entry.at == Some(by)) {
            entry.confirmed = true;
        }
    }

    /// A socket is gone. Answers where it was registered.
    pub(crate) fn unregistered(&mut self, conn: ConnId) -> Option<Incarnation> {
        self.waiting.remove(&conn);
        let Registration { user, at, .. } = self.registrations.remove(&conn)?;
        self.uncount(at, Mark::registration(user, conn));
        at
    }

    /// A watch is being made there; it takes the place of the one before.
    pub(crate) fn watched(&mut self, to: Incarnation, c: ConversationId, slice: Slice, watch: WatchId) {
        if let Some((at, before)) = self.watches.insert((c, slice), (to, watch)) {
            self.uncount(Some(at), Mark::watch(c, slice, before));
        }
        self.tallies.entry(to).or_default().add(Mark::watch(c, slice, watch));
    }

    /// A watch is being ended.
    pub(crate) fn unwatched(&mut self, c: ConversationId, slice: Slice, watch: WatchId) {
        if let Some((at, current)) = self.watches.get(&(c, slice)).copied().filter(|(_, current)| *current == watch) {
            self.watches.remove(&(c, slice));
            self.uncount(Some(at), Mark::watch(c, slice, current));
        }
    }

    /// A conversation has crashed: these watches nobody will end.
    pub(crate) fn orphaned(&self, c: ConversationId) -> Vec<(Incarnation, Slice, WatchId)> {
        let of = |((_, slice), (at, watch)): (&(ConversationId, Slice), &(Incarnation, WatchId))| (*at, *slice, *watch);
        let mine = self.watches.iter().filter(|((other, _), _)| *other == c);
        mine.map(of).collect()
    }

    /// A new view.
    pub(crate) fn moved(&mut self, places: Arc<Places>) {
        self.places = places;
        self.agreed.clear();
        self.different.clear();
        let lost = |at: Incarnation, slice: Slice, places: &Places| places.channel(slice) != Some(at);
        self.forget_mine(lost);
        let members: HashSet<Incarnation> = self.places.members.iter().copied().collect();
        self.tallies.retain(|node, _| members.contains(node));
        self.rounds.retain(|node, _| members.contains(node));
        self.curious.retain(|node, _| members.contains(node));
    }

    /// A node has forgotten what this one had there, all or one slice of it.
    pub(crate) fn forgotten(&mut self, by: Incarnation, which: Option<Slice>) {
        self.forget_mine(|at, slice, _| at == by && which.is_none_or(|which| which == slice));
    }

    /// What that node had here counts no more.
    pub(crate) fn forget(&mut self, node: Incarnation) {
        self.agreed.remove(&node);
        self.different.remove(&node);
        self.rounds.remove(&node);
    }

    /// A channel here has crashed: nobody knows who was registered there.
    pub(crate) fn crashed(&mut self) {
        self.agreed.clear();
        self.rounds.clear();
    }

    /// What this node has at another, for it to compare.
    pub(crate) fn digest(&self, to: Incarnation) -> Digest {
        let Tally { count, sum } = self.tallies.get(&to).copied().unwrap_or_default();
        let belongs = |conn: &ConnId| {
            let user = self.registrations.get(conn).map(|entry| entry.user);
            user.is_some_and(|user| self.places.channel(Slice::of(user)) == Some(to))
        };
        Digest { count, sum, registered: !self.waiting.iter().any(belongs), complete: self.is_complete() }
    }

    /// Another's digest came, by this view; so many channels are asked what they have of it, in this round.
    pub(crate) fn compare(&mut self, from: Incarnation, view: u64, claim: Digest, n_channels: usize) -> u64 {
        self.n_rounds += 1;
        let (number, have) = (self.n_rounds, Tally::default());
        self.rounds.insert(from, Round { number, view, claim, silent: n_channels, have });
        number
    }

    /// A channel has said what it has of a node.
    pub(crate) fn counted(&mut self, from: Incarnation, number: u64, tally: Tally) {
        if let Some(round) = self.rounds.get_mut(&from).filter(|round| round.number == number) {
            round.have.join(tally);
            round.silent = round.silent.saturating_sub(1);
        }
    }

    /// What comes of a comparison, once.
    pub(crate) fn compared(&mut self, from: Incarnation) -> Compared {
        if self.rounds.get(&from).is_none_or(|round| round.silent > 0) {
            return Compared::NotYet;
        }
        let Some(Round { view, claim, have, .. }) = self.rounds.remove(&from) else { return Compared::NotYet };
        if view != self.places.version() {
            return Compared::NotYet;
        }
        let agrees = have == Tally { count: claim.count, sum: claim.sum };
        if agrees && claim.registered {
            self.agreed.insert(from);
        } else {
            self.agreed.remove(&from);
        }
        if agrees {
            self.different.remove(&from);
            return Compared::Noted;
        }
        let times = self.different.entry(from).or_default();
        *times += 1;
        if *times < DIFFERENT_MAX {
            return Compared::Noted;
        }
        Compared::Rebuild
    }

    /// True if every member says, on this view, that none of its sockets waits to be registered here again.
    pub(crate) fn is_complete(&self) -> bool {
        self.places.is_alone() || self.places.members.iter().all(|member| self.agreed.contains(member))
    }

    /// A conversation wants to hear when that node is complete.
    pub(crate) fn ask_complete(&mut self, at: Incarnation, c: ConversationId) {
        self.curious.entry(at).or_default().insert(c);
    }

    /// A node says that it is complete, by this view: who wants to hear it.
    pub(crate) fn completed(&mut self, at: Incarnation, view: u64) -> Vec<ConversationId> {
        if view != self.places.version() {
            return Vec::new();
        }
        self.curious.remove(&at).into_iter().flatten().collect()
    }

    fn forget_mine(&mut self, which: impl Fn(Incarnation, Slice, &Places) -> bool) {
        let places = self.places.clone();
        let is_lost = |at: Option<Incarnation>, slice| at.is_some_and(|at| which(at, slice, &places));
        let mut concerned = Vec::new();
        for (conn, entry) in &mut self.registrations {
            if is_lost(entry.at, Slice::of(entry.user)) {
                concerned.push((*conn, entry.at.take(), Mark::registration(entry.user, *conn)));
            } else if entry.at != places.channel(Slice::of(entry.user)) {
                concerned.push((*conn, None, Mark::registration(entry.user, *conn)));
            }
        }
        for (conn, at, mark) in concerned {
            self.uncount(at, mark);
            self.judge(conn);
        }
        let lost: Vec<_> = self.watches.iter().filter(|((_, slice), (at, _))| is_lost(Some(*at), *slice)).collect();
        let lost: Vec<_> = lost.into_iter().map(|(key, watch)| (*key, *watch)).collect();
        for ((c, slice), (_, watch)) in lost {
            self.unwatched(c, slice, watch);
        }
    }

    /// Whether a socket waits to be registered where it belongs.
    fn judge(&mut self, conn: ConnId) {
        let Some(entry) = self.registrations.get(&conn) else { return };
        if entry.confirmed && entry.at != self.places.channel(Slice::of(entry.user)) {
            self.waiting.insert(conn);
        } else {
            self.waiting.remove(&conn);
        }
    }

    fn uncount(&mut self, at: Option<Incarnation>, mark: Mark) {
        if let Some(tally) = at.and_then(|at| self.tallies.get_mut(&at)) {
            tally.remove(mark);
        }
    }
}

#[cfg(test)]
mod tests;
