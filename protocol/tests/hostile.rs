//! Whatever arrives, reading it ends in a value or in an error that helps; it never panics.
#![allow(clippy::unwrap_used)]

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    Body, ClientId, Code, ConversationId, DeviceId, Error, Event, EventId, Millis, Post, Seq, UserId, limits,
    push::{self, ServerFrame},
    request::{Bad, Incoming, Page, Verb, decode, read, split},
    rest,
};
use serde_json::{Value, json};

const C: &str = "c_c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";
const U: &str = "u_a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

fn refused(frame: &Value) -> Error {
    match decode(&frame.to_string()) {
        Err(Bad::Refused { error, .. }) => error,
        other => panic!("{frame} gave {other:?}"),
    }
}

/// Refused as `bad_field` with exactly this field.
fn bad_field(t: &str, d: Value, field: &str) {
    let error = refused(&json!({"t": t, "id": 1, "d": d}));
    assert_eq!((error.code, error.field.as_deref()), (Code::BadField, Some(field)), "{t} {d}: {error}");
}

fn undecodable(frame: &str) {
    match decode(frame) {
        Err(Bad::Undecodable(error)) => assert_eq!((error.code, error.field), (Code::BadFrame, None)),
        other => panic!("{frame} gave {other:?}"),
    }
}

#[test]
fn a_missing_field_is_named() {
    bad_field("send", json!({"cid": "1"}), "c");
    bad_field("send", json!({"c": C}), "cid");
    bad_field("auth", json!({}), "token");
    bad_field("read", json!({"c": C}), "seq");
    bad_field("typ", json!({"c": C}), "on");
    bad_field("pres", json!({}), "state");
    bad_field("watch", json!({}), "users");
    bad_field("open", json!({}), "c");
    let no_d = refused(&json!({"t": "hist", "id": 1}));
    assert_eq!((no_d.code, no_d.field.as_deref()), (Code::BadField, Some("c")));
}

