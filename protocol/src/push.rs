//! What the server says on the socket: replies and pushes, as bytes and as data.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    ClientId, ConversationId, Error, Kind, Millis, Presence, Seq, UserId,
    close::CloseCode,
    event::{ENVELOPE_VERSION, PostView, View},
};

/// The ping, and a client's answer to it.
pub const PING: &str = "{}";

/// The envelope of both directions, for writing.
#[derive(Serialize)]
pub struct Frame<'a, D> {
    /// Verb, `ok`, `err` or the push.
    pub t: &'a str,
    /// The request this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The content.
    pub d: D,
}

/// A frame from the server as a client reads it.
#[derive(Debug, Deserialize)]
pub struct ServerFrame<'a> {
    /// `None` for a ping.
    #[serde(default)]
    pub t: Option<std::borrow::Cow<'a, str>>,
    /// The request this answers.
    #[serde(default)]
    pub id: Option<u32>,
    /// The content.
    #[serde(borrow, default)]
    pub d: Option<&'a RawValue>,
}

fn frame(t: &str, id: Option<u32>, d: impl Serialize) -> Bytes {
    serde_json::to_vec(&Frame { t, id, d }).expect("plain data always serialises").into()
}

/// `ok` to request `id`.
pub fn ok(id: u32, d: impl Serialize) -> Bytes {
    frame("ok", Some(id), d)
}

/// `err` to request `id`, or to an undecodable frame. `request` names the request in the logs.
pub fn err(id: Option<u32>, error: &Error, request: &str) -> Bytes {
    frame("err", id, error.frame_body(request))
}

/// The pushes there are.
pub const NAMES: &[&str] = &["msg", "evt", "gap", "head", "rcpt", "typ", "pres", "conv", "token", "bye"];

/// A push, one of [`NAMES`].
pub fn push(t: &str, d: impl Serialize) -> Bytes {
    debug_assert!(NAMES.contains(&t), "there is no push `{t}`");
    frame(t, None, d)
}

/// `msg` or `evt`: an event of a log.
pub fn event(view: &View) -> Bytes {
    match view {
        View::Post(post) => push("msg", post),
        View::Event(event) => push("evt", event),
    }
}

/// Answer to `hello`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who one is.
    pub user: UserId,
    /// Which session this socket belongs to.
    pub session: crate::SessionId,
    /// Name of the node, for support.
    pub node: String,
    /// How often the server pings an idle socket.
    pub ping_ms: u64,
    /// What the client has to keep to.
    pub limits: Limits,
}

/// Limits as `hello` states them; a rate of 0 means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one WebSocket message.
    pub frame: usize,
    /// Characters of a post's text.
    pub text: usize,
    /// Requests unanswered at once.
    pub inflight: usize,
    /// Sends per second, lasting.
    pub send_per_s: u32,
    /// Sends at once.
    pub burst: u32,
}

/// Answer to `send`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Its place in the log.
    pub seq: Seq,
    /// Its number among the posts.
    pub post_no: u64,
    /// When it was accepted.
    pub at: Millis,
    /// True if it was stored by an earlier attempt.
    pub dup: bool,
}

/// Answer to `sync`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Synced {
    /// One item per conversation of `have` and of the list window.
    pub conversations: Vec<SyncItem>,
    /// Conversations of `have` one is no longer in.
    #[serde(default)]
    pub left: Vec<ConversationId>,
    /// Where the list window goes on; `null` at its end.
    pub next: Option<String>,
}

/// One conversation in the answer to `sync`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncItem {
    /// Which.
    pub id: ConversationId,
    /// What it is.
    pub kind: Kind,
    /// Its title; `null` for a direct conversation.
    pub title: Option<String>,
    /// The other side of a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<UserId>,
    /// The last event.
    pub head: Seq,
    /// The number of posts.
    pub head_post: u64,
    /// One's own read mark.
    pub read: Seq,
    /// Posts above the read mark.
    pub unread: u64,
    /// Events above one's position, ascending; after a long absence only the newest.
    pub events: Vec<View>,
    /// True if there is more above the last of `events`: sync again.
    pub more: bool,
    /// What was skipped, to be fetched with `hist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Range>,
}

