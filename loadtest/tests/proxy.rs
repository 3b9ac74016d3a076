//! Does the wire do to bytes what it says, and nothing else? Against a server that says again whatever it hears.
#![allow(clippy::unwrap_used)]

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use loadtest::proxy::{Delay, Fault, Odds, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const A_MOMENT: Duration = Duration::from_millis(100);

async fn echo() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn wire() -> Proxy {
    Proxy::start(&echo().await).await.unwrap()
}

async fn cql_wire(odds: Odds) -> Proxy {
    let wire = Proxy::start_cql(&echo().await, 7).await.unwrap();
    wire.cql_odds(odds);
    wire
}

async fn connect(wire: &Proxy) -> TcpStream {
    TcpStream::connect(wire.address()).await.unwrap()
}

/// Says something and hears it again.
async fn talk(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).await.unwrap();
    assert_eq!(hear(stream, words.len()).await, words);
}

async fn hear(stream: &mut TcpStream, n_bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; n_bytes];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    heard
}

async fn silence(stream: &mut TcpStream) {
    assert!(timeout(A_MOMENT, stream.read_u8()).await.is_err());
}

/// The connection ends roughly, not with a farewell.
async fn reset(stream: &mut TcpStream) {
    let ended = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
}

async fn until_refused(wire: &Proxy) {
    let refused = async {
        while TcpStream::connect(wire.address()).await.map_err(|e| e.kind()).err() != Some(ErrorKind::ConnectionRefused)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

async fn until_accepted(wire: &Proxy) -> TcpStream {
    let accepted = async {
        loop {
            match TcpStream::connect(wire.address()).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(PATIENCE, accepted).await.unwrap()
}

#[tokio::test]
async fn bytes_pass_unchanged_and_an_end_is_passed_on() {
    let wire = wire().await;
    let mut stream = connect(&wire).await;
    let words: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let (mut from, mut to) = stream.split();
    let mut heard = vec![0; words.len()];
    let (said, read) = tokio::join!(to.write_all(&words), timeout(PATIENCE, from.read_exact(&mut heard)));
    said.unwrap();
    read.unwrap().unwrap();
    assert!(heard == words);
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_cut_resets_refuses_and_can_be_mended_on_the_same_port() {
    let wire = wire().await;
    let mut stream = connect(&wire).await;
    talk(&mut stream, b"before").await;
    for _ in 0..3 {
        wire.set(Fault::Cut);
        reset(&mut stream).await;
        until_refused(&wire).await;
        wire.set(Fault::None);
        stream = until_accepted(&wire).await;
        talk(&mut stream, b"after").await;
    }
}

#[tokio::test]
async fn a_stalled_wire_accepts_and_keeps_what_is_said_for_later() {
    let wire = wire().await;
    let mut old = connect(&wire).await;
    talk(&mut old, b"before").await;
    wire.set(Fault::Stalled);
    let mut new = connect(&wire).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"patience").await.unwrap();
        silence(stream).await;
    }
    wire.set(Fault::None);
    for stream in [&mut old, &mut new] {
        assert_eq!(hear(stream, 8).await, b"patience");
    }
}

#[tokio::test]
async fn a_deaf_wire_brings_what_the_server_says_when_it_is_mended() {
    let wire = wire().await;
    let mut stream = connect(&wire).await;
    wire.set(Fault::Deaf);
    stream.write_all(b"patience").await.unwrap();
    silence(&mut stream).await;
    wire.set(Fault::None);
    assert_eq!(hear(&mut stream, 8).await, b"patience");
}

#[tokio::test]
async fn what_is_swallowed_never_comes_and_ends_the_connection() {
    let wire = wire().await;
    let mut stream = connect(&wire).await;
    talk(&mut stream, b"before").await;
    wire.set(Fault::Swallowing);
    stream.write_all(b"lost").await.unwrap();
    silence(&mut stream).await;
    wire.set(Fault::None);
    reset(&mut stream).await;
    talk(&mut connect(&wire).await, b"after").await;
}

#[tokio::test]
async fn delays_add_up_over_both_directions_and_keep_the_order() {
    let wire = wire().await;
    let (fixed, jitter) = (Duration::from_millis(30), Duration::from_millis(20));
    wire.delay(Delay { fixed, jitter });
    let mut stream = connect(&wire).await;
    let begun = Instant::now();
    for word in 0..50_u8 {
        stream.write_all(&[word; 100]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let heard = hear(&mut stream, 5000).await;
    assert!(begun.elapsed() >= 2 * fixed, "{:?}", begun.elapsed());
    assert!(heard.is_sorted());
}

/// A frame of version 4.
fn frame(stream: u16, opcode: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = stream.to_be_bytes();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x84, 0, high, low, opcode], &length[..], body].concat()
}

const RESULT: u8 = 0x08;
const BATCH: u8 = 0x0d;
/// Rows with one column, of a table `t` of the keyspace `k`.
const APPLIED: &[u8] = b"\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x01k\0\x01t\0\x09[applied]\0\x04\0\0\0\x01\0\0\0\x01\x01";

#[tokio::test]
async fn only_replies_to_conditional_statements_are_swallowed_and_the_rest_goes_on() {
    let wire = cql_wire(Odds { swallowed_per_mille: 1000, ..Odds::default() }).await;
    let mut stream = connect(&wire).await;
    let void = frame(2, RESULT, &[0, 0, 0, 1]);
    let frames = [frame(1, RESULT, APPLIED), void.clone(), frame(3, RESULT, APPLIED), void.clone()].concat();
    stream.write_all(&frames).await.unwrap();
    assert_eq!(hear(&mut stream, 2 * void.len()).await, void.repeat(2));
    assert_eq!(wire.swallowed(), 2);
    wire.cql_odds(Odds::default());
    talk(&mut stream, &frames).await;
}

#[tokio::test]
async fn as_many_replies_are_swallowed_as_the_odds_say() {
    let wire = cql_wire(Odds { swallowed_per_mille: 50, ..Odds::default() }).await;
    let mut stream = connect(&wire).await;
    let end = frame(0, RESULT, &[0, 0, 0, 1]);
    let frames = [frame(1, RESULT, APPLIED).repeat(2000), end.clone()].concat();
    let (mut from, mut to) = stream.split();
    let hearing = async {
        let mut heard = Vec::new();
        while !heard.ends_with(&end) {
            from.read_buf(&mut heard).await.unwrap();
        }
    };
    let (said, heard) = tokio::join!(to.write_all(&frames), timeout(PATIENCE, hearing));
    said.unwrap();
    heard.unwrap();
    assert!((50..=150).contains(&wire.swallowed()), "{}", wire.swallowed());
}

#[tokio::test]
async fn a_late_batch_is_overtaken_and_arrives() {
    let wire = cql_wire(Odds { late_per_mille: 1000, late_by: A_MOMENT, ..Odds::default() }).await;
    let mut stream = connect(&wire).await;
    let (batch, other) = (frame(1, BATCH, b"slow"), frame(2, RESULT, b"fast"));
    stream.write_all(&[batch.clone(), other.clone()].concat()).await.unwrap();
    assert_eq!(hear(&mut stream, batch.len() + other.len()).await, [other, batch].concat());
}

#[tokio::test]
async fn what_is_not_cql_is_not_carried_over_a_wire_for_cql() {
    let wire = cql_wire(Odds::default()).await;
    let mut stream = connect(&wire).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(timeout(PATIENCE, stream.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
}
