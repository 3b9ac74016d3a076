//! The history takes 300 ms for everything: what can be stored still is, what cannot is refused soon, and nothing piles
//! up in the node.

use std::time::Duration;

use loadtest::proxy::Delay;

use crate::{
    load::{Load, summary},
    rig::{judge, memory_kib},
    stores::Stores,
};

const LASTS: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(20);
/// The store's deadline is 2 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);
const GROWTH_KIB_MAX: u64 = 32 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_a_slow_history_stores_what_it_can_and_the_rest_is_refused_soon() {
    let stores = Stores::shared(0).await;
    let mut rig = stores.rig(&[("limits.inflight", "400")]);
    // far more than is stored within the deadline at 300 ms a batch
    let load = Load::start(&rig, 2, 3, 200).await;
    load.acks(500, PATIENCE).await;
    let memory = memory_kib(rig.node.pid());
    stores.cql.delay(Delay { fixed: Duration::from_millis(145), jitter: Duration::from_millis(10) });
    let (answers, most) = load.watch(&rig, LASTS).await;
    stores.cql.delay(Delay::default());
    let (told, grown) = (summary(&answers), most.saturating_sub(memory));
    println!("slow: answers {told:?}; node grew by {grown} KiB");
    assert!(told.get("ok").is_some_and(|(n, _)| *n > 0), "nothing was stored: {told:?}");
    for (code, (_, slowest)) in told {
        assert!(slowest < ANSWERED_WITHIN, "{code} after {slowest:?}");
    }
    assert!(grown < GROWTH_KIB_MAX, "the node grew by {grown} KiB");
    let history = load.finish(&mut rig).await;
    judge("slow-store", &history);
}
