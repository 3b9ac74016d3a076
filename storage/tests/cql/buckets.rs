//! Logs longer than a bucket: filled to the last place, opened by appends and by claims, read across, by late owners too.

use protocol::{Body, Epoch, Event, Seq, limits::BUCKET_EVENTS};
use storage::{
    Error, Store,
    log::{Appended, Claimed, Lane, Range, Tenancy},
};

use crate::{
    common::{Log, conversation, events, incarnation},
    rig::{ALL, another, fill, group, run, seqs, store, uuid},
};

const LAST: u64 = BUCKET_EVENTS - 1;

async fn claim(store: &Store, log: &Log, by: u8, from: Option<u64>) -> Tenancy {
    match store.log.claim(log.c, incarnation(by), from.map(Seq)).await {
        Ok(Claimed::Claimed(tenancy)) => tenancy,
        other => panic!("{other:?}"),
    }
}

async fn append(store: &Store, log: &Log, tenancy: &Tenancy, text: &str) -> Result<Appended, Error> {
    let head = tenancy.head;
    let post = [events::post(head.seq.0 + 1, head.post_no + 1, 1, text)];
    store.log.append(log.c, tenancy.epoch, head.seq, head.seq, &post).await
}

fn buckets(log: &Log) -> usize {
    let rows = |bucket| {
        run(&format!(
            "SELECT epoch FROM ks.conversation_log WHERE conversation_id = {} AND bucket = {bucket} LIMIT 1",
            uuid(log.c.0)
        ))
    };
    (0..10).take_while(|bucket| !rows(*bucket).is_empty()).count()
}

fn hint(log: &Log) -> Vec<u8> {
    run(&format!("SELECT bucket FROM ks.conversations WHERE conversation_id = {}", uuid(log.c.0))).remove(0).remove(0)
}

#[tokio::test]
async fn an_append_fills_a_bucket_and_the_next_one_opens_the_next() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, LAST, true).await;
    assert_eq!(buckets(&log), 1);
    log.post(1, "first of the next").await;
    log.post(1, "second of the next").await;
    assert_eq!(buckets(&log), 2);
    assert_eq!(hint(&log), 1_i32.to_be_bytes(), "who comes later begins there");
    let standing = another().await.log.standing(log.c).await.unwrap().unwrap();
    assert_eq!((standing.head.seq.0, standing.head.post_no, standing.epoch), (LAST + 2, LAST + 1, Epoch(1)));
}

#[tokio::test]
async fn a_claim_at_a_full_bucket_opens_the_next_and_a_second_claims_that() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, LAST, true).await;
    let first = claim(&store, &log, 2, Some(LAST - 2)).await;
    assert_eq!((first.epoch, first.head.seq), (Epoch(2), Seq(LAST)));
    assert_eq!(buckets(&log), 2);
    let second = claim(&another().await, &log, 3, Some(LAST - 2)).await;
    assert_eq!((second.epoch, second.head.seq, buckets(&log)), (Epoch(3), Seq(LAST), 2));
    for tenancy in [&first, &second] {
        let from = tenancy.head.settled.0.min(LAST - 2);
        assert_eq!(
            tenancy.tail.iter().map(|event| event.seq.0).collect::<Vec<_>>(),
            (from + 1..=LAST).collect::<Vec<_>>()
        );
    }
    let late = append(&store, &log, &first, "late").await.unwrap();
    assert_eq!(late, Appended::Fenced { epoch: Epoch(3), owner: incarnation(3), head: Seq(LAST) });
    assert!(matches!(append(&store, &log, &second, "mine").await.unwrap(), Appended::Applied { .. }));
    assert_eq!(seqs(&store, &log, Range { after: Seq(LAST - 1), ..ALL }).await, [LAST, LAST + 1]);
}

