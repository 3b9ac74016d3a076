//! Each class of mail, each fault of a link, one at a time. Many at once: `crate::tests::links`.

use std::time::Duration;

use protocol::{
    ConnId, Incarnation, Millis, Presence, Seq, UserId,
    limits::{PEER_FRAME_BYTES_MAX, PEER_INBOUND_BYTES_MAX, PEER_REQUEST_BYTES_MAX},
    peer::{
        Address, Change, Done, Fanout, Frame, Greeting, Mail, Submission, ToConnections, ToConversation, ToPresence,
        VERSIONS, WatchId, decode, encode,
    },
    push::{Marks, PresenceState},
};

use super::*;

const C: ConversationId = ConversationId([7; 16]);
const D: ConversationId = ConversationId([8; 16]);
const VERSION: u16 = VERSIONS.1;

/// One parcel a frame and two frames on the way; a handful of mail waits.
const SMALL: Bounds = Bounds {
    frame_parcels: 1,
    window_bytes: 1 << 20,
    window_frames: 2,
    queue_bytes: 300,
    queue_hard_bytes: 3_000,
    heads: 4,
    receipts: 8,
    volatile_bytes: 90,
};

fn name() -> NodeId {
    NodeId::try_from("n2".to_owned()).unwrap()
}

fn at(n: u8) -> Address {
    Address { node: Incarnation([1; 16]), conn: ConnId(u64::from(n)) }
}

fn conns(to: &[u64]) -> Vec<ConnId> {
    to.iter().copied().map(ConnId).collect()
}

fn submit(tag: u32, bytes: usize) -> Mail {
    let submission = Submission {
        requester: Some(Requester { at: at(1), tag }),
        by: UserId([1; 16]),
        cid: None,
        base: None,
        request_hash: [0; 16],
        change: Change::Post(vec![b'x'; bytes].into()),
    };
    Mail::Conversation(C, ToConversation::Submit(submission))
}

fn event(c: ConversationId, seq: u64, to: &[u64], asked: Option<(u64, u32)>) -> Mail {
    Mail::Connections(ToConnections::Event(Fanout {
        conversation: c,
        seq: Seq(seq),
        post_no: seq,
        at: Millis(0),
        requester: asked.map(|(conn, tag)| (ConnId(conn), tag)),
        frame: Bytes::from_static(&[b'x'; 60]),
        to: conns(to),
    }))
}

fn post(seq: u64) -> Mail {
    event(C, seq, &[1, 2], None)
}

fn registered(n: u64) -> Mail {
    Mail::Connections(ToConnections::Registered(ConnId(n)))
}

fn attached(n: u8) -> Mail {
    Mail::Conversation(C, ToConversation::Attached { watch: WatchId(1), user: UserId([9; 16]), at: at(n) })
}

fn typing(n: u8) -> Mail {
    Mail::Conversation(C, ToConversation::Typing { by: UserId([n; 16]), on: true })
}

fn receipts(user: u8, read: u64, to: &[u64]) -> Mail {
    let marks = vec![(UserId([user; 16]), Marks { read: Seq(read), delivered: Seq(read) })];
    Mail::Connections(ToConnections::Receipts { conversation: C, marks, to: conns(to) })
}

fn appears(n: u8, how: Presence) -> Mail {
    Mail::Presence(Slice(3), ToPresence::Appear(UserId([n; 16]), at(n), how))
}