#[test]
fn a_wrong_field_is_named_wherever_it_stands() {
    bad_field("send", json!({"c": "x", "cid": "1", "text": "hi"}), "c");
    bad_field("send", json!({"c": C, "cid": "", "text": "hi"}), "cid");
    bad_field("send", json!({"c": C, "cid": "x".repeat(65), "text": "hi"}), "cid");
    bad_field("send", json!({"c": C, "cid": "a\tb", "text": "hi"}), "cid");
    bad_field("send", json!({"c": C, "cid": "1", "text": 5}), "text");
    bad_field("send", json!({"c": C, "cid": "1", "text": "hi", "reply_to": "3"}), "reply_to");
    bad_field("send", json!({"c": C, "cid": "1", "text": "hi", "mentions": [U, "u_"]}), "mentions[1]");
    bad_field("send", json!({"c": C, "cid": "1", "text": "hi", "base": -1}), "base");
    bad_field("hist", json!({"c": C, "before": 1.5}), "before");
    bad_field("hist", json!({"c": C, "limit": "50"}), "limit");
    bad_field("sync", json!({"list": {"limit": -1}}), "list.limit");
    bad_field("sync", json!({"have": {"c_A": 1}}), "have.c_A");
    bad_field("hello", json!({"device": "x".repeat(65)}), "device");
    bad_field("pres", json!({"state": "busy"}), "state");
    bad_field("watch", json!({"users": "u_"}), "users");
    for d in [json!([]), json!([C, 5]), json!("x"), json!(5), json!(true)] {
        bad_field("read", d, "d");
    }
    let body = read::<rest::PostMessage>(r#"{"text": "hi", "reply_to": []}"#).unwrap_err();
    assert_eq!((body.code, body.field.as_deref()), (Code::BadField, Some("reply_to")));
}

#[test]
fn integers_stay_below_2_to_the_53() {
    let good = json!({"t": "read", "id": 1, "d": {"c": C, "seq": limits::INTEGER_MAX}});
    assert!(decode(&good.to_string()).is_ok());
    bad_field("read", json!({"c": C, "seq": 1_u64 << 53}), "seq");
    bad_field("read", json!({"c": C, "seq": 1_u64 << 60}), "seq");
    bad_field("ack", json!({"c": C, "seq": u64::MAX}), "seq");
    bad_field("hist", json!({"c": C, "before": 1_u64 << 60}), "before");
    bad_field("send", json!({"c": C, "cid": "1", "text": "hi", "base": 1_u64 << 60}), "base");
    bad_field("sync", json!({"have": {C: 1_u64 << 60}}), &format!("have.{C}"));
    assert_eq!(read::<rest::ReadUpTo>(r#"{"seq": 18446744073709551616}"#).unwrap_err().field.as_deref(), Some("seq"));
    assert_eq!(read::<rest::ReadUpTo>(r#"{"seq": 1e999}"#).unwrap_err().field.as_deref(), Some("seq"));
}

#[test]
fn request_ids_lie_between_1_and_2_to_the_31_less_1() {
    let frame = |id: &str| format!(r#"{{"t":"auth","id":{id},"d":{{"token":"x"}}}}"#);
    for id in ["1", "2147483647"] {
        assert!(matches!(decode(&frame(id)), Ok(Incoming::Request { id: Some(_), .. })));
    }
    assert!(matches!(decode(&frame("null")), Ok(Incoming::Request { id: None, .. })));
    for id in ["0", "-1", "2147483648", "4294967296", "1.5", "\"1\"", "[]"] {
        undecodable(&frame(id));
    }
}

#[test]
fn what_is_not_a_frame_is_undecodable() {
    for frame in [
        "",
        "x",
        "[]",
        "null",
        "5",
        "\"send\"",
        "{",
        "{\"t\":",
        "{}{}",
        "{\"d\":{}}",
        "{\"t\":null,\"d\":{}}",
        "{\"t\":5}",
        "{\"t\":\"read\",\"t\":\"ack\"}",
        "[\"send\",1,{}]",
        "{\"t\":\"\u{0}\"}",
        "{\"t\":\"\\ud800\"}",
    ] {
        undecodable(frame);
    }
}

#[test]
fn an_empty_object_is_the_answer_to_a_ping() {
    for pong in ["{}", " { } ", "{\t}"] {
        assert_eq!(decode(pong), Ok(Incoming::Pong));
    }
    assert!(serde_json::from_str::<ServerFrame<'_>>(push::PING).unwrap().t.is_none());
}

#[test]
fn an_unknown_verb_is_answered_and_not_counted() {
    for t in ["edit", "del", "react", "pin", "", "Send", &"x".repeat(1000)] {
        let error = refused(&json!({"t": t, "id": 1, "d": {"any": ["thing"]}}));
        assert_eq!((error.code, error.field), (Code::UnknownType, None));
        assert!(error.message.len() < 100, "a verb is not echoed at its length");
    }
}

#[test]
fn unknown_keys_are_ignored_at_every_level() {
    let plain = json!({"t": "send", "id": 1, "d": {"c": C, "cid": "1", "text": "hi"}});
    let more = json!({"t": "send", "id": 1, "trace": [1], "d": {"c": C, "cid": "1", "text": "hi", "kind": 7, "x": {}}});
    assert_eq!(decode(&plain.to_string()).unwrap(), decode(&more.to_string()).unwrap());
    let hist = json!({"t": "hist", "d": {"c": C, "at": 5, "list": {"x": 1}}});
    assert!(decode(&hist.to_string()).is_ok());
    let push: ServerFrame<'_> = serde_json::from_str(r#"{"t":"new","x":1,"d":{"y":2}}"#).unwrap();
    assert_eq!(push.t.as_deref(), Some("new"));
}

#[test]
fn a_key_given_twice_is_refused_except_within_opaque_values() {
    let frame = |d: &str| decode(&format!(r#"{{"t":"send","id":1,"d":{d}}}"#));
    let Err(Bad::Refused { error, .. }) = frame(&format!(r#"{{"c":"{C}","cid":"1","cid":"2","text":"hi"}}"#)) else {
        panic!("a doubled key was read");
    };
    assert_eq!((error.code, error.field.as_deref()), (Code::BadField, Some("cid")));
    let d = format!(r#"{{"c":"{C}","cid":"1","text":"hi","meta":{{"a":1,"a":2}}}}"#);
    let Ok(Incoming::Request { verb: Verb::Send(send), .. }) = frame(&d) else { panic!("meta is opaque") };
    assert_eq!(send.post.meta, Some(json!({"a": 2})), "the last one counts");
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let frame = |d: &str| decode(&format!(r#"{{"t":"send","id":1,"d":{d}}}"#));
    for levels in [200, 30_000] {
        let d = format!(r#"{{"c":"{C}","cid":"1","text":"hi","meta":{{"a":{}}}}}"#, nested(levels));
        let Err(Bad::Refused { error, .. }) = frame(&d) else { panic!("{levels} levels were read") };
        let field = error.field.unwrap();
        assert!(error.code == Code::BadField && field.starts_with("meta.a[0]") && field.len() <= 200, "{field}");
        undecodable(&nested(levels));
        // ignored, so it does not matter
        let d = format!(r#"{{"c":"{C}","cid":"1","text":"hi","x":{}}}"#, nested(levels));
        let _ = frame(&d);
    }
    let post =
        |levels: usize| Post { attachments: vec![serde_json::from_str(&nested(levels)).unwrap()], ..Post::default() };
    assert_eq!(post(limits::NESTING_MAX).check(10), Ok(()));
    assert_eq!(post(limits::NESTING_MAX + 1).check(10).unwrap_err().field.as_deref(), Some("attachments"));
}

#[test]
fn what_is_not_json_is_a_bad_frame_in_rest_too() {
    for text in ["{", "{\"seq\":", "{\"seq\":5} x", "{\"seq\":5}{}", "{seq:5}"] {
        assert_eq!(read::<rest::ReadUpTo>(text).unwrap_err().code, Code::BadFrame, "{text}");
    }
    let long = format!(r#"{{"seq":"{}"}}"#, "x".repeat(10_000));
    assert!(read::<rest::ReadUpTo>(&long).unwrap_err().message.len() <= 200);
}

#[test]
fn a_post_says_something_within_its_bounds() {
    let text = |text: &str| Post { text: Some(text.into()), ..Post::default() };
    let check = |post: Post| post.check(5).map_err(|e| (e.code, e.field.unwrap()));
    let bad = |field: &str| Err((Code::BadField, field.to_owned()));
    let user: UserId = U.parse().unwrap();
    assert_eq!(check(text("hi")), Ok(()));
    assert_eq!(check(text("ééééé")), Ok(()), "characters, not bytes");
    assert_eq!(check(text("éééééé")), Err((Code::TooLarge, "text".into())));
    assert_eq!(check(Post { attachments: vec![json!({})], ..Post::default() }), Ok(()));
    assert_eq!(check(Post::default()), bad("text"));
    assert_eq!(check(text("")), bad("text"));
    assert_eq!(check(Post { reply_to: Some(Seq(0)), ..text("hi") }), bad("reply_to"));
    assert_eq!(check(Post { mentions: vec![user; limits::POST_ITEMS_MAX], ..text("hi") }), Ok(()));
    assert_eq!(check(Post { mentions: vec![user; limits::POST_ITEMS_MAX + 1], ..text("hi") }), bad("mentions"));
    let attachments = vec![json!(1); limits::POST_ITEMS_MAX + 1];
    assert_eq!(check(Post { attachments, ..text("hi") }), bad("attachments"));
    assert_eq!(check(Post { meta: Some(json!([])), ..text("hi") }), bad("meta"));
    assert_eq!(check(Post { meta: Some(json!({})), ..text("hi") }), Ok(()));
}

#[test]
fn a_page_has_one_bound_and_a_limit_up_to_200() {
    let check = |page: Page| page.check().map_err(|e| e.field.unwrap());
    let seq = Some(Seq(5));
    assert_eq!(check(Page::default()), Ok(()));
    for limit in [1, 200] {
        assert_eq!(check(Page { limit: Some(limit), around: seq, ..Page::default() }), Ok(()));
    }
    for limit in [0, 201, usize::MAX] {
        assert_eq!(check(Page { limit: Some(limit), ..Page::default() }), Err("limit".into()));
    }
    assert_eq!(check(Page { before: seq, after: seq, ..Page::default() }), Err("after".into()));
    assert_eq!(check(Page { before: seq, around: seq, ..Page::default() }), Err("around".into()));
}

#[test]
fn other_verbs_have_bounds_too() {
    let check = |t: &str, d: Value| match decode(&json!({"t": t, "d": d}).to_string()) {
        Ok(Incoming::Request { verb, .. }) => verb.check(8000).map_err(|e| e.field.unwrap()),
        other => panic!("{other:?}"),
    };
    assert_eq!(check("watch", json!({"users": vec![U; 200]})), Ok(()));
    assert_eq!(check("watch", json!({"users": vec![U; 201]})), Err("users".into()));
    assert_eq!(check("sync", json!({"list": {"limit": 100}})), Ok(()));
    assert_eq!(check("sync", json!({"list": {"limit": 101}})), Err("list.limit".into()));
    assert_eq!(check("pres", json!({"state": "offline"})), Err("state".into()));
    assert_eq!(check("hello", json!({"app": "x".repeat(201)})), Err("app".into()));
    assert_eq!(check("hello", json!({"caps": vec!["x"; 33]})), Err("caps".into()));
    assert_eq!(check("hello", json!({"caps": ["x".repeat(33)]})), Err("caps".into()));
}

#[test]
fn what_a_later_release_stored_is_kept() {
    let later = |kind: u8, bytes: &[u8]| {
        let body = Body::decode(kind, bytes).unwrap();
        assert_eq!(body, Body::Other { kind, bytes: bytes.to_vec() });
        assert_eq!((body.kind(), body.encode(), body.name()), (kind, bytes.to_vec(), None));
    };
    later(7, b"\x01{\"new\":true}");
    later(200, b"\x01");
    later(0, b"\x02anything");
    later(3, b"\x00\xff");
    for envelope in [&b""[..], b"\x01", b"\x01{}", b"\x02{\"text\":\"\"}"] {
        let frame = push::message(ConversationId([0; 16]), Seq(1), 1, UserId([0; 16]), None, Millis(0), envelope);
        assert_eq!(frame, None, "shown to nobody");
    }
    assert!(Body::decode(0, b"").is_err());
    assert!(Body::decode(0, b"\x01not json").is_err());
    assert!(Body::decode(2, b"\x01{}").is_err());
}

fn weird_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC*",
        vec(any::<char>(), 0..40).prop_map(String::from_iter),
        Just("\u{2028}\u{2029}\u{0}\u{7f}\"\\/\n\r\t\u{feff}\u{202e}</script>".to_owned()),
    ]
}

fn opaque() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        weird_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((weird_text(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn post() -> impl Strategy<Value = Post> {
    (
        option::of(weird_text().prop_filter("empty is none", |text| !text.is_empty())),
        option::of((0..1_u64 << 53).prop_map(Seq)),
        vec(any::<[u8; 16]>().prop_map(UserId), 0..3),
        vec(opaque(), 0..3),
        option::of(opaque().prop_filter("null is absent", |value| !value.is_null())),
    )
        .prop_map(|(text, reply_to, mentions, attachments, meta)| Post {
            text,
            reply_to,
            mentions,
            attachments,
            meta,
        })
}

proptest! {
    #[test]
    fn a_post_is_one_object_on_every_path(
        post in post(), seq in 1..1_u64 << 53, post_no in 1..1_u64 << 53, at in 0..1_u64 << 53,
        cid in option::of("\\PC{1,16}".prop_filter_map("an id", |text| ClientId::try_from(text).ok())),
    ) {
        let (c, by) = (ConversationId([3; 16]), UserId([4; 16]));
        let (seq, at, body) = (Seq(seq), Millis(at), Body::Post(post));
        let envelope = body.encode();
        let live = push::message(c, seq, post_no, by, cid.as_ref(), at, &envelope).unwrap();
        prop_assert!(!live.contains(&b'\n'), "frames are joined by line feeds");
        // what history shows was read from the store
        let body = Body::decode(0, &envelope).unwrap();
        prop_assert_eq!(body.encode(), envelope);
        let event = Event { seq, id: EventId([0; 16]), by, cid, request_hash: [0; 16], at, post_no, body };
        let view = event.view(c).unwrap();
        prop_assert_eq!(&live, &push::event(&view));
        let frame: ServerFrame<'_> = serde_json::from_slice(&live).unwrap();
        let read: protocol::event::View = serde_json::from_str(frame.d.unwrap().get()).unwrap();
        prop_assert_eq!(read, view);
    }

    #[test]
    fn arbitrary_text_is_read_or_refused(text in "\\PC*", bytes in vec(any::<u8>(), 0..200)) {
        for frame in split(&text).chain([text.as_str(), &String::from_utf8_lossy(&bytes)]) {
            let _ = decode(frame);
            let _ = read::<rest::Register>(frame);
            let _ = read::<rest::PostMessage>(frame);
            let _ = serde_json::from_str::<ServerFrame<'_>>(frame);
            let _ = frame.parse::<UserId>();
            let _ = format!("u_{frame}").parse::<UserId>();
            let _ = ClientId::try_from(frame.to_owned());
            let _ = DeviceId::try_from(frame.to_owned());
        }
        let _ = serde_json::from_slice::<ServerFrame<'_>>(&bytes);
    }

    #[test]
    fn arbitrary_content_under_a_known_verb_is_read_or_refused(
        verb in prop::sample::select(Verb::NAMES), id in any::<u32>(), d in opaque(),
    ) {
        match decode(&json!({"t": verb, "id": id, "d": d}).to_string()) {
            Ok(Incoming::Request { verb, .. }) => { let _ = verb.check(8000); }
            Ok(Incoming::Pong) => prop_assert!(false, "a verb is not a pong"),
            Err(_) => {}
        }
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused(
        post in post(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut d = serde_json::to_value(&post).unwrap();
        d["c"] = json!(C);
        d["cid"] = json!("1");
        let mut frame = json!({"t": "send", "id": 1, "d": d}).to_string().into_bytes();
        let _ = decode(&String::from_utf8_lossy(&frame[..cut.index(frame.len())]));
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = decode(&String::from_utf8_lossy(&frame));
    }

    #[test]
    fn arbitrary_bytes_are_an_event_or_an_error(kind in 0..10_u8, version in 0..3_u8, bytes in vec(any::<u8>(), 0..200)) {
        let mut envelope = vec![version];
        envelope.extend(bytes);
        if let Ok(body) = Body::decode(kind, &envelope) {
            prop_assert_eq!(body.kind(), kind);
        }
    }

    #[test]
    fn frames_joined_by_line_feeds_come_apart_again(texts in vec(weird_text(), 0..6)) {
        let user = UserId([1; 16]);
        let frames: Vec<String> = texts
            .iter()
            .map(|text| json!({"t": "auth", "d": {"token": text, "u": user}}).to_string())
            .collect();
        let joined = frames.join("\n");
        prop_assert_eq!(split(&joined).collect::<Vec<_>>(), frames.iter().map(String::as_str).collect::<Vec<_>>());
        let padded = format!("\r\n\n {}\r\n\n", frames.join("\r\n"));
        prop_assert_eq!(split(&padded).count(), frames.len());
        for (frame, token) in split(&joined).zip(texts) {
            let expected = Verb::Auth(protocol::request::Auth { token });
            prop_assert_eq!(decode(frame), Ok(Incoming::Request { id: None, verb: expected }));
        }
    }

    #[test]
    fn an_id_has_one_spelling(bytes in any::<[u8; 16]>()) {
        let id = UserId(bytes);
        let text = id.to_string();
        prop_assert_eq!(text.parse::<UserId>(), Ok(id));
        prop_assert!(text.to_uppercase().parse::<UserId>().is_err());
        prop_assert!(text.replacen('u', "c", 1).parse::<UserId>().is_err());
        prop_assert!(text[..33].parse::<UserId>().is_err());
        prop_assert!((text + "0").parse::<UserId>().is_err());
    }
}
