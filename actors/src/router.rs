//! Where mail goes: to the entity or the sockets it is addressed to. On one node everything is local; links to peers
//! join here, and nothing that sends or receives mail will notice.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{
    Code, ConnId, ConversationId, Error, Incarnation,
    peer::{Mail, Outcome, Requester, Slice, ToConnections, ToConversation, ToPresence},
};

use crate::{
    connections::{Connections, Later},
    entities::NotAdmitted,
    meters::METERS,
    world::Clock,
};

/// Where the entities of this node take their mail. The entities send through the router, so it cannot name them.
pub(crate) trait Mailboxes: Send + Sync {
    /// From a client: starts the conversation if need be, within its mailbox's bound.
    fn ask(&self, c: ConversationId, mail: ToConversation) -> Result<(), NotAdmitted>;

    /// About devices: only to a conversation that runs, another asks when it starts.
    fn inform(&self, c: ConversationId, mail: ToConversation);

    /// Starts the channel if need be.
    fn presence(&self, slice: Slice, mail: ToPresence) -> Result<(), NotAdmitted>;

    /// The registration of this socket stands.
    fn registered(&self, conn: ConnId);

    /// This socket's registration and watches are to be made again.
    fn register_again(&self, conn: ConnId);

    /// Whom this socket may watch may have changed.
    fn look_again(&self, conn: ConnId);
}

/// How long events for many sockets are gathered while more are being stored: less than one write to all of them takes.
const GATHER: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Router {
    me: Incarnation,
    clock: Arc<dyn Clock>,
    connections: Arc<Connections>,
    mailboxes: OnceLock<Box<dyn Mailboxes>>,
    /// A flush is due within [`GATHER`].
    flushing: Arc<AtomicBool>,
}

impl Router {
    pub(crate) fn new(me: Incarnation, clock: Arc<dyn Clock>, connections: Arc<Connections>) -> Router {
        Router { me, clock, connections, mailboxes: OnceLock::new(), flushing: Arc::default() }
    }

    /// Opens for mail, once.
    pub(crate) fn open(&self, mailboxes: impl Mailboxes + 'static) {
        let _ = self.mailboxes.set(Box::new(mailboxes));
    }

    /// Takes mail to the entity it is for. Who asked for something that cannot be taken is answered at once.
    pub(crate) fn send(&self, mail: Mail) {
        let Some(mailboxes) = self.mailboxes.get() else { return };
        match mail {
            Mail::Conversation(c, mail) => match mail {
                ToConversation::Submit(_) | ToConversation::Mark(_) | ToConversation::Typing { .. } => {
                    let requester = match &mail {
                        ToConversation::Submit(submission) => submission.requester,
                        ToConversation::Mark(mark) => mark.requester,
                        _ => None,
                    };
                    if let Err(why) = mailboxes.ask(c, mail) {
                        self.refuse(requester, why);
                    }
                }
                about_devices => mailboxes.inform(c, about_devices),
            },
            Mail::Presence(slice, mail) => {
                let requester = if let ToPresence::Query(requester, _) = &mail { Some(*requester) } else { None };
                if let Err(why) = mailboxes.presence(slice, mail) {
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
        if let ToConnections::Event(fanout) = &mail {
            let ms = self.clock.wall().0.saturating_sub(fanout.at.0);
            METERS.delivery_seconds.record(ms as f64 / 1000.0);
        }
        let later = self.connections.deliver(mail, self.clock.now());
        let Some(mailboxes) = self.mailboxes.get() else { return };
        match later {
            Some(Later::Registered(conn)) => mailboxes.registered(conn),
            Some(Later::RegisterAgain(conns)) => conns.into_iter().for_each(|conn| mailboxes.register_again(conn)),
            Some(Later::LookAgain(conns)) => conns.into_iter().for_each(|conn| mailboxes.look_again(conn)),
            None => {}
        }
    }

    /// Lets the sockets write what events they were given since the last time.
    pub(crate) fn flush(&self) {
        self.connections.wake();
    }

    /// The same after [`GATHER`].
    pub(crate) fn flush_soon(&self) {
        if !self.flushing.swap(true, Ordering::AcqRel) {
            let (connections, flushing) = (self.connections.clone(), self.flushing.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                flushing.store(false, Ordering::Release);
                connections.wake();
            });
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