#[tokio::test]
async fn g3_many_who_claim_at_a_full_bucket_append_one_after_the_other() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, LAST, true).await;
    let (log, store) = (&log, &store);
    let rival = |by: u8| async move {
        match store.log.claim(log.c, incarnation(by), None).await {
            Ok(Claimed::Claimed(tenancy)) => {
                let outcome = append(store, log, &tenancy, &by.to_string()).await;
                Some((by, tenancy.epoch, tenancy.head.seq.next(), outcome))
            }
            // overtaken too often, or the servers did not say
            Err(Error::Refused(_) | Error::Unknown(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    let outcomes: Vec<_> = futures_util::future::join_all((2..6).map(rival)).await.into_iter().flatten().collect();
    let mut epochs: Vec<_> = outcomes.iter().map(|(_, epoch, ..)| *epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), outcomes.len(), "no term belongs to two: {outcomes:?}");
    let tenancy = claim(store, log, 9, Some(LAST)).await;
    assert!(matches!(append(store, log, &tenancy, "last").await.unwrap(), Appended::Applied { .. }));
    let read = store.log.read(log.c, Range { after: Seq(LAST), ..ALL }).await.unwrap();
    assert_eq!(read.last().unwrap().seq, tenancy.head.seq.next(), "without a hole: {read:?}");
    for (by, _, seq, outcome) in &outcomes {
        let mine = read.iter().filter(|event| event.body == events::post(1, 1, 1, &by.to_string()).body);
        let mine: Vec<_> = mine.map(|event| event.seq).collect();
        match outcome {
            Ok(Appended::Applied { .. }) => assert_eq!(mine, [*seq], "{outcomes:?}"),
            _ => assert!(mine.is_empty() || mine == [*seq], "{outcomes:?}"),
        }
    }
}

#[tokio::test]
async fn a_page_passes_over_buckets_without_posts() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, 3, true).await;
    fill(&mut log, 3 * BUCKET_EVENTS + 10, false).await;
    let posts = Range { lane: Lane::Posts, limit: 10, newest: true, ..ALL };
    assert_eq!(seqs(&store, &log, posts).await, [2, 3]);
    log.post(1, "x").await;
    let last = log.head;
    for store in [&store, &another().await] {
        assert_eq!(seqs(store, &log, posts).await, [2, 3, last.0]);
        assert_eq!(seqs(store, &log, Range { before: Some(last), ..posts }).await, [2, 3]);
        assert_eq!(seqs(store, &log, Range { limit: 1, before: Some(last), ..posts }).await, [3]);
        assert_eq!(seqs(store, &log, Range { newest: false, ..posts }).await, [2, 3, last.0]);
        assert_eq!(seqs(store, &log, Range { after: Seq(BUCKET_EVENTS), ..posts }).await, [last.0]);
    }
}

#[tokio::test]
async fn pages_go_on_in_the_next_bucket_both_ways() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, LAST - 1, true).await;
    for _ in 0..2 {
        log.title("t").await; // LAST, LAST + 2
        log.post(1, "x").await; // LAST + 1, LAST + 3
    }
    let around = Range { after: Seq(LAST - 3), ..ALL };
    let newest = Range { newest: true, ..around };
    for store in [&store, &another().await] {
        assert_eq!(seqs(store, &log, around).await, (LAST - 2..=LAST + 3).collect::<Vec<_>>());
        assert_eq!(seqs(store, &log, Range { limit: 4, ..around }).await, (LAST - 2..=LAST + 1).collect::<Vec<_>>());
        assert_eq!(seqs(store, &log, Range { limit: 4, ..newest }).await, (LAST..=LAST + 3).collect::<Vec<_>>());
        let below = Range { before: Some(Seq(LAST + 2)), limit: 3, ..newest };
        assert_eq!(seqs(store, &log, below).await, (LAST - 1..=LAST + 1).collect::<Vec<_>>());
        assert_eq!(seqs(store, &log, Range { lane: Lane::Events, ..newest }).await, [LAST, LAST + 2]);
        assert_eq!(seqs(store, &log, Range { lane: Lane::Events, ..around }).await, [LAST, LAST + 2]);
        assert_eq!(
            seqs(store, &log, Range { lane: Lane::Posts, limit: 3, ..newest }).await,
            [LAST - 1, LAST + 1, LAST + 3]
        );
        assert_eq!(seqs(store, &log, Range { before: Some(Seq(1 << 50)), limit: 1, ..newest }).await, [LAST + 3]);
        assert_eq!(seqs(store, &log, Range { after: Seq(1 << 50), ..ALL }).await, [0_u64; 0]);
    }
}

