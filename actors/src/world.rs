//! What decisions need of the outside: time, randomness, the store. The node passes the real ones, tests their own.

use std::sync::Arc;

use protocol::Millis;
use storage::Store;
use tokio::time::Instant;

/// Time.
pub trait Clock: Send + Sync {
    /// For durations; never goes back.
    fn now(&self) -> Instant;

    /// For people and tokens. Never goes back within a process, whatever is done to the machine's clock.
    fn wall(&self) -> Millis;
}

/// Randomness fit for secrets.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The outside, as decisions see it.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// What is remembered.
    pub store: Store,
}

impl World {
    /// 16 random bytes, for ids.
    pub fn id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        bytes
    }
}
