//! What the suites share: stores to run on, events to write, and a log that keeps its own head.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each suite uses a part")]

pub mod ids;
pub mod stores;
pub mod views;

use protocol::{ClientId, ConversationId, Epoch, Event, Incarnation, Kind, NodeId, Role, Seq, SessionId, UserId};
use storage::{
    Store,
    log::{Appended, Created},
};
use tokio::sync::Mutex;

/// A keyspace has one view, and the tests of a process share one keyspace: who changes the view holds this.
pub static VIEW: Mutex<()> = Mutex::const_new(());

/// Runs a test on each store, under ids that no other test has: a server is shared by all of them.
pub async fn each(test: impl AsyncFn(Store)) {
    for kind in stores::HISTORIES {
        run(kind, &test).await;
    }
}

/// As [`each`], on everything that keeps tokens.
pub async fn each_of_tokens(test: impl AsyncFn(Store)) {
    for kind in stores::TOKENS {
        run(kind, &test).await;
    }
}

/// As [`each`], on everything that several nodes may share.
pub async fn each_shared(test: impl AsyncFn(Store)) {
    for kind in stores::SHARED {
        run(kind, &test).await;
    }
}

async fn run(kind: stores::Kind, test: &impl AsyncFn(Store)) {
    // whoever reads of a failure reads this above it
    println!("on {kind:?}");
    ids::refresh();
    let (store, _place) = stores::open(kind).await;
    test(store).await;
}

pub fn user(n: u8) -> UserId {
    UserId(ids::id(n))
}

pub fn conversation(n: u8) -> ConversationId {
    ConversationId(ids::id(n))
}

pub fn session_id(n: u8) -> SessionId {
    SessionId(ids::id(n))
}

pub fn incarnation(n: u8) -> Incarnation {
    Incarnation(ids::id(n))
}

pub fn node(n: u8) -> NodeId {
    NodeId::try_from(ids::name(&format!("node {n} of test "))).unwrap()
}

pub fn cid(text: &str) -> ClientId {
    ClientId::try_from(text.to_owned()).unwrap()
}

pub mod events {
    use protocol::{Body, Event, EventId, Kind, Millis, Post, Role, Seq, event as body};

    use super::user;

    pub fn event(seq: u64, post_no: u64, by: u8, body: Body) -> Event {
        let mut id = [0xee; 16];
        id[..8].copy_from_slice(&seq.to_be_bytes());
        let (id, by) = (EventId(id), user(by));
        Event { seq: Seq(seq), id, by, cid: None, request_hash: [0; 16], at: Millis(1000 + seq), post_no, body }
    }

    pub fn create(kind: Kind, members: &[u8]) -> Event {
        let title = (kind != Kind::Direct).then(|| "old".to_owned());
        let members_of: Vec<_> = members.iter().copied().map(user).collect();
        let create = body::Create { conversation_kind: kind, title, members: members_of };
        event(1, 0, members[0], Body::Create(create))
    }

    pub fn post(seq: u64, post_no: u64, by: u8, text: &str) -> Event {
        event(seq, post_no, by, Body::Post(Post { text: Some(text.into()), ..Post::default() }))
    }

    pub fn role(seq: u64, post_no: u64, by: u8, of: u8, role: Role) -> Event {
        event(seq, post_no, by, Body::Role(body::RoleChange { user: user(of), role }))
    }
}

/// A log in the hands of an owner that does what every owner must: append, then write what follows.
pub struct Log {
    store: Store,
    pub c: ConversationId,
    pub epoch: Epoch,
    pub head: Seq,
    pub posts: u64,
    settled: Seq,
}

impl Log {
    pub async fn create(store: &Store, n: u8, kind: Kind, members: &[u8]) -> Log {
        Log::create_as(store, conversation(n), kind, members).await
    }

    pub async fn create_as(store: &Store, c: ConversationId, kind: Kind, members: &[u8]) -> Log {
        let events = [events::create(kind, members)];
        let created = store.log.create(c, incarnation(1), &events).await.unwrap();
        assert!(matches!(created, Created::Created { .. }));
        store.log.follow(c, &events).await.unwrap();
        Log { store: store.clone(), c, epoch: Epoch(1), head: Seq(1), posts: 0, settled: Seq(1) }
    }

    pub async fn append(&mut self, events: Vec<Event>) {
        let outcome = self.store.log.append(self.c, self.epoch, self.head, self.settled, &events).await.unwrap();
        let Appended::Applied { settled } = outcome else { panic!("{outcome:?}") };
        let last = events.last().unwrap();
        if settled < last.seq {
            self.store.log.follow(self.c, &events).await.unwrap();
        }
        (self.head, self.posts, self.settled) = (last.seq, last.post_no, last.seq);
    }

    async fn one(&mut self, by: u8, body: protocol::Body) {
        let post_no = self.posts + u64::from(body.is_post());
        self.append(vec![events::event(self.head.0 + 1, post_no, by, body)]).await;
    }

    pub async fn post(&mut self, by: u8, text: &str) {
        self.append(vec![events::post(self.head.0 + 1, self.posts + 1, by, text)]).await;
    }

    pub async fn title(&mut self, title: &str) {
        self.one(1, protocol::Body::Settings(protocol::event::Settings { title: title.into() })).await;
    }

    pub async fn join(&mut self, users: &[u8]) {
        let users = users.iter().copied().map(user).collect();
        self.one(1, protocol::Body::Join(protocol::event::Join { users })).await;
    }

    pub async fn remove(&mut self, of: u8) {
        self.one(1, protocol::Body::Remove(protocol::event::Remove { user: user(of) })).await;
    }

    pub async fn leave(&mut self, by: u8, heir: Option<u8>) {
        self.one(by, protocol::Body::Leave(protocol::event::Leave { heir: heir.map(user) })).await;
    }

    pub async fn role(&mut self, of: u8, role: Role) {
        self.one(1, protocol::Body::Role(protocol::event::RoleChange { user: user(of), role })).await;
    }
}
