//! Typing and presence: best effort, but only for those whom they concern.

use serde_json::{Value, json};

use crate::{
    house::House,
    wire::{PATIENCE, Wire},
};

/// Says it until it is heard: what is best effort may be lost once.
async fn typing_heard(from: &mut Wire, c: &str, on: bool, by: &mut Wire) -> Value {
    let started = std::time::Instant::now();
    loop {
        from.ask("typ", json!({"c": c, "on": on})).await;
        if let Some((_, d)) = by.pushes().await.into_iter().find(|(t, d)| t == "typ" && d["on"] == on) {
            return d;
        }
        assert!(started.elapsed() < PATIENCE, "never heard");
    }
}

#[tokio::test]
async fn typing_is_seen_by_members_who_have_the_conversation_open() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut a_too) = (ann.live("a").await, ann.live("a-too").await);
    let (mut open, mut pocket) = (bob.live("open").await, bob.live("pocket").await);
    let mut stranger = eve.live("x").await;
    for wire in [&mut open, &mut a_too, &mut stranger] {
        wire.ask("open", json!({"c": c})).await;
    }
    assert_eq!(typing_heard(&mut a, &c, true, &mut open).await, json!({"c": c, "user": ann.id, "on": true}));
    typing_heard(&mut a, &c, false, &mut open).await;
    stranger.ask("typ", json!({"c": c, "on": true})).await;
    // one more round: whatever the stranger's would have caused has been told before it
    typing_heard(&mut a, &c, true, &mut open).await;
    let typed: Vec<_> = open.pushes().await.into_iter().filter(|(t, d)| t == "typ" && d["user"] != ann.id).collect();
    assert_eq!(typed, []);
    for wire in [&mut pocket, &mut a_too, &mut stranger] {
        let told = wire.pushes().await;
        assert!(told.iter().all(|(t, _)| t != "typ"), "not open, oneself, not a member: {told:?}");
    }
}

/// The first `pres` that shows somebody in this state.
async fn turned(wire: &mut Wire, who: &str, state: &str) -> Value {
    loop {
        let told = wire.push("pres").await;
        if told["presence"][who]["state"] == state {
            return told;
        }
    }
}

#[tokio::test]
async fn g12_presence_is_told_to_fellow_members_who_watch() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    ann.direct(&bob).await;
    let mut a = ann.live("a").await;
    let state = |d: &Value, of: &str| d["presence"][of]["state"].clone();
    let now = a.ask("watch", json!({"users": [bob.id, eve.id]})).await;
    let never = json!({"state": "offline", "last_seen_at": null});
    assert_eq!(now["presence"][&eve.id], never, "a stranger is as if never seen");
    assert_eq!(state(&now, &bob.id), "offline");

    let mut stranger = eve.live("x").await;
    let mut b = bob.live("b").await;
    let told = turned(&mut a, &bob.id, "online").await;
    assert_eq!(told["presence"][&bob.id], json!({"state": "online", "last_seen_at": null}));
    assert_eq!(
        ann.get(&format!("presence?users={}", bob.id)).await.is(200)["presence"][&bob.id],
        told["presence"][&bob.id]
    );
    b.ask("pres", json!({"state": "away"})).await;
    turned(&mut a, &bob.id, "away").await;
    // in use anywhere is online
    let second = bob.live("b-too").await;
    turned(&mut a, &bob.id, "online").await;
    drop(second);
    turned(&mut a, &bob.id, "away").await;
    drop(b);
    let gone = turned(&mut a, &bob.id, "offline").await;
    let seen = gone["presence"][&bob.id]["last_seen_at"].as_u64().unwrap();
    let asked = ann.get(&format!("presence?users={},{}", bob.id, eve.id)).await.is(200);
    assert!(asked["presence"][&bob.id]["last_seen_at"].as_u64().unwrap() >= seen - 1000);
    assert_eq!(asked["presence"][&eve.id], never, "online, but a stranger");
    let asked = stranger.ask("watch", json!({"users": [bob.id, ann.id]})).await;
    assert_eq!(asked["presence"], json!({&bob.id: never, &ann.id: never}));

    // the set is replaced, not added to
    a.ask("watch", json!({"users": []})).await;
    let _b = bob.live("b").await;
    let told = a.pushes().await;
    assert!(told.iter().all(|(t, _)| t != "pres"), "{told:?}");
    a.refused("pres", json!({"state": "offline"}), "bad_field").await;
    a.refused("pres", json!({"state": "asleep"}), "bad_field").await;
    let many: Vec<String> = (0..201).map(|n| format!("u_{n:032x}")).collect();
    a.refused("watch", json!({"users": many}), "bad_field").await;
    ann.get(&format!("presence?users={}", many.join(","))).await.refused(400, "bad_field");
}

#[tokio::test]
async fn who_is_no_fellow_member_any_more_is_no_longer_told_of_presence() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    let mut b = bob.live("b").await;
    b.ask("watch", json!({"users": [ann.id]})).await;
    ann.delete(&format!("conversations/{c}/members/{}", bob.id)).await.is(204);
    let asked = bob.get(&format!("presence?users={}", ann.id)).await.is(200);
    assert_eq!(asked["presence"][&ann.id], json!({"state": "offline", "last_seen_at": null}));
}
