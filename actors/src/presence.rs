//! One presence channel: a slice of the users. Knows which of them are connected where and how they appear, and tells
//! the conversations and sockets that watch them. The rules are pure; the shell carries mail.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use protocol::{
    ConversationId, Millis, UserId,
    peer::{Address, Done, Mail, Outcome, Slice, ToConnections, ToConversation, ToPresence},
    push::PresenceState,
    request::Presence,
};
use tokio::time::Instant;

use crate::{
    entities::{Entity, Me, Now, Performed},
    router::Router,
};

/// How long a channel that nobody uses stays.
const IDLE: Duration = Duration::from_secs(60);

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    Mail(ToPresence),
    Tick,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Conversation(ConversationId, ToConversation),
    Connections(protocol::Incarnation, ToConnections),
    /// Its predecessor crashed and took the registrations and watches with it: everybody makes them again.
    Refill(Slice),
    WakeAt(Instant),
    StopIfIdle,
}

#[derive(Debug, Default)]
struct Entry {
    devices: Vec<(Address, Presence)>,
    last_seen: Option<Millis>,
    conversations: Vec<ConversationId>,
    watchers: Vec<Address>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    slice: Slice,
    users: HashMap<UserId, Entry>,
    by_conversation: HashMap<ConversationId, Vec<UserId>>,
    by_watcher: HashMap<Address, Vec<UserId>>,
    restarted: bool,
    woken_at: Option<Instant>,
}

impl Entry {
    fn is_unused(&self) -> bool {
        self.devices.is_empty() && self.conversations.is_empty() && self.watchers.is_empty()
    }

    fn appearance(&self) -> PresenceState {
        let online = self.devices.iter().any(|(_, state)| *state == Presence::Online);
        let state = match (self.devices.is_empty(), online) {
            (true, _) => Presence::Offline,
            (false, true) => Presence::Online,
            (false, false) => Presence::Away,
        };
        PresenceState { state, last_seen_at: if self.devices.is_empty() { self.last_seen } else { None } }
    }
}

impl State {
    pub(crate) fn new(slice: Slice, restarted: bool) -> State {
        State {
            slice,
            users: HashMap::new(),
            by_conversation: HashMap::new(),
            by_watcher: HashMap::new(),
            restarted,
            woken_at: None,
        }
    }

    /// Decides.
    pub(crate) fn decide(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if std::mem::take(&mut self.restarted) {
            out.push(Action::Refill(self.slice));
        }
        match input {
            Input::Mail(mail) => self.mail(mail, now, &mut out),
            Input::Tick => self.woken_at = None,
        }
        if self.users.is_empty() {
            if self.woken_at.is_none() && out.is_empty() {
                out.push(Action::StopIfIdle);
            }
            if self.woken_at.is_none() {
                self.woken_at = Some(now.mono + IDLE);
                out.push(Action::WakeAt(now.mono + IDLE));
            }
        }
        out
    }

    fn mail(&mut self, mail: ToPresence, now: Now, out: &mut Vec<Action>) {
        match mail {
            ToPresence::Register(user, at, state) => {
                let entry = self.users.entry(user).or_default();
                let before = entry.appearance();
                match entry.devices.iter_mut().find(|(address, _)| *address == at) {
                    Some(device) => device.1 = state,
                    None => {
                        entry.devices.push((at, state));
                        let told = entry.conversations.iter();
                        out.extend(told.map(|c| Action::Conversation(*c, ToConversation::Attached(user, at))));
                    }
                }
                out.push(Action::Connections(at.node, ToConnections::Registered(at.conn)));
                self.appeared(user, before, out);
            }
            ToPresence::Unregister(user, at) => {
                let Some(entry) = self.users.get_mut(&user) else { return };
                let (before, devices) = (entry.appearance(), entry.devices.len());
                entry.devices.retain(|(address, _)| *address != at);
                if entry.devices.len() < devices {
                    entry.last_seen = Some(now.wall);
                    let told = entry.conversations.iter();
                    out.extend(told.map(|c| Action::Conversation(*c, ToConversation::Detached(user, at))));
                }
                self.appeared(user, before, out);
                self.drop_unused(&[user]);
            }
            ToPresence::Appear(user, at, state) => {
                let Some(entry) = self.users.get_mut(&user) else { return };
                let before = entry.appearance();
                if let Some(device) = entry.devices.iter_mut().find(|(address, _)| *address == at) {
                    device.1 = state;
                }
                self.appeared(user, before, out);
            }
            ToPresence::WatchMembers { conversation, users } => self.watch_members(conversation, users, out),
            ToPresence::Unwatch(conversation) => {
                let users = self.by_conversation.remove(&conversation).unwrap_or_default();
                for user in &users {
                    if let Some(entry) = self.users.get_mut(user) {
                        entry.conversations.retain(|c| *c != conversation);
                    }
                }
                self.drop_unused(&users);
            }
            ToPresence::WatchUsers { at, users } => self.watch_users(at, users, out),
            ToPresence::Query(requester, users) => {
                let states = users.into_iter().map(|user| (user, self.state_of(user))).collect();
                let answer = Outcome::Done(Done::Presence(states));
                out.push(Action::Connections(
                    requester.at.node,
                    ToConnections::Answer(requester.at.conn, requester.tag, answer),
                ));
            }
        }
    }

