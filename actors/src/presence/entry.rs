//! One user, as a presence channel knows them: where they are connected, how they appear, and who wants to know.

use protocol::{Millis, peer::Address, push::PresenceState, request::Presence};
use tokio::time::Instant;

use super::{GRACE, Watcher};
use crate::entities::Now;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) devices: Vec<(Address, Presence)>,
    /// Those whose registration was lost with a link, and until when they count as there.
    lost: Vec<(Address, Presence, Instant)>,
    last_seen: Option<Millis>,
    pub(super) conversations: Vec<Watcher>,
    pub(super) watchers: Vec<Address>,
}

impl Entry {
    pub(super) fn is_unused(&self) -> bool {
        self.devices.is_empty() && self.lost.is_empty() && self.conversations.is_empty() && self.watchers.is_empty()
    }

    pub(super) fn appearance(&self) -> PresenceState {
        let lost = self.lost.iter().map(|(_, state, _)| state);
        let mut states = self.devices.iter().map(|(_, state)| state).chain(lost).peekable();
        if states.peek().is_none() {
            return PresenceState { state: Presence::Offline, last_seen_at: self.last_seen };
        }
        let state = if states.any(|state| *state == Presence::Online) { Presence::Online } else { Presence::Away };
        PresenceState { state, last_seen_at: None }
    }

    /// True if this device was not there.
    pub(super) fn register(&mut self, at: Address, state: Presence) -> bool {
        self.lost.retain(|(other, ..)| *other != at);
        let known = self.devices.iter_mut().find(|(other, _)| *other == at);
        let is_fresh = known.is_none();
        match known {
            Some(device) => device.1 = state,
            None => self.devices.push((at, state)),
        }
        is_fresh
    }

    /// True if this device was there.
    pub(super) fn unregister(&mut self, at: Address, now: Now) -> bool {
        let before = self.devices.len();
        self.devices.retain(|(other, _)| *other != at);
        let was_there = self.devices.len() < before;
        if was_there {
            self.last_seen = Some(now.wall);
        }
        was_there
    }

    /// Its registration was lost with a link: for a while it counts as there, as it may only be about to register again.
    pub(super) fn lose(&mut self, at: Address, now: Now) {
        let state = self.devices.iter().find(|(other, _)| *other == at).map(|(_, state)| *state);
        if self.unregister(at, now) {
            self.lost.extend(state.map(|state| (at, state, now.mono + GRACE)));
        }
    }

    /// Those who were lost and did not register again in time are gone, since then.
    pub(super) fn lapse(&mut self, now: Instant) {
        self.lost.retain(|(.., until)| *until > now);
    }
}
