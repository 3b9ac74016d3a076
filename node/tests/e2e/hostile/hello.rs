//! The beginning of a socket: the upgrade, the first frame, and tokens that end.

use std::time::{Duration, Instant};

use hyper::Method;
use loadtest::{rest::Call, socket::Upgrade};
use serde_json::{Value, json};

use super::Bystanders;
use crate::{
    house::{House, Person},
    support,
    wire::Wire,
};

async fn connect(house: &House) -> Wire {
    Wire::connect(&house.target(), &Upgrade::default()).await
}

#[tokio::test]
async fn nothing_is_said_before_hello() {
    let house = House::shared();
    let mut bystanders = Bystanders::of(&house).await;
    let token = bystanders.ann.access.clone();
    let hello = json!({"t": "hello", "id": 1, "d": {"token": token}}).to_string();
    let first = [
        json!({"t": "sync", "id": 1, "d": {}}).to_string(),
        json!({"t": "edit", "id": 1, "d": {}}).to_string(),
        json!({"t": "hello", "id": 1, "d": []}).to_string(),
        json!({"t": "hello", "id": 1, "d": {"token": 7}}).to_string(),
        json!({"t": "hello", "id": 1, "d": {"token": token, "device": ""}}).to_string(),
        json!({"t": "hello", "id": 1, "d": {"token": token, "device": "x".repeat(65)}}).to_string(),
        json!({"t": "hello", "id": 0, "d": {"token": token}}).to_string(),
        format!("{}\n{hello}", json!({"t": "sync", "id": 2, "d": {}})),
        "{}".to_owned(),
        String::new(),
        "\n".to_owned(),
        "garbage".to_owned(),
    ];
    for first in first {
        let mut wire = connect(&house).await;
        wire.raw(first.clone()).await;
        assert_eq!(wire.ended().await, 4500, "{first}");
    }
    let mut wire = connect(&house).await;
    wire.binary(hello.into_bytes()).await;
    assert_eq!(wire.ended().await, 4500);
    let without = connect(&house).await.said_first(json!({"t": "hello", "id": 1, "d": {}})).await;
    assert_eq!(without, 4501, "no token at all");
    bystanders.chat().await;
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_closed() {
    let keys = [("limits.hello_ms", "2000"), ("limits.ping_ms", "500"), ("limits.pong_ms", "3000")];
    let house = House::start(&keys);
    let ann = house.person().await;
    let started = Instant::now();
    assert_eq!(connect(&house).await.ended().await, 4008);
    assert!(started.elapsed() >= Duration::from_millis(2000));
    // a socket that is there and quiet is asked; who answers stays, who does not goes
    let mut answers = ann.live("answers").await;
    let mut deaf = ann.live("deaf").await;
    let (ended, asked) = tokio::join!(deaf.ended_unanswered(), answers.answer_pings(3));
    assert_eq!((ended, asked), (4004, 3));
    answers.ask("sync", json!({})).await;
}

#[tokio::test]
async fn the_upgrade_takes_our_subprotocol_or_none_and_pages_of_our_own() {
    let house = House::shared();
    let ann = house.person().await;
    let upgrade = |extra: &str| {
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extra}\r\n",
            house.address()
        );
        support::raw(house.address(), request.as_bytes())
    };
    assert_eq!(upgrade("").status, 101);
    let chosen = upgrade("sec-websocket-protocol: other, starling.v1.json\r\n");
    assert_eq!((chosen.status, chosen.header("sec-websocket-protocol")), (101, Some("starling.v1.json")));
    assert_eq!(upgrade(&format!("origin: http://{}\r\n", house.address())).status, 101);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = upgrade(&format!("origin: {origin}\r\n"));
        assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{origin}");
    }
    let mut tcp = super::raw::upgrade(&house, "sec-websocket-protocol: starling.v9\r\n");
    assert_eq!(super::raw::close_code(&mut tcp), Some(4506));
    let plain = support::get(house.address(), "/v1/ws");
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));

    let good = Upgrade { bearer: Some(ann.access.clone()), ..Upgrade::default() };
    let mut wire = Wire::connect(&house.target(), &good).await;
    assert_eq!(wire.ask("hello", json!({"device": "x"})).await["user"], ann.id.as_str());
    let bad = Upgrade { bearer: Some("nonsense".to_owned()), ..Upgrade::default() };
    assert_eq!(Wire::connect(&house.target(), &bad).await.ended().await, 4501);
}

/// Runs for as long as the shortest token lives, beside the other tests.
#[tokio::test]
async fn a_token_that_ends_ends_its_socket_unless_it_is_renewed() {
    let house = House::start(&[("auth.access_ttl_s", "30"), ("storage.backend", "memory")]);
    let ann = house.person().await;
    let stranger = house.person().await;
    let (mut ends, mut renewed) = (ann.live("ends").await, ann.hello("renewed").await);
    renewed.ask("sync", json!({})).await;
    let told = renewed.push("token").await["expires_at"].as_u64().unwrap();
    assert!(told / 1000 == crate::forge::parts(&ann.access).1["exp"].as_u64().unwrap());
    // another session's token renews nothing, nor does what is none
    renewed.refused("auth", json!({"token": stranger.access}), "bad_field").await;
    renewed.refused("auth", json!({"token": "nonsense"}), "unauthenticated").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let fresh = ann.refresh_with(&ann.refresh).await.is(200)["access_token"].as_str().unwrap().to_owned();
    renewed.ask("auth", json!({"token": fresh})).await;
    let ticket = ann.post("auth/ticket", json!({})).await.is(201)["ticket"].clone();

    assert_eq!(ends.ended().await, 4006);
    renewed.ask("sync", json!({})).await;
    // five seconds of grace for clocks that differ, no more
    let started = Instant::now();
    while ann.get("users/me").await.status == 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "an ended token is still taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ann.get("users/me").await.refused(401, "token_expired");
    assert_eq!(connect(&house).await.said_first(hello(&ann)).await, 4006);
    let upgrade = Upgrade { bearer: Some(ann.access.clone()), ..Upgrade::default() };
    assert_eq!(Wire::connect(&house.target(), &upgrade).await.ended().await, 4006);
    renewed.refused("auth", json!({"token": ann.access}), "token_expired").await;
    // a ticket is no way around the end of the token it was asked with
    let upgrade = Upgrade { ticket: ticket.as_str().map(str::to_owned), ..Upgrade::default() };
    assert!(matches!(
        Wire::connect(&house.target(), &upgrade).await.said_first(json!({"t": "hello", "d": {}})).await,
        4001..=4501
    ));
    renewed.ask("sync", json!({})).await;
    let still = Person { access: fresh, ..ann.clone() };
    house.call(Call::new(Method::GET, "users/me").by(&still.access)).await.is(200);
}

fn hello(who: &Person) -> Value {
    json!({"t": "hello", "id": 1, "d": {"token": who.access}})
}
