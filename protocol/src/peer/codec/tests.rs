//! The bytes are bincode's, whatever is sent comes back, and nothing that arrives does harm.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    ClientId, Code, ConnId, ConversationId, Incarnation, Kind, Millis, NodeId, Presence, Role, Seq, UserId,
    peer::*,
    push::{Marks, PresenceState},
};

/// What bincode should write for the two types that hold [`Bytes`], which it does not know.
mod twin {
    use super::*;

    #[derive(bincode::Encode)]
    enum ChangeTwin<'a> {
        Post(&'a [u8]),
        Create { kind: &'a Kind, title: &'a Option<String>, members: &'a Vec<UserId> },
        Join(&'a Vec<UserId>),
        Leave,
        Remove(&'a UserId),
        Role(&'a UserId, &'a Role),
        Title(&'a String),
    }

    impl bincode::Encode for Change {
        fn encode<E: bincode::enc::Encoder>(&self, e: &mut E) -> Result<(), bincode::error::EncodeError> {
            let twin = match self {
                Change::Post(bytes) => ChangeTwin::Post(bytes),
                Change::Create { kind, title, members } => ChangeTwin::Create { kind, title, members },
                Change::Join(users) => ChangeTwin::Join(users),
                Change::Leave => ChangeTwin::Leave,
                Change::Remove(user) => ChangeTwin::Remove(user),
                Change::Role(user, role) => ChangeTwin::Role(user, role),
                Change::Title(title) => ChangeTwin::Title(title),
            };
            twin.encode(e)
        }
    }

    impl bincode::Encode for Fanout {
        fn encode<E: bincode::enc::Encoder>(&self, e: &mut E) -> Result<(), bincode::error::EncodeError> {
            let Fanout { conversation, seq, post_no, at, requester, frame, to } = self;
            (conversation, seq, post_no, at, requester, frame.as_ref(), to).encode(e)
        }
    }
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 16]>().prop_map(UserId)
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    any::<[u8; 16]>().prop_map(ConversationId)
}

/// Every length of a varint, its edges included.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, (0..64_u32).prop_map(|bits| u64::MAX >> bits), any::<u64>()]
}

fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq)
}

fn conn() -> impl Strategy<Value = ConnId> {
    number().prop_map(ConnId)
}

fn address() -> impl Strategy<Value = Address> {
    (any::<[u8; 16]>(), conn()).prop_map(|(node, conn)| Address { node: Incarnation(node), conn })
}

fn requester() -> impl Strategy<Value = Requester> {
    (address(), any::<u32>()).prop_map(|(at, tag)| Requester { at, tag })
}

fn slice() -> impl Strategy<Value = Slice> {
    any::<u16>().prop_map(Slice)
}

fn watch() -> impl Strategy<Value = WatchId> {
    number().prop_map(WatchId)
}

fn to_node() -> impl Strategy<Value = ToNode> {
    let digest = (number(), any::<u64>(), any::<bool>(), any::<bool>())
        .prop_map(|(count, sum, registered, complete)| Digest { count, sum, registered, complete });
    let ended = (any::<[u8; 16]>(), any::<u16>(), number()).prop_map(|(session, code, until)| EndedSession {
        session: SessionId(session),
        code,
        until: Millis(until),
    });
    prop_oneof![
        digest.prop_map(ToNode::Digest),
        Just(ToNode::Rebuild),
        slice().prop_map(ToNode::Refill),
        ended.prop_map(ToNode::Ended),
    ]
}

fn cid() -> impl Strategy<Value = Option<ClientId>> {
    option::of("[a-zA-Zäß]{1,30}".prop_map(|s| ClientId::try_from(s).unwrap()))
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..400).prop_map(Bytes::from)
}

fn presence() -> impl Strategy<Value = Presence> {
    prop::sample::select(vec![Presence::Online, Presence::Away, Presence::Offline])
}

fn state() -> impl Strategy<Value = PresenceState> {
    (presence(), option::of(number())).prop_map(|(state, at)| PresenceState { state, last_seen_at: at.map(Millis) })
}

