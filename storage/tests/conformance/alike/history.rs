//! Random calls about conversations: their logs, members and marks.

use super::{Caller, answers_like_memory};
use crate::common::{cid, conversation, events, incarnation, stores, user};
use proptest::prelude::*;
use protocol::{Body, Event, Kind, Role, Seq, event as body, push::Marks};
use storage::{
    Store,
    directory::{Conversation, MarkUpdate, Membership},
    log::{Appended, Claimed, Created, Head, Lane, Range},
};

#[derive(Clone, Debug)]
enum Step {
    Create {
        c: u8,
        kind: Kind,
        members: Vec<u8>,
    },
    Claim {
        c: u8,
        tail_from: Option<u64>,
    },
    /// At the head, or that many events before it.
    Append {
        c: u8,
        behind: u64,
        what: Vec<What>,
    },
    Mark {
        c: u8,
        user: u8,
        read: u64,
        delivered: u64,
    },
    Read {
        c: u8,
        after: u64,
        before: Option<u64>,
        lane: u8,
        limit: usize,
        newest: bool,
    },
    Look {
        c: u8,
        user: u8,
    },
}

#[derive(Clone, Debug)]
enum What {
    Post(u8, Option<u8>),
    Join(Vec<u8>),
    Leave(u8, Option<u8>),
    Remove(u8),
    Role(u8, Role),
    Title(String),
}

fn what() -> impl Strategy<Value = What> {
    let user = || 1..6_u8;
    prop_oneof![
        4 => (user(), proptest::option::of(any::<u8>())).prop_map(|(by, cid)| What::Post(by, cid)),
        2 => proptest::collection::vec(user(), 1..4).prop_map(What::Join),
        // nobody is their own heir
        1 => (user(), proptest::option::of(user())).prop_map(|(by, heir)| What::Leave(by, heir.filter(|heir| *heir != by))),
        1 => user().prop_map(What::Remove),
        1 => (user(), prop_oneof![Just(Role::Member), Just(Role::Admin)]).prop_map(|(of, role)| What::Role(of, role)),
        1 => "[a-z]{1,4}".prop_map(What::Title),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let c = || 1..4_u8;
    let kind = prop_oneof![Just(Kind::Direct), Just(Kind::Group), Just(Kind::Channel)];
    let members = proptest::sample::subsequence(vec![1_u8, 2, 3, 4, 5], 1..5).prop_shuffle();
    let seq = || 0..20_u64;
    prop_oneof![
        2 => (c(), kind, members).prop_map(|(c, kind, members)| Step::Create { c, kind, members }),
        1 => (c(), proptest::option::of(seq())).prop_map(|(c, tail_from)| Step::Claim { c, tail_from }),
        8 => (c(), prop_oneof![9 => Just(0_u64), 1 => 1..3_u64], proptest::collection::vec(what(), 1..5))
            .prop_map(|(c, behind, what)| Step::Append { c, behind, what }),
        3 => (c(), 1..6_u8, seq(), seq())
            .prop_map(|(c, user, read, delivered)| Step::Mark { c, user, read, delivered }),
        3 => (c(), seq(), proptest::option::of(seq()), 0..3_u8, 0..8_usize, any::<bool>())
            .prop_map(|(c, after, before, lane, limit, newest)| Step::Read { c, after, before, lane, limit, newest }),
        3 => (c(), 1..6_u8).prop_map(|(c, user)| Step::Look { c, user }),
    ]
}

/// A store in the hands of an owner.
struct Owner {
    store: Store,
}

/// What is settled differs between stores and is nobody's business here.
fn plain(mut conversation: Conversation) -> Conversation {
    conversation.head = head(conversation.head);
    conversation
}

fn head(head: Head) -> Head {
    Head { settled: Seq(0), ..head }
}

fn membership(m: Membership) -> Membership {
    Membership { conversation: plain(m.conversation), member: m.member }
}

impl Caller for Owner {
    type Step = Step;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(step(), 1..60)
    }

    fn new(store: Store) -> Owner {
        Owner { store }
    }

    async fn take(&mut self, step: &Step) -> String {
        let Store { log, directory, .. } = &self.store;
        match step.clone() {
            Step::Create { c, kind, members } => {
                let create = [events::create(kind, &members)];
                match log.create(conversation(c), incarnation(1), &create).await.unwrap() {
                    Created::Created { head: at } => {
                        log.follow(conversation(c), &create).await.unwrap();
                        format!("{:?}", head(at))
                    }
                    Created::Exists => "exists".into(),
                }
            }
            Step::Claim { c, tail_from } => {
                match log.claim(conversation(c), incarnation(c), tail_from.map(Seq)).await.unwrap() {
                    Claimed::NotFound => "not found".into(),
                    Claimed::Claimed(tenancy) => {
                        // The model's tail may begin earlier: what it has not settled.
                        let from = tail_from.map_or(tenancy.head.seq, Seq);
                        let tail: Vec<_> = tenancy.tail.iter().filter(|event| event.seq > from).collect();
                        format!("{:?} {:?} {tail:?}", tenancy.epoch, head(tenancy.head))
                    }
                }
            }
            Step::Append { c, behind, what } => self.append(c, behind, &what).await,
            Step::Mark { c, user: n, read, delivered } => {
                let marks = Marks { read: Seq(read), delivered: Seq(delivered) };
                format!("{:?}", directory.mark(conversation(c), &[MarkUpdate { user: user(n), marks }]).await.unwrap())
            }
            Step::Read { c, after, before, lane, limit, newest } => {
                let lane = [Lane::Posts, Lane::Events, Lane::Both][usize::from(lane)];
                let range = Range { after: Seq(after), before: before.map(Seq), lane, limit, newest };
                format!("{:?}", log.read(conversation(c), range).await.unwrap())
            }
            Step::Look { c, user: n } => {
                let mut list: Vec<_> = directory.list(user(n)).await.unwrap().into_iter().map(membership).collect();
                list.sort_by_key(|m| m.conversation.id);
                let members = directory.members(conversation(c), None, 100).await.unwrap();
                let own = directory.membership(conversation(c), user(n)).await.unwrap().map(membership);
                let row = directory.conversation(conversation(c)).await.unwrap().map(plain);
                let everybody: Vec<_> = (1..6).map(user).collect();
                let fellows = directory.fellows(user(n), &everybody).await.unwrap();
                let known = log.find(conversation(c), user(n), &cid("7")).await.unwrap();
                format!("{list:?}\n{members:?}\n{own:?}\n{row:?}\n{fellows:?}\n{known:?}")
            }
        }
    }
}

