//! A channel, and what becomes of it when mail is lost, late or doubled, and nodes go.

use protocol::{ConnId, request::Presence};

use super::*;
use crate::cluster::places::views::{node, places};

const C: ConversationId = ConversationId([7; 16]);

fn user(n: u8) -> UserId {
    // all of one slice
    UserId([0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn device(at: u8, n: u8) -> Address {
    Address { node: node(at), conn: ConnId(u64::from(n)) }
}

struct Desk {
    state: State,
    now: Now,
}

impl Desk {
    /// On node 1, where everything is placed, in a cluster with 2 and 3.
    fn new() -> Desk {
        let state = State::new(Slice(0), node(1), places(5, &[1], &[2, 3]), false);
        Desk { state, now: Now { mono: Instant::now(), wall: protocol::Millis(1) } }
    }

    fn on(&mut self, input: Input) -> Vec<Action> {
        let mut actions = self.state.decide(input, self.now);
        actions.retain(|action| !matches!(action, Action::WakeAt(_) | Action::StopIfIdle));
        actions
    }

    fn mail(&mut self, from: u8, mail: ToPresence) -> Vec<Action> {
        self.on(Input::Mail { from: node(from), view: 5, mail })
    }

    fn register(&mut self, at: Address, n: u8) -> Vec<Action> {
        self.mail(2, ToPresence::Register(user(n), at, Presence::Online))
    }

    fn watch(&mut self, from: u8, watch: u64, users: &[u8]) -> Vec<Action> {
        let users = users.iter().map(|n| user(*n)).collect();
        self.mail(from, ToPresence::WatchMembers { conversation: C, watch: WatchId(watch), users })
    }
}

fn attached(watch: u64, n: u8, at: Address) -> ToConversation {
    ToConversation::Attached { watch: WatchId(watch), user: user(n), at }
}

#[test]
fn a_registration_made_again_is_confirmed_again_and_told_once() {
    let mut desk = Desk::new();
    desk.watch(3, 1, &[4]);
    let at = device(2, 9);
    let confirmed = Action::Connections(node(2), ToConnections::Registered(at.conn));
    let told = Action::Conversation(node(3), C, attached(1, 4, at));
    assert_eq!(desk.register(at, 4), [told, Action::Connections(node(2), ToConnections::Registered(at.conn))]);
    assert_eq!(desk.register(at, 4), [confirmed]);
}

#[test]
fn while_a_conversation_moves_both_its_nodes_watch_each_by_its_own_name() {
    let mut desk = Desk::new();
    desk.watch(2, 1, &[4]);
    desk.watch(3, 8, &[4]);
    let at = device(2, 9);
    let actions = desk.register(at, 4);
    for (by, watch) in [(2, 1), (3, 8)] {
        assert!(actions.contains(&Action::Conversation(node(by), C, attached(watch, 4, at))), "{actions:?}");
    }
}

#[test]
fn a_watch_made_again_takes_the_place_of_the_one_before() {
    let mut desk = Desk::new();
    desk.watch(3, 1, &[4, 5]);
    desk.register(device(2, 9), 4);
    let answered = desk.watch(3, 2, &[4]);
    let devices = vec![(user(4), device(2, 9))];
    assert_eq!(answered, [Action::Watched((C, node(3)), Slice(0), WatchId(2), devices)]);
    let at = device(2, 10);
    assert!(desk.register(at, 4).contains(&Action::Conversation(node(3), C, attached(2, 4, at))));
    assert_eq!(desk.register(device(2, 11), 5).len(), 1, "confirmed, and nobody watches that user any more");
}

#[test]
fn the_end_of_a_watch_is_answered_and_of_one_that_is_no_more_it_is_said() {
    let mut desk = Desk::new();
    desk.watch(3, 2, &[4]);
    let slice = Slice(0);
    let old = desk.mail(3, ToPresence::Unwatch(C, WatchId(1)));
    assert_eq!(old, [Action::Conversation(node(3), C, ToConversation::Dropped { slice, watch: WatchId(1) })]);
    let end = |desk: &mut Desk| desk.mail(3, ToPresence::Unwatch(C, WatchId(2)));
    let ended = ToConversation::Unwatched { slice, watch: WatchId(2) };
    assert_eq!(end(&mut desk), [Action::Conversation(node(3), C, ended)]);
    let dropped = ToConversation::Dropped { slice, watch: WatchId(2) };
    assert_eq!(end(&mut desk), [Action::Conversation(node(3), C, dropped)]);
    desk.watch(3, 3, &[4]);
    desk.on(Input::NoRoom(C, node(3), WatchId(2)));
    assert_eq!(desk.state.watches.len(), 1, "there was no room for an earlier one");
    desk.on(Input::NoRoom(C, node(3), WatchId(3)));
    assert_eq!(desk.state.watches.len(), 0);
}

#[test]
fn what_came_from_a_node_that_was_lost_is_forgotten_and_others_are_told() {
    let mut desk = Desk::new();
    desk.watch(2, 1, &[4]);
    desk.watch(3, 2, &[4]);
    desk.register(device(2, 9), 4);
    desk.mail(3, ToPresence::Register(user(4), device(3, 8), Presence::Online));
    let gone = ToConversation::Detached { watch: WatchId(2), user: user(4), at: device(2, 9) };
    assert_eq!(desk.on(Input::Forget(node(2))), [Action::Conversation(node(3), C, gone)]);
    let count = |desk: &mut Desk, from: u8| match &desk.on(Input::Count { from: node(from), round: 7 })[..] {
        [Action::Counted { tally, round: 7, .. }] => tally.count,
        other => panic!("{other:?}"),
    };
    assert_eq!((count(&mut desk, 2), count(&mut desk, 3)), (0, 2));
}

/// What watchers of users are told.
fn seen(actions: &[Action]) -> Vec<(u8, Presence, Option<u64>)> {
    let states = actions.iter().filter_map(|action| match action {
        Action::Connections(_, ToConnections::Presence { states, .. }) => Some(states),
        _ => None,
    });
    let mut seen: Vec<_> =
        states.flatten().map(|(user, state)| (user.0[2], state.state, state.last_seen_at.map(|at| at.0))).collect();
    seen.sort_by_key(|(user, ..)| *user);
    seen
}

impl Desk {
    fn watched_by(&mut self, at: Address, users: &[u8]) -> Vec<Action> {
        let users = users.iter().map(|n| user(*n)).collect();
        self.mail(3, ToPresence::WatchUsers { at, users })
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now.mono += time;
        self.now.wall.0 += u64::try_from(time.as_millis()).unwrap();
        self.on(Input::Tick)
    }
}

#[test]
fn a_channel_that_has_just_begun_calls_nobody_offline_at_once() {
    let mut desk = Desk::new();
    assert_eq!(seen(&desk.watched_by(device(3, 1), &[4, 5])), []);
    assert_eq!(seen(&desk.register(device(2, 9), 5)), [(5, Presence::Online, None)]);
    assert_eq!(seen(&desk.wait(GRACE)), [(4, Presence::Offline, None)]);
    assert_eq!(seen(&desk.watched_by(device(3, 2), &[4])), [(4, Presence::Offline, None)], "it knows now");
}

#[test]
fn who_registers_again_within_the_grace_never_looks_gone() {
    let mut desk = Desk::new();
    desk.watched_by(device(3, 1), &[4]);
    desk.register(device(2, 9), 4);
    desk.wait(GRACE);
    for _ in 0..2 {
        assert_eq!(seen(&desk.on(Input::Forget(node(2)))), []);
        assert_eq!(seen(&desk.wait(GRACE / 2)), []);
        assert_eq!(seen(&desk.register(device(2, 9), 4)), []);
    }
    assert_eq!(seen(&desk.wait(GRACE)), []);
    let gone = desk.mail(2, ToPresence::Unregister(user(4), device(2, 9)));
    assert_eq!(seen(&gone), [(4, Presence::Offline, Some(desk.now.wall.0))]);
}

#[test]
fn who_does_not_register_again_looks_gone_since_they_were_lost() {
    let mut desk = Desk::new();
    desk.watched_by(device(3, 1), &[4]);
    desk.register(device(2, 9), 4);
    desk.wait(GRACE);
    let lost = desk.now.wall.0;
    desk.on(Input::Forget(node(2)));
    assert_eq!(seen(&desk.wait(GRACE / 2)), []);
    assert_eq!(seen(&desk.wait(GRACE / 2)), [(4, Presence::Offline, Some(lost))]);
}

#[test]
fn a_channel_that_lives_elsewhere_takes_nothing_and_a_later_view_is_read() {
    let mut desk = Desk::new();
    desk.watch(3, 1, &[4]);
    desk.register(device(2, 9), 4);
    desk.on(Input::Placed(places(6, &[2], &[1, 3])));
    assert_eq!((desk.state.users.len(), desk.state.watches.len()), (0, 0));
    let register = |view| {
        let mail = ToPresence::Register(user(4), device(2, 9), Presence::Online);
        Input::Mail { from: node(2), view, mail }
    };
    assert_eq!(desk.on(register(5)), [], "who goes by the earlier view will hear of this one");
    assert_eq!(desk.on(register(7)), [Action::ReadView]);
    let query = ToPresence::Query(Requester { at: device(2, 9), tag: 1 }, vec![user(4)]);
    let answer = desk.mail(2, query);
    assert!(matches!(&answer[..], [Action::Connections(_, ToConnections::Answer(_, 1, Outcome::Refused(r)))]
        if r.code == Code::Moved));
    assert!(desk.state.users.is_empty());
}
