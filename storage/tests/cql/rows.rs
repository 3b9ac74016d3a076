//! What follows from a log, written twice, late, by halves, side by side and in several partitions: the same rows come of it.

use protocol::{Event, Kind, Role, Seq, UserId, limits::BATCH_EVENTS_MAX, push::Marks};
use storage::{
    Store,
    cql::Settings,
    directory::{Conversation, MarkUpdate, Member},
    log::Range,
};

use crate::{
    common::{Log, conversation, events, incarnation, stores, user},
    rig::{ALL, another, group, run, store, uuid},
};

/// Everything that is said of a conversation and its members, from both sides.
async fn all(store: &Store, log: &Log) -> (Conversation, Vec<Member>, Vec<Option<Member>>, Vec<Vec<Member>>) {
    let directory = &store.directory;
    let mut rows = Vec::new();
    let mut lists = Vec::new();
    for n in 1..=6 {
        rows.push(directory.member(log.c, user(n)).await.unwrap());
        let list = directory.list(user(n)).await.unwrap();
        lists.push(list.into_iter().map(|membership| membership.member).collect());
    }
    let members = directory.members(log.c, None, 100).await.unwrap();
    (directory.conversation(log.c).await.unwrap().unwrap(), members, rows, lists)
}

/// A log with a past: joins, exits, returns, roles, some of which change nothing.
async fn eventful(store: &Store) -> (Log, Vec<Event>) {
    let mut log = group(store, &[1, 2, 3]).await;
    log.post(2, "x").await; // 2
    log.remove(2).await; // 3
    log.remove(2).await; // 4, is none
    log.role(2, Role::Admin).await; // 5, is none
    log.join(&[2, 4, 1]).await; // 6, the last is one
    log.role(4, Role::Admin).await; // 7
    log.title("new").await; // 8
    log.join(&[4]).await; // 9, is one
    log.leave(1, Some(4)).await; // 10
    log.post(4, "y").await; // 11
    log.join(&[1, 5]).await; // 12
    log.remove(5).await; // 13
    let events = store.log.read(log.c, ALL).await.unwrap();
    (log, events)
}

#[tokio::test]
async fn who_follows_late_or_in_any_order_changes_nothing() {
    let store = store().await;
    let (log, events) = eventful(&store).await;
    let before = all(&store, &log).await;
    assert_eq!(before.0.members, 4);
    let late = another().await;
    for event in events.iter().rev().chain(&events) {
        late.log.follow(log.c, std::slice::from_ref(event)).await.unwrap();
    }
    for run in events.chunks(5).rev() {
        late.log.follow(log.c, run).await.unwrap();
    }
    late.log.follow(log.c, &events).await.unwrap();
    assert_eq!(all(&store, &log).await, before);
}

#[tokio::test]
async fn following_side_by_side_is_following_once() {
    let store = store().await;
    let mut log = group(&store, &[1, 2]).await;
    let (one, other) = (another().await, another().await);
    for round in 0..5 {
        let joins = [events::event(log.head.0 + 1, log.posts, 1, join(&[3, 4]))];
        append_only(&store, &mut log, &joins).await;
        let (a, b) = tokio::join!(one.log.follow(log.c, &joins), other.log.follow(log.c, &joins));
        a.and(b).unwrap();
        assert_eq!(store.directory.conversation(log.c).await.unwrap().unwrap().members, 4, "round {round}");
        log.remove(3).await;
        log.remove(4).await;
        assert_eq!(store.directory.conversation(log.c).await.unwrap().unwrap().members, 2, "round {round}");
    }
}

fn join(users: &[u8]) -> protocol::Body {
    protocol::Body::Join(protocol::event::Join { users: users.iter().copied().map(user).collect() })
}

/// Appends, and dies before anything follows.
async fn append_only(store: &Store, log: &mut Log, events: &[Event]) {
    let appended = store.log.append(log.c, log.epoch, log.head, log.head, events).await.unwrap();
    assert!(matches!(appended, storage::log::Appended::Applied { .. }), "{appended:?}");
    (log.head, log.posts) = (events[events.len() - 1].seq, events[events.len() - 1].post_no);
}

