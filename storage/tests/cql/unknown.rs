//! Writes whose answer does not come: lost on its way after they were applied, given up before they arrive, or never
//! sent at all. Each must be told apart from the others as far as anybody can, and a claim settles the rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loadtest::proxy::{Fault, Odds, Proxy};
use protocol::{Epoch, Event, Kind, Seq, limits::STORE_DEADLINE_MS};
use storage::{
    Error,
    cql::{self, Cql},
    health::Health,
    log::{Appended, Claimed, Created, Lane, Log, Range, Tenancy},
};

use crate::common::{cid, conversation, events, ids, incarnation, stores};

const DEADLINE: Duration = Duration::from_millis(STORE_DEADLINE_MS);
/// The deadline, and what a busy machine needs to notice that it is over.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
const BACK_WITHIN: Duration = Duration::from_secs(10);
const ALWAYS: Odds = Odds { swallowed_per_mille: 1000, late_per_mille: 0, late_by: Duration::ZERO };
const NEVER: Odds = Odds { swallowed_per_mille: 0, ..ALWAYS };

/// A store behind a wire.
struct Far {
    wire: Proxy,
    store: Arc<Cql>,
}

impl Far {
    async fn connect() -> Far {
        ids::refresh();
        let near = stores::cql_settings();
        let wire = Proxy::start_cql(&near.nodes[0], 1).await.unwrap();
        let far = cql::Settings { nodes: vec![wire.address().to_string()], ..near };
        Far { wire, store: Cql::open(&far).await.unwrap() }
    }

    async fn create(&self) -> Result<Created, Error> {
        self.store.create(conversation(1), incarnation(1), &[events::create(Kind::Group, &[1])]).await
    }

    /// One post above `head`, under this epoch.
    async fn append(&self, epoch: u64, head: u64, text: &str) -> Result<Appended, Error> {
        let event = Event { cid: Some(cid(text)), ..events::post(head + 1, head, 1, text) };
        self.store.append(conversation(1), Epoch(epoch), Seq(head), Seq(1), &[event]).await
    }

    async fn claim(&self, tail_from: u64) -> Tenancy {
        match self.store.claim(conversation(1), incarnation(2), Some(Seq(tail_from))).await.unwrap() {
            Claimed::Claimed(tenancy) => tenancy,
            Claimed::NotFound => panic!("the log is gone"),
        }
    }

    async fn logged(&self) -> Vec<u64> {
        let all = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 100, newest: false };
        self.store.read(conversation(1), all).await.unwrap().iter().map(|event| event.seq.0).collect()
    }
}

#[track_caller]
fn assert_unknown<T: std::fmt::Debug>(outcome: &Result<T, Error>, begun: Instant) {
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
    assert!((DEADLINE..ANSWERED_WITHIN).contains(&begun.elapsed()), "after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_an_append_whose_answer_is_lost_is_unknown_and_the_next_claim_finds_it() {
    let far = Far::connect().await;
    far.create().await.unwrap();
    far.wire.cql_odds(ALWAYS);
    let begun = Instant::now();
    assert_unknown(&far.append(1, 1, "lost").await, begun);
    far.wire.cql_odds(NEVER);
    let Tenancy { epoch, head, tail } = far.claim(1).await;
    assert_eq!((epoch, head.seq), (Epoch(2), Seq(2)));
    assert_eq!(
        tail.iter().map(|event| (event.seq, event.cid.clone())).collect::<Vec<_>>(),
        [(Seq(2), Some(cid("lost")))]
    );
    assert!(matches!(far.append(1, 2, "old").await.unwrap(), Appended::Fenced { epoch: Epoch(2), .. }));
    assert!(matches!(far.append(2, 2, "new").await.unwrap(), Appended::Applied { .. }));
    assert_eq!(far.logged().await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_an_append_that_arrives_after_the_next_claim_is_never_applied() {
    let far = Far::connect().await;
    far.create().await.unwrap();
    let late_by = DEADLINE + Duration::from_secs(1);
    far.wire.cql_odds(Odds { late_per_mille: 1000, late_by, ..NEVER });
    let begun = Instant::now();
    assert_unknown(&far.append(1, 1, "late").await, begun);
    far.wire.cql_odds(NEVER);
    let Tenancy { epoch, head, tail } = far.claim(1).await;
    assert_eq!((epoch, head.seq), (Epoch(2), Seq(1)));
    assert_eq!(tail.iter().map(|event| event.seq).collect::<Vec<_>>(), [Seq(1)], "what nobody has settled");
    // the wire brings it meanwhile
    tokio::time::sleep((late_by + Duration::from_millis(500)).saturating_sub(begun.elapsed())).await;
    assert_eq!(far.logged().await, [1]);
    assert!(matches!(far.append(2, 1, "new").await.unwrap(), Appended::Applied { .. }));
    assert_eq!(far.logged().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_answer_is_lost_is_repeated_as_it_is() {
    let far = Far::connect().await;
    far.wire.cql_odds(ALWAYS);
    let begun = Instant::now();
    assert_unknown(&far.create().await, begun);
    far.wire.cql_odds(NEVER);
    far.create().await.unwrap();
    let Tenancy { epoch, head, .. } = far.claim(0).await;
    assert_eq!((epoch, head.seq), (Epoch(2), Seq(1)));
    assert_eq!(far.logged().await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_is_lost_is_unknown_and_fences_all_the_same() {
    let far = Far::connect().await;
    far.create().await.unwrap();
    far.wire.cql_odds(ALWAYS);
    let begun = Instant::now();
    let claim = far.store.claim(conversation(1), incarnation(2), None).await;
    assert_unknown(&claim, begun);
    far.wire.cql_odds(NEVER);
    assert!(matches!(far.append(1, 1, "old").await.unwrap(), Appended::Fenced { epoch: Epoch(2), .. }));
    assert_eq!(far.claim(1).await.epoch, Epoch(3), "an unknown claim is followed by another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_every_call_ends_in_time_and_it_is_found_again() {
    let far = Far::connect().await;
    far.create().await.unwrap();
    let mut head = 1;
    for fault in [Fault::Cut, Fault::Stalled, Fault::Swallowing] {
        far.wire.set(fault);
        let begun = Instant::now();
        while begun.elapsed() < 3 * DEADLINE {
            let asked = Instant::now();
            let (append, read, ping) =
                tokio::join!(far.append(1, head, "away"), far.store.standing(conversation(1)), far.store.ping());
            assert!(matches!(append, Err(Error::Refused(_) | Error::Unknown(_))), "{fault:?}: {append:?}");
            assert!(matches!(read, Err(Error::Refused(_))), "{fault:?}: {read:?}");
            assert!(ping.is_err(), "{fault:?}");
            assert!(asked.elapsed() < ANSWERED_WITHIN, "{fault:?}: after {:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        far.wire.set(Fault::None);
        let back = Instant::now();
        // what the wire held back may be applied still: ask where the log stands, as a claim would
        head = loop {
            match far.store.standing(conversation(1)).await {
                Ok(standing) => break standing.unwrap().head.seq.0,
                Err(error) => assert!(back.elapsed() < BACK_WITHIN, "{fault:?}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        println!("{fault:?}: back after {:?}, the log ends at {head}", back.elapsed());
    }
    let logged = far.logged().await;
    assert!(logged.iter().copied().eq(1..=logged.len() as u64), "{logged:?}");
}
