//! One run of one node: everything that `Starling` puts together, without its actors, and the driver that joins it to
//! others.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use futures_util::future::BoxFuture;
use protocol::{
    ConnId, DeviceId, Incarnation, NodeId, SessionId,
    close::CloseCode,
    peer::{EndedSession, Greeting, Slice, VERSIONS},
    push::Bye,
};
use storage::memory::{Memory, Shared};
use tokio::time::Instant;

use super::{
    super::{Dice, network::Network, settings},
    clockwork::{Clockwork, Due, Key, SimClock},
    kinds::{Kinds, Post},
    store::Way,
};
use crate::{
    Accounts, Caller, Clock, Conversations, Outbound, World,
    accounts::OnEnd,
    cluster::{
        driver::{Driver, Inbox, Membership, Parts},
        link::{LinkEvent, PeerAddress},
        membership::Me,
        notes::Notes,
        transport::{Dialer, Events, NotReached, PeerStream},
    },
    connections::Connections,
    conversation, outbound, presence,
    router::Router,
    session::{self, state::Input},
    settings::Limits,
    turns::Turns,
};

/// See the module.
pub(super) struct Node {
    pub(super) n: usize,
    pub(super) run: usize,
    pub(super) id: Incarnation,
    pub(super) kinds: Arc<Kinds>,
    pub(super) router: Arc<Router>,
    pub(super) service: Arc<Conversations>,
    pub(super) way: Arc<Way>,
    pub(super) paused_until: Instant,
    /// It is no member any more, and about to end.
    pub(super) ends: bool,
    connections: Arc<Connections>,
    sessions: Arc<session::Context>,
    works: Arc<Clockwork>,
    driver: Driver,
    inbox: Inbox,
    membership: Membership,
    tick_at: Option<Instant>,
    looks: bool,
}

/// What all nodes of a story share.
pub(super) struct Ground {
    pub(super) works: Arc<Clockwork>,
    pub(super) network: Network,
    pub(super) model: Shared,
    pub(super) limits: Limits,
}

pub(super) fn name(n: usize) -> NodeId {
    NodeId::try_from(format!("n{n}")).unwrap()
}

pub(super) fn address(n: usize) -> String {
    format!("n{n}:7946")
}

impl Node {
    pub(super) fn start(ground: &Ground, n: usize, run: usize, id: Incarnation, way: Arc<Way>) -> Node {
        let works = &ground.works;
        works.acts(Some(run));
        let clock: Arc<dyn Clock> = Arc::new(SimClock { works: works.clone(), ahead_ms: works.below(2_000) });
        let store = Memory::shared(&ground.model, Some(way.clone()));
        let (me, limits) = (id, ground.limits);
        let connections = Arc::new(Connections::default());
        let router = Arc::new(Router::new(me, clock.clone(), connections.clone()));
        let notes = store.cluster.clone().map(|cluster| Notes::new(cluster, me));
        router.note_in(notes.clone());
        let (store_of, router_of) = (store.clone(), router.clone());
        let (members_max, lives) = (limits.members, AtomicU64::new(1));
        let conversations = conversation::Context { store: store_of, me, members_max, router: router_of, notes, lives };
        let channels = presence::Context { me, router: router.clone() };
        let turns = Arc::new(Turns::new());
        let sessions = Arc::new(session::Context {
            store: store.clone(),
            clock: clock.clone(),
            me,
            limits,
            router: router.clone(),
            connections: connections.clone(),
            accounts: accounts(),
            turns: turns.clone(),
        });
        let kinds = Kinds::new(run, works, &clock);
        kinds.begin(Arc::new(conversations), Arc::new(channels), sessions.clone());
        router.open(Post(Arc::downgrade(&kinds)));
        let random = Arc::new(Dice::new(works.below(u64::MAX)));
        let world = World { clock: clock.clone(), random, store: store.clone() };
        let service = Conversations::new(world, me, limits.text_chars, router.clone(), connections.clone(), turns);
        let greeting = Greeting { versions: VERSIONS, node: name(n), incarnation: id, equal: vec![], alike: vec![] };
        let link = Arc::new(ground.network.join(&address(n), greeting));
        let parts = Parts { me: of(n, id, works), link, events: Events::none(), dialer: Arc::new(Nobody), clock };
        let cluster = store.cluster.clone().unwrap();
        let (membership, driver, inbox) = Driver::new(parts, cluster, store.health.clone(), router.clone());
        Node {
            n,
            run,
            id,
            kinds,
            router,
            service: Arc::new(service),
            way,
            paused_until: works.now(),
            ends: false,
            connections,
            sessions,
            works: works.clone(),
            driver,
            inbox,
            membership,
            tick_at: None,
            looks: false,
        }
    }

    /// An entity goes on.
    pub(super) fn step(&mut self, key: Key) {
        self.kinds.step(key);
        self.arrange();
    }

