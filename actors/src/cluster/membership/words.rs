//! What membership is told and what it wants done, as plain data.

use std::{fmt, time::Duration};

use protocol::{
    Incarnation, NodeId,
    cluster::View,
    peer::{Beat, Greeting},
};
use storage::cluster::Changed;
use tokio::time::Instant;

use crate::cluster::link::PeerAddress;

/// Who it is.
#[derive(Clone, Debug)]
pub struct Me {
    /// Which node.
    pub node: NodeId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Where peers reach it.
    pub address: String,
    /// Its share of what is placed.
    pub weight: u32,
    /// There are seeds: it waits a moment for one of them to answer before it joins.
    pub has_seeds: bool,
    /// A member that was silent for this long is dead.
    pub dead: Duration,
    /// Anything, but another number on every node: it spreads retries.
    pub random: u64,
}

/// What it is told. Every question it asks is answered, by an error if need be; an answer that comes twice or late changes
/// nothing.
#[derive(Debug)]
pub enum Input {
    /// It asked to be woken about now.
    Tick,
    /// The row as it stands.
    ViewRead {
        /// As it was asked for.
        decided: bool,
        /// The row.
        result: Result<View, storage::Error>,
    },
    /// What became of its change of the row.
    ViewChanged(Result<Changed, storage::Error>),
    /// The store knows that it lived in this slot, or does not.
    BeatStored(u64, Result<(), storage::Error>),
    /// The last slot of each run of a node.
    SlotsRead(NodeId, Result<Vec<(Incarnation, u64)>, storage::Error>),
    /// Where the seeds are, `host:port`; none, if their names lead nowhere now.
    SeedsResolved(Vec<String>),
    /// A link to this peer stands; it replaces an earlier one.
    LinkUp(Greeting),
    /// That link is no more.
    LinkDown(Incarnation),
    /// A dial came to nothing.
    NotReached {
        /// Where to.
        address: PeerAddress,
        /// The machine answered that nobody listens there.
        refused: bool,
        /// A node answered, and does not fit.
        misfit: bool,
        /// For people.
        why: String,
    },
    /// A frame came, of any kind; once in a while is enough.
    Heard(Incarnation),
    /// A beat came.
    Beat(Incarnation, Beat),
    /// A frame of this version of the view came.
    Saw(u64),
    /// Its store answers, or does not. Taken to answer until said otherwise.
    StoreOk(bool),
    /// Everybody knows what this node's share of a gone member's conversations holds, as of this version of the view.
    Told {
        /// Whose conversations.
        gone: Incarnation,
        /// As in [`Action::LookAfter`].
        version: u64,
    },
    /// It is to have nothing placed on it.
    Drain,
    /// After all it is.
    Undrain,
    /// It is drained and ends.
    Leave,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the row. One at a time.
    ReadView {
        /// After completing what may be under way: it is not known what became of a change.
        decided: bool,
    },
    /// Put this in the row, if its revision is one less. One at a time.
    ChangeView(View),
    /// Note in the store that it lives in this slot.
    BeatStore(u64),
    /// Read the last slot of each run of this node.
    ReadSlots(NodeId),
    /// Look up where the seeds are.
    ResolveSeeds,
    /// Try to reach a peer.
    Dial(PeerAddress),
    /// End the link to a peer.
    DropPeer(Incarnation),
    /// Send this, ahead of everything that waits for room.
    SendBeat(Incarnation, Beat),
    /// This is in force now: place by it.
    Install(View),
    /// Claim, of what this gone member noted in its last three slots, what is placed here; then [`Input::Told`]. Asked anew
    /// with every version.
    LookAfter {
        /// Which node.
        node: NodeId,
        /// Which run of it.
        gone: Incarnation,
        /// By the placement of which version.
        version: u64,
    },
    /// It is no member any more and decides nothing more: stop all entities, close all sockets with 4002, begin again as
    /// another run.
    Removed {
        /// Another process runs under the same name and has taken its place: do not begin again, say so and end.
        replaced: bool,
    },
    /// As it wished: it is no member any more, and decides nothing more.
    Left,
    /// Send [`Input::Tick`] then.
    WakeAt(Instant),
    /// Worth a line of the log.
    Note(Note),
}

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A member was not heard of for [`super::SUSPECT`].
    Suspects(NodeId),
    /// It is heard again.
    HearsAgain(NodeId),
    /// It wants this member out of the view.
    Removes(NodeId),
    /// It wants nothing placed on this member, which says that it cannot reach the store.
    Unplaces(NodeId),
    /// It did not run for this long.
    Lagged(Duration),
    /// The row holds less than it held: somebody restored an old one.
    RowWentBack,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Suspects(node) => write!(f, "{} is silent", node.as_str()),
            Note::HearsAgain(node) => write!(f, "{} is heard again", node.as_str()),
            Note::Removes(node) => write!(f, "{} is taken out of the view: it is silent", node.as_str()),
            Note::Unplaces(node) => write!(f, "{} is unplaced: it cannot reach the store", node.as_str()),
            Note::Lagged(by) => write!(f, "this node did not run for {} ms; it accuses nobody for now", by.as_millis()),
            Note::RowWentBack => {
                write!(f, "the view in the store is older than it was: beginning again as another run")
            }
        }
    }
}
