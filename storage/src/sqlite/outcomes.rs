//! What a caller hears when its call is late, turned away, or fails together with its transaction.

use std::sync::{Arc, mpsc};

use rusqlite::Connection;

use super::{Sqlite, WRITES_WAITING_MAX, job::Fail};
use crate::{Error, health::Health};

fn open() -> (tempfile::TempDir, Arc<Sqlite>) {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(dir.path()).unwrap();
    (dir, Arc::new(sqlite))
}

/// Keeps the writer busy until the answer is dropped.
async fn occupy(sqlite: &Arc<Sqlite>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let sqlite = sqlite.clone();
    let busy = tokio::spawn(async move {
        sqlite
            .write(move |_| {
                let _ = begin.send(());
                let _ = released.recv();
                Ok(())
            })
            .await
    });
    begun.await.unwrap();
    (release, busy)
}

fn probe(connection: &Connection) -> Result<(), Fail> {
    connection.execute("INSERT INTO probe VALUES (7, zeroblob(65536))", [])?;
    Ok(())
}

async fn probed(sqlite: &Sqlite) -> i64 {
    let count = |c: &Connection| Ok(c.query_row("SELECT count(*) FROM probe WHERE no = 7", [], |row| row.get(0))?);
    sqlite.read(count).await.unwrap()
}

/// The clock is paused: it jumps to the deadline as soon as everybody waits.
#[tokio::test]
async fn g6_a_write_not_begun_in_time_never_runs_and_one_begun_is_unknown() {
    let (_dir, sqlite) = open();
    let (release, busy) = occupy(&sqlite).await;
    tokio::time::pause();
    let late = sqlite.write(probe).await;
    assert!(matches!(late, Err(Error::Refused(_))), "{late:?}");
    let begun = busy.await.unwrap();
    assert!(matches!(begun, Err(Error::Unknown(_))), "{begun:?}");
    tokio::time::resume();
    drop(release);
    sqlite.ping().await.unwrap();
    assert_eq!(probed(&sqlite).await, 0);
}

#[tokio::test]
async fn g15_a_full_queue_turns_away_by_name_and_is_counted() {
    let (_dir, sqlite) = open();
    let (release, busy) = occupy(&sqlite).await;
    for _ in 0..WRITES_WAITING_MAX {
        let (job, _, _) = super::pack(|_| Ok(()));
        sqlite.writer.queue.push(job).unwrap();
    }
    let refused = sqlite.write(probe).await;
    assert!(matches!(&refused, Err(Error::Refused(reason)) if reason.contains("queue is full")), "{refused:?}");
    assert_eq!(sqlite.snapshot().queue_full, 1);
    drop(release);
    busy.await.unwrap().unwrap();
    while sqlite.snapshot().waiting > 0 {
        tokio::task::yield_now().await;
    }
    sqlite.write(probe).await.unwrap();
}

#[tokio::test]
async fn without_room_in_the_file_a_job_is_refused_and_a_ping_finds_the_room_again() {
    let (_dir, sqlite) = open();
    let limit = |pages: i64| move |c: &Connection| Ok(c.pragma_update(None, "max_page_count", pages)?);
    let n_pages =
        sqlite.read(|c| Ok(c.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?)).await.unwrap();
    sqlite.write(limit(n_pages)).await.unwrap();
    let refused = sqlite.write(probe).await;
    assert!(matches!(&refused, Err(Error::Refused(reason)) if reason.contains("full")), "{refused:?}");
    assert_eq!(probed(&sqlite).await, 0);
    sqlite.write(limit(1 << 30)).await.unwrap();
    sqlite.ping().await.unwrap();
    sqlite.write(probe).await.unwrap();
    assert_eq!(probed(&sqlite).await, 1);
}
