//! All nodes, what joins them, their clients, and what goes wrong. Does what the clockwork says is due.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use loadtest::history::Record;
use protocol::{
    Body, ConversationId, Event, EventId, Incarnation, Kind, Millis, Seq, SessionId, UserId,
    cluster::{Member, MemberState, View},
    event::Create,
    peer::Slice,
    rest::AddMembers,
};
use storage::{Store, memory::Memory};
use tokio::time::Instant;

use super::{
    super::network::{Network, Weather},
    clockwork::{Clockwork, Due, Run},
    device::Device,
    node::{Ground, Node, address, name},
    store::{self, Way},
};
use crate::Caller;

const CALM: Weather = Weather { delay_ms: 2, doubles: 0, reorders: 0, notice_ms: 1 };

/// Many more than are ever needed within a second.
const STEPS_MAX: u64 = 20_000;

/// Everything but the devices, which act on it.
pub(super) struct Scene {
    pub(super) works: Arc<Clockwork>,
    ground: Ground,
    /// By run; `None`: it is no more.
    nodes: Vec<Option<Node>>,
    /// By node: its run.
    running: Vec<Option<usize>>,
    pub(super) users: Vec<UserId>,
    pub(super) callers: Vec<Caller>,
    pub(super) conversations: Vec<ConversationId>,
    pub(super) history: Vec<Record>,
    story: Vec<String>,
    complaints: Vec<String>,
    /// Clients post.
    pub(super) posting: bool,
    /// Things go wrong.
    striking: bool,
    /// It does not come to rest: nothing more is done.
    stuck: bool,
    pub(super) slow_readers: bool,
    store_weather: store::Weather,
    /// The last fault ends then.
    pub(super) whole_from: Instant,
}

/// See the module.
pub(super) struct World {
    pub(super) scene: Scene,
    pub(super) devices: Vec<Device>,
}

impl Scene {
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.works.elapsed().as_micros()).unwrap()
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.works.note(&what);
        self.story.push(format!("{:>6} {what}", self.works.elapsed().as_millis()));
    }

    pub(super) fn complain(&mut self, what: String) {
        self.tell(format!("! {what}"));
        if !self.complaints.contains(&what) {
            self.complaints.push(what);
        }
    }

    pub(super) fn note(&mut self, record: Record) {
        self.works.note((record.at_us, record.device, record.socket, std::mem::discriminant(&record.what)));
        if super::TELLS.get() {
            let ms = record.at_us / 1_000;
            self.story.push(format!("{ms:>6}   device {}/{}: {:?}", record.device, record.socket, record.what));
        }
        self.history.push(record);
    }

    pub(super) fn story(&self) -> &[String] {
        &self.story
    }

    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Lets a run do something, if it is there.
    pub(super) fn acting<T>(&mut self, run: usize, work: impl FnOnce(&mut Node) -> T) -> Option<T> {
        self.works.acts(Some(run));
        let node = self.nodes.get_mut(run)?.as_mut()?;
        let done = work(node);
        node.arrange();
        Some(done)
    }

    fn everywhere(&mut self, work: impl Fn(&mut Node)) {
        let runs: Vec<usize> = self.living().map(|node| node.run).collect();
        for run in runs {
            self.acting(run, &work);
        }
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &Node> {
        self.running.iter().flatten().filter_map(|run| self.nodes[*run].as_ref())
    }

    /// Some run that takes sockets: who has not read the view yet opens no door.
    pub(super) fn some_run(&self) -> Option<usize> {
        let open = |node: &&Node| !node.ends && node.router.places().version() > 0;
        let runs: Vec<usize> = self.living().filter(open).map(|node| node.run).collect();
        (!runs.is_empty()).then(|| runs[self.works.below(runs.len() as u64) as usize])
    }

    /// What is stored, read without any fault.
    pub(super) fn store(&self) -> Store {
        Memory::shared(&self.ground.model, None)
    }

    /// Every node is up and knows that every other is.
    pub(super) fn is_whole(&self) -> bool {
        let view = self.store().cluster.unwrap().view().now_or_never().unwrap().unwrap();
        let agrees = |node: &Node| node.router.places().version() == view.version;
        let n = self.living().filter(|node| agrees(node)).count();
        n == self.running.len() && view.members.len() == n && view.up().count() == n
    }

    fn start(&mut self, n: usize) {
        let run = self.nodes.len();
        let way = Way::new(&self.works, run, self.store_weather);
        let node = Node::start(&self.ground, n, run, identity(&self.works, n, run), way);
        self.nodes.push(Some(node));
        self.running[n] = Some(run);
        self.acting(run, |_| ());
    }

    fn is_paused(&self, run: Run) -> Option<Instant> {
        let node = self.nodes.get(run?)?.as_ref()?;
        Some(node.paused_until).filter(|until| *until > self.works.now())
    }
}

