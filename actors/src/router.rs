//! Where mail goes: to the entity or the sockets it is addressed to, on the node where they are. Mail for this node is
//! handed over here; mail for another goes [`Abroad`], and comes in there as a [`Parcel`]. What of it registers and
//! watches is noted on the way, in the same order (`cluster::told`).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use protocol::{
    Code, ConnId, ConversationId, Error, Incarnation, SessionId, UserId,
    close::CloseCode,
    peer::{
        Address, Digest, EndedSession, Mail, Outcome, Parcel, Requester, Slice, ToConnections, ToConversation, ToNode,
        ToPresence, WatchId,
    },
    push::PresenceState,
};
use tokio::sync::{oneshot, watch};

use crate::{
    accounts::OnEnd,
    cluster::{
        early::Early,
        notes::Notes,
        places::Places,
        tally::Tally,
        told::{Compared, Told},
    },
    connections::{Connections, Later},
    conversation::state as conversation,
    entities::NotAdmitted,
    meters::METERS,
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

/// Conversations of a dead node that are looked after at a time: what clients want goes on beside.
const LOOK_AFTER_MAX: usize = 64;
const LOOK_AFTER_AGAIN: Duration = Duration::from_secs(2);

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
    fn receive_early(&self) {
        let due = self.early().due(self.places().version(), self.clock.now());
        due.into_iter().for_each(|(from, parcel)| self.receive(from, parcel));
    }

    fn receive(&self, from: Incarnation, parcel: Parcel) {
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

    /// The link to a peer was reset: what was told through it may not have arrived.
    pub(crate) fn lost(&self, peer: Incarnation) {
        self.early().forget(peer);
        self.forget(peer);
        self.forgotten(peer, None);
        self.news.send_modify(|news| news.losses += 1);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for conn in mailboxes.sessions() {
            mailboxes.session(conn, session::Input::Lost(peer));
        }
    }

    /// A link to a peer stands, be it the first: what could not be registered and watched there without one is now.
    pub(crate) fn linked(&self, peer: Incarnation) {
        self.forgotten(peer, None);
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

    /// Looks after what a dead node may have left untold of these conversations, those that the view of this version places
    /// here: they are claimed, repaired and told, some at a time. False if the view changed meanwhile.
    pub(crate) async fn look_after(&self, version: u64, share: Vec<ConversationId>) -> bool {
        let places = self.places();
        if places.version() != version {
            return false;
        }
        // the rest is others' to claim, and taking it from them would stop what their clients want
        let mine = share.into_iter().filter(|c| places.conversation(*c) == Some(self.me));
        let all = futures_util::stream::iter(mine).map(|c| self.look_after_one(version, c));
        all.buffer_unordered(LOOK_AFTER_MAX).all(|done| async move { done }).await
    }

    /// Tells every member, this node included, what it should have of this one: twice a second.
    pub(crate) fn compare_all(&self) {
        self.receive_early();
        let places = self.places();
        if places.is_alone() {
            return;
        }
        for member in &places.members {
            let mut told = self.told();
            let digest = told.digest(*member);
            if *member == self.me {
                self.compare(&mut told, self.me, places.version(), digest);
            } else if let Some(abroad) = self.abroad.get() {
                let mail = Mail::Node(ToNode::Digest(digest));
                abroad.send(*member, Parcel { view: places.version(), forwarded: false, mail });
            }
        }
        self.compared(self.me);
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

    /// Nothing of it is untold.
    pub(crate) fn looked_after(&self, c: ConversationId) {
        let waiting = self.looking_after().remove(&c);
        for waiting in waiting.into_iter().flatten() {
            let _ = waiting.send(());
        }
    }

    async fn look_after_one(&self, version: u64, c: ConversationId) -> bool {
        while self.places().version() == version {
            let (done, looked_after) = oneshot::channel();
            self.looking_after().entry(c).or_default().push(done);
            if let Some(mailboxes) = self.mailboxes.get() {
                let _ = mailboxes.ask(c, conversation::Input::LookAfter);
            }
            // it may have crashed, or had no room: asked again, it is no more work
            if tasks::within(LOOK_AFTER_AGAIN, looked_after).await.is_some_and(|answer| answer.is_ok()) {
                return true;
            }
        }
        false
    }

    fn looking_after(&self) -> MutexGuard<'_, HashMap<ConversationId, Vec<oneshot::Sender<()>>>> {
        self.looking_after.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A socket is gone from the table: its channel is told, if it was registered.
    pub(crate) fn unregister(&self, user: protocol::UserId, conn: ConnId) {
        let mut told = self.told();
        if let Some(to) = told.unregistered(conn) {
            let at = Address { node: self.me, conn };
            let mail = Mail::Presence(Slice::of(user), ToPresence::Unregister(user, at));
            self.hand_over(to, Parcel { view: self.places().version(), forwarded: false, mail });
        }
    }

    /// A conversation has crashed: its successor watches anew, and if nobody comes, nobody watches.
    pub(crate) fn orphaned(&self, c: ConversationId) {
        let watches = self.told().orphaned(c);
        for (at, slice, watch) in watches {
            self.post(at, Mail::Presence(slice, ToPresence::Unwatch(c, watch)));
        }
    }

    /// A channel has crashed: nobody knows whom it knew.
    pub(crate) fn crashed(&self) {
        self.told().crashed();
    }

    /// A channel begins again with nothing: every node's sockets register and conversations watch again.
    pub(crate) fn refill(&self, slice: Slice) {
        for member in self.places().members.clone() {
            self.post(member, Mail::Node(ToNode::Refill(slice)));
        }
    }

    /// A channel has said what it has of a node.
    pub(crate) fn counted(&self, from: Incarnation, round: u64, tally: Tally) {
        self.told().counted(from, round, tally);
        self.compared(from);
    }

    /// True if every member says that none of its sockets waits to be registered here again.
    pub(crate) fn is_complete(&self) -> bool {
        self.told().is_complete()
    }

    /// A conversation wants to hear when that node is complete.
    pub(crate) fn ask_complete(&self, at: Incarnation, c: ConversationId) {
        self.told().ask_complete(at, c);
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

    /// A node has forgotten what this one had there.
    fn forgotten(&self, by: Incarnation, which: Option<Slice>) {
        self.told().forgotten(by, which);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for conn in mailboxes.sessions() {
            mailboxes.session(conn, session::Input::Forgotten(by, which));
        }
        for c in mailboxes.conversations() {
            mailboxes.inform(c, conversation::Input::Forgotten(by, which));
        }
    }

    /// What a node had here counts no more.
    fn forget(&self, node: Incarnation) {
        self.told().forget(node);
        let Some(mailboxes) = self.mailboxes.get() else { return };
        for slice in mailboxes.channels() {
            mailboxes.inform_channel(slice, presence::Input::Forget(node));
        }
    }

    /// Asks all channels what they have of a node, behind all that it told them before.
    fn compare(&self, told: &mut Told, from: Incarnation, view: u64, claim: Digest) {
        let Some(mailboxes) = self.mailboxes.get() else { return };
        if claim.complete {
            for c in told.completed(from, view) {
                mailboxes.inform(c, conversation::Input::Complete(from));
            }
        }
        let channels = mailboxes.channels();
        let round = told.compare(from, view, claim, channels.len());
        for slice in channels {
            if !mailboxes.inform_channel(slice, presence::Input::Count { from, round }) {
                told.counted(from, round, Tally::default());
            }
        }
    }

    fn compared(&self, from: Incarnation) {
        if self.told().compared(from) == Compared::Rebuild {
            metrics::counter!("starling_rebuilds_total").increment(1);
            tracing::warn!(peer = ?from, "its registrations and watches here differ from what it told; again from nothing");
            self.forget(from);
            self.post(from, Mail::Node(ToNode::Rebuild));
        }
    }

    fn not_admitted(&self, requester: Option<Requester>, why: NotAdmitted) {
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

    fn refuse(&self, requester: Option<Requester>, error: Error) {
        if let Some(requester) = requester {
            self.answer(requester, Outcome::Refused(error.into()));
        }
    }

    fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
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
