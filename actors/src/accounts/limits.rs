//! Counting against limits: in the token store, which all nodes share, or here while it is away. So limits never stop
//! what they are there to protect. Never says what a limit is (see `slowdown`).

use std::sync::{Mutex, PoisonError};

use storage::{gcra::Buckets, tokens::Rate};

use crate::World;

/// The period of all limits.
pub(super) const MINUTE_MS: u64 = 60_000;
/// What is left of a stricter limit: somebody who guesses at several nodes finds a bucket at each.
const STRICTER: u32 = 4;

/// What a limit becomes while every node counts for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    /// The same, at each node.
    AsEver,
    /// A quarter, at least one per minute: guessing must not get easier by there being many nodes.
    Stricter,
}

/// The buckets of all limits.
pub(super) struct Limits {
    world: World,
    here: Mutex<Buckets>,
}

impl Limits {
    pub(super) fn new(world: World) -> Limits {
        Limits { world, here: Mutex::default() }
    }

    /// Takes one of `per_min` (which is also the burst) from the bucket `key`. Otherwise: how many milliseconds to wait.
    pub(super) async fn take(&self, key: &str, per_min: u32, alone: Alone) -> Result<(), u64> {
        let now = self.world.clock.wall();
        match self.world.store.tokens.take(key, rate(per_min), now).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::trace!(%error, "counting against a limit here");
                let per_min = if alone == Alone::Stricter { (per_min / STRICTER).max(1) } else { per_min };
                self.here.lock().unwrap_or_else(PoisonError::into_inner).take(key, rate(per_min), now)
            }
        }
    }
}

fn rate(per_min: u32) -> Rate {
    Rate { count: per_min, period_ms: MINUTE_MS, burst: per_min }
}
