//! One event of a conversation's log: what is stored, and how clients see it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClientId, ConversationId, EventId, Kind, Millis, Role, Seq, UserId};

/// The version byte in front of every stored body. A new field raises it: see the README.
pub const ENVELOPE_VERSION: u8 = 1;

/// What a person posted. At least one of `text` and `attachments` is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// What was written. Always a string on the wire and in the log; empty is none.
    #[serde(default, with = "some_text")]
    pub text: Option<String>,
    /// The post that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Who is called by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Anything the client attached; opaque to the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Value>,
    /// Anything else the client says about the post; opaque to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

mod some_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Option<String>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(text.as_deref().unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<String>::deserialize(d)?.filter(|text| !text.is_empty()))
    }
}

/// The first event of every log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// Direct, group or channel.
    pub conversation_kind: Kind,
    /// None for a direct conversation.
    pub title: Option<String>,
    /// The first members; the creator is the first of them (owner, or member of a direct conversation).
    pub members: Vec<UserId>,
}

/// Somebody added others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Who is a member from this seq on.
    pub users: Vec<UserId>,
}

/// Somebody left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leave {
    /// Who is the owner from this seq on, if the last owner left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<UserId>,
}

/// Somebody removed another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remove {
    /// Who is no longer a member; this event is the last they are told.
    pub user: UserId,
}

/// Somebody changed another's role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleChange {
    /// Whose role it is.
    pub user: UserId,
    /// The role from this seq on.
    pub role: Role,
}

/// Somebody changed the conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The title from this seq on.
    pub title: String,
}

/// What an event says. Numbers of kinds are stored: never reuse one.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Kind 0.
    Post(Post),
    /// Kind 1.
    Create(Create),
    /// Kind 2.
    Join(Join),
    /// Kind 3.
    Leave(Leave),
    /// Kind 4.
    Remove(Remove),
    /// Kind 5.
    Role(RoleChange),
    /// Kind 6.
    Settings(Settings),
    /// A kind or an envelope version that this node does not know: kept as it is, shown to nobody.
    Other {
        /// The stored number.
        kind: u8,
        /// The stored envelope.
        bytes: Vec<u8>,
    },
}

/// One event as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place.
    pub seq: Seq,
    /// Its name, given by the owner that appended it.
    pub id: EventId,
    /// Who did it.
    pub by: UserId,
    /// The client's name for it.
    pub cid: Option<ClientId>,
    /// SHA-256 of the original request, truncated: another request under the same `cid` is a conflict.
    pub request_hash: [u8; 16],
    /// When the owner judged it. Never goes back within a log.
    pub at: Millis,
    /// Number of posts up to and including this event.
    pub post_no: u64,
    /// What it says.
    pub body: Body,
}

/// Why stored bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not even a version byte.
    #[error("an event of kind {kind} has an empty body")]
    Empty {
        /// The stored kind.
        kind: u8,
    },
    /// A known version that does not hold what it should.
    #[error("an event of kind {kind} cannot be read: {source}")]
    Malformed {
        /// The stored kind.
        kind: u8,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
}

impl Body {
    /// The number of this kind in storage.
    pub fn kind(&self) -> u8 {
        match self {
            Body::Post(_) => 0,
            Body::Create(_) => 1,
            Body::Join(_) => 2,
            Body::Leave(_) => 3,
            Body::Remove(_) => 4,
            Body::Role(_) => 5,
            Body::Settings(_) => 6,
            Body::Other { kind, .. } => *kind,
        }
    }

