//! What travels on a link between two nodes: the greeting, numbered batches of parcels, their acknowledgements, and beats.

use wincode::{SchemaRead, SchemaWrite};

use super::Mail;
use crate::{Incarnation, NodeId};

/// One frame. Which one it is stands in its header, so the order here is free.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The first one, each way.
    Greeting(Greeting),
    /// Mail, in order.
    Parcels(Batch),
    /// All batches up to this number were handed over: for when no batch goes that way.
    Ack(u64),
    /// A sign of life, twice a second.
    Beat(Beat),
}

/// See [`Frame::Parcels`].
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Batch {
    /// Counts from 1 on each link.
    pub number: u64,
    /// All batches of the other way up to this number were handed over.
    pub acked: u64,
    /// The sender's window fills: it is to be acknowledged at once.
    pub asks: bool,
    /// At most [`crate::limits::PEER_MAILS_MAX`].
    pub parcels: Vec<Parcel>,
}

/// A piece of mail on its way to another node.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Parcel {
    /// The version of the view that the sender went by.
    pub view: u64,
    /// True if it was sent on by a node that was not the owner: not once more.
    pub forwarded: bool,
    /// What it is.
    pub mail: Mail,
}

/// Who speaks, and what must be so for the two to speak at all.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Greeting {
    /// Versions of the frames that it can read, the lowest and the highest. Both use the highest common one.
    pub versions: (u16, u16),
    /// Its name.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
    /// Settings that must be equal, by key: cluster name, keyspace, datacenter, slices; secrets as keyed hashes.
    pub equal: Vec<(String, String)>,
    /// Settings that should be equal: a difference is only warned about.
    pub alike: Vec<(String, String)>,
}

/// See [`Frame::Beat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Beat {
    /// The sender's view.
    pub view: u64,
    /// It heard of the receiver within the last 1.5 s.
    pub hears_you: bool,
    /// Its store answers.
    pub store_ok: bool,
    /// Microseconds on the sender's own clock.
    pub sent_us: u64,
    /// `sent_us` of the last beat of the receiver, and how long ago it came, microseconds: a round trip.
    pub echo: Option<(u64, u64)>,
}
