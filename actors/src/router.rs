//! Where mail goes: to the entity or the sockets it is addressed to, on the node where they are. Mail for this node is
//! handed over here; mail for another goes [`Abroad`], and comes in there as a [`Parcel`]. What of it registers and
//! watches is noted on the way, in the same order (`cluster::told`).

mod incoming;
mod looking_after;
mod registered;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{
    Code, ConnId, ConversationId, Error, Incarnation, SessionId,
    close::CloseCode,
    peer::{
        EndedSession, Mail, Outcome, Parcel, Requester, Slice, ToConnections, ToConversation, ToNode, ToPresence,
        WatchId,
    },
};
use tokio::sync::{oneshot, watch};

use crate::{
    accounts::OnEnd,
    cluster::{early::Early, notes::Notes, places::Places, told::Told},
    connections::Connections,
    conversation::state as conversation,
    entities::NotAdmitted,
    presence,
    session::state as session,
    tasks,
    world::Clock,
};

/// Where the entities of this node take their mail. The entities send through the router, so it cannot name them.
pub(crate) trait Mailboxes: Send + Sync {
    /// From a client: starts the conversation if need be, within its mailbox's bound.
    fn ask(&self, c: ConversationId, input: conversation::Input) -> Result<(), NotAdmitted>;

    /// Only to a conversation that runs, another asks when it starts.
    fn inform(&self, c: ConversationId, input: conversation::Input);

    /// Starts the channel if need be.
    fn channel(&self, slice: Slice, input: presence::Input) -> Result<(), NotAdmitted>;

    /// Only to a channel that runs; false if it does not.
    fn inform_channel(&self, slice: Slice, input: presence::Input) -> bool;

    /// To the session of a socket.
    fn session(&self, conn: ConnId, input: session::Input);

    /// Conversations that run.
    fn conversations(&self) -> Vec<ConversationId>;

    /// Channels that run.
    fn channels(&self) -> Vec<Slice>;

    /// Sessions that run.
    fn sessions(&self) -> Vec<ConnId>;

    /// Another node has ended a signed-in session.
    fn ended(&self, ended: EndedSession);
}

/// The way to other nodes.
pub(crate) trait Abroad: Send + Sync {
    /// Takes a parcel for a peer, behind those it took before. What becomes of it without room or link comes back
    /// ([`Router::hand_back`], [`Router::forget_watch`]) or is said again ([`Router::lost`]); never from within this call.
    fn send(&self, to: Incarnation, parcel: Parcel);

    /// The view is to be read: somebody goes by a later one.
    fn read_view(&self);

    /// True if an event or head of this conversation may not have arrived at some peer.
    fn is_telling(&self, c: ConversationId) -> bool;
}

/// What who waits for an answer wants to know meanwhile.
#[derive(Clone)]
pub(crate) struct News {
    pub(crate) places: Arc<Places>,
    /// How many links to peers were lost so far.
    pub(crate) losses: u64,
}

/// How long events for many sockets are gathered while more are being stored: less than one write to all of them takes.
const GATHER: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Router {
    me: Incarnation,
    clock: Arc<dyn Clock>,
    connections: Arc<Connections>,
    mailboxes: OnceLock<Box<dyn Mailboxes>>,
    abroad: OnceLock<Box<dyn Abroad>>,
    news: watch::Sender<News>,
    told: Mutex<Told>,
    early: Mutex<Early>,
    notes: OnceLock<Arc<Notes>>,
    /// Who waits to hear that nothing of these conversations is untold.
    looking_after: Mutex<HashMap<ConversationId, Vec<oneshot::Sender<()>>>>,
    /// A flush is due within [`GATHER`].
    flushing: Arc<AtomicBool>,
}

/// What a cluster tells a node.
impl Router {
    /// Opens the way to other nodes, once.
    pub(crate) fn go_abroad(&self, abroad: impl Abroad + 'static) {
        let _ = self.abroad.set(Box::new(abroad));
    }

    /// A new view: whoever is concerned is told where things are now.
    pub(crate) fn install(&self, places: &Arc<Places>) {
        self.news.send_modify(|news| news.places = places.clone());
        self.told().moved(places.clone());
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for slice in mailboxes.channels() {
            mailboxes.inform_channel(slice, presence::Input::Placed(places.clone()));
        }
        for conn in mailboxes.sessions() {
            mailboxes.session(conn, session::Input::Placed(places.clone()));
        }
        for c in mailboxes.conversations() {
            mailboxes.inform(c, conversation::Input::Placed(places.clone()));
        }
        self.receive_early();
    }

    /// A request was not sent, or its link broke. A session of this node sends again what was on its way when it hears that
    /// the link was lost ([`Router::lost`]); whoever else asked is answered, so that they do. Without a store nobody takes
    /// the peer out of the view: what was not sent need not wait for that (`storeless`).
    pub(crate) fn hand_back(&self, parcel: Parcel, sent: bool, storeless: bool) {
        let requester = requester_of(&parcel.mail).filter(|requester| !sent || requester.at.node != self.me);
        let error = if sent {
            Error::new(Code::Timeout, "its outcome is open; the same cid is safe").after_ms(500)
        } else if storeless {
            let why = "neither the owner of this conversation nor the store can be reached; nothing was stored";
            Error::new(Code::Unavailable, why).after_ms(500)
        } else {
            Error::new(Code::Moved, "the owner of this conversation could not be reached")
        };
        self.refuse(requester, error);
    }

