//! Create, claim, append, find, read.

use crate::common::{Log, cid, conversation, each, events, incarnation, user};
use protocol::{Epoch, Kind, Millis, Role, Seq, limits::BUCKET_EVENTS};
use storage::{
    Error,
    log::{Appended, Claimed, Created, Lane, Range},
};

pub(crate) const ALL: Range = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 1000, newest: false };

#[tokio::test]
async fn creating_twice_writes_once() {
    each(async |store| {
        let first = events::create(Kind::Group, &[1, 2]);
        let created = store.log.create(conversation(1), incarnation(1), std::slice::from_ref(&first)).await.unwrap();
        assert!(matches!(created, Created::Created { head } if head.seq == Seq(1) && head.post_no == 0));
        let other = events::create(Kind::Group, &[3]);
        let again = store.log.create(conversation(1), incarnation(2), &[other]).await.unwrap();
        assert_eq!(again, Created::Exists);
        assert_eq!(store.log.read(conversation(1), ALL).await.unwrap(), [first]);
        let standing = store.log.standing(conversation(1)).await.unwrap().unwrap();
        assert_eq!((standing.epoch, standing.owner, standing.head.seq), (Epoch(1), incarnation(1), Seq(1)));
        assert_eq!(store.log.standing(conversation(2)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_log_begins_with_its_creation() {
    each(async |store| {
        let refused = store.log.create(conversation(1), incarnation(1), &[events::post(1, 1, 1, "a")]).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert_eq!(store.log.standing(conversation(1)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_claim_raises_the_epoch_and_reads_the_tail() {
    each(async |store| {
        assert_eq!(store.log.claim(conversation(1), incarnation(2), None).await.unwrap(), Claimed::NotFound);
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        for text in ["a", "b", "c"] {
            log.post(1, text).await;
        }
        let claim = async |by, from: Option<u64>| match store.log.claim(log.c, incarnation(by), from.map(Seq)).await {
            Ok(Claimed::Claimed(tenancy)) => tenancy,
            other => panic!("{other:?}"),
        };
        let tenancy = claim(2, Some(2)).await;
        assert_eq!((tenancy.epoch, tenancy.head.seq, tenancy.head.post_no), (Epoch(2), Seq(4), 3));
        let settled = tenancy.head.settled.0;
        let seqs: Vec<u64> = tenancy.tail.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (settled.min(2) + 1..=4).collect::<Vec<_>>());
        let tenancy = claim(3, None).await;
        assert_eq!(tenancy.epoch, Epoch(3));
        assert_eq!(tenancy.tail.len() as u64, 4 - settled);
        assert_eq!(claim(3, Some(0)).await.tail.len(), 4);
        assert_eq!(claim(3, Some(9)).await.tail.len() as u64, 4 - settled);
    })
    .await;
}

#[tokio::test]
async fn g3_an_append_under_a_stale_epoch_or_head_writes_nothing() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
        log.post(1, "a").await;
        let next = [events::post(3, 2, 1, "b")];
        let claimed = store.log.claim(log.c, incarnation(2), None).await.unwrap();
        assert!(matches!(claimed, Claimed::Claimed(_)));
        let fenced =
            |epoch, owner, head| Appended::Fenced { epoch: Epoch(epoch), owner: incarnation(owner), head: Seq(head) };
        let stale = store.log.append(log.c, Epoch(1), Seq(2), Seq(0), &next).await.unwrap();
        assert_eq!(stale, fenced(2, 2, 2));
        let behind = [events::post(2, 1, 1, "b")];
        let stale = store.log.append(log.c, Epoch(2), Seq(1), Seq(0), &behind).await.unwrap();
        assert_eq!(stale, fenced(2, 2, 2));
        assert_eq!(store.log.read(log.c, ALL).await.unwrap().len(), 2);
        let applied = store.log.append(log.c, Epoch(2), Seq(2), Seq(2), &next).await.unwrap();
        assert!(matches!(applied, Appended::Applied { .. }));
        let again = store.log.append(log.c, Epoch(2), Seq(2), Seq(2), &next).await.unwrap();
        assert_eq!(again, fenced(2, 2, 3));
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_gapless_bounded_and_inside_one_bucket() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
        let refused = async |batch: &[protocol::Event]| {
            let outcome = store.log.append(conversation(1), Epoch(1), Seq(1), Seq(0), batch).await;
            assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
        };
        let posts = |n: u64| -> Vec<_> { (0..n).map(|i| events::post(2 + i, 1 + i, 1, "x")).collect() };
        refused(&[]).await;
        refused(&posts(65)).await;
        refused(&[events::post(3, 1, 1, "a gap")]).await;
        refused(&[events::post(2, 1, 1, "one"), events::post(4, 2, 1, "three")]).await;
        refused(&[events::post(2, 7, 1, "miscounted")]).await;
        refused(&[events::post(2, 1, 1, &"x".repeat(1 << 20))]).await;
        log.append(posts(64)).await;
        assert_eq!(log.head, Seq(65));
        while log.head.0 < BUCKET_EVENTS - 3 {
            let n = (BUCKET_EVENTS - 3 - log.head.0).min(64);
            log.append((1..=n).map(|i| events::post(log.head.0 + i, log.posts + i, 1, "x")).collect()).await;
        }
        // The last seq of the bucket is 4095: two fit, three would cross.
        let three: Vec<_> = (1..=3).map(|i| events::post(log.head.0 + i, log.posts + i, 1, "x")).collect();
        let outcome = store.log.append(log.c, Epoch(1), log.head, Seq(0), &three).await;
        assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
        log.append(three[..2].to_vec()).await;
        log.append(three[2..].to_vec()).await;
        assert_eq!(log.head, Seq(BUCKET_EVENTS));
        let seqs: Vec<u64> =
            store.log.read(log.c, Range { limit: 10_000, ..ALL }).await.unwrap().iter().map(|e| e.seq.0).collect();
        assert_eq!(seqs, (1..=BUCKET_EVENTS).collect::<Vec<_>>(), "G3: gapless");
    })
    .await;
}

#[tokio::test]
async fn an_append_to_no_log_is_refused() {
    each(async |store| {
        let outcome = store.log.append(conversation(1), Epoch(1), Seq(0), Seq(0), &[events::post(1, 1, 1, "a")]).await;
        assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn g5_the_index_finds_a_client_id_of_its_sender_only() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        let mut post = events::post(2, 1, 1, "a");
        (post.cid, post.request_hash, post.at) = (Some(cid("x")), [7; 16], Millis(77));
        log.append(vec![post]).await;
        let known = store.log.find(log.c, user(1), &cid("x")).await.unwrap().unwrap();
        assert_eq!((known.seq, known.post_no, known.at, known.request_hash), (Seq(2), 1, Millis(77), [7; 16]));
        assert_eq!(store.log.find(log.c, user(2), &cid("x")).await.unwrap(), None);
        assert_eq!(store.log.find(log.c, user(1), &cid("y")).await.unwrap(), None);
        assert_eq!(store.log.find(conversation(2), user(1), &cid("x")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn an_event_is_read_as_it_was_written() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        let mut post = events::post(2, 1, 1, "grüße\n\0\u{1F600}");
        (post.cid, post.request_hash) = (Some(cid("x")), [9; 16]);
        let other = protocol::Body::Other { kind: 77, bytes: vec![9, 1, 2, 3] };
        let written = vec![post, events::event(3, 1, 2, other), events::role(4, 1, 1, 2, Role::Admin)];
        log.append(written.clone()).await;
        let read = store.log.read(log.c, Range { after: Seq(1), ..ALL }).await.unwrap();
        assert_eq!(read, written);
    })
    .await;
}

#[tokio::test]
async fn ranges_are_exclusive_ascending_and_by_lane() {
    each(async |store| {
        // 1 create, 2 post, 3 title, 4 post, 5 post, 6 title, 7 post
        let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
        for step in ["p", "t", "p", "p", "t", "p"] {
            if step == "p" { log.post(1, "x").await } else { log.title("x").await }
        }
        let seqs = async |after, before: Option<u64>, lane, limit, newest| -> Vec<u64> {
            let range = Range { after: Seq(after), before: before.map(Seq), lane, limit, newest };
            store.log.read(conversation(1), range).await.unwrap().iter().map(|event| event.seq.0).collect()
        };
        assert_eq!(seqs(0, None, Lane::Both, 100, false).await, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(seqs(2, Some(6), Lane::Both, 100, true).await, [3, 4, 5]);
        assert_eq!(seqs(2, Some(7), Lane::Both, 3, false).await, [3, 4, 5]);
        assert_eq!(seqs(2, Some(7), Lane::Both, 3, true).await, [4, 5, 6]);
        assert_eq!(seqs(0, None, Lane::Posts, 100, false).await, [2, 4, 5, 7]);
        assert_eq!(seqs(2, Some(7), Lane::Posts, 100, false).await, [4, 5]);
        assert_eq!(seqs(0, None, Lane::Posts, 2, false).await, [2, 4]);
        assert_eq!(seqs(0, None, Lane::Posts, 2, true).await, [5, 7]);
        assert_eq!(seqs(0, None, Lane::Events, 100, true).await, [1, 3, 6]);
        assert_eq!(seqs(1, Some(6), Lane::Events, 1, true).await, [3]);
        assert_eq!(seqs(7, None, Lane::Both, 100, false).await, [0_u64; 0]);
        assert_eq!(seqs(99, None, Lane::Both, 100, true).await, [0_u64; 0]);
        assert_eq!(seqs(0, None, Lane::Both, 0, true).await, [0_u64; 0]);
        assert_eq!(store.log.read(conversation(2), ALL).await.unwrap(), []);
    })
    .await;
}
