//! What entities say to each other, within a node and between nodes: plain data, addressed by entity. Between nodes it
//! travels as [`encode`]d frames in bincode's format (varint), written by wincode.

use bytes::Bytes;
use wincode::{SchemaRead, SchemaWrite};

use crate::{
    ClientId, Code, ConnId, ConversationId, Incarnation, Kind, Millis, Presence, Role, Seq, SessionId, UserId,
    push::{Marks, PresenceState},
};

mod codec;
mod frame;

pub use codec::{
    FrameError, HEADER_BYTES, MAGIC, PARCELS_BYTES_MAX, VERSIONS, common_version, content_length, decode, encode,
    is_beat, parcel_bytes,
};
pub use frame::{Batch, Beat, Frame, Greeting, Parcel};

/// A socket, or a REST call that waits, somewhere in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Address {
    /// The node, in one of its runs.
    pub node: Incarnation,
    /// The slot of its connection table.
    pub conn: ConnId,
}

/// Who waits for an answer, and the tag it knows the request by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Requester {
    /// Where the answer goes.
    pub at: Address,
    /// Chosen by the requester.
    pub tag: u32,
}

/// A presence channel: one of [`crate::limits::PRESENCE_SLICES`] slices of the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Slice(pub u16);

impl Slice {
    /// The slice a user belongs to. Ids are random, so their first bytes are as good as a hash.
    pub fn of(user: UserId) -> Slice {
        Slice(u16::from_be_bytes([user.0[0], user.0[1]]) % crate::limits::PRESENCE_SLICES)
    }
}

/// One watch of a conversation in one channel. Each time it watches there it takes a new one, and what is said about an
/// earlier one means nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct WatchId(pub u64);

/// One piece of mail.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum Mail {
    /// To the owner of a conversation.
    Conversation(ConversationId, ToConversation),
    /// To the channel of a slice.
    Presence(Slice, ToPresence),
    /// To sockets of one node.
    Connections(ToConnections),
    /// To a node as a whole.
    Node(ToNode),
}

/// What a conversation is told.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum ToConversation {
    /// Somebody wants an event in the log.
    Submit(Submission),
    /// Somebody has read or received up to a seq.
    Mark(MarkRequest),
    /// Somebody types; told to others, never stored.
    Typing {
        /// Who.
        by: UserId,
        /// Started or stopped.
        on: bool,
    },
    /// Answer to [`ToPresence::WatchMembers`]: who is connected now.
    Watched {
        /// The slice that answers.
        slice: Slice,
        /// Which watch.
        watch: WatchId,
        /// Devices of the watched users.
        devices: Vec<(UserId, Address)>,
        /// True if every member of the view has agreed that none of its sockets waits to be registered there again.
        complete: bool,
    },
    /// A member's device is there now.
    Attached {
        /// Which watch.
        watch: WatchId,
        /// Whose.
        user: UserId,
        /// The device.
        at: Address,
    },
    /// It went.
    Detached {
        /// Which watch.
        watch: WatchId,
        /// Whose.
        user: UserId,
        /// The device.
        at: Address,
    },
    /// Answer to [`ToPresence::Unwatch`]: nothing more will be said about this watch, and all there was to say was said.
    Unwatched {
        /// The slice that answers.
        slice: Slice,
        /// Which watch.
        watch: WatchId,
    },
    /// The channel does not have this watch (any more), and may have kept something from it: watch again.
    Dropped {
        /// The slice that speaks.
        slice: Slice,
        /// Which watch.
        watch: WatchId,
    },
}

/// A wish to change a conversation.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Submission {
    /// Who waits for the answer; nobody, for a frame without `id`.
    pub requester: Option<Requester>,
    /// Who wants it.
    pub by: UserId,
    /// The client's name for it; without one every attempt is a new wish.
    pub cid: Option<ClientId>,
    /// The head the client knew when it made `cid`.
    pub base: Option<Seq>,
    /// Hash of the request; the same `cid` with another hash is a conflict.
    pub request_hash: [u8; 16],
    /// What is wanted.
    pub change: Change,
}

/// What somebody wants to happen in a conversation.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub enum Change {
    /// Post; the bytes are the encoded envelope ([`crate::Body::encode`]).
    Post(Bytes),
    /// Begin the conversation.
    Create {
        /// Direct, group or channel.
        kind: Kind,
        /// None for a direct conversation.
        title: Option<String>,
        /// The first members, the creator first.
        members: Vec<UserId>,
    },
    /// Add members; who is one already is passed over.
    Join(Vec<UserId>),
    /// Leave.
    Leave,
    /// Remove another.
    Remove(UserId),
    /// Give another a role.
    Role(UserId, Role),
    /// Change the title.
    Title(String),
}

/// Somebody's marks, to be raised.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct MarkRequest {
    /// Who waits for the answer.
    pub requester: Option<Requester>,
    /// Whose marks.
    pub by: UserId,
    /// True for `read` (which implies delivered), false for `ack`.
    pub read: bool,
    /// Up to where.
    pub seq: Seq,
}

