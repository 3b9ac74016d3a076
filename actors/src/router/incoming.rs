//! What comes in: parcels from peers, and mail for this node, are handed to whom they are addressed to.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{
    Code, ConversationId, Error, Incarnation, UserId,
    peer::{Mail, Parcel, Requester, Slice, ToConnections, ToConversation, ToNode, ToPresence},
    push::PresenceState,
};

use super::{Router, requester_of};
use crate::{
    cluster::early::Early, connections::Later, conversation::state as conversation, entities::NotAdmitted,
    meters::METERS, presence, session::state as session,
};

impl Router {
    /// Parcels came from a peer, in order.
    pub(crate) fn receive_all(&self, from: Incarnation, parcels: impl IntoIterator<Item = Parcel>) {
        for parcel in parcels {
            let parcel = {
                // asked under the lock: a view that is installed meanwhile finds what was kept
                let mut early = self.early();
                early.keep(from, parcel, self.places().version(), self.clock.now())
            };
            match parcel {
                Some(parcel) => self.receive(from, parcel),
                None => self.read_view(),
            }
        }
        self.flush();
    }

    /// Takes what waited for a view that is in force now, or has waited too long.
    pub(super) fn receive_early(&self) {
        let due = self.early().due(self.places().version(), self.clock.now());
        due.into_iter().for_each(|(from, parcel)| self.receive(from, parcel));
    }

    pub(super) fn receive(&self, from: Incarnation, parcel: Parcel) {
        let Parcel { view, forwarded, mail } = parcel;
        let Some(mailboxes) = self.mailboxes.get() else { return };
        match mail {
            Mail::Conversation(c, mail) => match mail {
                ToConversation::Submit(_) | ToConversation::Mark(_) | ToConversation::Typing { .. } => {
                    self.ask(c, view, forwarded, mail);
                }
                about_devices => mailboxes.inform(c, conversation::Input::Mail(about_devices)),
            },
            Mail::Presence(slice, mail) => {
                let requester = if let ToPresence::Query(requester, _) = &mail { Some(*requester) } else { None };
                if let Err(why) = mailboxes.channel(slice, presence::Input::Mail { from, view, mail }) {
                    self.not_admitted(requester, why);
                }
            }
            Mail::Connections(ToConnections::Presence { mut states, to }) => {
                self.keep_true(from, view, &mut states);
                if !states.is_empty() {
                    self.deliver(from, ToConnections::Presence { states, to });
                }
            }
            Mail::Connections(mail) => self.deliver(from, mail),
            Mail::Node(ToNode::Digest(claim)) => {
                if view > self.places().version() {
                    self.read_view();
                }
                self.compare(&mut self.told(), from, view, claim);
                self.compared(from);
            }
            Mail::Node(ToNode::Rebuild) => self.forgotten(from, None),
            Mail::Node(ToNode::Refill(slice)) => self.forgotten(from, Some(slice)),
            Mail::Node(ToNode::Ended(ended)) => mailboxes.ended(ended),
        }
    }

    /// From a client, for the owner of a conversation.
    fn ask(&self, c: ConversationId, view: u64, forwarded: bool, mail: ToConversation) {
        let (places, mail) = (self.places(), Mail::Conversation(c, mail));
        let requester = requester_of(&mail);
        match places.conversation(c) {
            Some(owner) if owner == self.me => {
                let (Some(mailboxes), Mail::Conversation(_, mail)) = (self.mailboxes.get(), mail) else { return };
                let input =
                    if forwarded { conversation::Input::Forwarded(mail) } else { conversation::Input::Mail(mail) };
                if let Err(why) = mailboxes.ask(c, input) {
                    self.not_admitted(requester, why);
                }
            }
            owner => {
                let is_behind = view > places.version();
                if is_behind {
                    self.read_view();
                }
                match owner {
                    // by an earlier view than the sender's: that owner may be gone
                    Some(owner) if !forwarded && !is_behind => self.forward(owner, mail),
                    _ => self.refuse(requester, Error::new(Code::Moved, "another node owns this conversation now")),
                }
            }
        }
    }

    /// Drops how users look to a channel that is theirs no more: it may have been cut off from who is there, and its mail
    /// may come after that of the one that is. A view later than this node's is taken at its word.
    fn keep_true(&self, from: Incarnation, view: u64, states: &mut Vec<(UserId, PresenceState)>) {
        let places = self.places();
        if view <= places.version() {
            states.retain(|(user, _)| places.channel(Slice::of(*user)) == Some(from));
        }
    }

    /// Puts mail into the lines of sockets.
    fn deliver(&self, from: Incarnation, mail: ToConnections) {
        if let ToConnections::Event(fanout) = &mail {
            let ms = self.clock.wall().0.saturating_sub(fanout.at.0);
            METERS.delivered(from != self.me, Duration::from_millis(ms));
        }
        let later = self.connections.deliver(mail, self.clock.now());
        let Some(mailboxes) = self.mailboxes.get() else { return };
        match later {
            Some(Later::Registered(conn)) => {
                self.told().confirmed(from, conn);
                mailboxes.session(conn, session::Input::Registered(from));
            }
            Some(Later::NotTaken(conn)) => mailboxes.session(conn, session::Input::NotTaken),
            Some(Later::LookAgain(conns)) => {
                conns.into_iter().for_each(|conn| mailboxes.session(conn, session::Input::LookAgain));
            }
            None => {}
        }
    }

    pub(super) fn not_admitted(&self, requester: Option<Requester>, why: NotAdmitted) {
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
        self.refuse(requester, error);
    }

    pub(super) fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
