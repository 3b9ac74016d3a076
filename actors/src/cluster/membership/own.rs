//! This node's own place in the view: when it joins, when it serves, when it goes.

use std::time::Duration;

use protocol::cluster::MemberState;
use tokio::time::Instant;

use super::State;
use crate::cluster::view::Edit;

/// A store that was away must have answered for this long before anything is placed here again.
const STORE_BACK: Duration = Duration::from_secs(2);

/// What it was told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Serve,
    Drain,
    Leave,
}

impl State {
    /// Joins if it fits in, as far as that can be known: as soon as a member or a seed has greeted it, or nobody is there
    /// to do so.
    pub(super) fn join(&self, now: Instant) -> Option<Edit> {
        let known = self.row.known()?;
        if self.wish != Wish::Serve || self.kept_out().is_some() {
            return None;
        }
        let met = self.peers.linked().next().is_some();
        if !met && !self.dials.nobody_answers(self.me.has_seeds) && now < known + self.me.dead {
            return None;
        }
        Some(Edit::Join {
            node: self.me.node.clone(),
            incarnation: self.id(),
            address: self.me.address.clone(),
            weight: self.me.weight,
        })
    }

    /// Who keeps it out, and why: a member that it does not fit with; and where no cluster is yet, any seed, unless another
    /// one fits. A node with a wrong setting must not begin a cluster of its own beside that of its seeds.
    pub(super) fn kept_out(&self) -> Option<(&str, &str)> {
        let view = self.row.view();
        let begins = view.version == 0 && self.peers.linked().next().is_none();
        let mut misfits = self.misfits.iter();
        let (at, (why, _)) = misfits.find(|(at, _)| begins || view.live().any(|member| member.address == **at))?;
        Some((at, why))
    }

    /// What it changes of its own state.
    pub(super) fn own(&self, state: MemberState, now: Instant) -> Vec<Edit> {
        match self.wish {
            Wish::Serve if state == MemberState::Up => Vec::new(),
            Wish::Serve => self.rise(state, now).unwrap_or_default(),
            Wish::Drain => vec![Edit::Draining(self.id())],
            Wish::Leave => vec![Edit::Gone(self.id())],
        }
    }

    /// It serves once the store knows that it lives, and it hears, and is heard by, every member that is up: it can note
    /// what it appends, and tell it. The first one, with nobody up, looks at those that were: who is silent is gone in the
    /// same write, so that what it left untold is looked after.
    fn rise(&self, state: MemberState, now: Instant) -> Option<Vec<Edit>> {
        if state == MemberState::NoStore && self.store_ok.is_none_or(|since| now < since + STORE_BACK) {
            return None;
        }
        if !self.slots.has_lived() {
            return None;
        }
        let mut edits = Vec::new();
        let others = || self.row.view().live().filter(|member| member.incarnation != self.id());
        let first = others().all(|member| member.state != MemberState::Up);
        for member in others() {
            let matters = match member.state {
                MemberState::Up => true,
                MemberState::NoStore | MemberState::Draining | MemberState::Later(_) => first,
                MemberState::Joining | MemberState::Gone => false,
            };
            let peer = self.peers.get(member.incarnation)?;
            if matters && !peer.two_way(now) {
                let dead = peer.dead_since(self.me.dead, now).is_some();
                if !(first && dead) {
                    return None;
                }
                edits.push(Edit::Gone(member.incarnation));
            }
        }
        edits.push(Edit::Up(self.id()));
        Some(edits)
    }
}
