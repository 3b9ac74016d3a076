//! Writes that wait together share a transaction, and nothing else.

use crate::common::{cid, conversation, events, incarnation};
use protocol::{Epoch, Event, Kind, Seq};
use storage::{
    Error, Store,
    log::{Appended, Created, Log, Range},
};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(dir.path()).unwrap();
    (dir, store)
}

async fn create(store: &Store, n: u8) {
    let created = store.log.create(conversation(n), incarnation(1), &[events::create(Kind::Group, &[1])]).await;
    assert!(matches!(created, Ok(Created::Created { .. })));
}

fn append(store: &Store, n: u8, event: Event) -> tokio::task::JoinHandle<Result<Appended, Error>> {
    let log: std::sync::Arc<dyn Log> = store.log.clone();
    let head = Seq(event.seq.0 - 1);
    tokio::spawn(async move { log.append(conversation(n), Epoch(1), head, Seq(0), &[event]).await })
}

#[tokio::test]
async fn appends_that_wait_together_share_commits() {
    let (_dir, store) = open();
    for n in 1..=100 {
        create(&store, n).await;
    }
    let before = store.health.snapshot();
    let appends: Vec<_> = (1..=100).map(|n| append(&store, n, events::post(2, 1, 1, "x"))).collect();
    for append in appends {
        assert_eq!(append.await.unwrap().unwrap(), Appended::Applied { settled: Seq(2) });
    }
    let after = store.health.snapshot();
    let (n_writes, n_commits) = (after.writes - before.writes, after.commits - before.commits);
    assert_eq!(n_writes, 100);
    assert!(n_commits <= 50, "100 appends at once took {n_commits} commits");
}

#[tokio::test]
async fn a_refused_append_undoes_itself_and_not_its_neighbours() {
    let (_dir, store) = open();
    for n in 1..=3 {
        create(&store, n).await;
    }
    let named = |seq, post_no| Event { cid: Some(cid("once")), ..events::post(seq, post_no, 1, "x") };
    append(&store, 2, named(2, 1)).await.unwrap().unwrap();
    // The owner of 2 has lost its mind: the same client id again, after a good event in the same batch.
    let (one, three) = (append(&store, 1, named(2, 1)), append(&store, 3, named(2, 1)));
    let bad = [events::post(3, 2, 1, "good"), named(4, 3)];
    let two = store.log.append(conversation(2), Epoch(1), Seq(2), Seq(0), &bad).await;
    assert!(matches!(two, Err(Error::Duplicate)), "{two:?}");
    assert!(matches!(one.await.unwrap(), Ok(Appended::Applied { .. })));
    assert!(matches!(three.await.unwrap(), Ok(Appended::Applied { .. })));
    let all = Range { after: Seq(0), before: None, lane: storage::log::Lane::Both, limit: 10, newest: false };
    assert_eq!(store.log.read(conversation(2), all).await.unwrap().len(), 2);
    assert_eq!(store.log.standing(conversation(2)).await.unwrap().unwrap().head.seq, Seq(2));
    let next = append(&store, 2, events::post(3, 2, 1, "y")).await.unwrap();
    assert!(matches!(next, Ok(Appended::Applied { .. })));
}

#[tokio::test]
async fn a_call_that_nobody_awaits_harms_nobody() {
    let (_dir, store) = open();
    for n in 1..=50 {
        create(&store, n).await;
    }
    for n in 1..=50 {
        append(&store, n, events::post(2, 1, 1, "x")).abort();
    }
    for n in 1..=50 {
        let standing = store.log.standing(conversation(n)).await.unwrap().unwrap();
        assert!(standing.head.seq <= Seq(2));
    }
    store.health.ping().await.unwrap();
}