    /// It asked to be woken about now, unless it has been meanwhile.
    pub(super) fn tick(&mut self) {
        let now = self.works.now();
        if self.tick_at.take_if(|at| *at <= now).is_some() && !self.ends {
            self.driver.tick();
        }
        self.arrange();
    }

    pub(super) fn look(&mut self) {
        self.looks = false;
        if !self.ends {
            self.driver.look(&mut self.inbox);
        }
        self.arrange();
    }

    pub(super) fn link(&mut self, event: LinkEvent) {
        if !self.ends {
            self.driver.link(event);
        }
        self.arrange();
    }

    /// Sees to it that its driver is woken and looks at what was posted.
    pub(super) fn arrange(&mut self) {
        if self.ends {
            return;
        }
        if !self.looks && !self.inbox.is_empty() {
            self.looks = true;
            let soon = std::time::Duration::from_micros(1 + self.works.below(100));
            self.works.after(soon, Some(self.run), Due::Look);
        }
        let wake_at = self.driver.wake_at();
        if self.tick_at.is_none_or(|at| wake_at < at) {
            self.tick_at = Some(wake_at);
            self.works.at(wake_at, Some(self.run), Due::Tick);
        }
        if self.membership.has_ended() {
            self.ends = true;
            for outbound in self.connections.sockets() {
                outbound.with(|line| line.part(Bye::of(CloseCode::Moved)));
            }
            self.works.after(self.works.up_to_ms(1_000), Some(self.run), Due::End);
        }
    }

    /// A socket that says hello.
    pub(super) fn open(&mut self, caller: Caller, device: usize) -> Arc<Outbound> {
        let device = DeviceId::try_from(format!("d{device}")).unwrap();
        let bounds = outbound::bounds(&self.sessions.limits);
        let outbound = self.connections.add_socket(|conn| Outbound::new(conn, caller, Some(device), bounds));
        assert!(self.kinds.sessions.send(outbound.conn, Input::Tick).is_ok());
        outbound
    }

    /// What a socket says.
    pub(super) fn hear(&self, conn: ConnId, input: Input) {
        self.kinds.sessions.inform(conn, input);
    }

    /// A socket ends.
    pub(super) fn close(&mut self, outbound: &Outbound) {
        self.kinds.sessions.inform(outbound.conn, Input::Gone);
        self.sessions.farewell(outbound);
        self.arrange();
    }

    pub(super) fn crash_conversation(&mut self, c: protocol::ConversationId) {
        if self.kinds.conversations.crash(c) {
            self.router.orphaned(c);
        }
        self.arrange();
    }

    pub(super) fn crash_channel(&mut self, slice: Slice) {
        if self.kinds.presence.crash(slice) {
            self.router.crashed();
        }
        self.arrange();
    }

    pub(super) fn crash_session(&mut self, conn: ConnId) {
        if self.kinds.sessions.crash(conn)
            && let Some(outbound) = self.connections.socket(conn)
        {
            outbound.close(Bye::of(CloseCode::ServerError));
        }
        self.arrange();
    }

    /// G15: nothing waits, nothing is on its way.
    pub(super) fn is_drained(&self) -> bool {
        let busy = self.kinds.conversations.is_busy() || self.kinds.presence.is_busy() || self.kinds.sessions.is_busy();
        !busy && self.kinds.conversations.keys().into_iter().all(|c| !self.router.is_telling(c))
    }
}

fn of(n: usize, incarnation: Incarnation, works: &Clockwork) -> Me {
    let (node, dead) = (name(n), std::time::Duration::from_millis(3_000));
    let (address, random) = (address(n), works.below(u64::MAX));
    Me { node, incarnation, address, weight: 1, has_seeds: false, dead, random }
}

/// Makes what all stories share, outside of any.
pub(super) fn prepare() {
    accounts();
}

/// Tokens and passwords are another test's subject: these serve every session of every story.
fn accounts() -> Arc<Accounts> {
    static ACCOUNTS: OnceLock<Arc<Accounts>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let random = Arc::new(Dice::new(1));
        let clock = Arc::new(super::super::TestClock(Instant::now()));
        let world = World { clock, random, store: Memory::store() };
        Arc::new(runtime.block_on(Accounts::start(world, &settings(1), Arc::new(Nobody))).unwrap())
    };
    ACCOUNTS.get_or_init(start).clone()
}

/// The network dials, and no session is ended.
struct Nobody;

impl OnEnd for Nobody {
    fn close(&self, _: SessionId, _: CloseCode) {}

    fn tell_others(&self, _: EndedSession) {}
}

impl Dialer for Nobody {
    fn dial<'a>(&'a self, _: &'a PeerAddress) -> BoxFuture<'a, Result<PeerStream, NotReached>> {
        Box::pin(std::future::pending())
    }

    fn seeds(&self) -> BoxFuture<'_, Vec<PeerAddress>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}
