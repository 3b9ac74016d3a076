//! Conversations as REST sees them. Stub.

use protocol::{ClientId, ConversationId, Error, Seq, UserId, push, request::Page, rest};

use crate::Caller;

/// Conversations, messages, history and presence: what REST does, on the same path as the frames.
pub struct Conversations {}

#[allow(clippy::unused_async, missing_docs, unused_variables)]
impl Conversations {
    /// `true`: made just now. `key`: the `Idempotency-Key`.
    pub async fn create(
        &self, caller: Caller, body: rest::CreateConversation, key: Option<ClientId>,
    ) -> Result<(rest::Conversation, bool), Error> {
        unimplemented!()
    }
    pub async fn list(
        &self, caller: Caller, limit: Option<usize>, cursor: Option<&str>,
    ) -> Result<rest::List<rest::Conversation>, Error> {
        unimplemented!()
    }
    pub async fn one(&self, caller: Caller, c: ConversationId) -> Result<rest::Conversation, Error> {
        unimplemented!()
    }
    pub async fn change(
        &self, caller: Caller, c: ConversationId, body: rest::ConversationChange, key: Option<ClientId>,
    ) -> Result<rest::Conversation, Error> {
        unimplemented!()
    }
    pub async fn members(
        &self, caller: Caller, c: ConversationId, limit: Option<usize>, cursor: Option<&str>,
    ) -> Result<rest::List<rest::Member>, Error> {
        unimplemented!()
    }
    pub async fn add_members(
        &self, caller: Caller, c: ConversationId, body: rest::AddMembers, key: Option<ClientId>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn change_role(
        &self, caller: Caller, c: ConversationId, user: UserId, body: rest::ChangeRole, key: Option<ClientId>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// Removing oneself is leaving.
    pub async fn remove_member(
        &self, caller: Caller, c: ConversationId, user: UserId, key: Option<ClientId>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// `key`: the `Idempotency-Key`, used as `cid` where the body has none.
    pub async fn post(
        &self, caller: Caller, c: ConversationId, body: rest::PostMessage, key: Option<ClientId>,
    ) -> Result<push::Sent, Error> {
        unimplemented!()
    }
    pub async fn history(&self, caller: Caller, c: ConversationId, page: Page) -> Result<push::HistoryPage, Error> {
        unimplemented!()
    }
    pub async fn read(&self, caller: Caller, c: ConversationId, seq: Seq) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn presence(&self, caller: Caller, users: Vec<UserId>) -> Result<push::PresenceStates, Error> {
        unimplemented!()
    }
}
