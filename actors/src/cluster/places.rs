//! Where conversations and presence channels live, by one version of the view. Entities get it with what they are told
//! and never look it up themselves.

use std::{fmt, sync::Arc};

use protocol::{ConversationId, Incarnation, cluster::View, peer::Slice};

use super::placement::Placement;

/// See the module.
#[derive(Clone)]
pub struct Places {
    /// All members that are not gone, this node included.
    pub(crate) members: Vec<Incarnation>,
    placing: Placing,
}

#[derive(Clone)]
enum Placing {
    /// There is no view, and everything is here.
    Here(Incarnation),
    By(Placement),
}

impl Places {
    /// A node that has no peers.
    pub(crate) fn alone(me: Incarnation) -> Arc<Places> {
        Arc::new(Places { members: vec![me], placing: Placing::Here(me) })
    }

    /// By a view.
    #[must_use]
    pub fn of(view: &View) -> Arc<Places> {
        let members = view.live().map(|member| member.incarnation).collect();
        Arc::new(Places { members, placing: Placing::By(Placement::of(view)) })
    }

    /// Of the view; 0: there is none, and this node is alone.
    pub(crate) fn version(&self) -> u64 {
        match &self.placing {
            Placing::Here(_) => 0,
            Placing::By(placement) => placement.version(),
        }
    }

    /// The node that owns a conversation; `None`: nobody may.
    pub(crate) fn conversation(&self, c: ConversationId) -> Option<Incarnation> {
        match &self.placing {
            Placing::Here(me) => Some(*me),
            Placing::By(placement) => placement.conversation(c),
        }
    }

    /// The node that keeps a presence channel; `None`: nobody may.
    pub(crate) fn channel(&self, slice: Slice) -> Option<Incarnation> {
        match &self.placing {
            Placing::Here(me) => Some(*me),
            Placing::By(placement) => placement.slice(slice),
        }
    }

    /// True if there is no cluster.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.placing, Placing::Here(_))
    }
}

/// A version of the view places everything.
impl PartialEq for Places {
    fn eq(&self, other: &Places) -> bool {
        self.version() == other.version()
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {} of {} nodes", self.version(), self.members.len())
    }
}

/// Views for tests.
#[cfg(test)]
pub(crate) mod views {
    use protocol::{
        NodeId,
        cluster::{Member, MemberState},
    };

    use super::*;

    /// A run of a node.
    pub(crate) fn node(n: u8) -> Incarnation {
        Incarnation([n; 16])
    }

    /// A view of these nodes; those that are not up are draining, and nothing is placed there.
    pub(crate) fn view(version: u64, up: &[u8], draining: &[u8]) -> View {
        let member = |n: u8, state| Member {
            node: NodeId::try_from(format!("n{n}")).unwrap(),
            incarnation: node(n),
            address: String::new(),
            weight: 1,
            state,
            reported: Vec::new(),
        };
        let members = up.iter().map(|n| member(*n, MemberState::Up));
        let members = members.chain(draining.iter().map(|n| member(*n, MemberState::Draining))).collect();
        View { version, revision: version, members }
    }

    /// Its places.
    pub(crate) fn places(version: u64, up: &[u8], draining: &[u8]) -> Arc<Places> {
        Places::of(&view(version, up, draining))
    }
}