fn identity(works: &Clockwork, n: usize, run: usize) -> Incarnation {
    let mut id = [0; 16];
    (id[0], id[1]) = (works.below(256) as u8, n as u8);
    id[2..4].copy_from_slice(&(run as u16).to_be_bytes());
    Incarnation(id)
}

impl World {
    /// Nodes that are members of each other's view and have not met yet, users, conversations; the devices come soon.
    pub(super) fn new(seed: u64) -> World {
        let works = Clockwork::new(seed);
        let size = 3 + works.below(3) as usize;
        let n_users = 3 + works.below(2);
        let mut limits = super::super::settings(1).limits;
        let slow_readers = works.happens(25);
        if slow_readers {
            (limits.queue_soft_bytes, limits.queue_hard_bytes) = (1_500, 20_000);
        }
        let ground = Ground {
            works: works.clone(),
            network: Network::new(works.below(u64::MAX), works.now(), CALM),
            model: Default::default(),
            limits,
        };
        let users: Vec<UserId> = (1..=n_users).map(|n| UserId([n as u8; 16])).collect();
        let expires_at = Millis(1_900_000_000_000);
        let callers = users.iter().map(|user| Caller { user: *user, session: SessionId(user.0), expires_at }).collect();
        let store_weather = store::Weather {
            wrong: [0, 0, 3, 10][works.below(4) as usize],
            slow: [0, 2, 10][works.below(3) as usize],
            away_until: works.now(),
            dies: None,
        };
        let whole_from = works.now();
        let mut scene = Scene {
            works,
            ground,
            nodes: Vec::new(),
            running: vec![None; size],
            users,
            callers,
            conversations: (1..=2).map(|n| ConversationId([0x10 + n; 16])).collect(),
            history: Vec::new(),
            story: Vec::new(),
            complaints: Vec::new(),
            posting: true,
            striking: true,
            stuck: false,
            slow_readers,
            store_weather,
            whole_from,
        };
        scene.tell(format!(
            "{size} nodes, {n_users} users, {}/{} of the store",
            store_weather.wrong, store_weather.slow
        ));
        let mut devices = Vec::new();
        for caller in scene.callers.clone() {
            for _ in 0..1 + scene.works.below(2) {
                devices.push(Device::new(devices.len(), caller, &scene.works));
            }
        }
        (0..devices.len()).for_each(|device| {
            let soon = scene.works.up_to_ms(1_500);
            scene.works.after(soon, None, Due::Device(device));
        });
        World { scene, devices }
    }

    /// Everything that is there from the beginning.
    pub(super) fn found(&mut self) {
        self.scene.found();
    }