    /// The word for this kind on the wire, `None` for what clients are not shown.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Body::Post(_) => Some("post"),
            Body::Create(_) => Some("create"),
            Body::Join(_) => Some("join"),
            Body::Leave(_) => Some("leave"),
            Body::Remove(_) => Some("remove"),
            Body::Role(_) => Some("role"),
            Body::Settings(_) => Some("settings"),
            Body::Other { .. } => None,
        }
    }

    /// True for posts (lane 0 of the log, and counted), those of a later release included; false for every other event.
    pub fn is_post(&self) -> bool {
        self.kind() == 0
    }

    /// True if the event changes who may do what.
    pub fn is_membership(&self) -> bool {
        matches!(self, Body::Create(_) | Body::Join(_) | Body::Leave(_) | Body::Remove(_) | Body::Role(_))
    }

    /// The versioned bytes for storage.
    pub fn encode(&self) -> Vec<u8> {
        fn envelope(body: &impl Serialize) -> Vec<u8> {
            let mut bytes = vec![ENVELOPE_VERSION];
            serde_json::to_writer(&mut bytes, body).expect("strings, numbers and JSON values always serialise");
            bytes
        }
        match self {
            Body::Post(b) => envelope(b),
            Body::Create(b) => envelope(b),
            Body::Join(b) => envelope(b),
            Body::Leave(b) => envelope(b),
            Body::Remove(b) => envelope(b),
            Body::Role(b) => envelope(b),
            Body::Settings(b) => envelope(b),
            Body::Other { bytes, .. } => bytes.clone(),
        }
    }

    /// Reads what [`Body::encode`] wrote. A kind or version of a later release becomes [`Body::Other`].
    ///
    /// # Errors
    /// [`EnvelopeError`] if a known kind of a known version does not hold what it should.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<Body, EnvelopeError> {
        fn read<'a, T: Deserialize<'a>>(kind: u8, json: &'a [u8]) -> Result<T, EnvelopeError> {
            serde_json::from_slice(json).map_err(|source| EnvelopeError::Malformed { kind, source })
        }
        let (&version, json) = bytes.split_first().ok_or(EnvelopeError::Empty { kind })?;
        if version != ENVELOPE_VERSION {
            return Ok(Body::Other { kind, bytes: bytes.to_vec() });
        }
        Ok(match kind {
            0 => Body::Post(read(kind, json)?),
            1 => Body::Create(read(kind, json)?),
            2 => Body::Join(read(kind, json)?),
            3 => Body::Leave(read(kind, json)?),
            4 => Body::Remove(read(kind, json)?),
            5 => Body::Role(read(kind, json)?),
            6 => Body::Settings(read(kind, json)?),
            _ => Body::Other { kind, bytes: bytes.to_vec() },
        })
    }
}

/// A post as clients see it, in `msg`, `sync`, `hist` and REST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PostView {
    /// The conversation.
    pub c: ConversationId,
    /// Its place in the log.
    pub seq: Seq,
    /// Its number among the posts, from 1.
    pub post_no: u64,
    /// Who posted it.
    pub from: UserId,
    /// The sender's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// When.
    pub at: Millis,
    /// What.
    #[serde(flatten)]
    pub post: Post,
}

/// Any other event as clients see it. `kind` is never `post`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// The conversation.
    pub c: ConversationId,
    /// Its place in the log.
    pub seq: Seq,
    /// Which kind of event.
    pub kind: String,
    /// Who did it.
    pub by: UserId,
    /// When.
    pub at: Millis,
    /// Its maker's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// What the kind adds: `conversation_kind`, `title`, `members`, `users`, `user`, `role`, `heir`.
    #[serde(flatten)]
    pub detail: serde_json::Map<String, Value>,
}

/// A post or another event, as both stand side by side in `sync`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum View {
    /// Has `post_no`, no `kind`.
    Post(PostView),
    /// Has `kind`.
    Event(EventView),
}

impl<'de> Deserialize<'de> for View {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let read = if value.get("kind").is_some() {
            serde_json::from_value(value).map(View::Event)
        } else {
            serde_json::from_value(value).map(View::Post)
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl View {
    /// Its place in the log.
    pub fn seq(&self) -> Seq {
        match self {
            View::Post(p) => p.seq,
            View::Event(e) => e.seq,
        }
    }
}

impl Event {
    /// How clients of `c` see this event; `None` for what they are not shown.
    pub fn view(&self, c: ConversationId) -> Option<View> {
        let detail = match &self.body {
            Body::Post(post) => {
                return Some(View::Post(PostView {
                    c,
                    seq: self.seq,
                    post_no: self.post_no,
                    from: self.by,
                    cid: self.cid.clone(),
                    at: self.at,
                    post: post.clone(),
                }));
            }
            Body::Create(b) => serde_json::to_value(b),
            Body::Join(b) => serde_json::to_value(b),
            Body::Leave(b) => serde_json::to_value(b),
            Body::Remove(b) => serde_json::to_value(b),
            Body::Role(b) => serde_json::to_value(b),
            Body::Settings(b) => serde_json::to_value(b),
            Body::Other { .. } => return None,
        };
        let Ok(Value::Object(detail)) = detail else { return None };
        Some(View::Event(EventView {
            c,
            seq: self.seq,
            kind: self.body.name()?.to_owned(),
            by: self.by,
            at: self.at,
            cid: self.cid.clone(),
            detail,
        }))
    }
}
