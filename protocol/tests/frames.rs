//! One line per frame, body and stored envelope there is: what a client in another language was written against does
//! not change by accident. Everything is also read back.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use protocol::{
    Body, ClientId, Code, ConversationId, DeviceId, Error, Event, EventId, Kind, Millis, Post, Role, Seq, SessionId,
    UserId,
    close::CloseCode,
    event::{Create, Join, Leave, PostView, Remove, RoleChange, Settings, View},
    push::{self, *},
    request::{self, *},
    rest,
};
use serde_json::json;

macro_rules! snapshot {
    ($text:expr) => {
        insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!($text) })
    };
}

const ANN: UserId = UserId([0xA1; 16]);
const BOB: UserId = UserId([0xB0; 16]);
const C: ConversationId = ConversationId([0xC0; 16]);
const SESSION: SessionId = SessionId([0x51; 16]);
const AT: Millis = Millis(1_795_310_540_001);

fn cid(text: &str) -> ClientId {
    ClientId::try_from(text.to_owned()).unwrap()
}

fn device() -> DeviceId {
    DeviceId::try_from("d_7Q2".to_owned()).unwrap()
}

fn post() -> Post {
    Post {
        text: Some("مرحبا \"you\"\n\u{1F468}\u{200D}\u{1F469}".into()),
        reply_to: Some(Seq(3)),
        mentions: vec![BOB],
        attachments: vec![json!({"media": "m_1", "width": 0.1})],
        meta: Some(json!({"b": [1, null], "a": true})),
    }
}

fn words(text: &str) -> Post {
    Post { text: Some(text.into()), ..Post::default() }
}

fn lines<'a>(frames: impl IntoIterator<Item = (&'a str, String)>) -> String {
    frames.into_iter().map(|(name, frame)| format!("{name}: {frame}\n")).collect()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8(bytes.as_ref().to_vec()).unwrap()
}

#[test]
fn client_frames() {
    let verbs = [
        Verb::Hello(Hello {
            token: Some("eyJ".into()),
            device: Some(device()),
            app: Some("web/1.4.2".into()),
            caps: vec!["x".into()],
        }),
        Verb::Hello(Hello::default()),
        Verb::Auth(Auth { token: "eyJ".into() }),
        Verb::Sync(request::Sync {
            list: ListWindow { limit: 30, cursor: Some("n".into()) },
            have: HashMap::from([(C, Seq(48_100))]),
        }),
        Verb::Send(request::Send { c: C, cid: cid("01JD3V7Q"), base: Some(Seq(7)), post: post() }),
        Verb::Send(request::Send { c: C, cid: cid("01JD3V7R"), base: None, post: words("hi") }),
        Verb::Send(request::Send {
            c: C,
            cid: cid("01JD3V7S"),
            base: None,
            post: Post { attachments: vec![json!({"media": "m_1"})], ..Post::default() },
        }),
        Verb::Hist(Hist { c: C, page: Page { before: Some(Seq(9)), limit: Some(50), ..Page::default() } }),
        Verb::Hist(Hist { c: C, page: Page { after: Some(Seq(9)), ..Page::default() } }),
        Verb::Hist(Hist { c: C, page: Page { around: Some(Seq(9)), ..Page::default() } }),
        Verb::Read(Mark { c: C, seq: Seq(9) }),
        Verb::Ack(Mark { c: C, seq: Seq(9) }),
        Verb::Typ(Typ { c: C, on: true }),
        Verb::Pres(Pres { state: Presence::Away }),
        Verb::Watch(Watch { users: vec![ANN, BOB] }),
        Verb::Open(Target { c: C }),
        Verb::Close(Target { c: C }),
    ];
    let frames: Vec<_> = verbs.iter().zip(1..).map(|(verb, id)| (verb.name(), verb.encode(Some(id)))).collect();
    for ((verb, id), (_, frame)) in verbs.iter().zip(1..).zip(&frames) {
        assert_eq!(decode(frame).unwrap(), Incoming::Request { id: Some(id), verb: verb.clone() });
        assert_eq!(decode(&verb.encode(None)).unwrap(), Incoming::Request { id: None, verb: verb.clone() });
        assert_eq!(verb.check(8000), Ok(()), "{frame}");
    }
    let mut shown: Vec<_> = frames.iter().map(|(name, _)| *name).collect();
    shown.dedup();
    assert_eq!(shown, Verb::NAMES, "every verb has its line, in the order of Verb::NAMES");
    snapshot!(lines(frames));
}

