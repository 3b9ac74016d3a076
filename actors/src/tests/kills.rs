//! Each kind of actor, killed while it works.

use protocol::{
    peer::Slice,
    request::{Target, Verb, Watch},
};
use storage::memory::Memory;

use super::{Rig, TestSocket};
use crate::restarts::{STORM_CRASHES, STORM_WINDOW};

#[tokio::test(start_paused = true)]
async fn a_killed_conversation_backs_off_heals_from_the_log_and_loses_nothing() {
    let rig = Rig::start(Memory::store(), 1).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    let first = a.ask(TestSocket::post(c, "m1", "one")).await;
    assert_eq!((&first["t"], &first["d"]["seq"]), (&"ok".into(), &2.into()));
    while b.next().await.unwrap()["t"] != "msg" {}

    let under_way = a.say(TestSocket::post(c, "m2", "two"));
    rig.starling.kinds.conversations.kill(c);
    // the supervisor notices at its own pace; mail meanwhile is lost and answered by the deadline, later mail is refused
    while rig.starling.kinds.conversations.len() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = a.ask(TestSocket::post(c, "m3", "three")).await;
    assert_eq!((&refused["t"], &refused["d"]["code"]), (&"err".into(), &"unavailable".into()), "backs off: {refused}");
    assert!(refused["d"]["after_ms"].as_u64().unwrap() >= 50);

    // it comes back by itself and tells every device the head
    let head = b.next().await.unwrap();
    assert!(head["t"] == "head" || head["t"] == "msg", "{head}");
    let outcome = a.answer(under_way).await;
    let again = a.ask(TestSocket::post(c, "m2", "two")).await;
    assert_eq!(again["t"], "ok", "{again}");
    if outcome["t"] == "ok" {
        assert_eq!((&again["d"]["seq"], &again["d"]["dup"]), (&outcome["d"]["seq"], &true.into()));
    } else {
        assert_eq!(outcome["d"]["code"], "timeout", "the outcome was open: {outcome}");
    }
    let third = a.ask(TestSocket::post(c, "m3", "three")).await;
    assert_eq!(third["d"]["seq"], again["d"]["seq"].as_u64().unwrap() + 1, "gapless: {third}");
    while b.next().await.unwrap()["d"]["seq"] != third["d"]["seq"] {}
}

#[tokio::test(start_paused = true)]
async fn a_killed_presence_channel_is_refilled_and_nobody_becomes_a_ghost() {
    let rig = Rig::start(Memory::store(), 2).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    let watched = b.ask(Verb::Watch(Watch { users: vec![ann.user] })).await;
    assert_eq!(watched["d"]["presence"][ann.user.to_string()]["state"], "online");
    a.ask(TestSocket::post(c, "m1", "one")).await;
    while b.next().await.unwrap()["t"] != "msg" {}

    for user in [ann.user, bob.user] {
        rig.starling.kinds.presence.kill(Slice::of(user));
    }
    while rig.starling.kinds.presence.len() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // both are registered again, the conversation watches again, and the watch of a user stands
    a.ask(TestSocket::post(c, "m2", "two")).await;
    let seen = loop {
        let push = b.next().await.expect("the channel forgot a device");
        if push["t"] == "msg" {
            break push;
        }
    };
    assert_eq!(seen["d"]["seq"], 3);
    drop(a);
    let offline = loop {
        let push = b.next().await.expect("a ghost: ann never went offline");
        if push["t"] == "pres" && push["d"]["presence"][ann.user.to_string()]["state"] == "offline" {
            break push;
        }
    };
    assert!(offline["d"]["presence"][ann.user.to_string()]["last_seen_at"].is_u64());
}

#[tokio::test(start_paused = true)]
async fn a_killed_session_costs_its_own_socket_only() {
    let rig = Rig::start(Memory::store(), 3).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    a.ask(Verb::Open(Target { c })).await;
    let conn = a.connection.outbound().conn;
    rig.starling.kinds.sessions.kill(conn);
    let bye = loop {
        let push = a.next().await.expect("a socket without a session");
        if push["t"] == "bye" {
            break push;
        }
    };
    assert_eq!((&bye["d"]["code"], &bye["d"]["reconnect"]), (&4000.into(), &true.into()));
    drop(a);
    let mut a = rig.socket(ann, "a").await;
    a.ask(TestSocket::post(c, "m1", "back")).await;
    while b.next().await.unwrap()["t"] != "msg" {}
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_crashes_makes_the_node_unready_until_it_is_over() {
    let rig = Rig::start(Memory::store(), 4).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let mut all = Vec::new();
    for _ in 0..STORM_CRASHES {
        all.push(rig.group(&[ann, bob]).await);
    }
    assert_eq!(rig.starling.snapshot().unready, [""; 0]);
    for c in &all {
        rig.starling.kinds.conversations.kill(*c);
    }
    while rig.starling.snapshot().unready.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.starling.snapshot().unready, ["conversation actors crash in a storm"]);
    tokio::time::sleep(STORM_WINDOW).await;
    assert_eq!(rig.starling.snapshot().unready, [""; 0]);
}