/// A word for a piece of mail.
fn word(mail: &Mail) -> String {
    let place = |c: &ConversationId| if *c == C { 'c' } else { 'd' };
    let list = |to: &[ConnId]| to.iter().map(|conn| conn.0.to_string()).collect::<Vec<_>>().join(",");
    match mail {
        Mail::Conversation(_, ToConversation::Submit(s)) => format!("submit {}", s.requester.unwrap().tag),
        Mail::Conversation(_, ToConversation::Typing { by, .. }) => format!("typing {}", by.0[0]),
        Mail::Conversation(_, ToConversation::Attached { at, .. }) => format!("attached {}", at.conn),
        Mail::Conversation(_, ToConversation::Dropped { .. }) => "watch again".into(),
        Mail::Presence(_, ToPresence::Appear(_, at, how)) => format!("{how:?} {}", at.conn),
        Mail::Connections(ToConnections::Event(f)) => {
            format!("event {}{} to {}", place(&f.conversation), f.seq, list(&f.to))
        }
        Mail::Connections(ToConnections::Head { conversation, seq, to }) => {
            format!("head {}{seq} to {}", place(conversation), list(to))
        }
        Mail::Connections(ToConnections::List { seq, .. }) => format!("list {seq}"),
        Mail::Connections(ToConnections::Receipts { marks, to, .. }) => {
            let marks: Vec<_> = marks.iter().map(|(user, marks)| format!("{}:{}", user.0[0], marks.read)).collect();
            format!("receipts {} to {}", marks.join(" "), list(to))
        }
        Mail::Connections(ToConnections::Answer(conn, tag, Outcome::Done(Done::Stored { seq, dup, .. }))) => {
            assert!(!dup, "the event is this request's");
            format!("answer {conn} {tag}: {seq}")
        }
        Mail::Connections(ToConnections::Presence { to, .. }) => format!("presence to {}", list(to)),
        Mail::Connections(ToConnections::Registered(conn)) => format!("registered {conn}"),
        Mail::Connections(ToConnections::Resync(to)) => format!("resync {}", list(to)),
        other => panic!("no word for {other:?}"),
    }
}

/// One peer under a hand-moved clock, and what it does in words.
struct Desk {
    peer: Peer,
    now: Instant,
}

impl Desk {
    fn new(bounds: Bounds) -> Desk {
        Desk { peer: Peer::new(&name(), bounds), now: Instant::now() }
    }

    /// With a link that stands.
    fn up(bounds: Bounds) -> Desk {
        let mut desk = Desk::new(bounds);
        assert!(desk.on(Input::Up(VERSION)).is_empty());
        desk
    }

    fn on(&mut self, input: Input) -> Vec<String> {
        self.peer.on(input, self.now).into_iter().map(|action| self.action(action)).collect()
    }

    fn send(&mut self, mails: Vec<Mail>) -> Vec<String> {
        let parcel = |mail| Parcel { view: 1, forwarded: false, mail };
        self.on(Input::Mail(mails.into_iter().map(parcel).collect()))
    }

    fn acked(&mut self, number: u64) -> Vec<String> {
        self.hear(&Frame::Ack(number))
    }

    fn hear(&mut self, frame: &Frame) -> Vec<String> {
        self.on(Input::Frame(encode(frame, VERSION).unwrap()))
    }

    fn action(&self, action: Action) -> String {
        match action {
            Action::Send(frame) => match decode(&frame).unwrap() {
                Frame::Parcels(Batch { number, parcels, .. }) => {
                    let words: Vec<_> = parcels.iter().map(|parcel| word(&parcel.mail)).collect();
                    format!("{number}: {}", words.join(" + "))
                }
                Frame::Ack(number) => format!("ack {number}"),
                Frame::Beat(_) => "beat".into(),
                other => panic!("it never says {other:?}"),
            },
            Action::Cut(why) => format!("cut: {why}"),
            Action::Deliver(parcels) => {
                format!("deliver {}", parcels.iter().map(|parcel| word(&parcel.mail)).collect::<Vec<_>>().join(" + "))
            }
            Action::Heard(_) => "heard".into(),
            Action::Answer(requester, Outcome::Refused(refusal)) => format!("{:?} {}", refusal.code, requester.tag),
            Action::HandBack { parcel, sent } => {
                format!("{} back, {}", word(&parcel.mail), if sent { "sent" } else { "not sent" })
            }
            Action::Forget(..) => "forget".into(),
            Action::WakeAt(at) => format!("wake in {:?}", at - self.now),
            other => panic!("no word for {other:?}"),
        }
    }
}

