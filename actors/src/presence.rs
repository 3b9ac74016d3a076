//! One presence channel: a slice of the users. Knows which of them are connected where and how they appear, and tells
//! the conversations and sockets that watch them. Only on the node that the view calls its place. The rules are pure; the
//! shell carries mail.

mod entry;
mod seen;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use protocol::{
    Code, ConversationId, Error, Incarnation, UserId,
    peer::{Address, Done, Mail, Outcome, Requester, Slice, ToConnections, ToConversation, ToPresence, WatchId},
};
use tokio::time::Instant;

use self::entry::Entry;
use crate::{
    cluster::{
        places::Places,
        tally::{Mark, Tally},
    },
    entities::{Entity, Me, Now, Performed},
    maps::{HashMap, HashSet},
    router::Router,
};

/// How long a channel that nobody uses stays.
const IDLE: Duration = Duration::from_secs(60);
/// How long nobody looks offline because a link was reset, or the channel has just begun here: registrations are made
/// again within a second, once there is a link.
const GRACE: Duration = Duration::from_secs(2);

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// From a node that went by this version of the view.
    Mail {
        from: Incarnation,
        view: u64,
        mail: ToPresence,
    },
    /// A new view.
    Placed(Arc<Places>),
    /// What is registered and watched from there counts no more: the link was reset, or the digests differ.
    Forget(Incarnation),
    /// There was no room for what this watch was to be told.
    NoRoom(ConversationId, Incarnation, WatchId),
    /// How much is registered and watched from there?
    Count {
        from: Incarnation,
        round: u64,
    },
    Tick,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// To the node that watches, wherever the conversation is placed meanwhile.
    Conversation(Incarnation, ConversationId, ToConversation),
    /// The same, with what only the node knows: whether all members say that nobody waits to be registered here again.
    Watched(Watcher, Slice, WatchId, Vec<(UserId, Address)>),
    Connections(Incarnation, ToConnections),
    /// The answer to [`Input::Count`].
    Counted {
        from: Incarnation,
        round: u64,
        tally: Tally,
    },
    /// Somebody goes by a later view.
    ReadView,
    /// Its predecessor crashed and took the registrations and watches with it: everybody makes them again.
    Refill(Slice),
    WakeAt(Instant),
    StopIfIdle,
}

/// A conversation as one node runs it: while it moves, two nodes may.
pub(crate) type Watcher = (ConversationId, Incarnation);

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    slice: Slice,
    me: Incarnation,
    places: Arc<Places>,
    users: HashMap<UserId, Entry>,
    watches: HashMap<Watcher, (WatchId, Vec<UserId>)>,
    by_watcher: HashMap<Address, Vec<UserId>>,
    /// When whose registrations were lost, in that order.
    lost: VecDeque<(Instant, UserId)>,
    /// Something has come since it is here.
    begun: bool,
    /// Until when it does not know who is offline.
    begins_until: Option<Instant>,
    restarted: bool,
    idle_at: Option<Instant>,
    wake: Option<Instant>,
}

impl State {
    pub(crate) fn new(slice: Slice, me: Incarnation, places: Arc<Places>, restarted: bool) -> State {
        State {
            slice,
            me,
            places,
            users: HashMap::default(),
            watches: HashMap::default(),
            by_watcher: HashMap::default(),
            lost: VecDeque::new(),
            begun: false,
            begins_until: None,
            restarted,
            idle_at: None,
            wake: None,
        }
    }

    /// Decides.
    pub(crate) fn decide(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if std::mem::take(&mut self.restarted) {
            out.push(Action::Refill(self.slice));
            self.begin(now);
        }
        match input {
            Input::Mail { from, mail, .. } if self.is_here() => {
                if !self.begun && !self.places.is_alone() {
                    self.begin(now);
                }
                self.mail(from, mail, now, &mut out);
            }
            Input::Mail { view, mail, .. } => self.misplaced(view, mail, &mut out),
            Input::Placed(places) => self.placed(places),
            Input::Forget(node) => self.forget(node, now, &mut out),
            Input::NoRoom(c, by, watch) => {
                self.unwatch((c, by), watch);
            }
            Input::Count { from, round } => out.push(Action::Counted { from, round, tally: self.tally(from) }),
            Input::Tick => self.tick(now, &mut out),
        }
        if self.users.is_empty() {
            if self.idle_at.is_none() && out.is_empty() {
                out.push(Action::StopIfIdle);
            }
            self.idle_at.get_or_insert(now.mono + IDLE);
        }
        self.schedule(&mut out);
        out
    }

