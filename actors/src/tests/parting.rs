//! Presence between people who no longer share a conversation.

use protocol::request::{Verb, Watch};
use storage::memory::Memory;

use super::{Rig, TestSocket};

#[tokio::test(start_paused = true)]
async fn who_was_removed_and_who_stays_no_longer_see_each_other() {
    let rig = Rig::start(Memory::store(), 6).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    for (socket, other) in [(&mut a, bob), (&mut b, ann)] {
        let watched = socket.ask(Verb::Watch(Watch { users: vec![other.user] })).await;
        assert_eq!(watched["d"]["presence"][other.user.to_string()]["state"], "online");
    }
    rig.starling.conversations.remove_member(ann, c, bob.user, None).await.unwrap();
    for (socket, other) in [(&mut a, bob), (&mut b, ann)] {
        hidden(socket, &other.user.to_string()).await;
    }
    // what happens to the one is no news for the other
    drop(b);
    let _again = rig.socket(bob, "b").await;
    while let Some(push) = a.next().await {
        assert_ne!(push["t"], "pres", "{push}");
    }
}

/// Waits until somebody looks as if they had never been there.
async fn hidden(socket: &mut TestSocket, user: &str) {
    loop {
        let push = socket.next().await.expect("still visible");
        let state = &push["d"]["presence"][user];
        if push["t"] == "pres" && state["state"] == "offline" {
            assert!(state["last_seen_at"].is_null(), "{push}");
            return;
        }
    }
}