    /// Lets so much time pass, and what is due in it happen.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.scene.works.now() + time;
        let mut steps = 0;
        while !self.scene.stuck {
            steps += 1;
            if steps > STEPS_MAX * (1 + time.as_secs()) {
                self.scene.stuck = true;
                self.scene.complain(format!("{steps} steps in {time:?}: it does not come to rest"));
            }
            let due = self.scene.works.next().unwrap_or(until);
            let linked = self.scene.ground.network.next().filter(|at| *at <= due);
            if linked.unwrap_or(due) > until {
                break;
            }
            if let Some(at) = linked {
                self.scene.works.pass(at);
                let now = self.scene.works.now();
                for (to, event) in self.scene.ground.network.poll(now) {
                    let to = self.scene.living().find(|node| node.id == to).map(|node| (node.run, node.paused_until));
                    match to {
                        // behind what was put off until it is woken
                        Some((run, woken)) if woken >= now => {
                            self.scene.works.at(woken, Some(run), Due::Link(event));
                        }
                        Some((run, _)) => self.happen(None, Some(run), Due::Link(event)),
                        None => {}
                    }
                }
            } else if let Some((n, run, due)) = self.scene.works.take() {
                self.scene.ground.network.is_now(self.scene.works.now());
                self.happen(Some(n), run, due);
            } else {
                break;
            }
        }
        self.scene.works.pass(until);
        self.scene.ground.network.is_now(until);
    }

    fn happen(&mut self, n: Option<u64>, run: Run, due: Due) {
        let scene = &mut self.scene;
        if let Some(until) = scene.is_paused(run).filter(|_| !matches!(due, Due::End)) {
            match n {
                Some(n) => scene.works.put_off(until, n, run, due),
                None => scene.works.at(until, run, due),
            }
            return;
        }
        scene.works.acts(run);
        match (run, due) {
            (Some(run), Due::Mail(key)) => drop(scene.acting(run, |node| node.step(key))),
            (Some(run), Due::Wake(key, at)) => drop(scene.acting(run, |node| node.kinds.wake(key, at))),
            (Some(run), Due::Restart(key)) => drop(scene.acting(run, |node| node.kinds.restart(key))),
            (Some(run), Due::Look) => drop(scene.acting(run, Node::look)),
            (Some(run), Due::Tick) => drop(scene.acting(run, Node::tick)),
            (Some(run), Due::Link(event)) => drop(scene.acting(run, |node| node.link(event))),
            (Some(run), Due::End) => self.kill(run, "ends"),
            (run, Due::Task(id)) => {
                scene.works.poll(id);
                if let Some(run) = run {
                    scene.acting(run, |_| ());
                }
            }
            (_, Due::Alarm(waker)) => waker.wake(),
            (_, Due::Late(act)) => act(),
            (_, Due::Said { device, socket, frames, next }) => {
                let device = &mut self.devices[device];
                if device.sockets == socket {
                    device.hear(scene, &frames, &next);
                }
            }
            (_, Due::Device(device)) => {
                self.devices[device].act(scene);
                let soon = Duration::from_millis(40) + scene.works.up_to_ms(300);
                scene.works.after(soon, None, Due::Device(device));
            }
            (_, Due::Strike) => self.strike(),
            (_, Due::Start(n)) => {
                if scene.running[n].is_none() {
                    scene.tell(format!("n{n} starts"));
                    scene.start(n);
                }
            }
            (None, _) => {}
        }
    }

    /// It is no more, from one moment to the other.
    fn kill(&mut self, run: usize, why: &str) {
        let scene = &mut self.scene;
        let Some(node) = scene.nodes[run].take() else { return };
        scene.tell(format!("n{} {why}", node.n));
        scene.running[node.n] = None;
        scene.ground.network.kill(node.id);
        scene.works.kill(run);
        let soon = Duration::from_millis(50) + scene.works.up_to_ms(3_000);
        scene.works.after(soon, None, Due::Start(node.n));
        scene.whole_from = scene.whole_from.max(scene.works.now() + soon);
        for device in self.devices.iter_mut().filter(|device| device.talk.as_ref().is_some_and(|t| t.run == run)) {
            device.lost(scene);
        }
    }

    /// From now on things go wrong, so many times within this time.
    pub(super) fn begin_to_strike(&mut self, times: u64, within: Duration) {
        let works = self.scene.works.clone();
        let ms = u64::try_from(within.as_millis()).unwrap();
        (0..times).for_each(|_| works.after(works.up_to_ms(ms), None, Due::Strike));
        let weather = if works.happens(60) {
            Weather { delay_ms: 1 + works.below(25), doubles: 0, reorders: 0, notice_ms: works.below(300) }
        } else {
            Weather { delay_ms: 1 + works.below(25), doubles: 10, reorders: 1, notice_ms: works.below(300) }
        };
        self.scene.ground.network.set_weather(weather);
    }

    /// Something goes wrong, and mends itself in time.
    fn strike(&mut self) {
        let scene = &mut self.scene;
        let works = scene.works.clone();
        let Some(run) = scene.some_run().filter(|_| scene.striking) else { return };
        let others: Vec<(usize, usize, Incarnation)> =
            scene.living().filter(|node| node.run != run).map(|node| (node.n, node.run, node.id)).collect();
        let (n, id) = scene.nodes[run].as_ref().map(|node| (node.n, node.id)).unwrap();
        let long =
            if works.happens(70) { works.up_to_ms(2_500) } else { Duration::from_secs(3) + works.up_to_ms(4_000) };
        let until = works.now() + long;
        let other = (!others.is_empty()).then(|| others[works.below(others.len() as u64) as usize]);
        let mut lasts = true;
        match (works.below(20), other) {
            (0 | 1, _) => return self.kill(run, "is killed"),
            (2 | 3, _) => {
                scene.tell(format!("n{n} is to die after its next append"));
                scene.nodes[run].as_mut().unwrap().way.weather().dies =
                    Some(Duration::from_micros(works.below(4) * 400));
                lasts = false;
            }
            (4 | 5, _) => {
                scene.tell(format!("n{n} is paused for {long:?}"));
                scene.nodes[run].as_mut().unwrap().paused_until = until;
                self.isolate(id, until);
            }
            (6, Some((m, _, other))) => {
                scene.tell(format!("n{n} is not heard by n{m} for {long:?}"));
                scene.ground.network.hold_back(id, other, until);
            }
            (7, Some((m, _, other))) => {
                scene.tell(format!("n{n} and n{m} do not hear each other for {long:?}"));
                scene.ground.network.hold_back(id, other, until);
                scene.ground.network.hold_back(other, id, until);
            }
            (8, _) => {
                scene.tell(format!("n{n} is cut from all for {long:?}"));
                self.isolate(id, until);
            }
            (9 | 10, Some((m, _, other))) => {
                scene.tell(format!("the link of n{n} and n{m} is reset"));
                scene.ground.network.reset(id, other);
                lasts = false;
            }
            (11, _) => {
                scene.tell(format!("n{n} is cut from the store for {long:?}"));
                scene.nodes[run].as_mut().unwrap().way.weather().away_until = until;
            }
            (12, _) => {
                scene.tell(format!("the store is away for {long:?}"));
                scene.nodes.iter().flatten().for_each(|node| node.way.weather().away_until = until);
            }
            (13, _) => {
                let c = scene.conversations[works.below(scene.conversations.len() as u64) as usize];
                scene.tell(format!("{c} crashes wherever it is"));
                scene.everywhere(|node| node.crash_conversation(c));
                lasts = false;
            }
            (14, _) => {
                let user = scene.users[works.below(scene.users.len() as u64) as usize];
                scene.tell(format!("the channel of {user} crashes wherever it is"));
                scene.everywhere(|node| node.crash_channel(Slice::of(user)));
                lasts = false;
            }
            (15, _) => {
                let device = &self.devices[works.below(self.devices.len() as u64) as usize];
                if let Some(talk) = &device.talk {
                    let (run, conn) = (talk.run, talk.outbound.conn);
                    scene.tell(format!("the session of device {} crashes", device.number));
                    scene.acting(run, |node| node.crash_session(conn));
                }
                lasts = false;
            }
            _ => {
                let adds = works.happens(50);
                self.change_members(run, adds);
                lasts = false;
            }
        }
        if lasts {
            self.scene.whole_from = self.scene.whole_from.max(until);
        }
    }

    /// Two nodes that cannot reach each other for so long.
    pub(super) fn separate(&mut self, n: usize, m: usize, time: Duration) {
        let until = self.scene.works.now() + time;
        let [a, b] = [n, m].map(|n| self.scene.living().find(|node| node.n == n).unwrap().id);
        self.scene.ground.network.hold_back(a, b, until);
        self.scene.ground.network.hold_back(b, a, until);
    }

    fn isolate(&mut self, id: Incarnation, until: Instant) {
        let scene = &mut self.scene;
        let others: Vec<Incarnation> = scene.living().map(|node| node.id).filter(|other| *other != id).collect();
        for other in others {
            scene.ground.network.hold_back(id, other, until);
            scene.ground.network.hold_back(other, id, until);
        }
    }

    /// The last user leaves the first conversation or comes back to it, if all goes well.
    fn change_members(&mut self, run: usize, adds: bool) {
        let scene = &mut self.scene;
        let (first, last, c) = (scene.callers[0], scene.users[scene.users.len() - 1], scene.conversations[0]);
        scene.tell(format!("the last user is to be {}", if adds { "added" } else { "removed" }));
        let works = scene.works.clone();
        scene.acting(run, |node| {
            let service = node.service.clone();
            works.spawn(Box::pin(async move {
                if adds {
                    let _ = service.add_members(first, c, AddMembers { users: vec![last] }, None).await;
                } else {
                    let _ = service.remove_member(first, c, last, None).await;
                }
            }));
        });
    }

    /// Nobody posts any more, nothing goes wrong any more, and whoever ended is started again.
    pub(super) fn calm_down(&mut self) {
        let scene = &mut self.scene;
        scene.tell("the faults are over, nobody posts");
        (scene.posting, scene.striking) = (false, false);
        scene.ground.network.set_weather(CALM);
        let now = scene.works.now();
        (scene.store_weather.wrong, scene.store_weather.slow) = (0, 0);
        for node in scene.nodes.iter().flatten() {
            let away_until = node.way.weather().away_until;
            *node.way.weather() = store::Weather { away_until, ..scene.store_weather };
        }
        scene.whole_from = scene.whole_from.max(now);
        let works = scene.works.clone();
        for (number, device) in self.devices.iter_mut().enumerate() {
            device.away = number > 0 && works.happens(15);
        }
        if works.happens(40) {
            self.last_word();
        }
    }

    /// The owner of a conversation dies as soon as one more thing is stored there, and nobody says anything any more.
    fn last_word(&mut self) {
        let scene = &mut self.scene;
        let c = scene.conversations[0];
        let owner = |node: &&Node| !node.ends && node.router.places().conversation(c) == Some(node.id);
        let Some(run) = scene.living().find(owner).map(|node| node.run) else { return };
        let Some(other) = scene.living().find(|node| !node.ends && node.run != run).map(|node| node.run) else {
            return;
        };
        scene.tell("the owner of the last word dies with it");
        let soon = Duration::from_micros(scene.works.below(4) * 400);
        if let Some(node) = &scene.nodes[run] {
            node.way.weather().dies = Some(soon);
        }
        if scene.works.happens(50) {
            return self.change_members(other, false);
        }
        let elsewhere = |device: &&mut Device| device.live && device.talk.as_ref().is_some_and(|talk| talk.run != run);
        if let Some(device) = self.devices.iter_mut().find(elsewhere) {
            device.post(&mut self.scene, c);
        }
    }

    /// Whoever was to die after an append that never came lives on.
    pub(super) fn spare(&mut self) {
        self.scene.nodes.iter().flatten().for_each(|node| node.way.weather().dies = None);
    }

    /// It is over: what refers to itself in circles ends.
    pub(super) fn end(&mut self) {
        self.scene.works.end();
    }
}

