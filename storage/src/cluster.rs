//! What the nodes of a cluster know of each other: the view, who lives, and what each may have left untold. Only stores
//! that several nodes share have it. Never decides who is a member: it lets one change of the view through at a time.

use async_trait::async_trait;
use protocol::{ConversationId, Incarnation, NodeId, cluster::View};

use crate::Error;

/// How long what a run noted is kept: whoever is to look after it has to have read it by then.
pub const NOTES_KEPT_S: u32 = 3600;

/// How long a run's last slot is kept. Longer than what it noted there, so a run that is forgotten has left no notes.
pub const SLOTS_KEPT_S: u32 = 2 * NOTES_KEPT_S;

/// What became of a change of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is the view, or was and has been changed since.
    Applied,
    /// Somebody was faster: this is the view.
    Stale(View),
}

/// See the module.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The view as it stands; [`View::default`] if nobody has written one. It sees every change that was answered
    /// `Applied`, and whatever anybody was shown, before it began: it never goes back. A change of unknown outcome it may
    /// not see even where nobody can stop that any more. A plain read: many nodes may ask often.
    async fn view(&self) -> Result<View, Error>;

    /// The view, after completing every change that has reached the servers: what to ask after an unknown outcome. Who
    /// asks so stands in the way of others who do, so it is not for every second.
    async fn decided_view(&self) -> Result<View, Error>;

    /// Puts `next` in place of the view whose revision is one less, if that one stands.
    ///
    /// `next.revision`: from 1. Of several different views of one revision one is applied, ever; who asks for the very
    /// same view again, or as somebody else does, is told `Applied` too. `Stale` is said of one's own change as well, if
    /// its first answer was lost and it has been changed since: look into the view before you change that.
    ///
    /// # Errors
    /// [`Error::Unknown`]: it may be the view now, or later, until another one of its revision is. Read the decided view,
    /// or ask for the same again. [`Error::Refused`]: it is not, and never will be.
    async fn change(&self, next: &View) -> Result<Changed, Error>;

    /// This run of the node lives in this slot. Said again or late it changes nothing: a slot never goes back.
    ///
    /// # Errors
    /// As of every write; say it again.
    async fn beat(&self, node: &NodeId, me: Incarnation, slot: u64) -> Result<(), Error>;

    /// The last slot of each run of a node, in no order. A run that has not lived for an hour may be missing: that is no
    /// news of it.
    async fn slots(&self, node: &NodeId) -> Result<Vec<(Incarnation, u64)>, Error>;

    /// What this run appends to these conversations in this slot it may leave untold. Those of a slot lie together: many
    /// cost little more than one. Said again it changes nothing.
    ///
    /// # Errors
    /// As of every write: some may be noted and some not. Say it again before you append.
    async fn note(&self, me: Incarnation, slot: u64, conversations: &[ConversationId]) -> Result<(), Error>;

    /// What a run noted in this slot, in no order and however much it is; for [`NOTES_KEPT_S`].
    async fn noted(&self, incarnation: Incarnation, slot: u64) -> Result<Vec<ConversationId>, Error>;
}

/// The revision that a view follows, 0: none.
pub(crate) fn revision_before(next: &View) -> Result<u64, Error> {
    next.revision.checked_sub(1).ok_or_else(|| Error::Refused("a view that is written has a revision from 1".into()))
}