#[tokio::test]
async fn g8_who_remembers_an_old_bucket_reads_what_others_wrote_since() {
    let (store, other) = (store().await, another().await);
    let mut log = group(&store, &[1]).await;
    let posts = Range { lane: Lane::Posts, limit: 2, newest: true, ..ALL };
    assert_eq!(seqs(&other, &log, posts).await, [0_u64; 0]);
    fill(&mut log, 2 * BUCKET_EVENTS + 1, true).await;
    assert_eq!(seqs(&other, &log, posts).await, [2 * BUCKET_EVENTS, 2 * BUCKET_EVENTS + 1]);
    assert_eq!(other.log.standing(log.c).await.unwrap().unwrap().head.seq, log.head);
    assert_eq!(claim(&other, &log, 2, None).await.head.seq, log.head);
}

#[tokio::test]
async fn nothing_is_answered_above_a_hole_and_one_in_what_is_settled_is_damage() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    fill(&mut log, 10, true).await;
    let id = uuid(log.c.0);
    let lose = |seq| {
        run(&format!(
            "DELETE FROM ks.conversation_log WHERE conversation_id = {id} AND bucket = 0 AND lane = 0 AND seq = {seq}"
        ))
    };
    // 2 to 10 were one batch, so nothing of it is settled yet
    lose(9);
    for lane in [Lane::Both, Lane::Posts] {
        let limited = Range { lane, limit: 3, newest: true, ..ALL };
        assert_eq!(seqs(&store, &log, limited).await, [6, 7, 8], "{lane:?}");
        assert_eq!(seqs(&store, &log, Range { after: Seq(5), lane, ..ALL }).await, [6, 7, 8], "{lane:?}");
    }
    assert_eq!(seqs(&store, &log, Range { after: Seq(8), ..ALL }).await, [0_u64; 0]);
    log.post(1, "settles the others").await;
    for newest in [true, false] {
        let range = Range { after: Seq(5), newest, ..ALL };
        let damaged = store.log.read(log.c, range).await;
        assert!(matches!(damaged, Err(Error::Corrupt(_))), "{damaged:?}");
    }
}

#[tokio::test]
async fn a_post_of_a_newer_version_is_counted_and_kept() {
    let store = store().await;
    let mut log = group(&store, &[1]).await;
    let newer = |seq, post_no, kind, version| -> Event {
        events::event(seq, post_no, 1, Body::Other { kind, bytes: vec![version, b'?'] })
    };
    let written = vec![newer(2, 1, 0, 2), newer(3, 1, 99, 1)];
    log.append(written.clone()).await;
    log.post(1, "x").await;
    assert_eq!(store.log.read(log.c, Range { after: Seq(1), before: Some(Seq(4)), ..ALL }).await.unwrap(), written);
    let posts = Range { lane: Lane::Posts, newest: true, ..ALL };
    assert_eq!(seqs(&store, &log, posts).await, [2, 4]);
    let tenancy = claim(&another().await, &log, 2, Some(1)).await;
    assert_eq!((tenancy.head.post_no, tenancy.tail.len()), (2, 3));
    assert_eq!(tenancy.tail[..2], written);
}

#[tokio::test]
async fn a_wrong_id_is_no_log() {
    let store = store().await;
    let nobody = conversation(99);
    assert_eq!(store.log.standing(nobody).await.unwrap(), None);
    assert_eq!(store.log.claim(nobody, incarnation(1), None).await.unwrap(), Claimed::NotFound);
    assert_eq!(store.log.read(nobody, Range { newest: true, ..ALL }).await.unwrap(), []);
    assert!(
        run(&format!("SELECT seq FROM ks.conversation_log WHERE conversation_id = {} AND bucket = 0", uuid(nobody.0)))
            .is_empty()
    );
}