fn batch(number: u64, acked: u64, asks: bool, mail: Mail) -> Frame {
    Frame::Parcels(Batch { number, acked, asks, parcels: vec![Parcel { view: 1, forwarded: false, mail }] })
}

fn parcels(number: u64, mail: Mail) -> Frame {
    batch(number, 0, false, mail)
}

#[test]
fn what_is_given_at_once_travels_in_one_frame_and_in_order() {
    let mut desk = Desk::up(Bounds::default());
    let said = desk.send(vec![registered(1), post(1), submit(7, 1), post(2)]);
    assert_eq!(said, ["1: registered 1 + event c1 to 1,2 + submit 7 + event c2 to 1,2"]);
    assert_eq!(desk.send(vec![registered(2)]), ["2: registered 2"]);
}

#[test]
fn g15_no_more_is_on_the_way_than_the_window_allows_and_an_ack_lets_the_rest_go() {
    let mut desk = Desk::up(SMALL);
    let said = desk.send((1..=4).map(registered).collect());
    assert_eq!(said, ["1: registered 1", "2: registered 2"]);
    assert_eq!(desk.acked(1), ["3: registered 3"]);
    assert_eq!(desk.acked(3), ["4: registered 4"]);
    // by bytes too: five frames of a quarter of the window each
    let mut desk = Desk::up(Bounds::default());
    let said = desk.send((1..=5).map(|tag| submit(tag, PEER_FRAME_BYTES_MAX - 200)).collect());
    assert_eq!(said, ["1: submit 1", "2: submit 2", "3: submit 3", "4: submit 4"]);
    assert_eq!(desk.acked(2), ["5: submit 5"]);
}

#[test]
fn an_ack_that_is_late_or_doubled_changes_nothing_and_one_of_what_was_not_sent_ends_the_link() {
    let mut desk = Desk::up(SMALL);
    desk.send((1..=4).map(registered).collect());
    assert_eq!(desk.acked(2), ["3: registered 3", "4: registered 4"]);
    assert!(desk.acked(2).is_empty() && desk.acked(1).is_empty() && desk.acked(0).is_empty());
    assert_eq!(desk.acked(5), ["cut: number 5 was acknowledged, of 4 that were sent"]);
    assert!(desk.acked(4).is_empty() && desk.send(vec![registered(5)]).is_empty());
}

#[test]
fn a_frame_that_comes_twice_is_handed_over_once_and_acknowledged_again() {
    let mut desk = Desk::up(SMALL);
    assert_eq!(desk.hear(&parcels(1, registered(1))), ["deliver registered 1", "wake in 50ms"]);
    assert_eq!(desk.hear(&parcels(1, registered(1))), ["ack 1"]);
    assert_eq!(desk.hear(&parcels(2, registered(2))), ["deliver registered 2", "wake in 50ms"]);
}

#[test]
fn a_hole_garbage_or_a_second_greeting_ends_the_link_and_nothing_more_of_it_is_handed_over() {
    let greeting = Frame::Greeting(Greeting {
        versions: VERSIONS,
        node: name(),
        incarnation: Incarnation([2; 16]),
        equal: vec![],
        alike: vec![],
    });
    let encoded = |frame: &Frame| encode(frame, VERSION).unwrap();
    let mut huge = encoded(&Frame::Ack(1)).to_vec();
    huge[5..9].copy_from_slice(&(PEER_INBOUND_BYTES_MAX as u32).to_le_bytes());
    let later = [b'S', b't', 9, 0, 3, 1, 0, 0, 0, 1];
    let cases = [
        (encoded(&parcels(3, registered(3))), "parcels number 3 came after number 1"),
        (Bytes::from_static(b"GET / HTTP/1.1"), "the bytes do not begin like a frame"),
        (Bytes::from(huge), "0 parcels in 1048576 bytes are more than one frame holds"),
        (Bytes::copy_from_slice(&later), "version 9 of the frames is not one of 1 to 1"),
        (encoded(&greeting), "a greeting came a second time"),
    ];
    for (frame, why) in cases {
        let mut desk = Desk::up(SMALL);
        desk.hear(&parcels(1, registered(1)));
        assert_eq!(desk.on(Input::Frame(frame)), [format!("cut: {why}")]);
        assert!(desk.hear(&parcels(2, registered(2))).is_empty(), "what was under way then");
        assert!(desk.on(Input::Tick).is_empty() && desk.on(Input::Down).is_empty());
        assert!(desk.on(Input::Up(VERSION)).is_empty());
        assert_eq!(desk.hear(&parcels(1, registered(1)))[0], "deliver registered 1", "a fresh link counts anew");
    }
}

