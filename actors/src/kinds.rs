//! The three kinds of entities of a node, and the accounts, as the router and the composition root see them.

use std::sync::Arc;

use protocol::{
    ConnId, ConversationId,
    peer::{EndedSession, Slice},
};

use crate::{
    Accounts,
    conversation::state as conversation,
    entities::{Entities, NotAdmitted},
    presence,
    router::Mailboxes,
    session::state as session,
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Kinds {
    pub(crate) conversations: Arc<Entities<conversation::State>>,
    pub(crate) presence: Arc<Entities<presence::State>>,
    pub(crate) sessions: Arc<Entities<session::State>>,
    pub(crate) accounts: Arc<Accounts>,
}

impl Mailboxes for Kinds {
    fn ask(&self, c: ConversationId, input: conversation::Input) -> Result<(), NotAdmitted> {
        self.conversations.admit(c, input)
    }

    fn inform(&self, c: ConversationId, input: conversation::Input) {
        let _ = self.conversations.tell_running(c, input);
    }

    fn channel(&self, slice: Slice, input: presence::Input) -> Result<(), NotAdmitted> {
        self.presence.tell(slice, input)
    }

    fn inform_channel(&self, slice: Slice, input: presence::Input) -> bool {
        self.presence.tell_running(slice, input).is_ok()
    }

    fn session(&self, conn: ConnId, input: session::Input) {
        let _ = self.sessions.tell_running(conn, input);
    }

    fn conversations(&self) -> Vec<ConversationId> {
        self.conversations.keys()
    }

    fn channels(&self) -> Vec<Slice> {
        self.presence.keys()
    }

    fn sessions(&self) -> Vec<ConnId> {
        self.sessions.keys()
    }

    fn ended(&self, ended: EndedSession) {
        self.accounts.hear(ended);
    }
}
