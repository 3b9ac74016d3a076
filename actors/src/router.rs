//! Where mail goes: to the entity or the sockets it is addressed to. On one node everything is local; links to peers
//! join here, and nothing that sends or receives mail will notice.

use std::sync::{Arc, OnceLock};

use protocol::{
    Code, Error, Incarnation,
    peer::{Mail, Outcome, Requester, ToConnections, ToConversation, ToPresence},
};

use crate::{
    connections::{Connections, Later},
    conversation::state::{Input as ConversationInput, State as Conversation},
    entities::{Entities, NotAdmitted},
    presence::{Input as PresenceInput, State as Presence},
    session::state::{Input as SessionInput, State as Session},
    world::Clock,
};

/// The entities mail can go to; known once they are started.
#[derive(Clone)]
pub(crate) struct Kinds {
    pub(crate) conversations: Arc<Entities<Conversation>>,
    pub(crate) presence: Arc<Entities<Presence>>,
    pub(crate) sessions: Arc<Entities<Session>>,
}

/// See the module.
pub(crate) struct Router {
    me: Incarnation,
    clock: Arc<dyn Clock>,
    connections: Arc<Connections>,
    kinds: OnceLock<Kinds>,
}

impl Router {
    pub(crate) fn new(me: Incarnation, clock: Arc<dyn Clock>, connections: Arc<Connections>) -> Router {
        Router { me, clock, connections, kinds: OnceLock::new() }
    }

    /// Opens for mail, once.
    pub(crate) fn open(&self, kinds: Kinds) {
        let _ = self.kinds.set(kinds);
    }

    /// Takes mail to the entity it is for. Who asked for something that cannot be taken is answered at once.
    pub(crate) fn send(&self, mail: Mail) {
        let Some(kinds) = self.kinds.get() else { return };
        match mail {
            Mail::Conversation(c, mail) => match mail {
                ToConversation::Submit(_) | ToConversation::Mark(_) | ToConversation::Typing { .. } => {
                    let requester = match &mail {
                        ToConversation::Submit(submission) => submission.requester,
                        ToConversation::Mark(mark) => mark.requester,
                        _ => None,
                    };
                    if let Err(why) = kinds.conversations.admit(c, ConversationInput::Mail(mail)) {
                        self.refuse(requester, why);
                    }
                }
                // about devices: only to a conversation that runs, another asks when it starts
                about_devices => {
                    let _ = kinds.conversations.tell_running(c, ConversationInput::Mail(about_devices));
                }
            },
            Mail::Presence(slice, mail) => {
                let requester = if let ToPresence::Query(requester, _) = &mail { Some(*requester) } else { None };
                if let Err(why) = kinds.presence.tell(slice, PresenceInput::Mail(mail)) {
                    self.refuse(requester, why);
                }
            }
            Mail::Connections(mail) => self.send_to(self.me, mail),
        }
    }

    /// Takes mail to the sockets of a node. There is one node; mail for an earlier run of it has no receiver any more.
    pub(crate) fn send_to(&self, node: Incarnation, mail: ToConnections) {
        if node != self.me {
            return;
        }
        let later = self.connections.deliver(mail, self.clock.now());
        let Some(kinds) = self.kinds.get() else { return };
        match later {
            Some(Later::Registered(conn)) => {
                let _ = kinds.sessions.tell_running(conn, SessionInput::Registered);
            }
            Some(Later::RegisterAgain(conns)) => {
                for conn in conns {
                    let _ = kinds.sessions.tell_running(conn, SessionInput::RegisterAgain);
                }
            }
            None => {}
        }
    }

    fn refuse(&self, requester: Option<Requester>, why: NotAdmitted) {
        let Some(Requester { at, tag }) = requester else { return };
        let error = match why {
            NotAdmitted::Full => {
                Error::new(Code::Overloaded, "too much is going on in this conversation; nothing was stored")
                    .after_ms(200)
            }
            NotAdmitted::Paused(until) => {
                let ms = until.saturating_duration_since(self.clock.now()).as_millis();
                let after = u64::try_from(ms).unwrap_or(u64::MAX).max(50);
                Error::new(Code::Unavailable, "this part of the node is restarting; nothing was stored").after_ms(after)
            }
            NotAdmitted::Absent => Error::new(Code::Unavailable, "nobody is there to answer").after_ms(200),
        };
        self.send_to(at.node, ToConnections::Answer(at.conn, tag, Outcome::Refused(error.into())));
    }
}