#[test]
fn what_was_handed_over_is_acknowledged_by_the_next_batch_when_asked_or_after_a_moment() {
    let said_with = |desk: &mut Desk, mail| {
        let actions = desk.peer.on(Input::Mail(vec![Parcel { view: 1, forwarded: false, mail }]), desk.now);
        let [Action::Send(frame)] = actions.as_slice() else { panic!("{actions:?}") };
        let Frame::Parcels(batch) = decode(frame).unwrap() else { panic!("not parcels") };
        batch.acked
    };
    let mut desk = Desk::up(Bounds::default());
    desk.hear(&parcels(1, registered(1)));
    assert_eq!(desk.hear(&parcels(2, registered(1))), ["deliver registered 1"], "it will be woken");
    assert_eq!(said_with(&mut desk, registered(7)), 2);
    // the moment that was meant for those
    desk.now += Duration::from_millis(30);
    assert_eq!(desk.hear(&parcels(3, registered(1)))[1], "wake in 50ms");
    desk.now += Duration::from_millis(20);
    assert_eq!(desk.on(Input::Tick), ["wake in 30ms"]);
    desk.now += Duration::from_millis(30);
    assert_eq!(desk.on(Input::Tick), ["ack 3"]);
    assert!(desk.on(Input::Tick).is_empty());
    assert_eq!(desk.hear(&batch(4, 0, true, registered(1))), ["deliver registered 1", "ack 4"]);
    assert_eq!(said_with(&mut desk, registered(8)), 4, "again");
}

#[test]
fn a_batch_acknowledges_before_what_it_lets_go_is_sent_and_that_acknowledges_it() {
    let mut desk = Desk::up(SMALL);
    desk.send((1..=3).map(registered).collect());
    let said = desk.hear(&batch(1, 1, true, registered(9)));
    assert_eq!(said, ["deliver registered 9", "3: registered 3"], "nothing else need be said");
    assert_eq!(desk.hear(&batch(2, 9, false, registered(9)))[1], "cut: number 9 was acknowledged, of 3 that were sent");
}

#[test]
fn a_window_that_fills_asks_to_be_acknowledged() {
    let asked = |bounds: Bounds, mails: Vec<Mail>| -> Vec<bool> {
        let parcel = |mail| Parcel { view: 1, forwarded: false, mail };
        let mut peer = Peer::new(&name(), bounds);
        peer.on(Input::Up(VERSION), Instant::now());
        let sent = mails.into_iter().flat_map(|mail| peer.on(Input::Mail(vec![parcel(mail)]), Instant::now()));
        sent.map(|action| match action {
            Action::Send(frame) => matches!(decode(&frame).unwrap(), Frame::Parcels(Batch { asks: true, .. })),
            other => panic!("{other:?}"),
        })
        .collect()
    };
    let by_frames = asked(Bounds::default(), (1..=16).map(registered).collect());
    assert_eq!(by_frames, (1..=16).map(|number| number % 8 == 0).collect::<Vec<_>>());
    let by_bytes = asked(Bounds::default(), (1..=4).map(|tag| submit(tag, PEER_FRAME_BYTES_MAX - 200)).collect());
    assert_eq!(by_bytes, [false, true, false, true], "no window fills without having asked");
    assert_eq!(asked(SMALL, vec![registered(1), registered(2)]), [true, true]);
}