/// A run of seqs, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First.
    pub from: Seq,
    /// Last.
    pub to: Seq,
}

/// Answer to `hist`, and a page of REST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// Posts, ascending.
    pub messages: Vec<PostView>,
    /// Other events in the same range of seqs, ascending.
    pub events: Vec<crate::event::EventView>,
    /// The last event of the log.
    pub head: Seq,
    /// True if there is more in the direction asked for.
    pub more: bool,
}

/// `gap`: events from..=to were skipped on this socket; fetch them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Where.
    pub c: ConversationId,
    /// First.
    pub from: Seq,
    /// Last.
    pub to: Seq,
}

/// `head`: the last event now; who is behind fetches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Where.
    pub c: ConversationId,
    /// The last event.
    pub seq: Seq,
}

/// `rcpt`: the latest marks of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// Where.
    pub c: ConversationId,
    /// Whose, and how far.
    pub marks: HashMap<UserId, Marks>,
}

/// How far a user has got in a conversation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, wincode::SchemaRead, wincode::SchemaWrite,
)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct Marks {
    /// Read up to here.
    pub read: Seq,
    /// Delivered to at least one device up to here; never below `read`.
    pub delivered: Seq,
}

/// `typ`: somebody types or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Typing {
    /// Where.
    pub c: ConversationId,
    /// Who.
    pub user: UserId,
    /// Started or stopped.
    pub on: bool,
}

/// `pres`, and the answer to `watch`: states by user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PresenceStates {
    /// States by user.
    pub presence: HashMap<UserId, PresenceState>,
}

/// One user's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, wincode::SchemaRead, wincode::SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct PresenceState {
    /// The state.
    pub state: Presence,
    /// When the last device went; `null` while one is there, and for who was never seen.
    pub last_seen_at: Option<Millis>,
}

/// `conv`: the user's list changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListChange {
    /// Which conversation.
    pub c: ConversationId,
    /// What changed.
    pub change: ListChangeKind,
    /// The event that caused it, or one's own read mark.
    pub seq: Seq,
}

/// What changed in a user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListChangeKind {
    /// One is a member now.
    Joined,
    /// One no longer is.
    Left,
    /// One's read mark moved, on another device.
    Read,
}

/// `token`: the access token ends soon; send `auth`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenEnding {
    /// When.
    pub expires_at: Millis,
}

/// `bye`: the server is closing this socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bye {
    /// The code of the close frame that follows.
    pub code: CloseCode,
    /// Its reason.
    pub reason: String,
    /// Whether to come back.
    pub reconnect: bool,
    /// Not before this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Where to, if another node is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Bye {
    /// The farewell for a code, with nothing else to say.
    pub fn of(code: CloseCode) -> Bye {
        Bye { code, reason: code.reason().to_owned(), reconnect: code.reconnect(), after_ms: None, to: None }
    }
}

/// The head of a `msg` frame; the stored envelope completes it, see [`message`].
#[derive(Serialize)]
struct MessageHead<'a> {
    c: ConversationId,
    seq: Seq,
    post_no: u64,
    from: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<&'a ClientId>,
    at: Millis,
}

/// The `msg` frame of a post straight from its stored envelope, without reading it again: the same object as
/// [`event`] writes for its view. `None` for what [`crate::Body::encode`] of this release does not write: as with
/// [`crate::Event::view`], a later release's envelope is shown to nobody.
pub fn message(
    c: ConversationId, seq: Seq, post_no: u64, from: UserId, cid: Option<&ClientId>, at: Millis, envelope: &[u8],
) -> Option<Bytes> {
    let content = envelope.strip_prefix(&[ENVELOPE_VERSION, b'{', b'"'])?;
    let mut bytes = Vec::with_capacity(envelope.len() + 256);
    bytes.extend_from_slice(br#"{"t":"msg","d":"#);
    let head = MessageHead { c, seq, post_no, from, cid, at };
    serde_json::to_writer(&mut bytes, &head).expect("plain data always serialises");
    // both objects have keys, so one comma joins them
    bytes.pop();
    bytes.extend_from_slice(b",\"");
    bytes.extend_from_slice(content);
    bytes.push(b'}');
    Some(bytes.into())
}
