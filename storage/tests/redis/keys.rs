//! What is kept, and for how long.

use std::collections::BTreeMap;

use ::redis::pipe;
use protocol::{Millis, SessionId};
use storage::redis::inspect;

use crate::server::{FAMILY, Server, begin, connect, rotate, ticket};

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn every_key_begins_with_the_prefix_and_ends_by_itself() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    begin(&store).await;
    rotate(&store, 1, 0).await.unwrap();
    store.tokens.put_ticket([0xab; 32], ticket(), Millis(0)).await.unwrap();
    store.tokens.revoke(SessionId([9; 16]), Millis(1000), Millis(901_000)).await.unwrap();
    let rate = storage::tokens::Rate { count: 5, period_ms: 60_000, burst: 5 };
    store.tokens.take("login:a:192.0.2.1", rate, Millis(0)).await.unwrap().unwrap();
    let mut kept = BTreeMap::new();
    for key in server.run::<Vec<String>>("KEYS *").await {
        let ttl_ms: u64 = server.run(&format!("PTTL {key}")).await;
        kept.insert(key, ttl_ms);
    }
    let expected = [
        ("t:probe".to_owned(), 1000),
        ("t:revoked".to_owned(), 900_000 + 2 * HOUR_MS),
        ("t:rl:login:a:192.0.2.1".to_owned(), 12_000 + 60_000),
        (format!("t:rt:{FAMILY}"), 60_000 + 2 * HOUR_MS),
        (format!("t:ticket:{}", "ab".repeat(32)), 30_000 + 2 * HOUR_MS),
    ];
    // the probe may have gone by now
    for (key, ttl_ms) in &expected[1..] {
        let found = kept.remove(key).unwrap_or_else(|| panic!("no {key}: {kept:?}"));
        assert!((ttl_ms - 10_000..=*ttl_ms).contains(&found), "{key}: {found} ms");
    }
    assert!(kept.keys().all(|key| *key == expected[0].0), "{kept:?}");
}

#[tokio::test]
async fn revocations_that_do_not_matter_any_more_make_room() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    for n in 0..200_u64 {
        let session = SessionId(u128::from(n).to_be_bytes());
        store.tokens.revoke(session, Millis(1000 + n), Millis(1000 + n + 50)).await.unwrap();
    }
    let kept: u64 = server.run("ZCARD t:revoked").await;
    assert!((50..=51).contains(&kept), "{kept}");
}

#[tokio::test]
async fn many_revocations_of_one_moment_are_all_read() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    let written: Vec<_> = (0..12_000_u128).map(|n| SessionId(n.to_be_bytes())).collect();
    let mut add = pipe();
    for (n, session) in written.iter().enumerate() {
        // a few before, most at once, a few after
        let at = if n < 10 { 1 } else { 2 + n / 11_990 };
        add.cmd("ZADD").arg("t:revoked").arg(at).arg(format!("{session}:9000")).ignore();
    }
    add.exec_async(&mut server.connection().await).await.unwrap();
    let read = async |since| store.tokens.revoked(Millis(since), Millis(0)).await.unwrap();
    let written: Vec<_> = written.into_iter().map(|session| (session, Millis(9000))).collect();
    assert_eq!(read(0).await, written);
    assert_eq!(read(2).await, written[10..]);
}

#[tokio::test]
async fn a_check_says_what_would_be_lost_and_how_long_a_call_takes() {
    let server = Server::start().await;
    let found = async || {
        let findings = inspect(&server.settings()).await;
        findings.into_iter().map(|finding| (finding.name, finding.outcome)).collect::<BTreeMap<_, _>>()
    };
    let good = found().await;
    assert!(good["reachable"].as_ref().is_ok_and(|said| said.contains("answers, Redis ")), "{good:?}");
    assert!(good["round trip"].as_ref().is_ok_and(|said| said.contains(" ms ")), "{good:?}");
    assert!(good["persistence"].as_ref().is_ok_and(|said| said.contains("sign in again")), "{good:?}");
    server.run::<()>("CONFIG SET maxmemory 100mb").await;
    server.run::<()>("CONFIG SET maxmemory-policy allkeys-lru").await;
    assert!(found().await["memory"].as_ref().is_err_and(|said| said.contains("set noeviction")));
    server.run::<()>("CONFIG SET maxmemory-policy noeviction").await;
    server.run::<()>("CONFIG SET appendonly yes").await;
    let good = found().await;
    assert!(good.values().all(Result::is_ok), "{good:?}");
    assert!(good["persistence"].as_ref().is_ok_and(|said| said.contains("signs nobody out")), "{good:?}");
}
