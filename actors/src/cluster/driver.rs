//! One node among the others, running: asks the store and the link on behalf of `membership` and of each `peer`, and carries
//! mail between them and the router. One task does it all, in the order in which things happen; it decides nothing.

mod errands;
mod losses;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{ConversationId, Incarnation, NodeId, cluster::MemberState, peer::Parcel};
use storage::{cluster::Cluster, health::Health};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use self::{errands::Errands, losses::Losses};
use super::{
    link::{ClusterLink, LinkEvent},
    membership::{self, Me, Snapshot},
    peer::{self, Bounds, Peer},
    places::Places,
    transport::{Dialer, Events},
};
use crate::{
    maps::HashMap,
    meters::METERS,
    router::{Abroad, Router},
    world::Clock,
};

/// How often a node and each of its peers compare what they told each other.
const COMPARE: Duration = Duration::from_millis(500);
/// Frames of one peer within this time are one sign of life.
const HEARD: Duration = Duration::from_millis(100);
/// Events that are handled before the links are looked at again.
const AT_ONCE: usize = 256;

/// How a node's part in the cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it wished.
    Left,
    /// The others took it out, or its store says so: its sockets are to go elsewhere; it may begin again as another run.
    Removed,
    /// Another process runs under its name.
    Replaced,
}

/// What a node needs to be one of many.
pub struct Parts {
    /// What it says of itself.
    pub me: Me,
    /// What carries frames.
    pub link: Arc<dyn ClusterLink>,
    /// What happens there.
    pub events: Events,
    /// The way to those it does not know yet.
    pub dialer: Arc<dyn Dialer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A node's place in its cluster, as the rest of the node sees it.
#[derive(Clone)]
pub struct Membership {
    happens: mpsc::UnboundedSender<Happens>,
    peers: Peers,
    snapshot: watch::Receiver<Snapshot>,
    end: watch::Receiver<Option<End>>,
}

/// What happens besides the link.
pub(crate) enum Happens {
    Post(Incarnation, Parcel),
    Hear(membership::Input),
    ReadView,
}

impl Membership {
    /// Takes its place. From now on what `router` posts to others goes there.
    pub(crate) fn start(
        parts: Parts, store: Arc<dyn Cluster>, health: Arc<dyn Health>, router: Arc<Router>,
    ) -> Membership {
        let (membership, driver, mail) = Driver::new(parts, store, health, router);
        tokio::spawn(driver.run(mail));
        membership
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.snapshot.borrow().clone();
        let known = self.peers.lock();
        for peer in &mut snapshot.peers {
            peer.queue_bytes = known.get(&peer.incarnation).map(|known| known.peer.queue_bytes());
        }
        snapshot
    }

    /// Waits until something is placed here.
    pub async fn placed(&self) {
        let mut snapshot = self.snapshot.clone();
        // who ends it is no member any more: see `ended`
        let _ = snapshot.wait_for(|snapshot| snapshot.state == Some(MemberState::Up)).await;
    }

    /// Nothing is to be placed here, or after all something is.
    pub fn drain(&self, on: bool) {
        let _ =
            self.happens.send(Happens::Hear(if on { membership::Input::Drain } else { membership::Input::Undrain }));
    }

    /// It is drained, and goes. See [`Membership::ended`].
    pub fn leave(&self) {
        let _ = self.happens.send(Happens::Hear(membership::Input::Leave));
    }

    /// Waits until it is a member no more.
    pub async fn ended(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Removed),
            Err(_) => End::Removed,
        }
    }
}

#[cfg(test)]
impl Membership {
    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

/// The router's way out. Nothing comes back from within a call: it is handled later.
struct Way {
    happens: mpsc::UnboundedSender<Happens>,
    peers: Peers,
}

impl Abroad for Way {
    fn send(&self, to: Incarnation, parcel: Parcel) {
        self.peers.posted.fetch_add(1, Ordering::AcqRel);
        let _ = self.happens.send(Happens::Post(to, parcel));
    }

