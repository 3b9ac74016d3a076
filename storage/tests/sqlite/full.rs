//! A full disk refuses and loses nothing; with space again the store goes on by itself.

use std::fs;

use crate::{
    common::{Log, conversation, events},
    open::Mount,
};
use protocol::{Kind, Seq};
use storage::{
    Error, Store,
    log::{Appended, Lane, Range},
};

#[tokio::test]
async fn g1_a_full_disk_refuses_and_the_store_recovers_with_space() {
    let root = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::tmpfs(root.path(), "size=3m") else { return };
    let dir = root.path().join("data");
    let store = Store::open_sqlite(&dir).unwrap();
    let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
    let ballast = root.path().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();

    let text = "x".repeat(50_000);
    let error = loop {
        let event = events::post(log.head.0 + 1, log.posts + 1, 1, &text);
        match store.log.append(log.c, log.epoch, log.head, log.head, &[event]).await {
            Ok(Appended::Applied { .. }) => (log.head, log.posts) = (log.head.next(), log.posts + 1),
            Ok(fenced) => panic!("{fenced:?}"),
            Err(error) => break error,
        }
        assert!(log.posts < 1000, "the disk never fills");
    };
    assert!(matches!(&error, Error::Refused(reason) if reason.contains("full")), "{error}");
    let down = store.health.ping().await;
    assert!(matches!(&down, Err(Error::Refused(reason)) if reason.contains("full")), "{down:?}");
    let all = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 2000, newest: false };
    assert_eq!(store.log.read(log.c, all).await.unwrap().len() as u64, log.head.0, "reads go on");
    assert_eq!(store.log.standing(conversation(1)).await.unwrap().unwrap().head.seq, log.head);

    fs::remove_file(&ballast).unwrap();
    store.health.ping().await.unwrap();
    log.post(1, "there is space").await;
    store.health.ping().await.unwrap();
    drop(store);
    let acknowledged = log.head;
    drop(log);
    let store = Store::open_sqlite(&dir).unwrap();
    let stored = store.log.read(conversation(1), all).await.unwrap();
    assert_eq!(stored.last().map(|event| event.seq), Some(acknowledged));
    assert_eq!(stored.len() as u64, acknowledged.0, "G3: gapless");
}
