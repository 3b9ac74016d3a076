//! What nodes know of each other, on everything that they may share.

use std::{sync::Arc, time::Duration};

use crate::common::{
    VIEW, conversation, each_shared, ids, incarnation, node, stores,
    views::{after, assert_entered, emptied, enter, member},
};
use futures_util::future::join_all;
use protocol::{
    ConversationId,
    cluster::{MemberState, View},
};
use storage::{
    Error, Store,
    cluster::{Changed, Cluster},
    memory::{
        Memory,
        faults::{Fault, Operation, seeded},
    },
};

async fn each(test: impl AsyncFn(Arc<dyn Cluster>)) {
    each_shared(async |store| test(store.cluster.unwrap()).await).await;
}

#[tokio::test]
async fn who_owns_its_file_alone_has_no_cluster() {
    let (store, _place) = stores::open(stores::Kind::Sqlite).await;
    assert!(store.cluster.is_none());
}

#[tokio::test]
async fn a_view_is_read_as_it_was_written() {
    let _view = VIEW.lock().await;
    each(async |cluster| {
        let mut next = after(&cluster.view().await.unwrap(), &[1, 2]);
        next.members[0].state = MemberState::Gone;
        next.members[0].reported = vec![incarnation(2)];
        next.members[1].weight = 100;
        assert_eq!(cluster.change(&next).await.unwrap(), Changed::Applied);
        assert_eq!(cluster.view().await.unwrap(), next);
    })
    .await;
}