fn events() -> Vec<(&'static str, Event)> {
    let event = |seq: u64, body: Body| Event {
        seq: Seq(seq),
        id: EventId([0xE0; 16]),
        by: ANN,
        cid: Some(cid("01JD3V7Q")),
        request_hash: [7; 16],
        at: AT,
        post_no: 31,
        body,
    };
    let bodies = [
        ("post", Body::Post(post())),
        ("create", {
            let title = Some("Crew".to_owned());
            Body::Create(Create { conversation_kind: Kind::Group, title, members: vec![ANN, BOB] })
        }),
        ("join", Body::Join(Join { users: vec![BOB] })),
        ("leave", Body::Leave(Leave { heir: Some(BOB) })),
        ("remove", Body::Remove(Remove { user: BOB })),
        ("role", Body::Role(RoleChange { user: BOB, role: Role::Admin })),
        ("settings", Body::Settings(Settings { title: "Crew 2".into() })),
    ];
    bodies.into_iter().zip(1..).map(|((name, body), seq)| (name, event(seq, body))).collect()
}

#[test]
fn stored_envelopes() {
    let stored = events().into_iter().zip(0_u8..).map(|((name, event), kind)| {
        assert_eq!((event.body.kind(), event.body.name()), (kind, Some(name)));
        let bytes = event.body.encode();
        assert_eq!(Body::decode(kind, &bytes).unwrap(), event.body);
        (name, format!("kind {kind}, version {}, {}", bytes[0], text(&bytes[1..])))
    });
    snapshot!(lines(stored));
}

/// `json` is an array or object of the wire; reads it as `T`, writes that, and expects the same again.
fn same_again<T: serde::Serialize + serde::de::DeserializeOwned>(json: &str) {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let read: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
}

fn content(frame: &str) -> String {
    serde_json::from_str::<ServerFrame<'_>>(frame).unwrap().d.unwrap().get().to_owned()
}

#[test]
fn replies() {
    let view = |i: usize| events()[i].1.view(C).unwrap();
    let View::Post(message) = view(0) else { unreachable!() };
    let View::Event(join) = view(2) else { unreachable!() };
    let limits = Limits { frame: 65_536, text: 8000, inflight: 32, send_per_s: 10, burst: 30 };
    let welcome = Welcome { user: ANN, session: SESSION, node: "a".into(), ping_ms: 25_000, limits };
    let item = SyncItem {
        id: C,
        kind: Kind::Group,
        title: Some("Crew".into()),
        with: None,
        head: Seq(48_214),
        head_post: 31_006,
        read: Seq(48_190),
        unread: 20,
        events: vec![view(0), view(2)],
        more: false,
        gap: Some(push::Range { from: Seq(5), to: Seq(9) }),
    };
    let direct =
        SyncItem { kind: Kind::Direct, title: None, with: Some(BOB), events: vec![], gap: None, ..item.clone() };
    let synced = Synced { conversations: vec![item, direct], left: vec![C], next: Some("n".into()) };
    let sent = Sent { seq: Seq(48_215), post_no: 31_007, at: AT, dup: false };
    let page = HistoryPage { messages: vec![message], events: vec![join], head: Seq(9), more: true };
    let states = PresenceStates {
        presence: HashMap::from([(BOB, PresenceState { state: Presence::Offline, last_seen_at: Some(AT) })]),
    };
    let refused = Error::field("seq", "above the head").after_ms(250);
    let frames = [
        ("hello", text(push::ok(1, &welcome))),
        ("sync", text(push::ok(2, &synced))),
        ("send", text(push::ok(3, sent))),
        ("hist", text(push::ok(4, &page))),
        ("watch", text(push::ok(5, &states))),
        ("others", text(push::ok(6, json!({})))),
        ("err", text(push::err(Some(7), &refused, "r_1"))),
        ("err without id", text(push::err(None, &Error::new(Code::BadFrame, "not a frame"), "r_2"))),
        ("ping", push::PING.to_owned()),
    ];
    same_again::<Welcome>(&content(&frames[0].1));
    same_again::<Synced>(&content(&frames[1].1));
    same_again::<Sent>(&content(&frames[2].1));
    same_again::<HistoryPage>(&content(&frames[3].1));
    same_again::<PresenceStates>(&content(&frames[4].1));
    snapshot!(lines(frames));
}

