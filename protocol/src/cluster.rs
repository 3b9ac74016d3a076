//! The nodes of a cluster as all of them see it: one view, changed one version at a time, kept in the store as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

use crate::{Incarnation, NodeId};

/// How often a node says in the store that it lives, and the grain in which it notes what it has not told yet.
pub const SLOT: Duration = Duration::from_secs(10);

/// What a member of the view is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It meets the others; nothing is placed on it.
    Joining,
    /// Conversations and presence channels are placed on it.
    Up,
    /// It cannot reach the store; nothing is placed on it.
    NoStore,
    /// It is about to go; nothing is placed on it.
    Draining,
    /// It is no member any more, but what it may have left untold is not all looked after yet.
    Gone,
}

/// One run of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Which run of it: the only key. A node that comes back is another member.
    pub incarnation: Incarnation,
    /// Where its peers reach it, `host:port`.
    pub address: String,
    /// Its share of what is placed, relative to others; 1 to 100.
    pub weight: u32,
    /// See [`MemberState`].
    pub state: MemberState,
    /// Of a member that is gone: who has reported that its share of what was left untold is told. Cleared by every
    /// change of the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<Incarnation>,
}

/// Who is there. Only the stored one decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Grows by one with every change of who is what; 0: there is none.
    pub version: u64,
    /// Grows by one with every write, reports included: what a change is conditional on.
    pub revision: u64,
    /// In the order in which they joined.
    pub members: Vec<Member>,
}

impl View {
    /// The member of this run.
    #[must_use]
    pub fn member(&self, incarnation: Incarnation) -> Option<&Member> {
        self.members.iter().find(|member| member.incarnation == incarnation)
    }

    /// Members that are not gone.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state != MemberState::Gone)
    }

    /// Members on which something may be placed.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::Up)
    }
}
