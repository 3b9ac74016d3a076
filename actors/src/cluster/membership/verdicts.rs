//! What this node wants done to others: who is dead is taken out of the view, who cannot reach the store is unplaced. A
//! wrong verdict is cheap, a late one is not; but a node that may itself be the one that is cut off gives none.

use std::time::Duration;

use protocol::cluster::{Member, MemberState};
use tokio::time::Instant;

use super::{State, peers::Peer};
use crate::cluster::view::Edit;

/// Members accuse one after another, so that mostly one of them writes.
const STAGGER: Duration = Duration::from_millis(100);
/// The last of many waits no longer than this many times [`STAGGER`].
const RANK_MAX: u32 = 10;
/// A member that has yet to serve is given this many times the patience: nothing waits for it.
const JOINING_PATIENCE: u32 = 3;
/// A member without its store is unplaced after this long, if the accuser's own has answered for as long.
const NO_STORE: Duration = Duration::from_secs(2);

impl State {
    /// Verdicts on all others, by a member in this state.
    pub(super) fn verdicts(&self, state: MemberState, now: Instant) -> Vec<Edit> {
        if now < self.calm_until {
            return Vec::new();
        }
        let hears_most = state == MemberState::Up && self.hears_most(now);
        let pause = STAGGER * self.rank(now);
        let others = self.row.view().live().filter_map(|m| Some((m, self.peers.get(m.incarnation)?)));
        others
            .filter_map(|(member, peer)| {
                if self.is_dead(member, peer, hears_most, pause, now) {
                    Some(Edit::Gone(member.incarnation))
                } else if state == MemberState::Up && self.is_storeless(member, peer, pause, now) {
                    Some(Edit::NoStore(member.incarnation))
                } else {
                    None
                }
            })
            .collect()
    }

    fn is_dead(&self, member: &Member, peer: &Peer, hears_most: bool, pause: Duration, now: Instant) -> bool {
        let joining = member.state == MemberState::Joining;
        let patience = self.me.dead * if joining { JOINING_PATIENCE } else { 1 };
        let Some(since) = peer.dead_since(patience, now) else { return false };
        (hears_most && now >= since + pause) || peer.stuck()
    }

    fn is_storeless(&self, member: &Member, peer: &Peer, pause: Duration, now: Instant) -> bool {
        let (Some(theirs), Some(ours)) = (peer.storeless_since(), self.store_ok) else { return false };
        // after an outage of the store for all, they come back at slightly different times
        member.state == MemberState::Up && peer.two_way(now) && now >= theirs.max(ours) + NO_STORE + pause
    }

    /// Beats go both ways with a majority of the members that are up, itself among them; of two, either one may judge the
    /// other.
    pub(super) fn hears_most(&self, now: Instant) -> bool {
        let up: Vec<_> = self.row.view().up().map(|member| member.incarnation).collect();
        let met = up.iter().filter(|id| **id == self.id() || self.peers.two_way(**id, now)).count();
        met * 2 > up.len() || up.len() == 2
    }

    /// How many members that are up and well come before it.
    pub(super) fn rank(&self, now: Instant) -> u32 {
        let before = self.row.view().up().filter(|m| m.incarnation < self.id());
        let well = before.filter(|m| self.peers.two_way(m.incarnation, now)).count();
        u32::try_from(well).unwrap_or(RANK_MAX).min(RANK_MAX)
    }
}
