//! The model fails as told, and each outcome means what it says.

use std::time::Duration;

use crate::common::{conversation, events, incarnation};
use protocol::{Epoch, Kind, Seq};
use storage::{
    Error, Store,
    log::Appended,
    memory::{
        Memory,
        faults::{Fault, Operation, seeded},
    },
};

async fn append_under(fault: Fault) -> (Store, Result<Appended, Error>) {
    let store = Memory::with_faults(move |operation| (operation == Operation::Append).then_some(fault));
    store.log.create(conversation(1), incarnation(1), &[events::create(Kind::Group, &[1])]).await.unwrap();
    let outcome = store.log.append(conversation(1), Epoch(1), Seq(1), Seq(0), &[events::post(2, 1, 1, "x")]).await;
    (store, outcome)
}

async fn head(store: &Store) -> u64 {
    store.log.standing(conversation(1)).await.unwrap().unwrap().head.seq.0
}

#[tokio::test(start_paused = true)]
async fn every_fault_does_what_its_name_says() {
    let (store, outcome) = append_under(Fault::Refuse).await;
    assert!(matches!(outcome, Err(Error::Refused(_))));
    assert_eq!(head(&store).await, 1);
    let (store, outcome) = append_under(Fault::UnknownNotApplied).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))));
    assert_eq!(head(&store).await, 1);
    let (store, outcome) = append_under(Fault::UnknownApplied).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))));
    assert_eq!(head(&store).await, 2);
    let (store, outcome) = append_under(Fault::Delay(Duration::from_secs(1))).await;
    assert!(matches!(outcome, Ok(Appended::Applied { .. })));
    assert_eq!(head(&store).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_later_is_fenced_by_a_claim() {
    for claimed_meanwhile in [false, true] {
        let (store, outcome) = append_under(Fault::UnknownAppliesLater(Duration::from_secs(1))).await;
        assert!(matches!(outcome, Err(Error::Unknown(_))));
        assert_eq!(head(&store).await, 1);
        if claimed_meanwhile {
            store.log.claim(conversation(1), incarnation(1), None).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(head(&store).await, if claimed_meanwhile { 1 } else { 2 });
    }
}

#[tokio::test]
async fn an_append_to_the_model_settles_what_the_caller_settled() {
    let store = Store::memory();
    let create = [events::create(Kind::Group, &[1, 2])];
    store.log.create(conversation(1), incarnation(1), &create).await.unwrap();
    assert_eq!(store.directory.conversation(conversation(1)).await.unwrap(), None, "not followed yet");
    let post = [events::post(2, 1, 1, "x")];
    let appended = store.log.append(conversation(1), Epoch(1), Seq(1), Seq(0), &post).await.unwrap();
    assert_eq!(appended, Appended::Applied { settled: Seq(0) });
    store.log.follow(conversation(1), &create).await.unwrap();
    store.log.follow(conversation(1), &post).await.unwrap();
    let next = [events::post(3, 2, 1, "y")];
    let appended = store.log.append(conversation(1), Epoch(1), Seq(2), Seq(2), &next).await.unwrap();
    assert_eq!(appended, Appended::Applied { settled: Seq(2) });
}

#[test]
fn a_seed_repeats_exactly() {
    let plan = |seed| -> Vec<_> {
        let mut plan = seeded(seed, 500);
        (0..100).map(|_| plan(Operation::Append)).collect()
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
    assert!(plan(1).iter().any(Option::is_some) && plan(1).iter().any(Option::is_none));
}