    /// There was no room to tell a conversation, on that node, of a device: its watch counts no more.
    pub(crate) fn forget_watch(&self, by: Incarnation, c: ConversationId, slice: Slice, watch: WatchId) {
        if let Some(mailboxes) = self.mailboxes.get() {
            mailboxes.inform_channel(slice, presence::Input::NoRoom(c, by, watch));
        }
    }

    /// Answers who asked, wherever that is.
    pub(crate) fn answer(&self, requester: Requester, outcome: Outcome) {
        let Requester { at, tag } = requester;
        self.post(at.node, Mail::Connections(ToConnections::Answer(at.conn, tag, outcome)));
    }

    /// The store knows that this node lived in this slot: nothing is appended before the first.
    pub(crate) fn lived(&self, slot: u64) {
        if let Some(notes) = self.notes.get() {
            notes.lived(slot);
        }
    }
}

impl Router {
    pub(crate) fn new(me: Incarnation, clock: Arc<dyn Clock>, connections: Arc<Connections>) -> Router {
        let places = Places::alone(me);
        let told = Mutex::new(Told::new(places.clone()));
        let (news, _) = watch::channel(News { places, losses: 0 });
        let (mailboxes, abroad) = (OnceLock::new(), OnceLock::new());
        Router {
            me,
            clock,
            connections,
            mailboxes,
            abroad,
            news,
            told,
            early: Mutex::default(),
            notes: OnceLock::new(),
            looking_after: Mutex::default(),
            flushing: Arc::default(),
        }
    }

    /// Opens for mail, once.
    pub(crate) fn open(&self, mailboxes: impl Mailboxes + 'static) {
        let _ = self.mailboxes.set(Box::new(mailboxes));
    }

    /// Where to note what may be left untold.
    pub(crate) fn note_in(&self, notes: Option<Arc<Notes>>) {
        if let Some(notes) = notes {
            let _ = self.notes.set(notes);
        }
    }

    /// True if an event or head of this conversation may not have arrived at some peer.
    pub(crate) fn is_telling(&self, c: ConversationId) -> bool {
        self.abroad.get().is_some_and(|abroad| abroad.is_telling(c))
    }

    /// Where things are now.
    pub(crate) fn places(&self) -> Arc<Places> {
        self.news.borrow().places.clone()
    }

    /// Where things are, whenever that changes.
    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// The view is to be read.
    pub(crate) fn read_view(&self) {
        if let Some(abroad) = self.abroad.get() {
            abroad.read_view();
        }
    }

    /// Takes mail to a node. What of it registers or watches is noted first.
    pub(crate) fn post(&self, to: Incarnation, mail: Mail) {
        let parcel = Parcel { view: self.places().version(), forwarded: false, mail };
        let Mail::Presence(slice, mail) = &parcel.mail else { return self.hand_over(to, parcel) };
        // held until it is on its way, so that no digest overtakes it
        let mut told = self.told();
        match mail {
            // who is gone has said farewell already, and will not do so again
            ToPresence::Register(_, at, _) if self.connections.socket(at.conn).is_none() => return,
            ToPresence::Register(user, at, _) => told.registered(to, *user, at.conn),
            ToPresence::WatchMembers { conversation, watch, .. } => told.watched(to, *conversation, *slice, *watch),
            ToPresence::Unwatch(c, watch) => told.unwatched(*c, *slice, *watch),
            _ => {}
        }
        self.hand_over(to, parcel);
    }

    /// Sends on what another owner is to answer. It is sent on once.
    pub(crate) fn forward(&self, to: Incarnation, mail: Mail) {
        self.hand_over(to, Parcel { view: self.places().version(), forwarded: true, mail });
    }

    /// Lets the sockets write what events they were given since the last time.
    pub(crate) fn flush(&self) {
        self.connections.wake();
    }

    /// The same after [`GATHER`].
    pub(crate) fn flush_soon(&self) {
        if !self.flushing.swap(true, Ordering::AcqRel) {
            let (connections, flushing) = (self.connections.clone(), self.flushing.clone());
            tasks::spawn(async move {
                tasks::sleep(GATHER).await;
                flushing.store(false, Ordering::Release);
                connections.wake();
            });
        }
    }

    fn hand_over(&self, to: Incarnation, parcel: Parcel) {
        if to == self.me {
            self.receive(self.me, parcel);
        } else if let Some(abroad) = self.abroad.get() {
            abroad.send(to, parcel);
        }
    }

    fn refuse(&self, requester: Option<Requester>, error: Error) {
        if let Some(requester) = requester {
            self.answer(requester, Outcome::Refused(error.into()));
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // a panic under the lock leaves numbers that the next comparison puts right
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnEnd for Router {
    fn close(&self, session: SessionId, code: CloseCode) {
        self.connections.end_session(session, code);
    }

    fn tell_others(&self, ended: EndedSession) {
        for member in self.places().members.iter().filter(|member| **member != self.me) {
            self.post(*member, Mail::Node(ToNode::Ended(ended)));
        }
    }
}

fn requester_of(mail: &Mail) -> Option<Requester> {
    match mail {
        Mail::Conversation(_, ToConversation::Submit(submission)) => submission.requester,
        Mail::Conversation(_, ToConversation::Mark(mark)) => mark.requester,
        Mail::Presence(_, ToPresence::Query(requester, _)) => Some(*requester),
        _ => None,
    }
}