    fn schedule(&mut self, out: &mut Vec<Action>) {
        let lapse = self.lost.front().map(|(since, _)| *since + GRACE);
        let next = [self.idle_at, self.begins_until, lapse].into_iter().flatten().min();
        if let Some(at) = next.filter(|at| self.wake.is_none_or(|wake| *at < wake)) {
            self.wake = Some(at);
            out.push(Action::WakeAt(at));
        }
    }

    fn is_here(&self) -> bool {
        self.places.channel(self.slice) == Some(self.me)
    }

    /// Mail for the channel that this is no longer, or not yet. Who registers or watches does so again by a later view.
    fn misplaced(&self, view: u64, mail: ToPresence, out: &mut Vec<Action>) {
        if view > self.places.version() {
            out.push(Action::ReadView);
        }
        if let ToPresence::Query(requester, _) = mail {
            let error = Error::new(Code::Moved, "another node keeps this presence channel now");
            out.push(answer(requester, Outcome::Refused(error.into())));
        }
    }

    /// A channel that lives elsewhere now has nothing to say here.
    fn placed(&mut self, places: Arc<Places>) {
        self.places = places;
        if !self.is_here() {
            *self = State::new(self.slice, self.me, self.places.clone(), false);
        }
    }

    /// Those who were registered elsewhere before, or here before a crash, are about to register again.
    fn begin(&mut self, now: Now) {
        (self.begun, self.begins_until) = (true, Some(now.mono + GRACE));
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        self.idle_at = self.idle_at.filter(|at| *at > now.mono);
        self.lapse(now.mono, out);
    }

    /// Nothing from there is registered or watched any more. Whoever of it is still there says so again.
    fn forget(&mut self, node: Incarnation, now: Now, out: &mut Vec<Action>) {
        let watches: Vec<(Watcher, WatchId)> =
            self.watches.iter().filter(|((_, by), _)| *by == node).map(|(key, watch)| (*key, watch.0)).collect();
        for (watcher, watch) in watches {
            self.unwatch(watcher, watch);
        }
        let watchers: Vec<Address> = self.by_watcher.keys().filter(|at| at.node == node).copied().collect();
        watchers.into_iter().for_each(|at| self.watch_users(at, Vec::new(), out));
        let of = |(user, entry): (&UserId, &Entry)| {
            let there = entry.devices.iter().filter(|(at, _)| at.node == node);
            there.map(|(at, _)| (*user, *at)).collect::<Vec<_>>()
        };
        let devices: Vec<(UserId, Address)> = self.users.iter().flat_map(of).collect();
        for (user, at) in devices {
            if let Some(entry) = self.users.get_mut(&user) {
                entry.lose(at, now);
                self.lost.push_back((now.mono, user));
                self.detached(user, at, out);
            }
        }
    }

    fn tally(&self, from: Incarnation) -> Tally {
        let mut tally = Tally::default();
        for (user, entry) in &self.users {
            let there = entry.devices.iter().filter(|(at, _)| at.node == from);
            there.for_each(|(at, _)| tally.add(Mark::registration(*user, at.conn)));
        }
        let there = self.watches.iter().filter(|((_, by), _)| *by == from);
        there.for_each(|((c, _), (watch, _))| tally.add(Mark::watch(*c, self.slice, *watch)));
        tally
    }

    fn mail(&mut self, from: Incarnation, mail: ToPresence, now: Now, out: &mut Vec<Action>) {
        match mail {
            ToPresence::Register(user, at, state) => {
                let entry = self.users.entry(user).or_default();
                let before = entry.appearance();
                if entry.register(at, state) {
                    let told = entry.conversations.clone();
                    let attached = |watch| ToConversation::Attached { watch, user, at };
                    self.tell(told, attached, out);
                }
                out.push(Action::Connections(at.node, ToConnections::Registered(at.conn)));
                self.appeared(user, before, out);
            }
            ToPresence::Unregister(user, at) => self.unregister(user, at, now, out),
            ToPresence::Appear(user, at, state) => {
                let Some(entry) = self.users.get_mut(&user) else { return };
                let before = entry.appearance();
                if let Some(device) = entry.devices.iter_mut().find(|(address, _)| *address == at) {
                    device.1 = state;
                }
                self.appeared(user, before, out);
            }
            ToPresence::WatchMembers { conversation, watch, users } => {
                self.watch_members((conversation, from), watch, users, out);
            }
            ToPresence::Unwatch(c, watch) => {
                let slice = self.slice;
                let told = if self.unwatch((c, from), watch) {
                    ToConversation::Unwatched { slice, watch }
                } else {
                    ToConversation::Dropped { slice, watch }
                };
                out.push(Action::Conversation(from, c, told));
            }
            ToPresence::WatchUsers { at, users } => self.watch_users(at, users, out),
            ToPresence::Query(requester, users) => {
                let states = users.into_iter().map(|user| (user, self.state_of(user))).collect();
                out.push(answer(requester, Outcome::Done(Done::Presence(states))));
            }
        }
    }

