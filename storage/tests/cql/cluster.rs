//! What nodes know of each other, when answers are lost or statements late, and for how long.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures_util::future::join_all;
use loadtest::proxy::{Fault, Odds, Proxy};
use protocol::Incarnation;
use storage::{
    Error,
    cluster::{Changed, Cluster, NOTES_KEPT_S, SLOTS_KEPT_S},
    cql::{self, Cql},
};

use crate::{
    common::{
        VIEW, conversation, ids, incarnation, node, stores,
        views::{after, assert_entered, emptied, enter},
    },
    rig::{another, run, uuid},
};

/// Of conditional statements.
const LOST: Odds = Odds { swallowed_per_mille: 1000, late_per_mille: 0, late_by: Duration::ZERO };
const FINE: Odds = Odds { swallowed_per_mille: 0, ..LOST };
/// What the wire held back has arrived by then, and been looked at.
const ARRIVED: Duration = Duration::from_millis(500);

/// A store behind a wire, and one beside it.
struct Far {
    wire: Proxy,
    far: Arc<Cql>,
    near: Arc<dyn Cluster>,
}

impl Far {
    async fn connect() -> Far {
        ids::refresh();
        let settings = stores::cql_settings();
        let wire = Proxy::start_cql(&settings.nodes[0], 5).await.unwrap();
        let near = another().await.cluster.unwrap();
        let far = cql::Settings { nodes: vec![wire.address().to_string()], ..settings };
        Far { far: Cql::open(&far).await.unwrap(), wire, near }
    }

    /// A call that the wire holds back, or its answer, until `meanwhile` is over. It is of unknown outcome before that.
    async fn under<T: Debug>(
        &self, fault: Fault, call: impl Future<Output = Result<T, Error>>, meanwhile: impl Future<Output = ()>,
    ) {
        self.wire.set(fault);
        let outcome = call.await;
        assert!(matches!(outcome, Err(Error::Unknown(_))), "{fault:?}: {outcome:?}");
        meanwhile.await;
        self.wire.set(Fault::None);
        tokio::time::sleep(ARRIVED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_lost_is_unknown_and_seen_by_all() {
    let _view = VIEW.lock().await;
    let far = Far::connect().await;
    let one = after(&emptied(&*far.near).await, &[1]);
    far.wire.cql_odds(LOST);
    let lost = far.far.change(&one).await;
    far.wire.cql_odds(FINE);
    assert!(matches!(lost, Err(Error::Unknown(_))), "{lost:?}");
    assert_eq!(far.near.decided_view().await.unwrap(), one);
    assert_eq!(far.far.view().await.unwrap(), one);
    assert_eq!(far.far.change(&one).await.unwrap(), Changed::Applied, "asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_change_is_refused_once_another_has_taken_its_place() {
    let _view = VIEW.lock().await;
    let far = Far::connect().await;
    let before = emptied(&*far.near).await;
    let (late, one) = (after(&before, &[2]), after(&before, &[1]));
    let overtake = async {
        assert_eq!(far.near.decided_view().await.unwrap(), before);
        assert_eq!(far.near.change(&one).await.unwrap(), Changed::Applied);
    };
    far.under(Fault::Stalled, far.far.change(&late), overtake).await;
    assert_eq!(far.near.view().await.unwrap(), one);
    assert_eq!(far.far.change(&late).await.unwrap(), Changed::Stale(one));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_change_that_nobody_has_overtaken_is_the_view_in_the_end() {
    let _view = VIEW.lock().await;
    let far = Far::connect().await;
    let before = emptied(&*far.near).await;
    let late = after(&before, &[2]);
    let not_yet = async { assert_eq!(far.near.decided_view().await.unwrap(), before) };
    far.under(Fault::Stalled, far.far.change(&late), not_yet).await;
    assert_eq!(far.near.decided_view().await.unwrap(), late);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_lose_answers_all_enter_once() {
    let _view = VIEW.lock().await;
    let far = Far::connect().await;
    let before = emptied(&*far.near).await;
    far.wire.cql_odds(Odds { swallowed_per_mille: 150, ..FINE });
    let nodes = join_all((0..2).map(|_| another())).await.into_iter().map(|store| store.cluster.unwrap());
    let nodes: Vec<Arc<dyn Cluster>> = nodes.chain([far.far.clone() as Arc<dyn Cluster>]).collect();
    let entering = nodes.iter().zip([1..=4, 5..=8, 9..=12]);
    join_all(entering.map(|(node, members)| enter(&**node, members))).await;
    assert_entered(&*far.near, &before, 1..=12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_beat_does_not_take_a_slot_back() {
    let far = Far::connect().await;
    let overtake = async { far.near.beat(&node(1), incarnation(1), 5).await.unwrap() };
    far.under(Fault::Stalled, far.far.beat(&node(1), incarnation(1), 4), overtake).await;
    assert_eq!(far.near.slots(&node(1)).await.unwrap(), [(incarnation(1), 5)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_whose_answer_is_lost_is_there_and_is_written_again_without_harm() {
    let far = Far::connect().await;
    let both = [conversation(1), conversation(2)];
    far.under(Fault::Deaf, far.far.note(incarnation(1), 1, &both), async {}).await;
    far.far.note(incarnation(1), 1, &both).await.unwrap();
    let mut noted = far.near.noted(incarnation(1), 1).await.unwrap();
    noted.sort_unstable();
    assert_eq!(noted, both);
}

#[tokio::test]
async fn a_view_that_cannot_be_read_is_said_to_be_damaged() {
    let _view = VIEW.lock().await;
    ids::refresh();
    let cluster = another().await.cluster.unwrap();
    let empty = emptied(&*cluster).await;
    let put = |content: &str| {
        run(&format!("UPDATE ks.cluster_view SET content = '{content}' WHERE name = 'cluster' IF EXISTS"));
    };
    for damaged in ["", "{}", "{\"version\":1,\"revision\":0,\"members\":[]}"] {
        put(damaged);
        let read = cluster.view().await;
        assert!(matches!(&read, Err(Error::Corrupt(why)) if why.contains("cluster_view")), "{read:?}");
    }
    put(&serde_json::to_string(&empty).unwrap());
    assert_eq!(cluster.view().await.unwrap(), empty);
}

#[tokio::test]
async fn slots_outlive_notes_and_both_end() {
    ids::refresh();
    let cluster = another().await.cluster.unwrap();
    let keyspace = stores::cql_settings().keyspace;
    let lives = run(&format!(
        "SELECT default_time_to_live FROM system_schema.tables
         WHERE keyspace_name = '{keyspace}' AND table_name IN ('activity', 'nodes')"
    ));
    let seconds = |s: u32| vec![s.to_be_bytes().to_vec()];
    assert_eq!(lives, [seconds(NOTES_KEPT_S), seconds(SLOTS_KEPT_S)]);
    cluster.beat(&node(1), incarnation(1), 3).await.unwrap();
    let Incarnation(id) = incarnation(1);
    let left = run(&format!(
        "SELECT TTL(slot), WRITETIME(slot) FROM ks.nodes WHERE node = '{}' AND incarnation = {}",
        node(1).as_str(),
        uuid(id)
    ));
    let left = left.concat();
    let ttl = u32::from_be_bytes(left[0].as_slice().try_into().unwrap());
    assert!((SLOTS_KEPT_S - 600..=SLOTS_KEPT_S).contains(&ttl), "{ttl}");
    assert_eq!(left[1], 3_i64.to_be_bytes());
}