#[test]
fn pushes() {
    let post_event = &events()[0].1;
    let moved = CloseCode::Moved;
    let mut frames: Vec<_> = events()
        .into_iter()
        .map(|(name, event)| (if name == "post" { "msg" } else { "evt" }, text(push::event(&event.view(C).unwrap()))))
        .collect();
    let envelope = post_event.body.encode();
    assert_eq!(frames[0].1, {
        let e = post_event;
        text(push::message(C, e.seq, e.post_no, e.by, e.cid.as_ref(), e.at, &envelope).unwrap())
    });
    for (_, frame) in &frames {
        same_again::<View>(&content(frame));
    }
    let marks = HashMap::from([(BOB, Marks { read: Seq(7), delivered: Seq(9) })]);
    let states = |state, last_seen_at| PresenceStates {
        presence: HashMap::from([(BOB, PresenceState { state, last_seen_at })]),
    };
    frames.extend([
        ("gap", text(push::push("gap", Gap { c: C, from: Seq(5), to: Seq(9) }))),
        ("head", text(push::push("head", Head { c: C, seq: Seq(9) }))),
        ("rcpt", text(push::push("rcpt", Receipts { c: C, marks }))),
        ("typ", text(push::push("typ", Typing { c: C, user: BOB, on: true }))),
        ("pres", text(push::push("pres", states(Presence::Online, None)))),
        ("conv", text(push::push("conv", ListChange { c: C, change: ListChangeKind::Joined, seq: Seq(2) }))),
        ("conv", text(push::push("conv", ListChange { c: C, change: ListChangeKind::Left, seq: Seq(8) }))),
        ("conv", text(push::push("conv", ListChange { c: C, change: ListChangeKind::Read, seq: Seq(7) }))),
        ("token", text(push::push("token", TokenEnding { expires_at: AT }))),
        ("bye", text(push::push("bye", Bye::of(CloseCode::Drain)))),
        ("bye", text(push::push("bye", Bye { after_ms: Some(3170), to: Some("wss://b".into()), ..Bye::of(moved) }))),
    ]);
    let mut shown: Vec<_> = frames.iter().map(|(name, _)| *name).collect();
    shown.dedup();
    assert_eq!(shown, push::NAMES, "every push has its line, in the order of push::NAMES");
    for (name, frame) in &frames {
        let read: ServerFrame<'_> = serde_json::from_str(frame).unwrap();
        assert_eq!((read.t.as_deref(), read.id), (Some(*name), None));
    }
    same_again::<Receipts>(&content(&frames[9].1));
    same_again::<Bye>(&content(&frames[17].1));
    snapshot!(lines(frames));
}

fn body<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap();
    let again: T = request::read(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    json
}