    fn unregister(&mut self, user: UserId, at: Address, now: Now, out: &mut Vec<Action>) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        let before = entry.appearance();
        if entry.unregister(at, now) {
            self.detached(user, at, out);
        }
        self.appeared(user, before, out);
        self.drop_unused(&[user]);
    }

    fn detached(&self, user: UserId, at: Address, out: &mut Vec<Action>) {
        let told = self.users.get(&user).map(|entry| entry.conversations.clone()).unwrap_or_default();
        self.tell(told, |watch| ToConversation::Detached { watch, user, at }, out);
    }

    /// Tells conversations something, each by the name of its watch.
    fn tell(&self, whom: Vec<Watcher>, what: impl Fn(WatchId) -> ToConversation, out: &mut Vec<Action>) {
        for (c, by) in whom {
            if let Some((watch, _)) = self.watches.get(&(c, by)) {
                out.push(Action::Conversation(by, c, what(*watch)));
            }
        }
    }

    /// False if there is no such watch.
    fn unwatch(&mut self, watcher: Watcher, watch: WatchId) -> bool {
        if self.watches.get(&watcher).is_none_or(|(current, _)| *current != watch) {
            return false;
        }
        let (_, users) = self.watches.remove(&watcher).unwrap_or((watch, Vec::new()));
        for user in &users {
            if let Some(entry) = self.users.get_mut(user) {
                entry.conversations.retain(|other| *other != watcher);
            }
        }
        self.drop_unused(&users);
        true
    }

    fn watch_members(&mut self, watcher: Watcher, watch: WatchId, users: Vec<UserId>, out: &mut Vec<Action>) {
        let wanted: HashSet<UserId> = users.iter().copied().collect();
        let before = self.watches.insert(watcher, (watch, users.clone())).map(|(_, users)| users).unwrap_or_default();
        let gone: Vec<UserId> = before.iter().filter(|user| !wanted.contains(user)).copied().collect();
        for user in &gone {
            if let Some(entry) = self.users.get_mut(user) {
                entry.conversations.retain(|other| *other != watcher);
            }
        }
        let known: HashSet<UserId> = before.into_iter().collect();
        for user in users.iter().filter(|user| !known.contains(user)) {
            self.users.entry(*user).or_default().conversations.push(watcher);
        }
        let mut devices = Vec::new();
        for user in &users {
            let entry = self.users.get(user).into_iter().flat_map(|entry| &entry.devices);
            devices.extend(entry.map(|(at, _)| (*user, *at)));
        }
        out.push(Action::Watched(watcher, self.slice, watch, devices));
        self.drop_unused(&gone);
    }

    fn drop_unused(&mut self, users: &[UserId]) {
        for user in users {
            if self.users.get(user).is_some_and(Entry::is_unused) {
                self.users.remove(user);
            }
        }
    }
}

fn answer(requester: Requester, outcome: Outcome) -> Action {
    let Requester { at, tag } = requester;
    Action::Connections(at.node, ToConnections::Answer(at.conn, tag, outcome))
}

/// What a channel needs of its node.
pub(crate) struct Context {
    pub(crate) me: Incarnation,
    pub(crate) router: Arc<Router>,
}

impl Entity for State {
    const KIND: &'static str = "presence";
    const MAILBOX_MAX: usize = usize::MAX;
    type Key = Slice;
    type Event = Input;
    type Action = Action;
    type Context = Context;

    fn fresh(slice: Slice, context: &Arc<Context>, restarted: bool) -> State {
        State::new(slice, context.me, context.router.places(), restarted)
    }

    fn tick() -> Input {
        Input::Tick
    }

    fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        self.decide(input, now)
    }

    fn perform(action: Action, _: &Me<State>, context: &Arc<Context>) -> Performed {
        match action {
            Action::Conversation(by, c, mail) => context.router.post(by, Mail::Conversation(c, mail)),
            Action::Watched((c, by), slice, watch, devices) => {
                let complete = context.router.is_complete();
                let watched = ToConversation::Watched { slice, watch, devices, complete };
                context.router.post(by, Mail::Conversation(c, watched));
            }
            Action::Connections(node, mail) => context.router.post(node, Mail::Connections(mail)),
            Action::Counted { from, round, tally } => context.router.counted(from, round, tally),
            Action::ReadView => context.router.read_view(),
            Action::Refill(slice) => context.router.refill(slice),
            Action::WakeAt(at) => return Performed::WakeAt(at),
            Action::StopIfIdle => return Performed::StopIfIdle,
        }
        Performed::Done
    }
}

#[cfg(test)]
mod tests;
