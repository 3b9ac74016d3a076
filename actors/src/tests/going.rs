//! A node that is to go, and does, or does not.

use std::{future::pending, time::Duration};

use protocol::{
    close::CloseCode,
    push::Bye,
    request::{Hello, Verb},
};
use storage::memory::Memory;

use super::{Rig, TestSocket};
use crate::drain::{Phase, Terms};

const TERMS: Terms =
    Terms { why: CloseCode::Drain, notice: Some(Duration::ZERO), rate: 1, deadline: Duration::from_secs(30) };

async fn bye(socket: &mut TestSocket) -> serde_json::Value {
    loop {
        let push = socket.next().await.expect("nobody said goodbye");
        if push["t"] == "bye" {
            return push["d"].clone();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_nobody_and_taken_back_takes_everybody_again() {
    let rig = Rig::start(Memory::store(), 8).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let (mut a, mut b) = (rig.socket(ann, "a").await, rig.socket(bob, "b").await);
    let (take_back, taken_back) = tokio::sync::oneshot::channel::<()>();
    let meanwhile = async {
        assert_eq!(bye(&mut a).await["code"], 4001);
        drop(a);
        let hello = Verb::Hello(Hello::default()).encode(Some(1));
        let refused = rig.starling.gateway.hello(&hello, Some(ann)).await.err().unwrap();
        assert_eq!((refused.code, refused.after_ms), (CloseCode::Drain, Some(1000)));
        assert_eq!(rig.starling.snapshot().unready, ["draining"]);
        take_back.send(()).unwrap();
    };
    let drain = rig.starling.drain(TERMS, async { taken_back.await.unwrap() });
    let (gone, ()) = tokio::join!(drain, meanwhile);
    assert!(!gone);
    assert!(rig.starling.snapshot().unready.is_empty());
    let again = rig.socket(ann, "a").await;
    assert_eq!(b.ask(Verb::Sync(protocol::request::Sync::default())).await["t"], "ok", "nobody has told it to go");
    drop((again, b));
    assert!(rig.starling.drain(TERMS, pending()).await);
    assert_eq!(rig.starling.draining().borrow().phase, Phase::Leaving);
}

#[tokio::test(start_paused = true)]
async fn a_device_may_open_its_next_socket_before_it_leaves_one_that_was_told_to_go() {
    let rig = Rig::start(Memory::store(), 9).await;
    let ann = rig.user(1).await;
    let mut first = rig.socket(ann, "a").await;
    first.connection.outbound().with(|line| line.announce(&Bye::of(CloseCode::Drain)));
    assert_eq!(bye(&mut first).await["code"], 4001);
    let mut second = rig.socket(ann, "a").await;
    assert_eq!(first.ask(Verb::Sync(protocol::request::Sync::default())).await["t"], "ok", "it works on");
    let third = rig.socket(ann, "a").await;
    assert_eq!(bye(&mut second).await["code"], 4505, "one that nobody told to go is a ghost");
    drop(third);
}
