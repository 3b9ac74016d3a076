//! Whether a store answers, and its numbers.

use async_trait::async_trait;

use crate::Error;

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Writes carried out, refused ones included.
    pub writes: u64,
    /// Transactions they shared, of those that changed something.
    pub commits: u64,
    /// Calls refused because a queue was full.
    pub queue_full: u64,
    /// Writes waiting now.
    pub waiting: u64,
}

/// A sign of life.
#[async_trait]
pub trait Health: Send + Sync {
    /// Asks the store for an answer within its deadline. After a failed write (a full disk, say) it writes something, so
    /// that `Ok` means that writing works again.
    async fn ping(&self) -> Result<(), Error>;

    /// Its numbers.
    fn snapshot(&self) -> Snapshot;
}