impl Owner {
    async fn append(&self, c: u8, behind: u64, what: &[What]) -> String {
        let log = &self.store.log;
        let Some(standing) = log.standing(conversation(c)).await.unwrap() else { return "no log".into() };
        let at = Seq(standing.head.seq.0.saturating_sub(behind));
        let mut post_no = standing.head.post_no;
        let mut batch: Vec<Event> = Vec::new();
        for (seq, what) in (at.0 + 1..).zip(what) {
            let (by, body, id) = say(what);
            post_no += u64::from(body.is_post());
            let mut event = events::event(seq, post_no, by, body);
            if let Some(id) = id.map(|id| cid(&id.to_string())) {
                // An owner appends a client id once.
                let known = log.find(conversation(c), event.by, &id).await.unwrap().is_some();
                let pending = batch.iter().any(|e| e.by == event.by && e.cid.as_ref() == Some(&id));
                event.cid = (!known && !pending).then_some(id);
            }
            batch.push(event);
        }
        match log.append(conversation(c), standing.epoch, at, Seq(0), &batch).await {
            Ok(Appended::Applied { .. }) => {
                log.follow(conversation(c), &batch).await.unwrap();
                let standing = log.standing(conversation(c)).await.unwrap().unwrap();
                format!("{:?} {:?}", standing.epoch, head(standing.head))
            }
            other => format!("{other:?}"),
        }
    }
}

fn say(what: &What) -> (u8, Body, Option<u8>) {
    match what.clone() {
        What::Post(by, cid) => (by, Body::Post(protocol::Post { text: Some("x".into()), ..Default::default() }), cid),
        What::Join(users) => (1, Body::Join(body::Join { users: users.into_iter().map(user).collect() }), None),
        What::Leave(by, heir) => (by, Body::Leave(body::Leave { heir: heir.map(user) }), None),
        What::Remove(of) => (1, Body::Remove(body::Remove { user: user(of) }), None),
        What::Role(of, role) => (1, Body::Role(body::RoleChange { user: user(of), role }), None),
        What::Title(title) => (1, Body::Settings(body::Settings { title }), None),
    }
}

#[test]
fn random_calls_are_answered_alike_by_sqlite() {
    answers_like_memory::<Owner>(stores::Kind::Sqlite, 40);
}

/// Fewer, as each call is answered by a server.
#[test]
fn random_calls_are_answered_alike_by_cql() {
    answers_like_memory::<Owner>(stores::Kind::Cql, 12);
}