fn marks() -> impl Strategy<Value = Marks> {
    (seq(), seq()).prop_map(|(read, delivered)| Marks { read, delivered })
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop::sample::select(vec![Kind::Direct, Kind::Group, Kind::Channel]);
    let role = prop::sample::select(vec![Role::Member, Role::Admin, Role::Owner]);
    prop_oneof![
        bytes().prop_map(Change::Post),
        (kind, option::of(".*"), vec(user(), 0..4)).prop_map(|(kind, title, members)| Change::Create {
            kind,
            title,
            members
        }),
        vec(user(), 0..4).prop_map(Change::Join),
        Just(Change::Leave),
        user().prop_map(Change::Remove),
        (user(), role).prop_map(|(u, r)| Change::Role(u, r)),
        ".*".prop_map(Change::Title),
    ]
}

fn to_conversation() -> impl Strategy<Value = ToConversation> {
    let submission = (option::of(requester()), user(), cid(), option::of(seq()), any::<[u8; 16]>(), change()).prop_map(
        |(requester, by, cid, base, request_hash, change)| Submission {
            requester,
            by,
            cid,
            base,
            request_hash,
            change,
        },
    );
    let mark = (option::of(requester()), user(), any::<bool>(), seq())
        .prop_map(|(requester, by, read, seq)| MarkRequest { requester, by, read, seq });
    prop_oneof![
        submission.prop_map(ToConversation::Submit),
        mark.prop_map(ToConversation::Mark),
        (user(), any::<bool>()).prop_map(|(by, on)| ToConversation::Typing { by, on }),
        (slice(), watch(), vec((user(), address()), 0..4), any::<bool>())
            .prop_map(|(slice, watch, devices, complete)| ToConversation::Watched { slice, watch, devices, complete }),
        (watch(), user(), address()).prop_map(|(watch, user, at)| ToConversation::Attached { watch, user, at }),
        (watch(), user(), address()).prop_map(|(watch, user, at)| ToConversation::Detached { watch, user, at }),
        (slice(), watch()).prop_map(|(slice, watch)| ToConversation::Unwatched { slice, watch }),
        (slice(), watch()).prop_map(|(slice, watch)| ToConversation::Dropped { slice, watch }),
    ]
}