#[test]
fn a_beat_overtakes_what_waits() {
    let mut desk = Desk::up(SMALL);
    let beat = Beat { view: 1, hears_you: true, store_ok: true, sent_us: 1, echo: None };
    desk.send((1..=5).map(registered).collect());
    assert_eq!(desk.on(Input::Beat(beat)), ["beat"]);
    assert_eq!(desk.hear(&Frame::Beat(beat)), ["heard"]);
    desk.on(Input::Down);
    assert!(desk.on(Input::Beat(beat)).is_empty());
}

#[test]
fn g6_a_request_without_room_is_refused_and_never_sent() {
    let mut desk = Desk::up(SMALL);
    let said = desk.send((1..=5).map(|tag| submit(tag, 1)).collect());
    assert_eq!(said, ["1: submit 1", "2: submit 2"], "two on the way, and all that waits has room");
    assert_eq!(desk.send((6..=7).map(|tag| submit(tag, 1)).collect()), ["Overloaded 6", "Overloaded 7"]);
    let rest: Vec<_> = (1..=5).flat_map(|number| desk.acked(number)).collect();
    assert_eq!(rest, ["3: submit 3", "4: submit 4", "5: submit 5"]);
}

#[test]
fn g6_a_request_too_large_for_any_frame_is_refused_for_good() {
    let mut desk = Desk::up(Bounds::default());
    assert_eq!(desk.send(vec![submit(1, PEER_FRAME_BYTES_MAX), submit(2, 1)]), ["TooLarge 1", "1: submit 2"]);
    assert_eq!(desk.send(vec![submit(3, PEER_REQUEST_BYTES_MAX)]), ["2: submit 3"], "what clients may send has room");
}

#[test]
fn events_without_room_become_one_head_per_conversation_and_nothing_of_it_overtakes_the_head() {
    let mut desk = Desk::up(SMALL);
    let said = desk.send((1..=7).map(post).collect());
    assert_eq!(said, ["1: event c1 to 1,2", "2: event c2 to 1,2"]);
    desk.send(vec![event(D, 1, &[3], None), event(C, 8, &[2, 3], None)]);
    assert_eq!(desk.acked(2), ["3: event c3 to 1,2", "4: event c4 to 1,2"]);
    // there is room again, but c's head comes first
    desk.send(vec![post(9), event(D, 2, &[3], None)]);
    assert_eq!(desk.acked(4), ["5: event c5 to 1,2", "6: head c8 to 3"]);
    assert_eq!(desk.acked(6), ["7: head c9 to 1,2", "8: head d2 to 3"]);
    assert!(desk.acked(8).is_empty());
    assert_eq!(desk.send(vec![post(10)]), ["9: event c10 to 1,2"]);
}

#[test]
fn an_event_told_as_a_head_still_answers_who_asked_for_it_after_the_head() {
    let mut desk = Desk::up(SMALL);
    desk.send((1..=5).map(post).collect());
    desk.send(vec![event(C, 6, &[1, 2], Some((1, 77)))]);
    let said: Vec<_> = (1..=6).flat_map(|number| desk.acked(number)).collect();
    assert_eq!(said[2..], ["5: event c5 to 1,2", "6: head c6 to 1,2", "7: answer 1 77: 6"]);
}

#[test]
fn who_asked_and_must_come_back_is_answered_behind_that() {
    let mut desk = Desk::up(SMALL);
    desk.send((1..=5).map(post).collect());
    // of the three sockets that are more than there is room for, a call may be one: it has no line that is closed
    desk.send(vec![event(C, 6, &[1, 2, 3], None), event(D, 1, &[4, 5, 6], Some((6, 78)))]);
    let said: Vec<_> = (1..=8).flat_map(|number| desk.acked(number)).collect();
    assert_eq!(
        said[2..],
        ["5: event c5 to 1,2", "6: head c6 to 1,2,3", "7: head d1 to 4", "8: resync 5,6", "9: answer 6 78: 1"]
    );
}