#[tokio::test]
async fn of_racing_changes_exactly_one_is_applied_and_the_others_are_shown_it() {
    let _view = VIEW.lock().await;
    each(async |cluster| {
        let mut view = cluster.view().await.unwrap();
        for n_racing in [2, 2, 2, 3, 4] {
            let next: Vec<View> = (1..=n_racing).map(|n| after(&view, &[n])).collect();
            // what is unknown is asked for again: who is too slow under contention may not be told
            let change = async |next: &View| loop {
                match cluster.change(next).await {
                    Err(Error::Unknown(why)) => println!("once more: {why}"),
                    outcome => return outcome.unwrap(),
                }
            };
            let outcomes = join_all(next.iter().map(change)).await;
            view = cluster.view().await.unwrap();
            assert_eq!(cluster.decided_view().await.unwrap(), view);
            for (next, outcome) in next.iter().zip(outcomes) {
                let expected = if *next == view { Changed::Applied } else { Changed::Stale(view.clone()) };
                assert_eq!(outcome, expected);
            }
            assert!(next.contains(&view));
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_follows_the_view_that_stands_or_is_stale() {
    let _view = VIEW.lock().await;
    each(async |cluster| {
        let one = emptied(&*cluster).await;
        let two = after(&one, &[1]);
        for wrong in [after(&two, &[2]), View { revision: one.revision, ..two.clone() }] {
            assert_eq!(cluster.change(&wrong).await.unwrap(), Changed::Stale(one.clone()));
        }
        assert!(matches!(cluster.change(&View::default()).await, Err(Error::Refused(_))));
        assert_eq!(cluster.change(&two).await.unwrap(), Changed::Applied);
    })
    .await;
}

#[tokio::test]
async fn who_asks_again_for_the_view_that_stands_is_told_so_until_it_is_changed() {
    let _view = VIEW.lock().await;
    each(async |cluster| {
        let one = after(&cluster.view().await.unwrap(), &[1]);
        for _ in 0..3 {
            assert_eq!(cluster.change(&one).await.unwrap(), Changed::Applied);
        }
        let two = after(&one, &[1, 2]);
        assert_eq!(cluster.change(&two).await.unwrap(), Changed::Applied);
        assert_eq!(cluster.change(&one).await.unwrap(), Changed::Stale(two));
    })
    .await;
}

#[tokio::test]
async fn nodes_that_enter_at_once_all_enter() {
    let _view = VIEW.lock().await;
    each(async |cluster| {
        let emptied = emptied(&*cluster).await;
        join_all([1..=4, 5..=8, 9..=12].map(|members| enter(&*cluster, members))).await;
        assert_entered(&*cluster, &emptied, 1..=12).await;
    })
    .await;
}

#[tokio::test]
async fn a_slot_never_goes_back() {
    each(async |cluster| {
        let slots = async |n| {
            let mut slots = cluster.slots(&node(n)).await.unwrap();
            slots.sort_unstable();
            slots
        };
        assert_eq!(slots(1).await, []);
        for (slot, last) in [(0, 0), (5, 5), (3, 5), (5, 5), (7, 7), (0, 7), (6, 7)] {
            cluster.beat(&node(1), incarnation(1), slot).await.unwrap();
            assert_eq!(slots(1).await, [(incarnation(1), last)]);
        }
        let one = node(1);
        for beat in join_all((8..=20).rev().map(|slot| cluster.beat(&one, incarnation(1), slot))).await {
            beat.unwrap();
        }
        cluster.beat(&node(1), incarnation(2), 1).await.unwrap();
        cluster.beat(&node(2), incarnation(3), 9).await.unwrap();
        assert_eq!(slots(1).await, [(incarnation(1), 20), (incarnation(2), 1)], "run by run");
        assert_eq!(slots(2).await, [(incarnation(3), 9)]);
    })
    .await;
}

/// More than one byte can number.
fn conversations(n: u32) -> Vec<ConversationId> {
    let numbered = |n: u32| {
        let mut id = ids::id(0);
        id[..4].copy_from_slice(&n.to_be_bytes());
        ConversationId(id)
    };
    (0..n).map(numbered).collect()
}

#[tokio::test]
async fn what_was_noted_in_a_slot_is_read_to_the_end() {
    each(async |cluster| {
        let all = conversations(5_000);
        let (one, rest) = all.split_at(1);
        cluster.note(incarnation(1), 7, one).await.unwrap();
        cluster.note(incarnation(1), 7, &rest[..2_500]).await.unwrap();
        // some once more
        cluster.note(incarnation(1), 7, &rest[2_000..]).await.unwrap();
        cluster.note(incarnation(1), 7, one).await.unwrap();
        cluster.note(incarnation(1), 7, &[]).await.unwrap();
        let mut noted = cluster.noted(incarnation(1), 7).await.unwrap();
        noted.sort_unstable();
        assert_eq!(noted.len(), all.len());
        assert_eq!(noted, all);
    })
    .await;
}

#[tokio::test]
async fn notes_of_another_slot_or_run_are_others() {
    each(async |cluster| {
        cluster.note(incarnation(1), 7, &[conversation(1)]).await.unwrap();
        cluster.note(incarnation(1), 8, &[conversation(2)]).await.unwrap();
        cluster.note(incarnation(2), 7, &[conversation(3)]).await.unwrap();
        let noted = async |run, slot| cluster.noted(incarnation(run), slot).await.unwrap();
        assert_eq!(noted(1, 7).await, [conversation(1)]);
        assert_eq!(noted(1, 8).await, [conversation(2)]);
        assert_eq!(noted(2, 7).await, [conversation(3)]);
        assert_eq!(noted(2, 8).await, []);
    })
    .await;
}

#[tokio::test]
async fn the_model_forgets_notes_of_an_hour_ago_and_keeps_later_ones() {
    let cluster = Store::memory().cluster.unwrap();
    for slot in 0..1_000 {
        cluster.note(incarnation(1), slot, &[conversation(1)]).await.unwrap();
    }
    assert_eq!(cluster.noted(incarnation(1), 999 - 361).await.unwrap(), []);
    assert_eq!(cluster.noted(incarnation(1), 999 - 360).await.unwrap(), [conversation(1)]);
}

async fn change_under(fault: Fault) -> (Arc<dyn Cluster>, Result<Changed, Error>) {
    let mut first = true;
    let faulty = move |operation| (operation == Operation::ChangeView && std::mem::take(&mut first)).then_some(fault);
    let cluster = Memory::with_faults(faulty).cluster.unwrap();
    let outcome = cluster.change(&after(&View::default(), &[1])).await;
    (cluster, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_outcome_is_the_view_or_not_or_later_unless_it_is_overtaken() {
    let (lost, other) = (after(&View::default(), &[1]), after(&View::default(), &[2]));
    let (cluster, outcome) = change_under(Fault::UnknownApplied).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))));
    assert_eq!(cluster.view().await.unwrap(), lost);
    assert_eq!(cluster.change(&lost).await.unwrap(), Changed::Applied, "asked again");
    assert_eq!(cluster.change(&other).await.unwrap(), Changed::Stale(lost.clone()));

    let (cluster, outcome) = change_under(Fault::UnknownNotApplied).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))));
    assert_eq!(cluster.view().await.unwrap(), View::default());
    assert_eq!(cluster.change(&lost).await.unwrap(), Changed::Applied, "asked again");

    for overtaken in [false, true] {
        let (cluster, outcome) = change_under(Fault::UnknownAppliesLater(Duration::from_secs(1))).await;
        assert!(matches!(outcome, Err(Error::Unknown(_))));
        assert_eq!(cluster.view().await.unwrap(), View::default());
        if overtaken {
            assert_eq!(cluster.change(&other).await.unwrap(), Changed::Applied);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(cluster.view().await.unwrap(), if overtaken { other.clone() } else { lost.clone() });
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_answers_nobody_enters_twice_or_not_at_all() {
    for seed in 0..200 {
        println!("seed {seed}");
        let cluster = Memory::with_faults(seeded(seed, 600)).cluster.unwrap();
        join_all([1..=4, 5..=8, 9..=12].map(|members| enter(&*cluster, members))).await;
        // what may still be applied later follows a view that stands no more
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_entered(&*cluster, &View::default(), 1..=12).await;
    }
}

#[test]
fn the_view_is_kept_under_names_that_stay() {
    let mut gone = member(1);
    (gone.incarnation, gone.reported) = (protocol::Incarnation([1; 16]), vec![protocol::Incarnation([2; 16])]);
    gone.state = MemberState::NoStore;
    gone.node = "a".to_owned().try_into().unwrap();
    let kept = serde_json::to_string(&View { version: 1, revision: 2, members: vec![gone] }).unwrap();
    let expected = "{\"version\":1,\"revision\":2,\"members\":[{\"node\":\"a\",\
        \"incarnation\":\"i_01010101010101010101010101010101\",\"address\":\"10.0.0.1:7000\",\"weight\":1,\
        \"state\":\"no_store\",\"reported\":[\"i_02020202020202020202020202020202\"]}]}";
    assert_eq!(kept, expected);
}
