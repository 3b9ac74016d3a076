//! Many nodes, one Starling: who is a member, where entities live, and the way to other nodes. Knows no socket: streams to
//! peers are handed in.

pub mod driver;
pub(crate) mod early;
pub(crate) mod jitter;
pub mod link;
pub mod membership;
pub(crate) mod notes;
pub mod peer;
pub mod placement;
pub mod places;
pub(crate) mod tally;
pub(crate) mod told;
pub mod transport;
pub mod view;

mod acks;
mod incoming;
mod outgoing;