#[tokio::test]
async fn rows_written_by_halves_are_made_whole() {
    let store = store().await;
    let mut log = group(&store, &[1, 2]).await;
    let c = uuid(log.c.0);
    let bytes = |n| user(n).0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let cells = "role = 0, joined_seq = 2, read = 2, delivered = 2, read_post = 0";

    // of two who join, one got into the conversation's rows and the other into their own
    let joins = [events::event(2, 0, 1, join(&[3, 4]))];
    append_only(&store, &mut log, &joins).await;
    run(&format!(
        "UPDATE ks.members USING TIMESTAMP 2 SET {cells} WHERE conversation_id = {c} AND shard = 0 AND user_id = 0x{}",
        bytes(3)
    ));
    run(&format!(
        "UPDATE ks.user_conversations USING TIMESTAMP 2 SET {cells} WHERE user_id = {} AND conversation_id = {c}",
        uuid(user(4).0)
    ));
    store.log.follow(log.c, &joins).await.unwrap();
    let whole = all(&store, &log).await;
    assert_eq!((whole.0.members, whole.1.len()), (4, 4));
    for n in 1..=4 {
        assert_eq!(whole.3[n - 1], [whole.1[n - 1]], "{n} from both sides");
    }

    // and the other way round for one who is removed
    let exits = [events::event(3, 0, 1, protocol::Body::Remove(protocol::event::Remove { user: user(3) }))];
    append_only(&store, &mut log, &exits).await;
    run(&format!(
        "UPDATE ks.members USING TIMESTAMP 3 SET left_seq = 3 WHERE conversation_id = {c} AND shard = 0 AND user_id = 0x{}",
        bytes(3)
    ));
    store.log.follow(log.c, &exits).await.unwrap();
    let whole = all(&store, &log).await;
    assert_eq!((whole.0.members, whole.1.len(), whole.3[2].len()), (3, 3, 0));
    assert_eq!(whole.2[2].unwrap().left_seq, Some(Seq(3)));
}

#[tokio::test]
async fn marks_of_who_is_no_member_make_no_member() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    log.post(2, "from outside").await;
    assert_eq!(store.directory.member(log.c, user(2)).await.unwrap(), None);
    assert_eq!(store.directory.list(user(2)).await.unwrap(), []);
    assert_eq!(store.directory.members(log.c, None, 10).await.unwrap().len(), 1);
    assert_eq!(store.directory.fellows(user(1), &[user(1), user(2)]).await.unwrap(), [user(1)]);
    log.join(&[2]).await;
    let row = store.directory.member(log.c, user(2)).await.unwrap().unwrap();
    assert_eq!((row.joined_seq, row.marks.read, row.read_post), (Seq(3), Seq(3), 1));
}

#[tokio::test]
async fn g11_marks_raised_side_by_side_never_go_back() {
    let store = store().await;
    let mut log = group(&store, &[1, 2]).await;
    for _ in 0..30 {
        log.post(1, "x").await;
    }
    let other = another().await;
    let raise = async |store: &Store, step: usize| {
        for read in (1..=30).step_by(step).map(Seq) {
            let update = MarkUpdate { user: user(2), marks: Marks { read, delivered: Seq(read.0 + 1) } };
            let stands = store.directory.mark(log.c, &[update]).await.unwrap()[0];
            assert!(stands.read >= read && stands.delivered > read, "{stands:?}");
        }
    };
    tokio::join!(raise(&store, 2), raise(&other, 3));
    let marks = Marks { read: Seq(29), delivered: Seq(30) };
    let both = all(&store, &log).await;
    assert_eq!((both.1[1].marks, both.1[1].read_post), (marks, 28));
    assert_eq!(both.3[1], [both.1[1]], "from both sides");
}

