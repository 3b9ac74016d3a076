//! A backup taken while the store is written to: everything acknowledged before it, nothing half.

use std::{fs, os::unix::fs::PermissionsExt};

use protocol::{Kind, Seq};
use storage::{
    BackupError, Store, backup,
    log::{Lane, Range},
};

use crate::common::Log;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_holds_a_moment_and_opens_as_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let store = Store::open_sqlite(&live).unwrap();
    let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
    for n in 0..200 {
        log.post(1, &format!("before {n}")).await;
    }
    let (acknowledged, c) = (log.head, log.c);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            log.post(1, "meanwhile").await;
        }
        log.head
    });
    fs::create_dir(&copy).unwrap();
    let to = copy.join("starling.db");
    for n in 0..5 {
        let _ = fs::remove_file(&to);
        let (from, into) = (live.clone(), to.clone());
        let bytes = tokio::task::spawn_blocking(move || backup(&from, &into)).await.unwrap().unwrap();
        assert_eq!(fs::metadata(&to).unwrap().len(), bytes, "backup {n}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let end = writing.await.unwrap();
    assert!(end > acknowledged, "nothing was written meanwhile");
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);

    let restored = Store::open_sqlite(&copy).unwrap();
    let range = Range { after: Seq(0), before: None, lane: Lane::Both, limit: usize::MAX, newest: false };
    let (kept, all) = (restored.log.read(c, range).await.unwrap(), store.log.read(c, range).await.unwrap());
    assert!(kept.len() as u64 >= acknowledged.0);
    assert_eq!(kept[..], all[..kept.len()]);
    let standing = restored.log.standing(c).await.unwrap().unwrap();
    assert_eq!(standing.head.seq.0, kept.len() as u64);
}

#[tokio::test]
async fn a_backup_writes_over_nothing_and_leaves_nothing_if_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (live, to) = (dir.path().join("live"), dir.path().join("backup"));
    assert!(matches!(backup(&live, &to), Err(BackupError::NoDatabase { .. })));
    drop(Store::open_sqlite(&live).unwrap());
    backup(&live, &to).unwrap();
    let refused = backup(&live, &to).unwrap_err().to_string();
    assert!(refused.contains("it is there already"), "{refused}");
    fs::write(live.join("starling.db"), "this is not what it was").unwrap();
    assert!(backup(&live, &dir.path().join("another")).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "live and backup");
}
