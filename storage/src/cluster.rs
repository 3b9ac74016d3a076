//! What the nodes of a cluster know of each other: the view, who lives, and what each may have left untold. Only stores
//! that several nodes share have it.

use async_trait::async_trait;
use protocol::{ConversationId, Incarnation, NodeId, cluster::View};

use crate::Error;

/// What became of a change of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is the view now.
    Applied,
    /// Somebody was faster: this is the view.
    Stale(View),
}

/// See the module.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The view as it stands; [`View::default`] if nobody has written one. A serial read: it sees every change that was
    /// answered `Applied`.
    async fn view(&self) -> Result<View, Error>;

    /// Puts `next` in place of the view whose revision is one less.
    ///
    /// # Errors
    /// [`Error::Unknown`]: it may be the view now, or later; read it, and look.
    async fn change(&self, next: &View) -> Result<Changed, Error>;

    /// This run of the node lives in this slot.
    async fn beat(&self, node: &NodeId, me: Incarnation, slot: u64) -> Result<(), Error>;

    /// The last slot of each run of a node; those of an hour ago may be missing.
    async fn slots(&self, node: &NodeId) -> Result<Vec<(Incarnation, u64)>, Error>;

    /// What this run appends to `c` in this slot it may leave untold.
    async fn note(&self, me: Incarnation, slot: u64, c: ConversationId) -> Result<(), Error>;

    /// What this run noted in this slot, in no order; rows are kept for an hour.
    async fn noted(&self, incarnation: Incarnation, slot: u64) -> Result<Vec<ConversationId>, Error>;
}