fn members_max(members_max: usize) -> Settings {
    Settings { members_max, ..stores::cql_settings() }
}

/// Users all over the ids.
fn users(step: usize) -> Vec<u8> {
    (1..=255_u8).step_by(step).collect()
}

async fn page(store: &Store, log: &Log, after: Option<UserId>, limit: usize) -> Vec<u8> {
    let members = store.directory.members(log.c, after, limit).await.unwrap();
    members.iter().map(|member| member.user.0[0]).collect()
}

#[tokio::test]
async fn members_of_several_partitions_come_in_order() {
    let small = store().await;
    let large = stores::on_cql(&members_max(40_000)).await;
    let everybody = users(2);
    let mut log = Log::create_as(&large, conversation(1), Kind::Channel, &everybody).await;
    let partitions = run(&format!("SELECT shards FROM ks.conversations WHERE conversation_id = {}", uuid(log.c.0)));
    assert_eq!(partitions[0][0], 4_i32.to_be_bytes());
    // a node that would divide it otherwise goes by how it is divided
    for store in [&large, &small] {
        assert_eq!(page(store, &log, None, 1000).await, everybody);
        assert_eq!(page(store, &log, Some(user(60)), 5).await, [61, 63, 65, 67, 69]);
        assert_eq!(page(store, &log, Some(user(255)), 5).await, [0_u8; 0]);
    }
    for gone in [63, 65, 67] {
        log.remove(gone).await;
    }
    assert_eq!(page(&small, &log, Some(user(60)), 3).await, [61, 69, 71]);
    let read = |n| MarkUpdate { user: user(n), marks: Marks { read: Seq(2), delivered: Seq(3) } };
    let updates: Vec<_> = everybody.iter().copied().map(read).collect();
    let stands = small.directory.mark(log.c, &updates).await.unwrap();
    assert!(stands.iter().all(|marks| *marks == Marks { read: Seq(2), delivered: Seq(3) }), "{stands:?}");
    let rows = large.directory.members(log.c, None, 1000).await.unwrap();
    assert_eq!(rows.len(), everybody.len() - 3);
    assert!(rows.iter().all(|row| row.marks.read == Seq(2) && row.role != Role::Admin));
}

#[tokio::test]
async fn nodes_that_would_divide_the_members_differently_agree() {
    for round in 1..=5 {
        let (small, large) = (store().await, stores::on_cql(&members_max(90_000)).await);
        let everybody = users(3);
        let create = [events::create(Kind::Group, &everybody)];
        let c = conversation(round);
        small.log.create(c, incarnation(1), &create).await.unwrap();
        let (a, b) = tokio::join!(small.log.follow(c, &create), large.log.follow(c, &create));
        a.and(b).unwrap();
        for store in [&small, &large] {
            let members = store.directory.members(c, None, 1000).await.unwrap();
            assert_eq!(members.iter().map(|member| member.user.0[0]).collect::<Vec<_>>(), everybody);
            assert_eq!(store.directory.conversation(c).await.unwrap().unwrap().members, everybody.len() as u64);
        }
    }
}

#[tokio::test]
async fn a_full_batch_of_client_ids_is_found_by_each() {
    let store = store().await;
    let mut log = group(&store, &[1, 2, 3]).await;
    let batch: Vec<Event> = (0..BATCH_EVENTS_MAX as u64)
        .map(|i| {
            let mut post = events::post(2 + i, 1 + i, 1 + (i % 3) as u8, "x");
            post.cid = Some(crate::common::cid(&i.to_string()));
            post
        })
        .collect();
    log.append(batch.clone()).await;
    for event in &batch {
        let found = store.log.find(log.c, event.by, event.cid.as_ref().unwrap()).await.unwrap().unwrap();
        assert_eq!((found.seq, found.post_no), (event.seq, event.post_no));
    }
    let newest = Range { newest: true, limit: 1, ..ALL };
    assert_eq!(store.log.read(log.c, newest).await.unwrap(), batch[63..]);
}
