//! The three kinds of entities of a node, as the router and the composition root see them.

use std::sync::Arc;

use protocol::{
    ConnId, ConversationId,
    peer::{Slice, ToConversation, ToPresence},
};

use crate::{
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
}

impl Mailboxes for Kinds {
    fn ask(&self, c: ConversationId, mail: ToConversation) -> Result<(), NotAdmitted> {
        self.conversations.admit(c, conversation::Input::Mail(mail))
    }

    fn inform(&self, c: ConversationId, mail: ToConversation) {
        let _ = self.conversations.tell_running(c, conversation::Input::Mail(mail));
    }

    fn presence(&self, slice: Slice, mail: ToPresence) -> Result<(), NotAdmitted> {
        self.presence.tell(slice, presence::Input::Mail(mail))
    }

    fn registered(&self, conn: ConnId) {
        let _ = self.sessions.tell_running(conn, session::Input::Registered);
    }

    fn register_again(&self, conn: ConnId) {
        let _ = self.sessions.tell_running(conn, session::Input::RegisterAgain);
    }

    fn look_again(&self, conn: ConnId) {
        let _ = self.sessions.tell_running(conn, session::Input::LookAgain);
    }
}
