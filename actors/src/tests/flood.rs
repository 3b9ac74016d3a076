//! A client that asks without wanting answers: what it starts is bounded like what waits for an answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::request::{Sync, Verb};
use storage::memory::{
    Memory,
    faults::{Fault, Operation},
};

use super::{Rig, TestSocket, settings};

#[tokio::test(start_paused = true)]
async fn requests_without_an_id_start_no_more_work_than_those_with_one() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = lists.clone();
    let store = Memory::with_faults(move |operation| {
        (operation == Operation::ReadDirectory).then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            Fault::Delay(Duration::from_secs(1))
        })
    });
    let rig = Rig::start(store, 1).await;
    let (ann, bob) = (rig.user(1).await, rig.user(2).await);
    let c = rig.group(&[ann, bob]).await;
    let mut a = rig.socket(ann, "a").await;
    lists.store(0, Ordering::Relaxed);
    for _ in 0..400 {
        a.connection.text(&Verb::Sync(Sync::default()).encode(None));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = lists.load(Ordering::Relaxed);
    assert!((1..=settings(1).limits.inflight).contains(&begun), "{begun} reads of the store at once");
    // and when they are done, it is served as before
    tokio::time::sleep(Duration::from_secs(30)).await;
    let answer = a.ask(Verb::Sync(Sync::default())).await;
    assert_eq!(answer["t"], "ok", "{answer}");
    let answer = a.ask(TestSocket::post(c, "m1", "still here")).await;
    assert_eq!(answer["t"], "ok", "{answer}");
}
