//! Clients that ask too much.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Bystanders;
use crate::house::House;

/// Floods the node by these frames until the socket is closed or all are said; others talk meanwhile. Answers their
/// slowest exchange.
async fn slowest_beside(frames: Vec<String>) -> Duration {
    let house = House::start(&[]);
    let mut bystanders = Bystanders::of(&house).await;
    let eve = house.person().await;
    for _ in 0..40 {
        let c = eve.group(&[]).await;
        eve.says(&c, &"x".repeat(500)).await;
    }
    let flooding = tokio::spawn(async move {
        let mut wire = eve.live("flood").await;
        for frame in frames {
            wire.flood(frame).await;
            wire.ask("close", json!({"c": "c_00000000000000000000000000000000"})).await;
        }
        wire.drain().await;
    });
    let mut slowest = Duration::ZERO;
    while !flooding.is_finished() {
        let started = Instant::now();
        bystanders.chat().await;
        slowest = slowest.max(started.elapsed());
    }
    flooding.await.unwrap();
    slowest
}

#[tokio::test]
async fn g16_a_client_that_asks_for_everything_all_the_time_holds_up_nobody() {
    let ask = json!({"t": "sync", "d": {"list": {"limit": 100}}}).to_string();
    let message = vec![ask; 50].join("\n");
    let slowest = slowest_beside(vec![message; 200]).await;
    println!("slowest exchange beside 10,000 syncs without an id: {slowest:?}");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
