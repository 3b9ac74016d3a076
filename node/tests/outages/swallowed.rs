//! One in twenty answers to conditional writes is lost after the write was applied, and one batch in a hundred reaches
//! the store after its sender has given it up. Only a claim can tell what became of them.

use std::time::Duration;

use loadtest::{proxy::Odds, random::Random};

use crate::{
    load::{Load, summary},
    rig::judge,
    stores::Stores,
};

/// Some thousand appends on a quiet machine.
const LASTS: Duration = Duration::from_secs(30);
/// The node gives a write up after two seconds.
const LATE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g6_hold_when_one_in_twenty_answers_of_the_store_is_lost() {
    let seed = std::env::var("OUTAGES_SEED").map_or_else(|_| Random::unseeded().bits(), |text| text.parse().unwrap());
    println!("OUTAGES_SEED={seed}");
    let stores = Stores::shared(seed).await;
    let mut rig = stores.rig(&[]);
    let load = Load::start(&rig, 30, 2, 2).await;
    stores.cql.cql_odds(Odds { swallowed_per_mille: 50, late_per_mille: 10, late_by: LATE });
    let (answers, _) = load.watch(&rig, LASTS).await;
    stores.cql.cql_odds(Odds::default());
    println!("{LASTS:?}: answers {:?}; {} replies swallowed", summary(&answers), stores.cql.swallowed());
    let resolved = |how: &str| rig.metric(&format!("starling_append_unknown_total{{resolved=\"{how}\"}}"));
    let (applied, not_applied) = (resolved("applied"), resolved("not_applied"));
    println!("{} appends", rig.metric("starling_append_batch_events_count"));
    println!("unknown sends found in the log: {applied}, not there: {not_applied}");
    let history = load.finish(&mut rig).await;
    judge("swallowed", &history);
    assert!(stores.cql.swallowed() > 50, "too few to show anything");
    assert!(applied > 0.0, "a claim found what an unknown append had stored");
}