    fn read_view(&self) {
        let _ = self.happens.send(Happens::ReadView);
    }

    fn is_telling(&self, c: ConversationId) -> bool {
        // what was posted and is in no queue yet may be about any conversation
        self.peers.posted.load(Ordering::Acquire) > 0
            || self.peers.lock().values().any(|known| known.peer.is_telling(c))
    }
}

/// The runs of peers. Never locked while somebody else is called: that may ask whether all is told.
#[derive(Clone, Default)]
struct Peers {
    known: Arc<Mutex<HashMap<Incarnation, Known>>>,
    /// Parcels on their way to the driver.
    posted: Arc<AtomicUsize>,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Incarnation, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes to a driver from outside.
pub(crate) struct Inbox {
    events: Events,
    happening: mpsc::UnboundedReceiver<Happens>,
}

/// See the module. Whoever has it gives it one thing after another.
pub(crate) struct Driver {
    clock: Arc<dyn Clock>,
    link: Arc<dyn ClusterLink>,
    router: Arc<Router>,
    errands: Errands,
    state: membership::State,
    wake_at: Instant,
    compare_at: Instant,
    peers: Peers,
    losses: Losses,
    snapshot: watch::Sender<Snapshot>,
    end: watch::Sender<Option<End>>,
}

/// A run of a peer.
struct Known {
    node: NodeId,
    peer: Peer,
    /// A link stands, and nobody here has cut it.
    linked: bool,
    wake_at: Option<Instant>,
    heard_at: Instant,
}

impl Known {
    /// No link stands.
    fn new(node: &NodeId, now: Instant) -> Known {
        Known {
            node: node.clone(),
            peer: Peer::new(node, Bounds::default()),
            linked: false,
            wake_at: None,
            heard_at: now,
        }
    }
}

#[cfg(test)]
impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.happening.is_empty()
    }
}

impl Driver {
    /// Of a node that begins. From now on what `router` posts to others comes into the inbox.
    pub(crate) fn new(
        parts: Parts, store: Arc<dyn Cluster>, health: Arc<dyn Health>, router: Arc<Router>,
    ) -> (Membership, Driver, Inbox) {
        let (happens, happening) = mpsc::unbounded_channel();
        let now = parts.clock.now();
        let errands = Errands::new(&parts, store, health, happens.clone());
        let state = membership::State::new(parts.me, now);
        let (snapshot, snapshots) = watch::channel(state.snapshot(now));
        let (end, ended) = watch::channel(None);
        let peers = Peers::default();
        router.go_abroad(Way { happens: happens.clone(), peers: peers.clone() });
        let driver = Driver {
            clock: parts.clock,
            link: parts.link,
            router,
            errands,
            state,
            wake_at: now,
            compare_at: now + COMPARE,
            peers: peers.clone(),
            losses: Losses::default(),
            snapshot,
            end,
        };
        let membership = Membership { happens, peers, snapshot: snapshots, end: ended };
        (membership, driver, Inbox { events: parts.events, happening })
    }

    /// Does what has come, without waiting for more; false: nothing has. For a test that is the only one to give it things.
    #[cfg(test)]
    pub(crate) fn look(&mut self, mail: &mut Inbox) -> bool {
        let mut happened: Vec<Happens> = std::iter::from_fn(|| mail.happening.try_recv().ok()).collect();
        let any = !happened.is_empty();
        self.happened(&mut happened);
        any
    }

    async fn run(mut self, mut mail: Inbox) {
        let mut happened = Vec::new();
        while self.end.borrow().is_none() {
            let wake_at = self.wake_at();
            // whoever is busiest must not keep the others waiting
            tokio::select! {
                () = sleep_until(wake_at) => self.tick(),
                event = mail.events.next() => match event {
                    Some(event) => self.link(event),
                    None => return,
                },
                n = mail.happening.recv_many(&mut happened, AT_ONCE) => {
                    if n == 0 {
                        return;
                    }
                    self.happened(&mut happened);
                }
            }
        }
    }

