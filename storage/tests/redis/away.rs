//! A Redis that is gone, stands still, or refuses to write: calls are refused at once, and work again by themselves.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use protocol::Millis;
use storage::{Error, tokens::Rotated};

use crate::server::{RATE, Server, begin, connect, rotate, ticket, until};

/// Fifty refusals, which ask nobody. If each waited for Redis, they would take half a minute.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Half a second for a call to count as unanswered; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(3);
/// A second for one more try; the rest is for a busy machine.
const BACK: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_killed_redis_is_noticed_and_found_again_empty() {
    let mut server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    begin(&store).await;
    assert_eq!(rotate(&store, 1, 0).await.unwrap(), Rotated::Rotated);
    server.kill();
    assert!(until(&store, Result::is_err).await < NOTICED);
    assert!(store.token_health.ping().await.is_err());
    assert!(store.health.ping().await.is_ok(), "the rest goes on");
    let asked = Instant::now();
    for _ in 0..50 {
        let error = rotate(&store, 2, 0).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains("Redis is away")), "{error}");
    }
    assert!(asked.elapsed() < AT_ONCE);
    server.restart().await;
    assert!(until(&store, Result::is_ok).await < BACK);
    assert!(store.token_health.ping().await.is_ok());
    assert_eq!(rotate(&store, 2, 0).await.unwrap(), Rotated::Unknown, "it has forgotten");
}

#[tokio::test]
async fn a_stopped_redis_makes_a_thousand_callers_wait_once_and_nobody_after_them() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    server.signal("STOP");
    let asked = Instant::now();
    let answers = join_all((0..3000).map(|_| store.tokens.take("a", RATE, Millis(0)))).await;
    assert!(asked.elapsed() < NOTICED, "{:?}", asked.elapsed());
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Refused(_)))));
    let n_turned_away = answers.iter().filter(|a| a.as_ref().is_err_and(|e| e.to_string().contains("wait for Redis")));
    assert_eq!(n_turned_away.count(), 3000 - 1024, "calls under way are bounded");
    assert_eq!(store.token_health.snapshot().queue_full, 3000 - 1024);
    let asked = Instant::now();
    for _ in 0..50 {
        assert!(store.tokens.put_ticket([1; 32], ticket(), Millis(0)).await.is_err());
    }
    assert!(asked.elapsed() < AT_ONCE);
    server.signal("CONT");
    assert!(until(&store, Result::is_ok).await < BACK);
}

#[tokio::test]
async fn what_a_stopped_redis_was_asked_for_may_be_asked_for_again() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    begin(&store).await;
    server.signal("STOP");
    let lost = rotate(&store, 1, 1000).await.unwrap_err();
    assert!(matches!(lost, Error::Unknown(_)), "{lost}");
    server.signal("CONT");
    until(&store, Result::is_ok).await;
    let again = rotate(&store, 1, 3000).await.unwrap();
    assert!(matches!(again, Rotated::Again | Rotated::Rotated), "carried out late, or now: {again:?}");
    assert_eq!(rotate(&store, 2, 4000).await.unwrap(), Rotated::Rotated);
}

#[tokio::test]
async fn a_server_made_a_replica_is_away_until_it_may_be_written_again() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    server.run::<()>("REPLICAOF 127.0.0.1 1").await;
    until(&store, Result::is_err).await;
    let error = rotate(&store, 1, 0).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("read only")), "{error}");
    server.run::<()>("REPLICAOF NO ONE").await;
    assert!(until(&store, Result::is_ok).await < BACK);
}

#[tokio::test]
async fn a_server_without_memory_refuses_and_says_so() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    begin(&store).await;
    server.run::<()>("CONFIG SET maxmemory 1").await;
    let error = rotate(&store, 1, 0).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("maxmemory")), "{error}");
    server.run::<()>("CONFIG SET maxmemory 0").await;
    assert_eq!(rotate(&store, 1, 0).await.unwrap(), Rotated::Rotated, "nothing had been done");
}

#[tokio::test]
async fn scripts_that_the_server_dropped_are_sent_again() {
    let server = Server::start().await;
    let store = connect(server.settings()).await.unwrap();
    begin(&store).await;
    server.run::<()>("SCRIPT FLUSH").await;
    assert_eq!(rotate(&store, 1, 0).await.unwrap(), Rotated::Rotated);
}