#[test]
fn g9_whoever_was_removed_is_told_up_to_the_removal_and_no_further() {
    let mut desk = Desk::new(SMALL);
    desk.send(vec![event(C, 5, &[1, 2], None), event(C, 6, &[1], None)]);
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: head c5 to 2", "2: head c6 to 1"]);
}

#[test]
fn beyond_the_bound_of_heads_sockets_are_sent_back_to_the_log() {
    let mut desk = Desk::new(SMALL);
    desk.send(vec![event(C, 5, &[1, 2, 3], None), event(D, 6, &[3, 4, 5], None), event(C, 6, &[5], None)]);
    let said: Vec<_> = desk.on(Input::Up(VERSION)).into_iter().chain(desk.acked(2)).collect();
    assert_eq!(said, ["1: head c5 to 1,2,3", "2: head d6 to 3", "3: resync 4,5"]);
    // lost with its link, it is said again; and the heads that were acknowledged are not
    assert!(desk.on(Input::Down).is_empty());
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: resync 4,5"]);
    desk.acked(1);
    desk.on(Input::Down);
    assert!(desk.on(Input::Up(VERSION)).is_empty());
}

#[test]
fn a_watch_without_room_for_a_device_is_dropped_at_both_ends() {
    let mut desk = Desk::up(SMALL);
    let said = desk.send((1..=7).map(attached).collect());
    assert_eq!(said, ["1: attached 1", "2: attached 2"], "these have room or wait");
    let said = desk.send(vec![attached(8), attached(9)]);
    assert_eq!(said, ["forget"], "once");
    let said: Vec<_> = (1..=8).flat_map(|number| desk.acked(number)).collect();
    assert_eq!(said.last().unwrap(), "8: watch again");
    assert_eq!(desk.send(vec![attached(10)]), ["9: attached 10"], "the next watch is another");
}

#[test]
fn typing_and_presence_make_room_for_newer_ones_and_come_last() {
    let mut desk = Desk::up(SMALL);
    desk.send(vec![registered(1), registered(2)]);
    desk.send((1..=9).map(typing).collect());
    let states = vec![(UserId([1; 16]), PresenceState { state: Presence::Away, last_seen_at: None })];
    desk.send(vec![Mail::Connections(ToConnections::Presence { states, to: conns(&[1]) }), registered(3)]);
    let said: Vec<_> = (1..=5).flat_map(|number| desk.acked(number)).collect();
    assert_eq!(said, ["3: registered 3", "4: typing 9", "5: presence to 1"]);
}

#[test]
fn g11_receipts_of_one_conversation_become_one_for_its_latest_audience() {
    let mut desk = Desk::up(SMALL);
    desk.send(vec![registered(1), registered(2)]);
    desk.send(vec![receipts(1, 5, &[1, 2]), receipts(2, 4, &[1, 2]), receipts(1, 9, &[1, 2])]);
    desk.send(vec![receipts(1, 7, &[1])]);
    assert_eq!(desk.acked(2), ["3: receipts 1:9 2:4 to 1"]);
    // nine users and sockets are one too many
    desk.send((1..=2).map(registered).collect());
    desk.send(vec![receipts(1, 1, &[1, 2, 3, 4, 5, 6, 7, 8])]);
    assert_eq!(desk.acked(3), ["5: registered 2"]);
    assert!(desk.acked(5).is_empty());
}

#[test]
fn of_a_state_only_the_latest_is_sent_in_the_place_of_the_first() {
    let mut desk = Desk::up(SMALL);
    desk.send(vec![registered(1), registered(2)]);
    desk.send(vec![appears(1, Presence::Away), appears(2, Presence::Away), registered(3)]);
    desk.send(vec![appears(1, Presence::Online)]);
    assert_eq!(desk.acked(2), ["3: Online 1", "4: Away 2"]);
    desk.send(vec![appears(1, Presence::Away)]);
    assert_eq!(desk.acked(4), ["5: registered 3", "6: Away 1"]);
}

