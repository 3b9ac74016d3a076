//! The stores are away: from one node, from all, from all while a node dies; their answers are lost; Redis is gone.
//! Nothing is acknowledged that is not stored, what needs no store goes on, and all is well once they are back.

use std::time::{Duration, Instant};

use loadtest::proxy::{Fault, Odds};
use protocol::Code;

use crate::{
    cluster::N_NODES,
    probes::Told,
    scene::{Scene, is_long},
    typists::Typists,
};

/// How long the store is away: longer than it takes to be taken for dead.
const AWAY: Duration = Duration::from_secs(6);
/// Promised are 2 s; what was on its way to an owner that died then waits for the next until its deadline, 10 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(50);
/// How it is gone for everybody, and whether a node dies meanwhile; the first two in the short form.
const GONE: [(Fault, bool); 4] =
    [(Fault::Stalled, false), (Fault::Cut, true), (Fault::Cut, false), (Fault::Stalled, true)];
const SWALLOWED_FOR: Duration = Duration::from_secs(30);
/// The node gives a write up after two seconds.
const LATE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_one_node_is_cut_from_the_store() {
    let mut scene = Scene::start("one without").await;
    let mut typists = Typists::start(&scene.cluster, 1, 2).await;
    for fault in if is_long() { &[Fault::Stalled, Fault::Cut, Fault::Swallowing][..] } else { &[Fault::Stalled] } {
        let begun = Instant::now();
        scene.cluster.stores[1].cql.set(*fault);
        let answers = scene.probes.attempt(1).await;
        scene.tell(format_args!("n1 is cut from the store ({fault:?}); sends through n1: {answers:.1?}"));
        assert_answered(&answers, &["ok"]);
        let accepted = scene.write(0, begun, "n1 is cut from the store").await;
        assert!(accepted < ACCEPTED_WITHIN);
        let typed = typists.hear_each_other().await;
        scene.tell(format_args!("typing and presence from n1 heard on n2 after {typed:.1?}"));
        tokio::time::sleep(AWAY.saturating_sub(begun.elapsed())).await;
        let mended = Instant::now();
        scene.cluster.stores[1].cql.set(Fault::None);
        scene.heals(mended).await;
        scene.write(1, mended, "n1 reaches it again").await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_the_store_is_gone_for_everybody() {
    let mut scene = Scene::start("none with").await;
    let mut typists = Typists::start(&scene.cluster, 0, 1).await;
    for (fault, dies) in GONE.into_iter().take(if is_long() { GONE.len() } else { 2 }) {
        let view = scene.cluster.nodes(0).unwrap()["view"].clone();
        let begun = Instant::now();
        store(&scene, fault);
        if dies {
            scene.cluster.kill(2);
        }
        // what was under way may still be acknowledged
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answers = scene.probes.attempt(0).await;
        let also = if dies { "; n2 is killed" } else { "" };
        scene.tell(format_args!("the store is gone ({fault:?}){also}; sends through n0: {answers:.1?}"));
        assert_answered(&answers, &[]);
        // what n2 owned nobody else may own before the view can change
        if !dies {
            let typed = typists.hear_each_other().await;
            scene.tell(format_args!("typing and presence from n0 heard on n1 after {typed:.1?}"));
        }
        tokio::time::sleep(AWAY.saturating_sub(begun.elapsed())).await;
        assert_eq!(scene.cluster.nodes(0).unwrap()["view"], view, "without a store the view stays as it is");
        let mended = Instant::now();
        store(&scene, Fault::None);
        let accepted = scene.write(1, mended, "the store is back").await;
        assert!(accepted < ACCEPTED_WITHIN);
        if dies {
            scene.cluster.restart(&[2]);
        }
        scene.heals(mended).await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g14_hold_when_redis_is_gone_and_when_answers_of_the_store_are_lost() {
    let mut scene = Scene::start("redis").await;
    let mut ann = scene.cluster.rig.people(1).await.remove(0);
    for fault in if is_long() { &[Fault::Cut, Fault::Stalled][..] } else { &[Fault::Cut] } {
        let begun = Instant::now();
        scene.cluster.stores.iter().for_each(|of_node| of_node.redis.set(*fault));
        let refused = scene.cluster.rig.rest.refresh(&ann.tokens.refresh_token).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Unavailable), "a cut signs nobody out: {refused}");
        for n in 0..N_NODES {
            scene.write(n, begun, &format!("Redis is gone ({fault:?})")).await;
        }
        let mended = Instant::now();
        scene.cluster.stores.iter().for_each(|of_node| of_node.redis.set(Fault::None));
        ann.tokens = loop {
            match scene.cluster.rig.rest.refresh(&ann.tokens.refresh_token).await {
                Ok(tokens) => break tokens,
                Err(failed) => assert_eq!(failed.code(), Some(Code::Unavailable), "{failed}"),
            }
            assert!(mended.elapsed() < ACCEPTED_WITHIN);
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        scene.tell(format_args!("Redis is back; refreshed after {:.1?}", mended.elapsed()));
        scene.heals(mended).await;
    }
    if is_long() {
        let begun = Instant::now();
        let odds = Odds { swallowed_per_mille: 50, late_per_mille: 10, late_by: LATE };
        scene.cluster.stores.iter().for_each(|of_node| of_node.cql.cql_odds(odds));
        while begun.elapsed() < SWALLOWED_FOR {
            let asked = Instant::now();
            scene.write(0, asked, "one answer of the store in twenty is lost").await;
        }
        scene.cluster.stores.iter().for_each(|of_node| of_node.cql.cql_odds(Odds::default()));
        let lost: u64 = scene.cluster.stores.iter().map(|of_node| of_node.cql.swallowed()).sum();
        scene.tell(format_args!("{lost} answers were lost"));
        assert!(lost > 0);
        scene.heals(Instant::now()).await;
    }
    scene.finish().await;
}

fn store(scene: &Scene, fault: Fault) {
    scene.cluster.stores.iter().for_each(|of_node| of_node.cql.set(fault));
}

/// Every send had its answer in time, and was told that it is not, or may not be, stored. `also`: what else it may hear.
fn assert_answered(answers: &Told, also: &[&str]) {
    for (code, (_, slowest)) in answers {
        let expected = ["unavailable", "timeout", "moved", "overloaded"].contains(code) || also.contains(code);
        assert!(expected, "a send was told {code}");
        assert!(*slowest < ANSWERED_WITHIN, "{code} after {slowest:?}");
    }
}
