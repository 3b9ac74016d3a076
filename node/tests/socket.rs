//! The WebSocket edge of the real binary: what is said before `hello`, liveness, closing, drain. What is said after
//! `hello` is tried elsewhere.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use loadtest::{
    Node, Socket, Target,
    socket::{Ended, Frame, Upgrade},
};
use support::{PATIENCE, answer, connect, get, http, node, post};

mod support;

async fn open(node: &Node, upgrade: Upgrade) -> Socket {
    Socket::connect(&Target::new(&node.client, None).unwrap(), &upgrade).await.unwrap()
}

/// A fresh account's access token.
fn token(node: &Node, name: &str) -> String {
    let body = format!(r#"{{"username":"{name}","password":"correct horse battery staple"}}"#);
    let answer = post(node.client_address(), "/v1/auth/register", &body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

async fn signed_in(node: &Node, name: &str) -> Socket {
    let mut socket = open(node, Upgrade::default()).await;
    let hello = format!(r#"{{"t":"hello","id":1,"d":{{"token":"{}"}}}}"#, token(node, name));
    socket.send_text(hello).await.unwrap();
    let welcome = socket.next_frame(PATIENCE).await.unwrap();
    assert!(welcome.is("ok"), "{welcome:?}");
    socket
}

/// The server says `bye` and closes with the same code.
/// Waits until something is so that becomes so by itself.
fn eventually(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn closed_with(socket: &mut Socket, code: u16) {
    let bye = socket.expect(PATIENCE, |frame: &Frame| frame.is("bye")).await.unwrap();
    let content: serde_json::Value = bye.content().unwrap();
    assert_eq!(content["code"], code, "{bye:?}");
    assert_eq!(content["reconnect"], code < 4500, "{bye:?}");
    match socket.next_frame(PATIENCE).await {
        Err(Ended::Closed { code: closed, .. }) => assert_eq!(closed, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn silence_before_hello_is_closed_4008() {
    let (node, _dir) = node(&[("limits.hello_ms", "200")]);
    let started = Instant::now();
    closed_with(&mut open(&node, Upgrade::default()).await, 4008).await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    // counted once the client's close frame has come, so perhaps a moment after the client saw the server's
    eventually("counted", || {
        let metrics = get(node.admin_address(), "/metrics").body;
        metrics.contains("starling_connections_closed_total{code=\"4008\"} 1")
            && metrics.contains("starling_hello_total{result=\"hello timeout\"} 1")
    });
}

#[tokio::test]
async fn anything_but_hello_is_closed_4500_and_too_much_4509() {
    let (node, _dir) = node(&[]);
    for first in ["", "garbage", "{}", r#"{"t":"send","id":1,"d":{}}"#, r#"{"t":"dance","id":1}"#] {
        let mut socket = open(&node, Upgrade::default()).await;
        socket.send_text(first).await.unwrap();
        closed_with(&mut socket, 4500).await;
    }
    let mut socket = open(&node, Upgrade::default()).await;
    socket.send_binary(vec![0, 1, 2]).await.unwrap();
    closed_with(&mut socket, 4500).await;
    let mut socket = open(&node, Upgrade::default()).await;
    socket.send_text("x".repeat(70_000)).await.unwrap();
    closed_with(&mut socket, 4509).await;
    let mut socket = signed_in(&node, "ada").await;
    socket.send_text("x".repeat(70_000)).await.unwrap();
    closed_with(&mut socket, 4509).await;
}

#[tokio::test]
async fn bad_tokens_and_tickets_are_accepted_and_closed_4501() {
    let (node, _dir) = node(&[]);
    let bad = || Some("nonsense".to_owned());
    for upgrade in [Upgrade { bearer: bad(), ..Upgrade::default() }, Upgrade { ticket: bad(), ..Upgrade::default() }] {
        closed_with(&mut open(&node, upgrade).await, 4501).await;
    }
    let mut socket = open(&node, Upgrade::default()).await;
    socket.send_text(r#"{"t":"hello","id":1,"d":{"token":"nonsense"}}"#).await.unwrap();
    closed_with(&mut socket, 4501).await;
}

#[tokio::test]
async fn a_header_or_a_ticket_proves_who_it_is_and_a_ticket_only_once() {
    let (node, _dir) = node(&[]);
    let token = token(&node, "ada");
    let bearer = format!("Bearer {token}");
    let ticket = http(node.client_address(), "POST", "/v1/auth/ticket", &[("authorization", &bearer)], "");
    let ticket = ticket.json()["ticket"].as_str().map(str::to_owned);
    for upgrade in [
        Upgrade { bearer: Some(token), ..Upgrade::default() },
        Upgrade { ticket: ticket.clone(), ..Upgrade::default() },
    ] {
        let mut socket = open(&node, upgrade).await;
        socket.send_text(r#"{"t":"hello","id":1,"d":{}}"#).await.unwrap();
        assert!(socket.next_frame(PATIENCE).await.unwrap().is("ok"));
    }
    closed_with(&mut open(&node, Upgrade { ticket, ..Upgrade::default() }).await, 4501).await;
}

fn upgrade_request(headers: &str) -> String {
    format!(
        "GET /v1/ws HTTP/1.1\r\nhost: chat.example\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

#[test]
fn the_upgrade_is_checked_word_by_word() {
    let (node, _dir) = node(&[("auth.allowed_origins", "https://app.example")]);
    let status = |headers: &str| support::raw(node.client_address(), upgrade_request(headers).as_bytes()).status;
    const V: &str = "sec-websocket-version: 13\r\n";
    assert_eq!(status(V), 101, "no origin is no page");
    assert_eq!(status(&format!("{V}origin: http://chat.example\r\n")), 101);
    assert_eq!(status(&format!("{V}origin: https://app.example\r\n")), 101);
    assert_eq!(status(&format!("{V}origin: https://evil.example\r\n")), 403);
    assert_eq!(status(&format!("{V}origin: null\r\n")), 403);
    assert_eq!(status("sec-websocket-version: 8\r\n"), 426);
    let mut tcp = connect(node.client_address());
    tcp.write_all(upgrade_request(V).as_bytes()).unwrap();
    assert_eq!(answer(&mut tcp).header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn an_unknown_subprotocol_is_accepted_and_closed_4506() {
    let (node, _dir) = node(&[]);
    let ask = |name: &str| {
        let headers = format!("sec-websocket-version: 13\r\nsec-websocket-protocol: {name}\r\n");
        let mut tcp = connect(node.client_address());
        tcp.write_all(upgrade_request(&headers).as_bytes()).unwrap();
        let head = answer(&mut tcp);
        assert_eq!(head.status, 101);
        (tcp, head.header("sec-websocket-protocol").map(str::to_owned))
    };
    let (mut tcp, _) = ask("starling.v9.json");
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"{"t":"bye","d":{"code":4506"#), "{text}");
    assert!(bytes.windows(4).any(|w| w[0] == 0x88 && w[2..] == 4506_u16.to_be_bytes()), "the close frame");
    assert_eq!(ask("starling.v9.json, starling.v1.json").1.as_deref(), Some("starling.v1.json"));
}

#[test]
fn frames_sent_together_with_the_upgrade_are_heard() {
    let (node, _dir) = node(&[]);
    let mut tcp = connect(node.client_address());
    let hello = format!(r#"{{"t":"hello","id":1,"d":{{"token":"{}"}}}}"#, token(&node, "ada"));
    let mut bytes = upgrade_request("sec-websocket-version: 13\r\n").into_bytes();
    bytes.extend([0x81, 0x80 | 126]);
    bytes.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]); // a mask that changes nothing
    bytes.extend(hello.as_bytes());
    tcp.write_all(&bytes).unwrap();
    assert_eq!(answer(&mut tcp).status, 101);
    let mut head = [0; 2];
    tcp.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81, "a text frame: the welcome");
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_closed_4004_and_one_that_answers_is_not() {
    let (node, _dir) = node(&[("limits.ping_ms", "200"), ("limits.pong_ms", "300")]);
    let mut silent = signed_in(&node, "ada").await;
    let ping = silent.next_frame(PATIENCE).await.unwrap();
    assert_eq!((ping.t, ping.id), (None, None));
    closed_with(&mut silent, 4004).await;

    let mut lively = signed_in(&node, "bob").await;
    for _ in 0..5 {
        let ping = lively.next_frame(PATIENCE).await.unwrap();
        assert_eq!(ping.t, None, "{ping:?}");
        lively.send_text("{}").await.unwrap();
    }
}

#[tokio::test]
async fn broken_framing_is_told_and_half_a_frame_hurts_nobody() {
    let (node, _dir) = node(&[]);
    for (bytes, told) in
        [(&[0x81, 0x02, b'h', b'i'][..], true), (&[0xff, 0x80, 0, 0, 0, 0][..], true), (&[0x81, 0xfe], false)]
    {
        let mut tcp = connect(node.client_address());
        tcp.write_all(upgrade_request("sec-websocket-version: 13\r\n").as_bytes()).unwrap();
        assert_eq!(answer(&mut tcp).status, 101);
        tcp.write_all(bytes).unwrap();
        if told {
            let mut heard = Vec::new();
            tcp.read_to_end(&mut heard).unwrap();
            assert!(String::from_utf8_lossy(&heard).contains("\"code\":4500"), "{bytes:?}");
        }
    }
    signed_in(&node, "ada").await;
}

#[tokio::test]
async fn drain_says_bye_4001_and_exits_0() {
    let (mut node, _dir) = node(&[]);
    let mut sockets = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        sockets.push(signed_in(&node, name).await);
    }
    assert!(get(node.admin_address(), "/metrics").body.contains("starling_connections 3"));
    node.signal("TERM").unwrap();
    for socket in &mut sockets {
        closed_with(socket, 4001).await;
    }
    drop(sockets);
    let status = tokio::task::spawn_blocking(move || node.wait(PATIENCE).unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut node, _dir) = node(&[("drain.rate", "1")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _sockets = runtime.block_on(async { [signed_in(&node, "ada").await, signed_in(&node, "bob").await] });
    node.signal("TERM").unwrap();
    eventually("unready", || {
        let ready = get(node.admin_address(), "/ready");
        ready.status == 503 && ready.json()["reasons"][0] == "draining"
    });
    node.signal("INT").unwrap();
    assert_eq!(node.wait(PATIENCE).unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_drain_is_seen_and_can_be_taken_back_but_a_signals_cannot() {
    let (mut node, _dir) = node(&[("drain.rate", "1"), ("drain.deadline_ms", "600000")]);
    let mut sockets = Vec::new();
    for n in 0..8 {
        sockets.push(signed_in(&node, &format!("user{n}")).await);
    }
    let admin = node.admin_address().to_owned();
    assert_eq!(post(&admin, "/admin/drain", "").status, 202);
    closed_with(&mut sockets[0], 4001).await;
    let ready = get(&admin, "/ready");
    let (reasons, drain) = (&ready.json()["reasons"], &ready.json()["drain"]);
    assert_eq!((ready.status, reasons[0].as_str(), drain["state"].as_str()), (503, Some("draining"), Some("telling")));
    assert!(drain["told"].as_u64() >= Some(1) && drain["left"].as_u64() >= Some(1), "{drain}");
    assert!(get(&admin, "/metrics").body.contains("starling_drain_state 1"));
    let mut late = open(&node, Upgrade::default()).await;
    late.send_text(r#"{"t":"hello","id":1,"d":{"token":"any"}}"#).await.unwrap();
    closed_with(&mut late, 4001).await;

    assert_eq!(post(&admin, "/admin/undrain", "").status, 200);
    let ready = get(&admin, "/ready");
    assert_eq!((ready.status, &ready.json()["drain"]), (200, &serde_json::Value::Null), "{}", ready.body);
    signed_in(&node, "late").await;
    let last = &mut sockets[7];
    last.send_text(r#"{"t":"sync","id":2,"d":{}}"#).await.unwrap();
    assert!(last.next_frame(PATIENCE).await.unwrap().is("ok"), "nobody has told it to go");

    node.signal("TERM").unwrap();
    eventually("unready", || get(&admin, "/ready").status == 503);
    let refused = post(&admin, "/admin/undrain", "");
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("signal"), "{}", refused.body);
    node.signal("TERM").unwrap();
    assert_eq!(node.wait(PATIENCE).unwrap().code(), Some(1));
}
