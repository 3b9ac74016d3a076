//! Who is in which conversation, in which role, and how far they have read. Follows from the logs, marks aside.

use std::collections::HashSet;

use async_trait::async_trait;
use protocol::{ConversationId, Kind, Millis, Role, Seq, UserId, push::Marks};

use crate::{Error, log::Head};

/// A conversation's own row.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// What it is.
    pub kind: Kind,
    /// None for a direct conversation.
    pub title: Option<String>,
    /// The two of a direct conversation, the creator first.
    pub pair: Option<(UserId, UserId)>,
    /// How many members now.
    pub members: u64,
    /// When it was made.
    pub created_at: Millis,
    /// The end of its log.
    pub head: Head,
}

/// A member's row; it stays after they have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// The last role.
    pub role: Role,
    /// The event that made them a member, the last time.
    pub joined_seq: Seq,
    /// The event that ended it; `None`: still a member.
    pub left_seq: Option<Seq>,
    /// How far they have got.
    pub marks: Marks,
    /// The number of posts up to the read mark.
    pub read_post: u64,
}

/// A conversation from one member's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// The conversation.
    pub conversation: Conversation,
    /// The member's own row.
    pub member: Member,
}

/// Marks to be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkUpdate {
    /// Whose.
    pub user: UserId,
    /// Not below what is stored; `read` implies `delivered`.
    pub marks: Marks,
}

/// Members, lists and marks.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The conversation's row; `None`: there is none.
    async fn conversation(&self, c: ConversationId) -> Result<Option<Conversation>, Error>;

    /// One member's row, also of who has left; `None`: never was a member.
    async fn member(&self, c: ConversationId, user: UserId) -> Result<Option<Member>, Error>;

    /// Members now, ascending by id, above `after`, at most `limit`.
    async fn members(&self, c: ConversationId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>, Error>;

    /// All conversations a user is a member of now, in no order, with their heads.
    async fn list(&self, user: UserId) -> Result<Vec<Membership>, Error>;

    /// The ids of all conversations a user is a member of now, and nothing else of them.
    async fn places(&self, user: UserId) -> Result<HashSet<ConversationId>, Error>;

    /// One conversation from a user's side, also if they have left; `None`: never was a member.
    async fn membership(&self, c: ConversationId, user: UserId) -> Result<Option<Membership>, Error>;

    /// Raises marks, never lowers them. Answers the marks that stand afterwards, in the order of `updates`.
    async fn mark(&self, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Error>;

    /// Those of `candidates` that share a conversation with `user` now.
    async fn fellows(&self, user: UserId, candidates: &[UserId]) -> Result<Vec<UserId>, Error>;
}
