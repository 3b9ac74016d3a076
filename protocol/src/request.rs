//! What a client says on the socket. Reading never panics; a frame that is not understood becomes an error that
//! names the field.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{ClientId, ConversationId, DeviceId, Error, Post, Seq, UserId};

mod decode;
mod flat;

pub use crate::Presence;
pub use decode::{decode, read, split};

/// One understood frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// `{}`: the answer to a ping.
    Pong,
    /// A verb; without `id` no reply is wanted, not even an error.
    Request {
        /// Chosen by the client, unique among its unanswered requests.
        id: Option<u32>,
        /// What is wanted.
        verb: Verb,
    },
}

/// Why a frame was not understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Bad {
    /// Not a frame at all: answered without `id`, and counted ([`crate::limits::BAD_FRAMES_MAX`]).
    Undecodable(Error),
    /// A frame whose verb or fields are wrong: answered to its `id`.
    Refused {
        /// The id to answer to; without one nothing is answered.
        id: Option<u32>,
        /// `unknown_type` or `bad_field`.
        error: Error,
    },
}

/// Everything a client can ask for on the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Who is there; the first frame.
    Hello(Hello),
    /// A fresh token on the same socket.
    Auth(Auth),
    /// Everything missed.
    Sync(Sync),
    /// A post.
    Send(Send),
    /// A page of history.
    Hist(Hist),
    /// The read mark.
    Read(Mark),
    /// The delivered mark.
    Ack(Mark),
    /// Typing or not.
    Typ(Typ),
    /// Own presence.
    Pres(Pres),
    /// Whose presence to be told.
    Watch(Watch),
    /// A conversation is on screen.
    Open(Target),
    /// It no longer is.
    Close(Target),
}

/// See [`Verb::Hello`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The access token, unless the upgrade carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Tells the sockets of one session apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Name and version of the client, for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Minor features the client speaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
}

/// See [`Verb::Auth`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auth {
    /// The fresh access token, of the same session.
    pub token: String,
}

/// See [`Verb::Sync`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    /// Which part of the user's list to include.
    #[serde(default)]
    pub list: ListWindow,
    /// Per conversation the end of the contiguous run of events received.
    #[serde(default)]
    pub have: HashMap<ConversationId, Seq>,
}

/// A window over the user's conversations, most recent activity first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListWindow {
    /// How many; 0: none.
    #[serde(default)]
    pub limit: usize,
    /// `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// See [`Verb::Send`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "flat::Send")]
pub struct Send {
    /// Where to.
    pub c: ConversationId,
    /// The client's name for this post, the same on every retry.
    pub cid: ClientId,
    /// The head the client knew when it made `cid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// What.
    #[serde(flatten)]
    pub post: Post,
}

/// See [`Verb::Hist`]. At most one bound; all exclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "flat::Hist")]
pub struct Hist {
    /// Where.
    pub c: ConversationId,
    /// Which part.
    #[serde(flatten)]
    pub page: Page,
}

/// Bounds of a page of history; shared with REST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The newest posts below this seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// The oldest posts above this seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Half on each side of this seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<Seq>,
    /// How many posts, at most [`crate::limits::PAGE_POSTS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// See [`Verb::Read`] and [`Verb::Ack`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    pub c: ConversationId,
    /// Up to where.
    pub seq: Seq,
}

/// See [`Verb::Typ`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Typ {
    /// Where.
    pub c: ConversationId,
    /// Started or stopped.
    pub on: bool,
}

/// See [`Verb::Pres`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pres {
    /// `online` or `away`; being offline is said by closing the socket.
    pub state: Presence,
}

/// See [`Verb::Watch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Replaces the set watched before; at most [`crate::limits::WATCH_USERS_MAX`].
    pub users: Vec<UserId>,
}

/// See [`Verb::Open`] and [`Verb::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Which conversation.
    pub c: ConversationId,
}

impl Verb {
    /// The verbs there are.
    pub const NAMES: &'static [&'static str] =
        &["hello", "auth", "sync", "send", "hist", "read", "ack", "typ", "pres", "watch", "open", "close"];

    /// The word on the wire; also the `type` label of the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Hello(_) => "hello",
            Verb::Auth(_) => "auth",
            Verb::Sync(_) => "sync",
            Verb::Send(_) => "send",
            Verb::Hist(_) => "hist",
            Verb::Read(_) => "read",
            Verb::Ack(_) => "ack",
            Verb::Typ(_) => "typ",
            Verb::Pres(_) => "pres",
            Verb::Watch(_) => "watch",
            Verb::Open(_) => "open",
            Verb::Close(_) => "close",
        }
    }

    /// The frame that says this, as a client writes it.
    pub fn encode(&self, id: Option<u32>) -> String {
        fn frame(t: &str, id: Option<u32>, d: &impl Serialize) -> String {
            serde_json::to_string(&crate::push::Frame { t, id, d }).expect("plain data always serialises")
        }
        let t = self.name();
        match self {
            Verb::Hello(d) => frame(t, id, d),
            Verb::Auth(d) => frame(t, id, d),
            Verb::Sync(d) => frame(t, id, d),
            Verb::Send(d) => frame(t, id, d),
            Verb::Hist(d) => frame(t, id, d),
            Verb::Read(d) | Verb::Ack(d) => frame(t, id, d),
            Verb::Typ(d) => frame(t, id, d),
            Verb::Pres(d) => frame(t, id, d),
            Verb::Watch(d) => frame(t, id, d),
            Verb::Open(d) | Verb::Close(d) => frame(t, id, d),
        }
    }
}