fn to_presence() -> impl Strategy<Value = ToPresence> {
    prop_oneof![
        (user(), address(), presence()).prop_map(|(u, a, p)| ToPresence::Register(u, a, p)),
        (user(), address()).prop_map(|(u, a)| ToPresence::Unregister(u, a)),
        (user(), address(), presence()).prop_map(|(u, a, p)| ToPresence::Appear(u, a, p)),
        (conversation(), watch(), vec(user(), 0..4))
            .prop_map(|(conversation, watch, users)| ToPresence::WatchMembers { conversation, watch, users }),
        (conversation(), watch()).prop_map(|(c, watch)| ToPresence::Unwatch(c, watch)),
        (address(), vec(user(), 0..4)).prop_map(|(at, users)| ToPresence::WatchUsers { at, users }),
        (requester(), vec(user(), 0..4)).prop_map(|(r, users)| ToPresence::Query(r, users)),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let refusal = (prop::sample::select(Code::ALL), ".*", option::of("[a-z.]*"), option::of(number()))
        .prop_map(|(code, message, field, after_ms)| Refusal { code, message, field, after_ms });
    prop_oneof![
        (seq(), number(), number(), any::<bool>()).prop_map(|(seq, post_no, at, dup)| Outcome::Done(Done::Stored {
            seq,
            post_no,
            at: Millis(at),
            dup
        })),
        Just(Outcome::Done(Done::Unchanged)),
        vec((user(), state()), 0..4).prop_map(|states| Outcome::Done(Done::Presence(states))),
        refusal.prop_map(Outcome::Refused),
    ]
}

fn to_connections() -> impl Strategy<Value = ToConnections> {
    let to = || vec(conn(), 0..6);
    let requester = option::of((conn(), any::<u32>()));
    let fanout = (conversation(), seq(), number(), number(), requester, bytes(), to()).prop_map(
        |(conversation, seq, post_no, at, requester, frame, to)| Fanout {
            conversation,
            seq,
            post_no,
            at: Millis(at),
            requester,
            frame,
            to,
        },
    );
    prop_oneof![
        fanout.prop_map(ToConnections::Event),
        (conversation(), seq(), to()).prop_map(|(conversation, seq, to)| ToConnections::Head { conversation, seq, to }),
        (conversation(), vec((user(), marks()), 0..4), to())
            .prop_map(|(conversation, marks, to)| ToConnections::Receipts { conversation, marks, to }),
        (conversation(), user(), any::<bool>(), to()).prop_map(|(conversation, user, on, to)| ToConnections::Typing {
            conversation,
            user,
            on,
            to
        }),
        (conversation(), any::<bool>(), seq(), to()).prop_map(|(conversation, joined, seq, to)| ToConnections::List {
            conversation,
            joined,
            seq,
            to
        }),
        (conversation(), seq(), to()).prop_map(|(conversation, seq, to)| ToConnections::OwnRead {
            conversation,
            seq,
            to
        }),
        (vec((user(), state()), 0..4), to()).prop_map(|(states, to)| ToConnections::Presence { states, to }),
        conn().prop_map(ToConnections::Registered),
        (user(), to()).prop_map(|(user, to)| ToConnections::Parted { user, to }),
        to().prop_map(ToConnections::Resync),
        (conn(), any::<u32>(), outcome()).prop_map(|(c, tag, o)| ToConnections::Answer(c, tag, o)),
    ]
}

fn mail() -> impl Strategy<Value = Mail> {
    prop_oneof![
        (conversation(), to_conversation()).prop_map(|(c, m)| Mail::Conversation(c, m)),
        (slice(), to_presence()).prop_map(|(s, m)| Mail::Presence(s, m)),
        to_connections().prop_map(Mail::Connections),
        to_node().prop_map(Mail::Node),
    ]
}

fn parcel() -> impl Strategy<Value = Parcel> {
    (number(), any::<bool>(), mail()).prop_map(|(view, forwarded, mail)| Parcel { view, forwarded, mail })
}

fn frame() -> impl Strategy<Value = Frame> {
    let settings = || vec(("[a-z.]{0,20}", ".{0,30}"), 0..4);
    let node = "[a-z0-9-]{1,63}".prop_map(|name| NodeId::try_from(name).unwrap());
    let greeting = ((any::<u16>(), any::<u16>()), node, any::<[u8; 16]>(), settings(), settings()).prop_map(
        |(versions, node, incarnation, equal, alike)| {
            Frame::Greeting(Greeting { versions, node, incarnation: Incarnation(incarnation), equal, alike })
        },
    );
    let beat = (number(), any::<bool>(), any::<bool>(), number(), option::of((number(), number())))
        .prop_map(|(view, hears_you, store_ok, sent_us, echo)| Beat { view, hears_you, store_ok, sent_us, echo });
    prop_oneof![greeting, batch().prop_map(Frame::Parcels), number().prop_map(Frame::Ack), beat.prop_map(Frame::Beat),]
}

fn batch() -> impl Strategy<Value = Batch> {
    (number(), number(), any::<bool>(), vec(parcel(), 0..6)).prop_map(|(number, acked, asks, parcels)| Batch {
        number,
        acked,
        asks,
        parcels,
    })
}

/// The same content as bincode writes it, and the kind.
fn by_bincode(frame: &Frame) -> (u8, Vec<u8>) {
    let standard = bincode::config::standard();
    match frame {
        Frame::Greeting(greeting) => (1, bincode::encode_to_vec(greeting, standard).unwrap()),
        Frame::Parcels(batch) => (2, bincode::encode_to_vec(batch, standard).unwrap()),
        Frame::Ack(number) => (3, bincode::encode_to_vec(number, standard).unwrap()),
        Frame::Beat(beat) => (4, bincode::encode_to_vec(beat, standard).unwrap()),
    }
}

fn frame_of(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![b'S', b't', 1, 0, kind];
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

fn parcels(mails: Vec<Mail>) -> Frame {
    let parcel = |mail| Parcel { view: 1, forwarded: false, mail };
    Frame::Parcels(Batch { number: 1, acked: 0, asks: false, parcels: mails.into_iter().map(parcel).collect() })
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    encode(frame, VERSIONS.1).unwrap().to_vec()
}

fn post(bytes: usize) -> Mail {
    let change = Change::Post(Bytes::from(vec![0; bytes]));
    let by = UserId([0; 16]);
    let submission = Submission { requester: None, by, cid: None, base: None, request_hash: [0; 16], change };
    Mail::Conversation(ConversationId([0; 16]), ToConversation::Submit(submission))
}

proptest! {
    #[test]
    fn the_content_is_what_bincode_writes(frame in frame()) {
        let (kind, expected) = by_bincode(&frame);
        prop_assert_eq!(bytes_of(&frame), frame_of(kind, &expected));
    }

    #[test]
    fn what_is_sent_comes_back(frame in frame()) {
        prop_assert_eq!(decode(&bytes_of(&frame)).unwrap(), frame);
    }

    #[test]
    fn parcels_are_as_long_as_they_say(batch in batch()) {
        let said: usize = batch.parcels.iter().map(parcel_bytes).sum();
        let taken = bytes_of(&Frame::Parcels(batch)).len();
        prop_assert!(taken >= said + HEADER_BYTES + 4 && taken - said <= PEER_FRAME_BYTES_MAX - PARCELS_BYTES_MAX);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
        for kind in 0..6 {
            let _ = decode(&frame_of(kind, &bytes));
        }
    }

    #[test]
    fn a_frame_with_a_byte_changed_does_no_harm(
        frame in frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = bytes_of(&frame);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
    }

    #[test]
    fn half_a_frame_and_a_frame_and_a_half_are_refused(frame in frame(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&frame);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(matches!(decode(&longer), Err(FrameError::Content(_))));
    }

    #[test]
    fn two_releases_use_the_highest_version_that_both_speak(a in (0..9_u16, 0..9_u16), b in (0..9_u16, 0..9_u16)) {
        let both: Vec<u16> = (0..9).filter(|v| (a.0..=a.1).contains(v) && (b.0..=b.1).contains(v)).collect();
        prop_assert_eq!(highest_common(a, b), both.last().copied());
        prop_assert_eq!(highest_common(b, a), both.last().copied());
    }
}

#[test]
fn a_length_that_the_bytes_do_not_bear_out_is_refused_and_does_not_abort() {
    for length in [[253, 255, 255, 255, 255, 255, 255, 255, 255], [253, 0, 0, 0, 0, 0, 0, 0, 16]] {
        // the first number that each kind has, or the first length in a greeting
        for kind in 1..=4 {
            let _ = decode(&frame_of(kind, &length));
        }
        // the batch itself, then the bytes of a post in it
        let batch = [&[1], &length[..]].concat();
        assert!(matches!(decode(&frame_of(2, &batch)), Err(FrameError::Content(_))), "{length:?}");
        let mut content = bytes_of(&parcels(vec![post(0)])).split_off(HEADER_BYTES);
        assert_eq!(content.pop(), Some(0), "the length of the post's bytes comes last");
        content.extend_from_slice(&length);
        assert!(matches!(decode(&frame_of(2, &content)), Err(FrameError::Content(_))), "{length:?}");
    }
}

#[test]
fn every_part_of_the_header_counts() {
    let good = bytes_of(&parcels(Vec::new()));
    assert_eq!(decode(&good), Ok(parcels(Vec::new())));
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        decode(&frame).unwrap_err()
    };
    assert_eq!(with(0, b's'), FrameError::Magic);
    assert_eq!(with(1, b'T'), FrameError::Magic);
    assert_eq!(with(2, 2), FrameError::Version(2));
    assert_eq!(with(3, 1), FrameError::Version(257));
    assert_eq!(with(4, 0), FrameError::Kind(0));
    assert_eq!(with(4, 5), FrameError::Kind(5));
    assert!(matches!(with(4, 3), FrameError::Content(_)), "an ack has one number");
    assert_eq!(with(5, 9), FrameError::Short { bytes: good.len() });
    assert!(matches!(with(5, 0), FrameError::Content(_)));
    assert_eq!(with(8, 1), FrameError::TooLarge { parcels: 0, bytes: (16 << 20) + 4 });
}

#[test]
fn only_a_version_that_this_release_speaks_is_written_and_a_greeting_is_always_readable() {
    assert_eq!(encode(&Frame::Ack(1), VERSIONS.1 + 1), Err(FrameError::Version(VERSIONS.1 + 1)));
    assert_eq!(encode(&Frame::Ack(1), VERSIONS.0 - 1), Err(FrameError::Version(VERSIONS.0 - 1)));
    for version in VERSIONS.0..=VERSIONS.1 {
        let ack = encode(&Frame::Ack(1), version).unwrap();
        assert_eq!(u16::from_le_bytes([ack[2], ack[3]]), version);
        let greeting = encode(&one_greeting(), version).unwrap();
        assert_eq!(u16::from_le_bytes([greeting[2], greeting[3]]), 1, "before a version is agreed");
    }
    assert_eq!(common_version(VERSIONS), Some(VERSIONS.1));
    assert_eq!(common_version((VERSIONS.1 + 1, VERSIONS.1 + 2)), None);
}

#[test]
fn what_does_not_fit_into_a_frame_is_not_sent() {
    let encoded = |mails: Vec<Mail>| encode(&parcels(mails), VERSIONS.1);
    assert!(encoded(vec![post(PEER_FRAME_BYTES_MAX - 100)]).is_ok());
    for bytes in [PEER_FRAME_BYTES_MAX, 4 << 20] {
        assert!(matches!(encoded(vec![post(bytes)]), Err(FrameError::TooLarge { .. })));
    }
    let Frame::Parcels(Batch { parcels: huge, .. }) = parcels(vec![post(4 << 20)]) else { unreachable!() };
    assert!(parcel_bytes(&huge[0]) > PARCELS_BYTES_MAX);
    let many = vec![Mail::Connections(ToConnections::Registered(ConnId(1))); PEER_MAILS_MAX + 1];
    assert!(encoded(many[1..].to_vec()).is_ok_and(|frame| decode(&frame).is_ok()));
    assert!(matches!(encoded(many), Err(FrameError::TooLarge { .. })));
}

#[test]
fn more_parcels_than_a_frame_may_hold_are_refused_though_their_bytes_would_fit() {
    // a later release's frames may be larger, not longer
    let one = Parcel { view: 1, forwarded: false, mail: Mail::Connections(ToConnections::Registered(ConnId(1))) };
    let content =
        bincode::encode_to_vec((1_u64, 0_u64, false, vec![one; PEER_MAILS_MAX + 1]), bincode::config::standard())
            .unwrap();
    assert!(matches!(decode(&frame_of(2, &content)), Err(FrameError::TooLarge { .. })));
}

fn one_greeting() -> Frame {
    Frame::Greeting(Greeting {
        versions: (1, 2),
        node: NodeId::try_from("n1".to_owned()).unwrap(),
        incarnation: Incarnation([0x11; 16]),
        equal: vec![("cluster.name".into(), "starling".into())],
        alike: vec![("limits.members".into(), "1000".into())],
    })
}

/// One of each, so that moving or renumbering a variant is noticed: nodes of two releases talk to each other.
fn one_of_each() -> Vec<(&'static str, Mail)> {
    let (c, user, conn, slice) = (ConversationId([0xC0; 16]), UserId([0xA1; 16]), ConnId(300), Slice(1023));
    let at = Address { node: Incarnation([0x11; 16]), conn };
    let watch = WatchId(0x1_0000_0002);
    let requester = Requester { at, tag: 7 };
    let cid = ClientId::try_from("k".to_owned()).ok();
    let submit = |change| {
        let (requester, cid, base) = (Some(requester), cid.clone(), Some(Seq(5)));
        let s = Submission { requester, by: user, cid, base, request_hash: [0x4A; 16], change };
        Mail::Conversation(c, ToConversation::Submit(s))
    };
    let answer = |outcome| Mail::Connections(ToConnections::Answer(conn, 7, outcome));
    let (to, seq) = (vec![conn, ConnId(1)], Seq(70_000));
    let marks = Marks { read: Seq(1), delivered: Seq(2) };
    let away = PresenceState { state: Presence::Away, last_seen_at: Some(Millis(1)) };
    let fanout = Fanout {
        conversation: c,
        seq,
        post_no: 9,
        at: Millis(1 << 40),
        requester: Some((conn, 7)),
        frame: Bytes::from_static(b"{}"),
        to: to.clone(),
    };
    let create = Change::Create { kind: Kind::Channel, title: Some("T".into()), members: vec![user] };
    let stored = Done::Stored { seq, post_no: 9, at: Millis(1), dup: true };
    let refusal = Refusal { code: Code::Internal, message: "m".into(), field: Some("f".into()), after_ms: Some(1) };
    let conversation = |what| Mail::Conversation(c, what);
    let presence = |what| Mail::Presence(slice, what);
    vec![
        ("submit post", submit(Change::Post(Bytes::from_static(b"\x01{}")))),
        ("submit create", submit(create)),
        ("submit join", submit(Change::Join(vec![user]))),
        ("submit leave", submit(Change::Leave)),
        ("submit remove", submit(Change::Remove(user))),
        ("submit role", submit(Change::Role(user, Role::Owner))),
        ("submit title", submit(Change::Title("T".into()))),
        ("mark", conversation(ToConversation::Mark(MarkRequest { requester: None, by: user, read: true, seq }))),
        ("typing", conversation(ToConversation::Typing { by: user, on: true })),
        ("watched", {
            let devices = vec![(user, at)];
            conversation(ToConversation::Watched { slice, watch, devices, complete: true })
        }),
        ("attached", conversation(ToConversation::Attached { watch, user, at })),
        ("detached", conversation(ToConversation::Detached { watch, user, at })),
        ("unwatched", conversation(ToConversation::Unwatched { slice, watch })),
        ("dropped", conversation(ToConversation::Dropped { slice, watch })),
        ("register", presence(ToPresence::Register(user, at, Presence::Online))),
        ("unregister", presence(ToPresence::Unregister(user, at))),
        ("appear", presence(ToPresence::Appear(user, at, Presence::Offline))),
        ("watch members", presence(ToPresence::WatchMembers { conversation: c, watch, users: vec![user] })),
        ("unwatch", presence(ToPresence::Unwatch(c, watch))),
        ("watch users", presence(ToPresence::WatchUsers { at, users: vec![user] })),
        ("query", presence(ToPresence::Query(requester, vec![user]))),
        ("event", Mail::Connections(ToConnections::Event(fanout))),
        ("head", Mail::Connections(ToConnections::Head { conversation: c, seq, to: to.clone() })),
        ("receipts", {
            let marks = vec![(user, marks)];
            Mail::Connections(ToConnections::Receipts { conversation: c, marks, to: to.clone() })
        }),
        ("types", Mail::Connections(ToConnections::Typing { conversation: c, user, on: false, to: to.clone() })),
        ("list", Mail::Connections(ToConnections::List { conversation: c, joined: true, seq, to: to.clone() })),
        ("own read", Mail::Connections(ToConnections::OwnRead { conversation: c, seq, to: to.clone() })),
        ("presence", Mail::Connections(ToConnections::Presence { states: vec![(user, away)], to: to.clone() })),
        ("registered", Mail::Connections(ToConnections::Registered(conn))),
        ("parted", Mail::Connections(ToConnections::Parted { user, to: to.clone() })),
        ("resync", Mail::Connections(ToConnections::Resync(to))),
        ("answer stored", answer(Outcome::Done(stored))),
        ("answer unchanged", answer(Outcome::Done(Done::Unchanged))),
        ("answer presence", answer(Outcome::Done(Done::Presence(vec![(user, away)])))),
        ("answer refused", answer(Outcome::Refused(refusal))),
        ("digest", Mail::Node(ToNode::Digest(Digest { count: 300, sum: u64::MAX, registered: true, complete: false }))),
        ("rebuild", Mail::Node(ToNode::Rebuild)),
        ("refill", Mail::Node(ToNode::Refill(slice))),
        (
            "ended",
            Mail::Node(ToNode::Ended(EndedSession { session: SessionId([5; 16]), code: 4502, until: Millis(300) })),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_each_kind_of_mail_stay() {
    let line = |(name, mail): (&str, Mail)| {
        let frame = bytes_of(&parcels(vec![mail]));
        // the numbers, the count, the view and whether it was sent on are the same everywhere
        assert_eq!(frame[HEADER_BYTES..HEADER_BYTES + 6], [1, 0, 0, 1, 1, 0]);
        format!("{name}: {}\n", hex(&frame[HEADER_BYTES + 6..]))
    };
    let lines: String = one_of_each().into_iter().map(line).collect();
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(lines) });
}

#[test]
fn the_bytes_of_each_kind_of_frame_stay() {
    let registered = Mail::Connections(ToConnections::Registered(ConnId(300)));
    let parcel = Parcel { view: 300, forwarded: true, mail: registered };
    let beat = Beat { view: 300, hears_you: true, store_ok: false, sent_us: 70_000, echo: Some((1, 2)) };
    let each = [
        ("greeting", one_greeting()),
        ("parcels", Frame::Parcels(Batch { number: 7, acked: 300, asks: true, parcels: vec![parcel] })),
        ("ack", Frame::Ack(300)),
        ("beat", Frame::Beat(beat)),
    ];
    let lines: String = each.iter().map(|(name, frame)| format!("{name}: {}\n", hex(&bytes_of(frame)))).collect();
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(lines) });
}
