//! `read` and `ack`: monotone marks, unread by definition, and who is told.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    house::{House, Person},
    support::{PATIENCE, are_real},
};

/// One's own read mark and unread count, by REST and by `sync`.
async fn standings(who: &Person, c: &str) -> [(u64, u64); 2] {
    let item = who.get(&format!("conversations/{c}")).await.is(200);
    let mut wire = who.hello("standing").await;
    let synced = wire.ask("sync", json!({"list": {"limit": 100}})).await;
    let listed = synced["conversations"].as_array().unwrap().iter().find(|item| item["id"] == c).unwrap();
    [&item, listed].map(|item| (item["read"].as_u64().unwrap(), item["unread"].as_u64().unwrap()))
}

/// What both say; they must agree.
async fn standing(who: &Person, c: &str) -> (u64, u64) {
    let [rest, sync] = standings(who, c).await;
    assert_eq!(rest, sync);
    rest
}

/// What both say of who has just posted. The mark that follows from a post is written with it, on the real stores after it
/// was acknowledged.
async fn comes_to(who: &Person, c: &str, expected: (u64, u64), why: &str) {
    let begun = Instant::now();
    let mut now = standings(who, c).await;
    while are_real() && now != [expected; 2] && begun.elapsed() < PATIENCE {
        now = standings(who, c).await;
    }
    assert_eq!(now, [expected; 2], "{why}");
}

#[tokio::test]
async fn g11_marks_never_go_back_and_unread_is_what_lies_above() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    for n in 0..5 {
        ann.says(&c, &n.to_string()).await; // 2..=6
    }
    ann.patch(&format!("conversations/{c}"), json!({"title": "T"})).await.is(200); // 7: no post
    assert_eq!(standing(&bob, &c).await.1, 5, "nothing read yet");
    comes_to(&ann, &c, (6, 0), "posting moves one's own mark").await;

    let mut b = bob.live("b").await;
    b.ask("ack", json!({"c": c, "seq": 7})).await;
    assert_eq!(standing(&bob, &c).await.1, 5, "delivered is not read");
    b.ask("read", json!({"c": c, "seq": 3})).await;
    assert_eq!(standing(&bob, &c).await, (3, 3));
    b.ask("read", json!({"c": c, "seq": 2})).await;
    assert_eq!(standing(&bob, &c).await, (3, 3), "never back");
    bob.post(&format!("conversations/{c}/read"), json!({"seq": 4})).await.is(204);
    assert_eq!(standing(&bob, &c).await, (4, 2));
    b.refused("read", json!({"c": c, "seq": 8}), "bad_field").await;
    b.refused("ack", json!({"c": c, "seq": 8}), "bad_field").await;
    b.refused("ack", json!({"c": c, "seq": -1}), "bad_field").await;
    bob.post(&format!("conversations/{c}/read"), json!({"seq": 8})).await.refused(400, "bad_field");
    b.ask("read", json!({"c": c, "seq": 7})).await;
    assert_eq!(standing(&bob, &c).await, (7, 0));
    ann.says(&c, "more").await; // 8
    assert_eq!(standing(&bob, &c).await, (7, 1));
    bob.says(&c, "answer").await; // 9
    comes_to(&bob, &c, (9, 0), "who answers has read").await;

    // who joins starts with nothing unread, who comes back too
    let eve = house.person().await;
    ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id]})).await.is(204); // 10
    assert_eq!(standing(&eve, &c).await.1, 0);
    ann.says(&c, "welcome").await; // 11
    assert_eq!(standing(&eve, &c).await.1, 1);
    eve.delete(&format!("conversations/{c}/members/{}", eve.id)).await.is(204); // 12
    ann.says(&c, "gone").await; // 13
    ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id]})).await.is(204); // 14
    assert_eq!(standing(&eve, &c).await.1, 0);
}

#[tokio::test]
async fn receipts_come_for_what_is_on_screen_only() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let other = ann.group(&[&bob]).await;
    let (mut screen, mut pocket) = (ann.live("screen").await, ann.live("pocket").await);
    let (mut b, mut b_too) = (bob.live("b").await, bob.live("b-too").await);
    ann.says(&c, "1").await;
    ann.says(&other, "1").await;
    screen.ask("open", json!({"c": c})).await;
    for wire in [&mut screen, &mut pocket, &mut b, &mut b_too] {
        wire.push("msg").await;
        wire.push("msg").await;
    }
    b.ask("ack", json!({"c": c, "seq": 2})).await;
    assert_eq!(screen.push("rcpt").await["marks"][&bob.id], json!({"read": 1, "delivered": 2}));
    b.ask("read", json!({"c": c, "seq": 2})).await;
    assert_eq!(screen.push("rcpt").await, json!({"c": c, "marks": {&bob.id: {"read": 2, "delivered": 2}}}));
    assert_eq!(b_too.push("conv").await, json!({"c": c, "change": "read", "seq": 2}), "one's other device");
    b.ask("read", json!({"c": c, "seq": 1})).await;
    b.ask("read", json!({"c": other, "seq": 2})).await;
    assert_eq!(b_too.push("conv").await["c"], other.as_str(), "a mark that does not move is not told");
    let kinds = |pushes: Vec<(String, Value)>| -> Vec<String> { pushes.into_iter().map(|(t, _)| t).collect() };
    let told = kinds(screen.pushes().await);
    assert!(!told.contains(&"rcpt".to_owned()), "not open, or not moved: {told:?}");
    let told = kinds(pocket.pushes().await);
    assert!(!told.contains(&"rcpt".to_owned()), "not open: {told:?}");
    let told = kinds(b.pushes().await);
    assert!(!told.contains(&"conv".to_owned()), "who said it knows: {told:?}");

    screen.ask("close", json!({"c": c})).await;
    ann.says(&c, "2").await;
    b.ask("read", json!({"c": c, "seq": 3})).await;
    b_too.push("conv").await;
    let told = kinds(screen.pushes().await);
    assert!(!told.contains(&"rcpt".to_owned()), "closed: {told:?}");
}

#[tokio::test]
async fn receipts_and_typing_reach_an_open_screen_however_long_the_conversation_was_quiet() {
    let house = House::mortal(&[]);
    let (ann, bob) = (house.person().await, house.person().await);
    let mut conversations = Vec::new();
    for _ in 0..20 {
        let c = ann.group(&[&bob]).await;
        ann.says(&c, "1").await;
        conversations.push(c);
    }
    // nobody remembers the conversations: nothing of them was said since the node came up
    house.crash();
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    for (n, c) in conversations.iter().enumerate() {
        a.ask("open", json!({"c": c})).await;
        if n % 2 == 0 {
            b.ask("read", json!({"c": c, "seq": 2})).await;
            assert_eq!(a.push("rcpt").await["marks"][&bob.id], json!({"read": 2, "delivered": 2}));
        } else {
            b.ask("typ", json!({"c": c, "on": true})).await;
            assert_eq!(a.push("typ").await, json!({"c": c, "user": bob.id, "on": true}));
        }
    }
}