    /// When it wants [`Driver::tick`].
    pub(crate) fn wake_at(&self) -> Instant {
        let peers = self.peers.lock().values().filter_map(|known| known.wake_at).min();
        peers.map_or(self.wake_at, |at| at.min(self.wake_at)).min(self.compare_at)
    }

    /// Its time has come.
    pub(crate) fn tick(&mut self) {
        let now = self.clock.now();
        if self.wake_at <= now {
            self.membership(membership::Input::Tick);
        }
        if self.compare_at <= now {
            self.compare_at = now + COMPARE;
            self.router.compare_all();
        }
        let mut due = Vec::new();
        for (run, known) in self.peers.lock().iter_mut() {
            due.extend(known.wake_at.take_if(|at| *at <= now).map(|_| *run));
        }
        due.into_iter().for_each(|run| self.peer(run, peer::Input::Tick));
    }

    /// Something happens on a link.
    pub(crate) fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, version } => {
                let (run, now) = (peer.incarnation, self.clock.now());
                self.peers.lock().entry(run).or_insert_with(|| Known::new(&peer.node, now)).linked = true;
                self.peer(run, peer::Input::Up(version));
                self.router.linked(run);
                self.membership(membership::Input::LinkUp(peer));
            }
            LinkEvent::Frame { from, frame } => self.frame(from, frame),
            LinkEvent::Down { peer, why } => {
                self.say_lost(peer, &why);
                self.peer(peer, peer::Input::Down);
                self.unlinked(peer);
                self.membership(membership::Input::LinkDown(peer));
            }
            LinkEvent::NotReached { address, refused, misfit, why } => {
                tracing::debug!(at = address.at, why, "a peer was not reached");
                self.membership(membership::Input::NotReached { address, refused, misfit, why });
            }
        }
    }

    fn frame(&mut self, from: Incarnation, frame: Bytes) {
        let now = self.clock.now();
        let heard = match self.peers.lock().get_mut(&from) {
            Some(known) if now.saturating_duration_since(known.heard_at) >= HEARD => {
                known.heard_at = now;
                true
            }
            Some(_) => false,
            None => return,
        };
        if heard {
            self.membership(membership::Input::Heard(from));
        }
        self.peer(from, peer::Input::Frame(frame));
    }

    /// What was posted at once travels together.
    pub(crate) fn happened(&mut self, happened: &mut Vec<Happens>) {
        let mut posts: HashMap<Incarnation, Vec<Parcel>> = HashMap::default();
        let mut posted = 0;
        for happens in happened.drain(..) {
            match happens {
                Happens::Post(to, parcel) => {
                    posted += 1;
                    posts.entry(to).or_default().push(parcel);
                }
                Happens::Hear(input) => self.membership(input),
                Happens::ReadView => self.membership(membership::Input::Saw(self.state.view().version + 1)),
            }
        }
        for (to, parcels) in posts {
            if self.knows(to) {
                self.peer(to, peer::Input::Mail(parcels));
            } else {
                // no member yet, or gone for good
                let storeless = !self.state.has_store();
                parcels.into_iter().for_each(|parcel| self.router.hand_back(parcel, false, storeless));
            }
        }
        self.peers.posted.fetch_sub(posted, Ordering::AcqRel);
    }

    /// True if there is somebody to keep mail for: also a member with whom no link has stood yet. Its sockets may be known
    /// already, and what they are not told has to wait for it as heads.
    fn knows(&self, run: Incarnation) -> bool {
        let mut known = self.peers.lock();
        if known.contains_key(&run) {
            return true;
        }
        let Some(member) = self.state.view().live().find(|member| member.incarnation == run) else { return false };
        known.insert(run, Known::new(&member.node, self.clock.now()));
        true
    }

    fn membership(&mut self, input: membership::Input) {
        let now = self.clock.now();
        if let membership::Input::BeatStored(slot, Ok(())) = &input {
            self.router.lived(*slot);
        }
        for action in self.state.on(input, now) {
            self.do_membership(action);
        }
        self.snapshot.send_replace(self.state.snapshot(now));
    }

    fn do_membership(&mut self, action: membership::Action) {
        use membership::Action;
        match action {
            Action::ReadView { decided } => self.errands.read_view(decided),
            Action::ChangeView(view) => self.errands.change_view(view),
            Action::BeatStore(slot) => self.errands.beat(slot),
            Action::ReadSlots(node) => self.errands.read_slots(node),
            Action::ResolveSeeds => self.errands.resolve_seeds(),
            Action::Dial(address) => self.link.dial(address),
            Action::DropPeer(peer) => self.link.drop_peer(peer),
            Action::SendBeat(peer, beat) => self.peer(peer, peer::Input::Beat(beat)),
            Action::Install(view) => {
                tracing::info!(version = view.version, up = view.up().count(), "a new view is in force");
                self.router.install(&Places::of(&view));
                let stays = |run| view.live().any(|member| member.incarnation == run);
                self.peers.lock().retain(|run, known| known.linked || stays(*run));
            }
            Action::LookAfter { node, gone, version } => {
                self.errands.look_after(node, gone, version, self.router.clone())
            }
            Action::Removed { replaced } => {
                self.end.send_replace(Some(if replaced { End::Replaced } else { End::Removed }));
            }
            Action::Left => {
                self.end.send_replace(Some(End::Left));
            }
            Action::WakeAt(at) => self.wake_at = at,
            Action::Note(note) => tracing::warn!("{note}"),
        }
    }

    fn peer(&mut self, run: Incarnation, input: peer::Input) {
        let now = self.clock.now();
        let actions = self.peers.lock().get_mut(&run).map(|known| known.peer.on(input, now));
        for action in actions.into_iter().flatten() {
            self.do_peer(run, action);
        }
    }

    fn do_peer(&mut self, run: Incarnation, action: peer::Action) {
        use peer::Action;
        match action {
            Action::Send(frame) => {
                METERS.peer_frame(frame.len());
                self.link.send(run, frame);
            }
            Action::Cut(why) => {
                self.say_lost(run, &why);
                self.link.drop_peer(run);
                self.unlinked(run);
            }
            Action::Deliver(parcels) => self.router.receive_all(run, parcels),
            Action::Heard(beat) => {
                self.say_found(run, beat.hears_you);
                self.membership(membership::Input::Beat(run, beat));
            }
            Action::Answer(requester, outcome) => self.router.answer(requester, outcome),
            Action::HandBack { parcel, sent } => self.router.hand_back(parcel, sent, !self.state.has_store()),
            Action::Forget(c, slice, watch) => self.router.forget_watch(run, c, slice, watch),
            Action::WakeAt(at) => {
                if let Some(known) = self.peers.lock().get_mut(&run) {
                    known.wake_at = Some(known.wake_at.map_or(at, |before| before.min(at)));
                }
            }
        }
    }

    /// Once per link: what was told through it is told again.
    fn unlinked(&mut self, run: Incarnation) {
        let was = self.peers.lock().get_mut(&run).is_some_and(|known| std::mem::take(&mut known.linked));
        if was {
            self.router.lost(run);
            if self.state.view().live().all(|member| member.incarnation != run) {
                self.peers.lock().remove(&run);
            }
        }
    }

    fn say_lost(&mut self, run: Incarnation, why: &str) {
        let peers = self.peers.lock();
        let Some(Known { node, .. }) = peers.get(&run) else { return };
        if self.losses.lost(node) {
            tracing::info!(peer = node.as_str(), why, "the link to a peer is down");
        } else {
            tracing::debug!(peer = node.as_str(), why, "the link to a peer is down again");
        }
    }

    fn say_found(&mut self, run: Incarnation, hears_this: bool) {
        let peers = self.peers.lock();
        if let Some(Known { node, .. }) = peers.get(&run).filter(|_| hears_this && !self.losses.is_empty())
            && self.losses.found(node)
        {
            tracing::info!(peer = node.as_str(), "the link to a peer stands again");
        }
    }
}
