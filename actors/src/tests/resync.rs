//! Sockets that nobody had room to tell what they missed.

use protocol::peer::ToConnections;
use storage::memory::Memory;

use super::{Rig, TestSocket};

#[tokio::test(start_paused = true)]
async fn g7_who_cannot_be_told_what_was_missed_is_closed_as_too_slow_and_nobody_else_is() {
    let rig = Rig::start(Memory::store(), 8).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    let missed = ToConnections::Resync(vec![a.connection.outbound().conn]);
    assert!(rig.starling.connections.deliver(missed, tokio::time::Instant::now()).is_none());
    let bye = loop {
        let push = a.next().await.expect("it is closed");
        if push["t"] == "bye" {
            break push;
        }
    };
    assert_eq!((&bye["d"]["code"], &bye["d"]["reconnect"]), (&4003.into(), &true.into()), "{bye}");
    assert_eq!(b.ask(TestSocket::post(c, "1", "still here")).await["t"], "ok");
}
