//! What carries frames between nodes: a seam, so that a node alone needs none, tests can cut, delay, double and reorder,
//! and another transport would be one file.

use bytes::Bytes;
use protocol::{Incarnation, NodeId, peer::Greeting};

/// Where a peer is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// `host:port`.
    pub at: String,
    /// Who must answer; `None` for a seed, whose name is not known yet.
    pub node: Option<NodeId>,
}

/// What happens on the links.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// A link to this run of a peer stands; both have greeted. A second one to the same run replaces the first, whose
    /// [`LinkEvent::Down`] comes before.
    Up {
        /// What it said of itself.
        peer: Greeting,
        /// The version of the frames that both read.
        version: u16,
    },
    /// Bytes of one frame, whole and in order.
    Frame {
        /// Whose.
        from: Incarnation,
        /// At most [`protocol::limits::PEER_INBOUND_BYTES_MAX`].
        frame: Bytes,
    },
    /// The link is no more. What was not acknowledged may or may not have arrived.
    Down {
        /// Whose.
        peer: Incarnation,
        /// For people.
        why: String,
    },
    /// A dial came to nothing.
    NotReached {
        /// Where to.
        address: PeerAddress,
        /// The machine answered that nobody listens there.
        refused: bool,
        /// A node answered, and the two do not fit: it is of another cluster, or another one than was looked for, or
        /// reads no common version of the frames.
        misfit: bool,
        /// For people.
        why: String,
    },
}

/// See the module. Nothing here waits; what happens comes as [`LinkEvent`]s, in order per peer.
pub trait ClusterLink: Send + Sync {
    /// Tries to reach a peer, within a deadline of the link's own.
    fn dial(&self, address: PeerAddress);

    /// Hands over one frame of at most [`protocol::limits::PEER_FRAME_BYTES_MAX`]. Lost without a word if there is no such
    /// link any more: its `Down` has come or will come. Keeps what it is given until it is written: the caller keeps a
    /// window.
    fn send(&self, peer: Incarnation, frame: Bytes);

    /// Ends the link to a peer, if there is one.
    fn drop_peer(&self, peer: Incarnation);
}