impl Scene {
    /// The view that names all, users, and two conversations of everybody.
    fn found(&mut self) {
        let store = self.store();
        let runs: Vec<Incarnation> = (0..self.running.len()).map(|n| identity(&self.works, n, n)).collect();
        let member = |n: usize| Member {
            node: name(n),
            incarnation: runs[n],
            address: address(n),
            weight: 1,
            state: MemberState::Up,
            reported: Vec::new(),
        };
        let view = View { version: 1, revision: 1, members: (0..runs.len()).map(member).collect() };
        store.cluster.as_ref().unwrap().change(&view).now_or_never().unwrap().unwrap();
        for user in &self.users {
            let row = storage::accounts::User {
                id: *user,
                username: user.to_string(),
                display_name: user.to_string(),
                email: None,
                password_hash: String::new(),
                created_at: Millis(0),
                banned_at: None,
                deleted_at: None,
            };
            store.accounts.create_user(&row, &row.username).now_or_never().unwrap().unwrap();
        }
        for c in &self.conversations {
            let create =
                Create { conversation_kind: Kind::Group, title: Some("sim".into()), members: self.users.clone() };
            let begins = Event {
                seq: Seq(1),
                id: EventId(c.0),
                by: self.users[0],
                cid: None,
                request_hash: [0; 16],
                at: Millis(1_700_000_000_000),
                post_no: 0,
                body: Body::Create(create),
            };
            store.log.create(*c, runs[0], std::slice::from_ref(&begins)).now_or_never().unwrap().unwrap();
            store.log.follow(*c, &[begins]).now_or_never().unwrap().unwrap();
        }
        for (n, id) in runs.into_iter().enumerate() {
            let way = Way::new(&self.works, n, self.store_weather);
            self.nodes.push(Some(Node::start(&self.ground, n, n, id, way)));
            self.running[n] = Some(n);
            self.acting(n, |_| ());
        }
    }
}
