//! Random calls, once on a store and once on the model: both must answer the same.

mod cluster;
mod history;
mod tokens;

use std::fmt::Debug;

use crate::common::{ids, stores};
use proptest::{prelude::*, test_runner::TestRunner};
use storage::Store;

/// Who makes the calls, and keeps what they need to know of those before.
trait Caller {
    /// A call.
    type Step: Debug;

    /// The calls of a case.
    fn steps() -> impl Strategy<Value = Vec<Self::Step>>;

    fn new(store: Store) -> Self;

    /// Everything that is answered, as text.
    async fn take(&mut self, step: &Self::Step) -> String;
}

/// Each case begins with a new model, and on the store under ids that no other has.
fn answers_like_memory<C: Caller>(kind: stores::Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, _place) = runtime.block_on(stores::open(kind));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&C::steps(), |steps| {
        ids::refresh();
        let (mut model, mut tried) = (C::new(Store::memory()), C::new(store.clone()));
        for step in &steps {
            let (expected, found) = runtime.block_on(async { (model.take(step).await, tried.take(step).await) });
            prop_assert_eq!(expected, found, "{:?}", step);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{kind:?}: {failed}"));
}
