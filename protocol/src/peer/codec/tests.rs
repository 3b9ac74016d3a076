//! The bytes are bincode's, whatever is sent comes back, and nothing that arrives does harm.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    ClientId, Code, ConnId, ConversationId, Incarnation, Kind, Millis, Presence, Role, Seq, UserId,
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
        (slice(), vec((user(), address()), 0..4))
            .prop_map(|(slice, devices)| ToConversation::Watched { slice, devices }),
        (user(), address()).prop_map(|(u, a)| ToConversation::Attached(u, a)),
        (user(), address()).prop_map(|(u, a)| ToConversation::Detached(u, a)),
        slice().prop_map(ToConversation::WatchAgain),
    ]
}

fn to_presence() -> impl Strategy<Value = ToPresence> {
    prop_oneof![
        (user(), address(), presence()).prop_map(|(u, a, p)| ToPresence::Register(u, a, p)),
        (user(), address()).prop_map(|(u, a)| ToPresence::Unregister(u, a)),
        (user(), address(), presence()).prop_map(|(u, a, p)| ToPresence::Appear(u, a, p)),
        (conversation(), vec(user(), 0..4))
            .prop_map(|(conversation, users)| ToPresence::WatchMembers { conversation, users }),
        conversation().prop_map(ToPresence::Unwatch),
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
        slice().prop_map(ToConnections::RegisterAgain),
        (user(), to()).prop_map(|(user, to)| ToConnections::Parted { user, to }),
        (conn(), any::<u32>(), outcome()).prop_map(|(c, tag, o)| ToConnections::Answer(c, tag, o)),
    ]
}

fn mail() -> impl Strategy<Value = Mail> {
    prop_oneof![
        (conversation(), to_conversation()).prop_map(|(c, m)| Mail::Conversation(c, m)),
        (slice(), to_presence()).prop_map(|(s, m)| Mail::Presence(s, m)),
        to_connections().prop_map(Mail::Connections),
    ]
}

