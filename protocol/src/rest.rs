//! Bodies of the REST surface. The routes are in the README of the node.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClientId, Code, ConversationId, DeviceId, Kind, Millis, Post, Role, Seq, SessionId, UserId, event::View};

/// `POST auth/register`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Register {
    /// The name to sign in with; public.
    pub username: String,
    /// The password.
    pub password: String,
    /// The name that others are shown; the username unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Stored unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The device that signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its name, for the list of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// `POST auth/login`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    /// The username.
    pub login: String,
    /// The password.
    pub password: String,
    /// Signing in again with the same device replaces its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its name, for the list of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// Answer to register and login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// Who one is.
    pub user: User,
    /// The new session.
    pub session: SessionId,
    /// The tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// Answer to refresh; part of [`SignedIn`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// For `Authorization: Bearer` and `hello`.
    pub access_token: String,
    /// Seconds until it ends.
    pub expires_in: u64,
    /// For `auth/refresh`, once.
    pub refresh_token: String,
}

/// `POST auth/refresh`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refresh {
    /// The refresh token of the last answer.
    pub refresh_token: String,
}

/// `POST auth/password`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangePassword {
    /// The password now.
    pub old: String,
    /// The password from now on.
    pub new: String,
}

/// Answer to `POST auth/ticket`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// For `?ticket=` on the upgrade, once.
    pub ticket: String,
    /// Seconds until it ends.
    pub expires_in: u64,
}

/// An item of `GET auth/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// The device it belongs to.
    pub device: Option<DeviceId>,
    /// What the client calls it.
    pub device_name: Option<String>,
    /// When it signed in.
    pub created_at: Millis,
    /// When it was last connected or refreshed.
    pub last_seen_at: Millis,
    /// True for the session that asks.
    pub current: bool,
}

/// A user, as oneself or others see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Which.
    pub id: UserId,
    /// The public name.
    pub username: String,
    /// The name to show.
    pub display_name: String,
    /// Only to oneself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// When the account was made.
    pub created_at: Millis,
}

/// `PATCH users/me`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserChange {
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// `POST conversations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateConversation {
    /// Direct, group or channel.
    pub kind: Kind,
    /// Required for a group or channel, absent for a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The others; exactly one for a direct conversation.
    #[serde(default)]
    pub members: Vec<UserId>,
}

/// A conversation as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// What it is.
    pub kind: Kind,
    /// Its title; `null` for a direct conversation.
    pub title: Option<String>,
    /// The other side of a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<UserId>,
    /// How many members.
    pub members_count: u64,
    /// The last event.
    pub head: Seq,
    /// The number of posts.
    pub head_post: u64,
    /// One's own read mark.
    pub read: Seq,
    /// Posts above the read mark.
    pub unread: u64,
    /// The last post.
    pub last: Option<View>,
    /// One's own role.
    pub role: Role,
    /// When it was made.
    pub created_at: Millis,
}

/// `PATCH conversations/{id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConversationChange {
    /// The new title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// An item of `GET conversations/{id}/members`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// The event that made them a member.
    pub joined_seq: Seq,
}

/// `POST conversations/{id}/members`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddMembers {
    /// Whom to add.
    pub users: Vec<UserId>,
}

/// `PATCH conversations/{id}/members/{user}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ChangeRole {
    /// The new role.
    pub role: Role,
}

/// `POST conversations/{id}/messages`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "FlatPostMessage")]
pub struct PostMessage {
    /// The client's name for it; or the header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// The head the client knew when it made `cid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// What.
    #[serde(flatten)]
    pub post: Post,
}

/// How [`PostMessage`] is read: written out, so that errors name the field.
#[derive(Deserialize)]
struct FlatPostMessage {
    #[serde(default)]
    cid: Option<ClientId>,
    #[serde(default)]
    base: Option<Seq>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    reply_to: Option<Seq>,
    #[serde(default)]
    mentions: Vec<UserId>,
    #[serde(default)]
    attachments: Vec<Value>,
    #[serde(default)]
    meta: Option<Value>,
}

impl From<FlatPostMessage> for PostMessage {
    fn from(p: FlatPostMessage) -> PostMessage {
        let FlatPostMessage { cid, base, text, reply_to, mentions, attachments, meta } = p;
        let text = text.filter(|text| !text.is_empty());
        PostMessage { cid, base, post: Post { text, reply_to, mentions, attachments, meta } }
    }
}

/// `POST conversations/{id}/read`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadUpTo {
    /// Up to where.
    pub seq: Seq,
}

/// Any list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct List<T> {
    /// This page.
    pub items: Vec<T>,
    /// `cursor` for the next page; `null` at the end.
    pub next: Option<String>,
}

/// Every error answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub error: FailureBody,
    /// Names the request in the logs; also in `x-request-id`.
    pub request_id: String,
    /// When.
    pub timestamp: Millis,
}

/// See [`Failure`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureBody {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: FailureDetails,
}

/// See [`FailureBody`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureDetails {
    /// Whether trying again may help.
    pub retry: bool,
    /// Not before this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// The field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Failure {
    /// The answer for an error.
    pub fn of(error: &crate::Error, request_id: String, timestamp: Millis) -> Failure {
        Failure {
            error: FailureBody {
                code: error.code,
                message: error.message.clone(),
                details: FailureDetails {
                    retry: error.code.retry(),
                    after_ms: error.after_ms,
                    field: error.field.clone(),
                },
            },
            request_id,
            timestamp,
        }
    }
}
