//! A log and its owner, as the benchmarks of all stores drive them. Dedupes nothing and judges nobody.
#![allow(dead_code)] // each benchmark is a crate of its own and uses its part

use std::sync::Arc;

use protocol::{
    Body, ClientId, ConversationId, Epoch, Event, EventId, Incarnation, Kind, Millis, Post, Seq, UserId, event,
    limits::{BUCKET_EVENTS, SYNC_EVENTS_MAX},
};
use storage::{
    Store,
    directory::Directory,
    log::{Appended, Lane, Log, Range},
};

/// See the module.
pub(crate) struct Owner {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) c: ConversationId,
    pub(crate) head: u64,
    pub(crate) posts: u64,
}

/// Ids are random in life: `n` is spread over the index.
pub(crate) fn conversation(n: u64) -> ConversationId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    ConversationId(id)
}

impl Owner {
    pub(crate) async fn create(store: &Store, n: u64) -> Owner {
        let c = conversation(n);
        let first = created(c);
        store.log.create(c, Incarnation([1; 16]), std::slice::from_ref(&first)).await.unwrap();
        store.log.follow(c, &[first]).await.unwrap();
        Owner { log: store.log.clone(), c, head: 1, posts: 0 }
    }

    /// The next posts, at most `n_events`: a batch ends where a bucket does.
    pub(crate) fn batch(&self, n_events: u64) -> Vec<Event> {
        let room = BUCKET_EVENTS - (self.head + 1) % BUCKET_EVENTS;
        (1..=n_events.min(room)).map(|i| post(self.c, self.head + i, self.posts + i)).collect()
    }

    pub(crate) async fn append(&mut self, n_events: u64) {
        let batch = self.batch(n_events);
        self.append_batch(&batch, self.head).await;
    }

    pub(crate) async fn append_batch(&mut self, batch: &[Event], settled: u64) {
        let outcome = self.log.append(self.c, Epoch(1), Seq(self.head), Seq(settled), batch).await.unwrap();
        assert!(matches!(outcome, Appended::Applied { .. }));
        self.head += batch.len() as u64;
        self.posts += batch.len() as u64;
    }

    pub(crate) async fn page(&self, before: Option<u64>) {
        let range = Range { after: Seq(0), before: before.map(Seq), lane: Lane::Posts, limit: 50, newest: true };
        assert_eq!(self.log.read(self.c, range).await.unwrap().len(), 50);
    }

    /// What a `sync` asks for a device of a member, who is in no other conversation: the list, what the device lacks above
    /// `have`, and whether its user is a member still.
    pub(crate) async fn sync(&self, directory: &dyn Directory, have: u64) {
        let reader = UserId(self.c.0);
        let list = directory.list(reader).await.unwrap();
        let [mine] = &list[..] else { panic!("{} conversations", list.len()) };
        let head = mine.conversation.head.seq;
        let (after, before) = (Seq(have), Some(head.next()));
        let range = Range { after, before, lane: Lane::Both, limit: SYNC_EVENTS_MAX, newest: true };
        let missed = self.log.read(mine.conversation.id, range).await.unwrap();
        assert_eq!(missed.len(), SYNC_EVENTS_MAX.min((self.head - have) as usize));
        assert!(directory.places(reader).await.unwrap().contains(&self.c));
    }
}

fn created(c: ConversationId) -> Event {
    let members = vec![UserId(c.0), UserId([0xff; 16])];
    let create = event::Create { conversation_kind: Kind::Direct, title: None, members };
    Event { body: Body::Create(create), cid: None, ..post(c, 1, 0) }
}

/// A post of 100 bytes with a client id as long as a UUID.
pub(crate) fn post(c: ConversationId, seq: u64, post_no: u64) -> Event {
    let mut id = c.0;
    id[..8].copy_from_slice(&seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Event {
        seq: Seq(seq),
        id: EventId(id),
        by: UserId(c.0),
        cid: ClientId::try_from(format!("{:036x}", u128::from_be_bytes(id))).ok(),
        request_hash: [7; 16],
        at: Millis(1_700_000_000_000 + seq),
        post_no,
        body: Body::Post(Post { text: Some("x".repeat(100)), ..Post::default() }),
    }
}