#[test]
fn g7_a_broken_link_leaves_heads_for_the_next_and_hands_requests_back() {
    let mut desk = Desk::up(SMALL);
    let list = ToConnections::List { conversation: D, joined: true, seq: Seq(3), to: conns(&[4]) };
    desk.send(vec![submit(1, 1), post(1), post(2), submit(2, 1), registered(1), Mail::Connections(list), attached(1)]);
    assert_eq!(desk.on(Input::Down), ["submit 1 back, sent", "submit 2 back, not sent"]);
    assert_eq!(desk.send(vec![post(3), submit(3, 1), typing(1), registered(1)]), ["submit 3 back, not sent"]);
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: head c3 to 1,2", "2: head d3 to 4"]);
    // and once more before they are acknowledged
    assert!(desk.on(Input::Down).is_empty());
    desk.send(vec![event(C, 4, &[2], None)]);
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: head c3 to 1", "2: head c4 to 2"]);
    assert_eq!(desk.acked(2), ["3: head d3 to 4"]);
}

#[test]
fn an_answer_is_for_the_link_it_was_meant_for() {
    let mut desk = Desk::up(SMALL);
    desk.send((1..=5).map(post).collect());
    desk.send(vec![event(C, 6, &[1, 2], Some((1, 77)))]);
    desk.on(Input::Down);
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: head c6 to 1,2"], "who asks again is answered then");
}

#[test]
fn g15_a_list_of_sockets_too_long_for_a_frame_is_split() {
    let mut desk = Desk::up(Bounds { window_frames: 9, ..Bounds::default() });
    let to: Vec<u64> = (1 << 40..(1 << 40) + 40_000).collect();
    let sent =
        desk.peer.on(Input::Mail(vec![Parcel { view: 1, forwarded: false, mail: event(C, 1, &to, None) }]), desk.now);
    let mut reached = Vec::new();
    for action in sent {
        let Action::Send(frame) = action else { panic!("{action:?}") };
        assert!(frame.len() <= PEER_FRAME_BYTES_MAX);
        let Frame::Parcels(Batch { parcels, .. }) = decode(&frame).unwrap() else { panic!("not parcels") };
        for parcel in parcels {
            let Mail::Connections(ToConnections::Event(part)) = parcel.mail else { panic!("not an event") };
            reached.extend(part.to.iter().map(|conn| conn.0));
        }
    }
    assert_eq!(reached, to);
}

#[test]
fn g15_a_peer_for_which_too_much_waits_that_may_not_be_shed_counts_as_gone() {
    let mut desk = Desk::up(SMALL);
    let said = desk.send((1..=2_000).map(|n| registered(n % 200)).collect());
    assert!(said.last().unwrap().starts_with("cut: "), "{said:?}");
    assert!(said.last().unwrap().ends_with("bytes wait for it that may not be shed"), "{said:?}");
    assert!(desk.on(Input::Up(VERSION)).is_empty(), "nothing is left of it");
}

#[test]
fn a_conversation_is_told_once_everything_about_it_is_acknowledged() {
    let mut desk = Desk::up(SMALL);
    assert!(!desk.peer.is_telling(C));
    desk.send((1..=7).map(post).collect());
    assert!(desk.peer.is_telling(C) && !desk.peer.is_telling(D));
    for number in 1..=4 {
        desk.acked(number);
        assert!(desk.peer.is_telling(C));
    }
    desk.on(Input::Down);
    assert!(desk.peer.is_telling(C));
    assert_eq!(desk.on(Input::Up(VERSION)), ["1: head c7 to 1,2"]);
    assert!(desk.peer.is_telling(C));
    desk.acked(1);
    assert!(!desk.peer.is_telling(C));
}