#[test]
fn rest_requests() {
    let (username, password) = ("ann".to_owned(), "correct horse".to_owned());
    let register = rest::Register {
        username,
        password: password.clone(),
        display_name: Some("Ann".into()),
        email: Some("ann@example.org".into()),
        device: Some(device()),
        device_name: Some("phone".into()),
    };
    let login = rest::Login { login: "ann".into(), password, device: None, device_name: None };
    let group = rest::CreateConversation { kind: Kind::Group, title: Some("Crew".into()), members: vec![BOB] };
    let direct = rest::CreateConversation { kind: Kind::Direct, title: None, members: vec![BOB] };
    let message = rest::PostMessage { cid: Some(cid("k")), base: Some(Seq(1)), post: post() };
    snapshot!(lines([
        ("POST auth/register", body(&register)),
        ("POST auth/login", body(&login)),
        ("POST auth/refresh", body(&rest::Refresh { refresh_token: "r".into() })),
        ("POST auth/password", body(&rest::ChangePassword { old: "a".into(), new: "b".into() })),
        ("PATCH users/me", body(&rest::UserChange { display_name: Some("Ann B".into()) })),
        ("POST conversations", body(&group)),
        ("POST conversations", body(&direct)),
        ("PATCH conversations/{id}", body(&rest::ConversationChange { title: Some("Crew 2".into()) })),
        ("POST conversations/{id}/members", body(&rest::AddMembers { users: vec![BOB] })),
        ("PATCH conversations/{id}/members/{user}", body(&rest::ChangeRole { role: Role::Owner })),
        ("POST conversations/{id}/messages", body(&message)),
        ("POST conversations/{id}/messages", body(&rest::PostMessage { cid: None, base: None, post: words("hi") })),
        ("POST conversations/{id}/read", body(&rest::ReadUpTo { seq: Seq(9) })),
    ]));
}

#[test]
fn rest_answers() {
    let tokens = rest::Tokens { access_token: "a".into(), expires_in: 900, refresh_token: "r".into() };
    let me = rest::User {
        id: ANN,
        username: "ann".into(),
        display_name: "Ann".into(),
        email: Some("ann@example.org".into()),
        created_at: AT,
    };
    let other = rest::User { email: None, ..me.clone() };
    let session = rest::Session {
        id: SESSION,
        device: Some(device()),
        device_name: None,
        created_at: AT,
        last_seen_at: AT,
        current: true,
    };
    let last = View::Post(PostView { c: C, seq: Seq(9), post_no: 4, from: BOB, cid: None, at: AT, post: words("hi") });
    let conversation = rest::Conversation {
        id: C,
        kind: Kind::Direct,
        title: None,
        with: Some(BOB),
        members_count: 2,
        head: Seq(9),
        head_post: 4,
        read: Seq(7),
        unread: 1,
        last: Some(last),
        role: Role::Member,
        created_at: AT,
    };
    let member = rest::Member { user: BOB, role: Role::Member, joined_seq: Seq(1) };
    let failure = Error::new(Code::RateLimited, "too many sign-ins").after_ms(1500);
    let bad = Error::field("username", "too short");
    snapshot!(lines([
        ("POST auth/login", body(&rest::SignedIn { user: me.clone(), session: SESSION, tokens: tokens.clone() })),
        ("POST auth/refresh", body(&tokens)),
        ("POST auth/ticket", body(&rest::Ticket { ticket: "t".into(), expires_in: 30 })),
        ("GET auth/sessions", body(&rest::List { items: vec![session], next: None })),
        ("GET users/me", body(&me)),
        ("GET users/{id}", body(&other)),
        ("GET conversations", body(&rest::List { items: vec![conversation], next: Some("n".into()) })),
        ("GET conversations/{id}/members", body(&rest::List { items: vec![member], next: None })),
        ("429", body(&rest::Failure::of(&failure, "r_1".into(), AT))),
        ("400", body(&rest::Failure::of(&bad, "r_2".into(), AT))),
    ]));
}

#[test]
fn errors() {
    let rows = Code::ALL.iter().map(|code| {
        let word = serde_json::to_string(code).unwrap();
        assert_eq!(word, format!("{:?}", code.as_str()));
        assert_eq!(serde_json::from_str::<Code>(&word).unwrap(), *code);
        (code.as_str(), format!("{} retry {}", code.status(), code.retry()))
    });
    snapshot!(lines(rows));
}

#[test]
fn close_codes() {
    let rows: BTreeMap<u16, String> = CloseCode::ALL
        .iter()
        .map(|code| {
            let number = u16::from(*code);
            assert_eq!(CloseCode::try_from(number), Ok(*code));
            (number, format!("{} reconnect {}", code.reason(), code.reconnect()))
        })
        .collect();
    assert!(CloseCode::try_from(4007).is_err());
    snapshot!(rows.iter().map(|(number, row)| format!("{number}: {row}\n")).collect::<String>());
}