/// What a presence channel is told.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum ToPresence {
    /// A socket of a user is there; answered with [`ToConnections::Registered`]. Doing it again changes nothing.
    Register(UserId, Address, Presence),
    /// It went.
    Unregister(UserId, Address),
    /// How its user appears changed.
    Appear(UserId, Address, Presence),
    /// A conversation wants to know where these members are connected, now and from now on. Replaces what it watched
    /// there before. The answer goes to the node that asks, wherever the conversation is placed meanwhile.
    WatchMembers {
        /// Which conversation.
        conversation: ConversationId,
        /// The name of this watch.
        watch: WatchId,
        /// Members of this slice.
        users: Vec<UserId>,
    },
    /// It no longer wants to know; answered with [`ToConversation::Unwatched`] or [`ToConversation::Dropped`].
    Unwatch(ConversationId, WatchId),
    /// A socket wants to be told how these users appear. Replaces its earlier set; empty: none.
    WatchUsers {
        /// Which socket.
        at: Address,
        /// Users of this slice.
        users: Vec<UserId>,
    },
    /// How do these users appear? Answered with [`Done::Presence`].
    Query(Requester, Vec<UserId>),
}

/// What sockets of a node are told.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum ToConnections {
    /// A stored event, to these sockets: everybody who was a member and attached when it was told.
    Event(Fanout),
    /// The head of a conversation: who is behind fetches.
    Head {
        /// Where.
        conversation: ConversationId,
        /// The last event.
        seq: Seq,
        /// To whom.
        to: Vec<ConnId>,
    },
    /// Marks of users moved.
    Receipts {
        /// Where.
        conversation: ConversationId,
        /// Whose, and how far.
        marks: Vec<(UserId, Marks)>,
        /// To whom; only those with the conversation on screen are told.
        to: Vec<ConnId>,
    },
    /// Somebody types; only those with the conversation on screen are told.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Started or stopped.
        on: bool,
        /// To whom.
        to: Vec<ConnId>,
    },
    /// The user's own list changed because of this event.
    List {
        /// Where.
        conversation: ConversationId,
        /// True: joined. False: left.
        joined: bool,
        /// The event.
        seq: Seq,
        /// To whom.
        to: Vec<ConnId>,
    },
    /// The user's own read mark moved; the socket that moved it is not among `to`.
    OwnRead {
        /// Where.
        conversation: ConversationId,
        /// Up to where.
        seq: Seq,
        /// To whom.
        to: Vec<ConnId>,
    },
    /// How watched users appear.
    Presence {
        /// Whose, and how.
        states: Vec<(UserId, PresenceState)>,
        /// To whom.
        to: Vec<ConnId>,
    },
    /// The registration stands.
    Registered(ConnId),
    /// The answer to a request.
    Answer(ConnId, u32, Outcome),
    /// A user has left a conversation: who is or watches that user looks again whom it may watch.
    Parted {
        /// Who left.
        user: UserId,
        /// The sockets of those who were members together.
        to: Vec<ConnId>,
    },
    /// There was no room to say what these sockets missed: they are closed ([`crate::close::CloseCode::Slow`]), and
    /// their clients fetch it from the log.
    Resync(Vec<ConnId>),
}

/// What a node is told by another, or by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum ToNode {
    /// What the sender believes to have at the receiver, behind all that it told it before.
    Digest(Digest),
    /// The receiver has forgotten all that the sender of this had registered or watched there: everything again.
    Rebuild,
    /// The channel of this slice was restarted: who belongs to it registers, who watched it watches again.
    Refill(Slice),
    /// The sender has ended a session: nothing of it is accepted or delivered any more.
    Ended(EndedSession),
}

/// See [`ToNode::Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct EndedSession {
    /// Which.
    pub session: SessionId,
    /// The number of the close code for its sockets; one that is not known here means that it was revoked.
    pub code: u16,
    /// Until when an access token of it may live.
    pub until: Millis,
}

/// See [`ToNode::Digest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Digest {
    /// How many registrations and watches.
    pub count: u64,
    /// All of them, each hashed, XORed.
    pub sum: u64,
    /// None of the sender's sockets that were registered before waits to be registered there again.
    pub registered: bool,
    /// All members of the sender's view have told the sender so, on that view.
    pub complete: bool,
}

/// A stored event on its way to sockets.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
pub struct Fanout {
    /// Where.
    pub conversation: ConversationId,
    /// Its place.
    pub seq: Seq,
    /// Its number among the posts, for the sender's `ok`.
    pub post_no: u64,
    /// When it was accepted, for the sender's `ok`.
    pub at: Millis,
    /// The socket or call, on the node this goes to, whose request became the event, and the request's tag: it gets `ok`
    /// instead of `frame`. Who asked for the same in another request is answered by itself, after this.
    pub requester: Option<(ConnId, u32)>,
    /// The `msg` or `evt` frame, encoded once for everybody.
    pub frame: Bytes,
    /// To whom.
    pub to: Vec<ConnId>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum Outcome {
    /// It is done.
    Done(Done),
    /// It is not; [`Refusal::code`] says whether that is definite.
    Refused(Refusal),
}

/// See [`Outcome::Done`].
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub enum Done {
    /// The event stands in the log.
    Stored {
        /// Its place.
        seq: Seq,
        /// Its number among the posts.
        post_no: u64,
        /// When it was accepted.
        at: Millis,
        /// True if an earlier attempt had stored it.
        dup: bool,
    },
    /// Nothing had to change.
    Unchanged,
    /// States asked for.
    Presence(Vec<(UserId, PresenceState)>),
}

/// See [`Outcome::Refused`].
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Refusal {
    /// What went wrong.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The field that is wrong.
    pub field: Option<String>,
    /// Not before this many milliseconds.
    pub after_ms: Option<u64>,
}

impl From<crate::Error> for Refusal {
    fn from(e: crate::Error) -> Refusal {
        Refusal { code: e.code, message: e.message, field: e.field, after_ms: e.after_ms }
    }
}

impl From<Refusal> for crate::Error {
    fn from(r: Refusal) -> crate::Error {
        crate::Error { code: r.code, message: r.message, field: r.field, after_ms: r.after_ms }
    }
}
