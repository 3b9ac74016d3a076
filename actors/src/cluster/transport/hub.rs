//! Does what `links` decides: holds the ends of all links, sends, closes, tells. No decision of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use protocol::{Incarnation, peer};
use ractor::{Actor, ActorRef, MessagingErr};
use ractor_cluster::NodeSessionMessage;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    PeerStream,
    keeper::{Begin, Keeper},
    links::{Action, Input, LinkId, Links, OPENING_MAX, Told},
    messages::{CtlMsg, RouterMsg, Token},
    receivers,
};
use crate::{cluster::link::PeerAddress, world::Random};

/// The runtime knows remote actors by this number, in tables of the whole process.
static NEXT_LINK: AtomicU64 = AtomicU64::new(1);

/// See the module.
pub(super) struct Hub {
    me: Incarnation,
    /// Encoded.
    greeting: Bytes,
    random: Arc<dyn Random>,
    table: Mutex<Table>,
    events: UnboundedSender<Told>,
}

struct Table {
    links: Links,
    ends: HashMap<LinkId, End>,
}

/// What is needed to send on a link and to end it.
struct End {
    session: ActorRef<NodeSessionMessage>,
    peer: Option<Reach>,
}

struct Reach {
    token: Token,
    router: ActorRef<RouterMsg>,
    ctl: ActorRef<CtlMsg>,
}

impl Hub {
    pub(super) fn new(
        ours: peer::Greeting, greeting: Bytes, random: Arc<dyn Random>, events: UnboundedSender<Told>,
    ) -> Hub {
        let me = ours.incarnation;
        let table = Mutex::new(Table { links: Links::new(ours), ends: HashMap::new() });
        Hub { me, greeting, random, table, events }
    }

    pub(super) fn me(&self) -> Incarnation {
        self.me
    }

    /// Carries a link until it ends.
    pub(super) async fn carry(self: Arc<Self>, stream: PeerStream, dialled: Option<PeerAddress>) {
        let link = NEXT_LINK.fetch_add(1, Ordering::Relaxed);
        let mut token = Token([0; 16]);
        self.random.fill(&mut token.0);
        let begin = Begin { dialled: dialled.is_some(), name: name(self.me, token), stream };
        self.step(Input::Opened { link, token, dialled, names: begin.stream.names.clone() });
        match Actor::spawn(None, Keeper { link, hub: self.clone() }, begin).await {
            Ok((_, mut ended)) => {
                if tokio::time::timeout(OPENING_MAX, &mut ended).await.is_err() {
                    self.step(Input::Late { link });
                    let _ = ended.await;
                }
                self.step(Input::Ended { link, why: "what carried the connection failed".to_owned() });
            }
            Err(error) => self.step(Input::Ended { link, why: format!("the connection cannot be carried: {error}") }),
        }
        self.lock().ends.remove(&link);
    }

    pub(super) fn opened(&self, link: LinkId, session: ActorRef<NodeSessionMessage>) {
        self.lock().ends.insert(link, End { session, peer: None });
    }

    /// The peer has announced its actors.
    pub(super) fn ready(&self, link: LinkId, said: &str) {
        let found = read_name(said).and_then(|(peer, token)| {
            let (router, ctl) = receivers::of(peer, link)?;
            let mut table = self.lock();
            table.ends.get_mut(&link)?.peer = Some(Reach { token, router, ctl });
            Some(peer)
        });
        self.step(match found {
            Some(peer) => Input::Ready { link, peer },
            None => Input::Ended { link, why: "it does not announce the actors of a node of this release".to_owned() },
        });
    }

    pub(super) fn send(&self, peer: Incarnation, frame: Bytes) {
        let table = self.lock();
        let Some(link) = table.links.to(peer) else { return };
        let sent = table.ends.get(&link).and_then(|end| end.peer.as_ref()).map(|reach| {
            if peer::is_beat(&frame) {
                delivered(&reach.ctl.cast(CtlMsg::Beat(reach.token, frame)))
            } else {
                delivered(&reach.router.cast(RouterMsg::Frame(reach.token, frame)))
            }
        });
        drop(table);
        if sent != Some(true) {
            self.step(gone(link));
        }
    }

    pub(super) fn tell(&self, told: Told) {
        // who no longer listens has gone, and so will the process
        let _ = self.events.send(told);
    }

    pub(super) fn step(&self, input: Input) {
        let mut table = self.lock();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in table.links.on(input, Instant::now()) {
                inputs.extend(self.perform(action, &table.ends));
            }
        }
    }

    /// Does it; what came of it at once is one more input.
    fn perform(&self, action: Action, ends: &HashMap<LinkId, End>) -> Option<Input> {
        let ctl = |link: LinkId, message: &dyn Fn(Token) -> CtlMsg| {
            let reach = ends.get(&link).and_then(|end| end.peer.as_ref());
            let sent = reach.is_some_and(|reach| delivered(&reach.ctl.cast(message(reach.token))));
            (!sent).then(|| gone(link))
        };
        match action {
            Action::Greet(link) => return ctl(link, &|token| CtlMsg::Greeting(token, self.greeting.clone())),
            Action::Welcome(link) => return ctl(link, &CtlMsg::Welcome),
            Action::Refuse(link, why) => return ctl(link, &|token| CtlMsg::Refusal(token, why.clone())),
            Action::Close(link) => {
                if let Some(end) = ends.get(&link) {
                    end.session.stop(None);
                }
            }
            Action::Tell(told) => self.tell(told),
            Action::Note(why) => tracing::info!(why, "a peer's connection came to nothing"),
            Action::Unlike { peer, settings } => {
                tracing::warn!(peer, settings, "settings differ that should be alike on all nodes (ours, theirs)");
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn delivered<T>(sent: &Result<(), MessagingErr<T>>) -> bool {
    sent.is_ok()
}

fn gone(link: LinkId) -> Input {
    Input::Ended { link, why: "the peer's actors are gone".to_owned() }
}

/// What a run of a node calls itself on one link: never the same twice, so no ghost of it stands in its way.
fn name(me: Incarnation, token: Token) -> String {
    format!("{me}/{:032x}", u128::from_be_bytes(token.0))
}

fn read_name(name: &str) -> Option<(Incarnation, Token)> {
    let (peer, token) = name.split_once('/')?;
    Some((peer.parse().ok()?, Token(u128::from_str_radix(token, 16).ok()?.to_be_bytes())))
}