    fn watch_members(&mut self, conversation: ConversationId, users: Vec<UserId>, out: &mut Vec<Action>) {
        let wanted: HashSet<UserId> = users.iter().copied().collect();
        let before = self.by_conversation.insert(conversation, users.clone()).unwrap_or_default();
        let gone: Vec<UserId> = before.iter().filter(|user| !wanted.contains(user)).copied().collect();
        for user in &gone {
            if let Some(entry) = self.users.get_mut(user) {
                entry.conversations.retain(|c| *c != conversation);
            }
        }
        let known: HashSet<UserId> = before.into_iter().collect();
        for user in users.iter().filter(|user| !known.contains(user)) {
            self.users.entry(*user).or_default().conversations.push(conversation);
        }
        let mut devices = Vec::new();
        for user in &users {
            let entry = self.users.get(user).into_iter().flat_map(|entry| &entry.devices);
            devices.extend(entry.map(|(at, _)| (*user, *at)));
        }
        out.push(Action::Conversation(conversation, ToConversation::Watched { slice: self.slice, devices }));
        self.drop_unused(&gone);
    }

    fn watch_users(&mut self, at: Address, users: Vec<UserId>, out: &mut Vec<Action>) {
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
            let fresh: Vec<_> =
                users.iter().filter(|user| !before.contains(user)).map(|user| (*user, self.state_of(*user))).collect();
            if !fresh.is_empty() {
                out.push(Action::Connections(at.node, ToConnections::Presence { states: fresh, to: vec![at.conn] }));
            }
            self.by_watcher.insert(at, users);
        }
        self.drop_unused(&before);
    }

    fn appeared(&self, user: UserId, before: PresenceState, out: &mut Vec<Action>) {
        let now = self.state_of(user);
        if now.state == before.state {
            return;
        }
        for at in self.users.get(&user).into_iter().flat_map(|entry| &entry.watchers) {
            let mail = ToConnections::Presence { states: vec![(user, now)], to: vec![at.conn] };
            out.push(Action::Connections(at.node, mail));
        }
    }

    fn state_of(&self, user: UserId) -> PresenceState {
        self.users.get(&user).map_or(PresenceState { state: Presence::Offline, last_seen_at: None }, Entry::appearance)
    }

    fn drop_unused(&mut self, users: &[UserId]) {
        for user in users {
            if self.users.get(user).is_some_and(Entry::is_unused) {
                self.users.remove(user);
            }
        }
    }
}

/// What a channel needs of its node.
pub(crate) struct Context {
    pub(crate) router: Arc<Router>,
    /// Tells every running conversation that a channel has forgotten its watches.
    pub(crate) refill: Box<dyn Fn(Slice) + Send + Sync>,
}

impl Entity for State {
    const KIND: &'static str = "presence";
    const MAILBOX_MAX: usize = usize::MAX;
    type Key = Slice;
    type Event = Input;
    type Action = Action;
    type Context = Context;

    fn fresh(slice: Slice, _: &Arc<Context>, restarted: bool) -> State {
        State::new(slice, restarted)
    }

    fn tick() -> Input {
        Input::Tick
    }

    fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        self.decide(input, now)
    }

    fn perform(action: Action, _: &Me<State>, context: &Arc<Context>) -> Performed {
        match action {
            Action::Conversation(c, mail) => context.router.send(Mail::Conversation(c, mail)),
            Action::Connections(node, mail) => context.router.send_to(node, mail),
            Action::Refill(slice) => (context.refill)(slice),
            Action::WakeAt(at) => return Performed::WakeAt(at),
            Action::StopIfIdle => return Performed::StopIfIdle,
        }
        Performed::Done
    }
}