fn frame_of(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![b'S', b't', 1, 0, KIND_MAIL];
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

proptest! {
    #[test]
    fn the_body_is_what_bincode_writes(mails in vec(mail(), 0..6)) {
        let frame = encode(&mails).unwrap();
        let expected = bincode::encode_to_vec(&mails, bincode::config::standard()).unwrap();
        prop_assert_eq!(&frame[HEADER_BYTES..], &expected[..]);
        prop_assert_eq!(frame, frame_of(&expected));
    }

    #[test]
    fn what_is_sent_comes_back(mails in vec(mail(), 0..6)) {
        prop_assert_eq!(decode(&encode(&mails).unwrap()).unwrap(), mails);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
        let _ = decode(&frame_of(&bytes));
    }

    #[test]
    fn a_frame_with_a_byte_changed_does_no_harm(
        mails in vec(mail(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut frame = encode(&mails).unwrap();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = decode(&frame);
    }

    #[test]
    fn half_a_frame_and_a_frame_and_a_half_are_refused(mails in vec(mail(), 1..4), cut in any::<prop::sample::Index>()) {
        let frame = encode(&mails).unwrap();
        prop_assert!(decode(&frame[..cut.index(frame.len())]).is_err());
        let mut longer = frame;
        longer.push(0);
        prop_assert!(matches!(decode(&longer), Err(FrameError::Body(_))));
    }
}

#[test]
fn a_length_that_the_bytes_do_not_bear_out_is_refused_and_does_not_abort() {
    for length in [[253, 255, 255, 255, 255, 255, 255, 255, 255], [253, 0, 0, 0, 0, 0, 0, 0, 16]] {
        // the batch itself, then the bytes of a post in it
        assert!(matches!(decode(&frame_of(&length)), Err(FrameError::Body(_))), "{length:?}");
        let post = Mail::Conversation(
            ConversationId([0; 16]),
            ToConversation::Submit(Submission {
                requester: None,
                by: UserId([0; 16]),
                cid: None,
                base: None,
                request_hash: [0; 16],
                change: Change::Post(Bytes::new()),
            }),
        );
        let mut body = encode(&[post]).unwrap().split_off(HEADER_BYTES);
        assert_eq!(body.pop(), Some(0), "the length of the post's bytes comes last");
        body.extend_from_slice(&length);
        assert!(matches!(decode(&frame_of(&body)), Err(FrameError::Body(_))), "{length:?}");
    }
}

#[test]
fn every_part_of_the_header_counts() {
    let good = encode(&[]).unwrap();
    assert_eq!(decode(&good), Ok(Vec::new()));
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
    assert_eq!(with(5, 9), FrameError::Short { bytes: good.len() });
    assert!(matches!(with(5, 0), FrameError::Body(_)));
    assert!(matches!(with(8, 255), FrameError::TooLarge { .. }));
}

#[test]
fn what_does_not_fit_into_a_frame_is_not_sent() {
    let mail = |bytes: usize| {
        Mail::Conversation(ConversationId([0; 16]), {
            let change = Change::Post(Bytes::from(vec![0; bytes]));
            let by = UserId([0; 16]);
            ToConversation::Submit(Submission {
                requester: None,
                by,
                cid: None,
                base: None,
                request_hash: [0; 16],
                change,
            })
        })
    };
    assert!(encode(&[mail(PEER_FRAME_BYTES_MAX - 100)]).is_ok());
    for bytes in [PEER_FRAME_BYTES_MAX, 4 << 20] {
        assert!(matches!(encode(&[mail(bytes)]), Err(FrameError::TooLarge { .. })));
    }
    let many = vec![Mail::Connections(ToConnections::Registered(ConnId(1))); PEER_MAILS_MAX + 1];
    assert!(encode(&many[1..]).is_ok_and(|frame| decode(&frame).is_ok()));
    assert!(matches!(encode(&many), Err(FrameError::TooLarge { .. })));
}

/// One of each, so that moving or renumbering a variant is noticed: nodes of two releases talk to each other.
fn one_of_each() -> Vec<(&'static str, Mail)> {
    let (c, user, conn, slice) = (ConversationId([0xC0; 16]), UserId([0xA1; 16]), ConnId(300), Slice(1023));
    let at = Address { node: Incarnation([0x11; 16]), conn };
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
        ("watched", conversation(ToConversation::Watched { slice, devices: vec![(user, at)] })),
        ("attached", conversation(ToConversation::Attached(user, at))),
        ("detached", conversation(ToConversation::Detached(user, at))),
        ("watch again", conversation(ToConversation::WatchAgain(slice))),
        ("register", presence(ToPresence::Register(user, at, Presence::Online))),
        ("unregister", presence(ToPresence::Unregister(user, at))),
        ("appear", presence(ToPresence::Appear(user, at, Presence::Offline))),
        ("watch members", presence(ToPresence::WatchMembers { conversation: c, users: vec![user] })),
        ("unwatch", presence(ToPresence::Unwatch(c))),
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
        ("register again", Mail::Connections(ToConnections::RegisterAgain(slice))),
        ("parted", Mail::Connections(ToConnections::Parted { user, to })),
        ("answer stored", answer(Outcome::Done(stored))),
        ("answer unchanged", answer(Outcome::Done(Done::Unchanged))),
        ("answer presence", answer(Outcome::Done(Done::Presence(vec![(user, away)])))),
        ("answer refused", answer(Outcome::Refused(refusal))),
    ]
}

#[test]
fn the_bytes_of_each_kind_of_mail_stay() {
    let line = |(name, mail): (&str, Mail)| {
        let frame = encode(std::slice::from_ref(&mail)).unwrap();
        let hex: String = frame[HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}: {hex}\n")
    };
    let lines: String = one_of_each().into_iter().map(line).collect();
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(lines) });
    let frame = encode(&one_of_each().into_iter().map(|(_, mail)| mail).take(1).collect::<Vec<_>>()).unwrap();
    assert_eq!(
        frame[..HEADER_BYTES],
        [b'S', b't', 1, 0, 1, u8::try_from(frame.len() - HEADER_BYTES).unwrap(), 0, 0, 0]
    );
}
