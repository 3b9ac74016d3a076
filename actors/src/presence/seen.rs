//! How users look to the sockets that watch them. Nobody looks offline before it is sure that nothing of theirs is about to
//! register again (`GRACE`).

use protocol::{
    UserId,
    peer::{Address, ToConnections},
    push::PresenceState,
    request::Presence,
};
use tokio::time::Instant;

use super::{Action, Entry, GRACE, State};

impl State {
    pub(super) fn watch_users(&mut self, at: Address, users: Vec<UserId>, out: &mut Vec<Action>) {
        let before = self.by_watcher.remove(&at).unwrap_or_default();
        for user in &before {
            if let Some(entry) = self.users.get_mut(user) {
                entry.watchers.retain(|other| *other != at);
            }
        }
        for user in &users {
            self.users.entry(*user).or_default().watchers.push(at);
        }
        if !users.is_empty() {
            let fresh = users.iter().filter(|user| !before.contains(user)).map(|user| (*user, self.state_of(*user)));
            let early = self.begins_until.is_some();
            let fresh = fresh.filter(|(_, state)| !early || state.state != Presence::Offline).collect();
            self.tell_states(at, fresh, out);
            self.by_watcher.insert(at, users);
        }
        self.drop_unused(&before);
    }

    pub(super) fn appeared(&self, user: UserId, before: PresenceState, out: &mut Vec<Action>) {
        let now = self.state_of(user);
        if now.state == before.state {
            return;
        }
        for at in self.users.get(&user).into_iter().flat_map(|entry| &entry.watchers) {
            let mail = ToConnections::Presence { states: vec![(user, now)], to: vec![at.conn] };
            out.push(Action::Connections(at.node, mail));
        }
    }

    pub(super) fn state_of(&self, user: UserId) -> PresenceState {
        self.users.get(&user).map_or(PresenceState { state: Presence::Offline, last_seen_at: None }, Entry::appearance)
    }

    /// Those who were lost and did not register again in time are gone; and who did not register in time where the channel
    /// has just begun.
    pub(super) fn lapse(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some((_, user)) = self.lost.front().copied().filter(|(since, _)| *since + GRACE <= now) {
            self.lost.pop_front();
            let before = self.state_of(user);
            if let Some(entry) = self.users.get_mut(&user) {
                entry.lapse(now);
            }
            self.appeared(user, before, out);
            self.drop_unused(&[user]);
        }
        if self.begins_until.take_if(|until| *until <= now).is_some() {
            self.call_offline(out);
        }
    }

    /// Tells who watches whom that they are offline, where it was too early to say so.
    fn call_offline(&self, out: &mut Vec<Action>) {
        for (at, users) in &self.by_watcher {
            let states = users.iter().map(|user| (*user, self.state_of(*user)));
            let states: Vec<_> = states.filter(|(_, state)| state.state == Presence::Offline).collect();
            self.tell_states(*at, states, out);
        }
    }

    fn tell_states(&self, at: Address, states: Vec<(UserId, PresenceState)>, out: &mut Vec<Action>) {
        if !states.is_empty() {
            out.push(Action::Connections(at.node, ToConnections::Presence { states, to: vec![at.conn] }));
        }
    }
}
