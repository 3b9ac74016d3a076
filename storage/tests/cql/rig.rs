//! A store on the shared keyspace, its log filled quickly, and its tables as an operator sees them.

use protocol::{Body, Event, Kind, Seq, event::Settings as Title, limits::BATCH_EVENTS_MAX, limits::BUCKET_EVENTS};
use storage::{
    Store,
    log::{Lane, Range},
};
use uuid::Uuid;

use crate::common::{Log, events, ids, stores};

/// A store of its own, and ids that no other test has.
pub(crate) async fn store() -> Store {
    ids::refresh();
    another().await
}

/// Another node on the same keyspace: it knows nothing yet.
pub(crate) async fn another() -> Store {
    stores::open(stores::Kind::Cql).await.0
}

/// A statement by hand; `ks.` stands for the keyspace.
pub(crate) fn run(statement: &str) -> Vec<Vec<Vec<u8>>> {
    let keyspace = stores::cql_settings().keyspace;
    loadtest::servers::Cql::started().run(&statement.replace("ks.", &format!("{keyspace}."))).unwrap()
}

/// An id as CQL writes it.
pub(crate) fn uuid(id: [u8; 16]) -> String {
    Uuid::from_bytes(id).to_string()
}

pub(crate) async fn group(store: &Store, members: &[u8]) -> Log {
    Log::create(store, 1, Kind::Group, members).await
}

/// Appends posts, or titles, up to and including `last`.
pub(crate) async fn fill(log: &mut Log, last: u64, posts: bool) {
    while log.head.0 < last {
        let to_boundary = BUCKET_EVENTS - (log.head.0 + 1) % BUCKET_EVENTS;
        let n = (last - log.head.0).min(to_boundary).min(BATCH_EVENTS_MAX as u64);
        let one = |i: u64| -> Event {
            let seq = log.head.0 + i;
            if posts {
                return events::post(seq, log.posts + i, 1, "x");
            }
            events::event(seq, log.posts, 1, Body::Settings(Title { title: "x".into() }))
        };
        let batch = (1..=n).map(one).collect();
        log.append(batch).await;
    }
}

pub(crate) const ALL: Range = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 1 << 20, newest: false };

pub(crate) async fn seqs(store: &Store, log: &Log, range: Range) -> Vec<u64> {
    store.log.read(log.c, range).await.unwrap().iter().map(|event| event.seq.0).collect()
}
