//! A node as a process, people who talk on it, and the verdict at the end.

use std::{
    fs::File,
    io::BufWriter,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use loadtest::{
    Client, Device, History, Node, Recorder, Rest, Starter, Target,
    checker::{self, Counts},
    client::Journal,
    crowd,
    device::Setup,
    history::{Log, Record, RunClock},
    readback::read_log,
};
use protocol::{
    ClientId, Code, ConversationId, Kind, Post, UserId, push,
    request::{Hello, Send, Sync, Verb},
    rest,
};

use crate::support::{self, Place};

/// Ten times the longest promise, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// As many people read a log back at the end: each reads all of it.
const READERS_MAX: usize = 3;

/// A node and everything that is recorded about it.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) starter: Starter,
    pub(crate) rest: Rest,
    pub(crate) clock: RunClock,
    /// Other nodes of the same cluster.
    pub(crate) beside: Vec<Target>,
    recorders: Mutex<Vec<Recorder>>,
    records: Vec<Record>,
    _place: Place,
}

/// A node's starter without limits on how often somebody may do something, and the place it keeps things in.
pub(crate) fn starter(set: &[(&str, &str)]) -> (Starter, Place) {
    let place = Place::new();
    (unlimited(&place, set), place)
}

/// The same, in a place that is there.
pub(crate) fn unlimited(place: &Place, set: &[(&str, &str)]) -> Starter {
    let limits = ["send_per_s", "rest_per_min", "login_per_min", "register_per_min", "handshakes_per_s"];
    let limits = limits.map(|key| format!("limits.{key}"));
    let keys = limits.iter().map(|key| (key.as_str(), "0")).chain(set.iter().copied()).collect::<Vec<_>>();
    place.starter(&keys).keeping_ports().unwrap()
}

impl Rig {
    pub(crate) fn start(set: &[(&str, &str)]) -> Rig {
        let (starter, place) = starter(set);
        Rig::of(starter, place)
    }

    pub(crate) fn of(starter: Starter, place: Place) -> Rig {
        let node = starter.start().unwrap();
        Rig::with(node, starter, place)
    }

    /// With a node that runs already.
    pub(crate) fn with(node: Node, starter: Starter, place: Place) -> Rig {
        let rest = Rest::new(&Target::new(&node.client, None).unwrap()).unwrap();
        Rig {
            node,
            starter,
            rest,
            clock: RunClock::start(),
            beside: Vec::new(),
            recorders: Mutex::default(),
            records: Vec::new(),
            _place: place,
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(&self.node.client, None).unwrap()
    }

    /// All of the cluster, each to begin with in its turn.
    pub(crate) fn targets(&self, turn: usize) -> Vec<Target> {
        let mut targets = [&[self.target()], &self.beside[..]].concat();
        let n_targets = targets.len();
        targets.rotate_left(turn % n_targets);
        targets
    }

    /// New people, each signed in on one device.
    pub(crate) async fn people(&self, n: usize) -> Vec<rest::SignedIn> {
        crowd::users(&self.rest, n).await.unwrap()
    }

    /// Someone's how-many-th device, connected through `target`; the first is the one they signed up with.
    pub(crate) async fn device(&self, user: &rest::SignedIn, number: usize, target: Target) -> Device {
        self.device_of(user, number, vec![target]).await
    }

    /// The same with several targets, of which it takes the next whenever it has to come back.
    pub(crate) async fn device_of(&self, user: &rest::SignedIn, number: usize, targets: Vec<Target>) -> Device {
        let signed_in = match number {
            0 => user.clone(),
            _ => crowd::another(&self.rest, user, number).await.unwrap(),
        };
        let device = Device::start(Setup {
            targets,
            rest: self.rest.clone(),
            signed_in,
            device: crowd::device(number),
            backoff_max: Duration::from_millis(50),
            recorder: Some(self.recorder(user.user.id)),
            on_event: None,
        });
        device.live(PATIENCE).await.unwrap();
        device
    }

    /// A bare socket on someone's first device, which asked `sync`; what happens on it is recorded.
    pub(crate) async fn socket(&self, user: &rest::SignedIn, sync: Sync) -> Client {
        let token = Some(user.tokens.access_token.clone());
        let hello = Hello { token, device: Some(crowd::device(0)), ..Hello::default() };
        let journal = Journal::new(self.recorder(user.user.id), 0);
        let client = Client::connect(&self.target(), hello, Some(journal)).await.unwrap();
        client.request::<push::Synced>(Verb::Sync(sync)).await.unwrap();
        client
    }

    /// Writes down what one more device of `user` does.
    pub(crate) fn recorder(&self, user: UserId) -> Recorder {
        let mut recorders = self.recorders.lock().unwrap();
        let recorder = Recorder::new(self.clock, u32::try_from(recorders.len()).unwrap(), user);
        recorders.push(recorder.clone());
        recorder
    }

    /// A direct conversation.
    pub(crate) async fn direct(&self, a: &rest::SignedIn, b: &rest::SignedIn) -> ConversationId {
        let body = rest::CreateConversation { kind: Kind::Direct, title: None, members: vec![b.user.id] };
        let call = loadtest::rest::Call::new(hyper::Method::POST, "conversations").by(&a.tokens.access_token);
        self.rest.call::<rest::Conversation>(call.body(&body)).await.unwrap().1.id
    }

    /// A group of all of them, made by the first.
    pub(crate) async fn group(&self, people: &[rest::SignedIn]) -> ConversationId {
        let others: Vec<UserId> = people[1..].iter().map(|user| user.user.id).collect();
        crowd::group(&self.rest, &people[0], &others).await.unwrap()
    }

    /// One number of `/metrics`, named with its labels; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = tokio::task::block_in_place(|| support::get(self.node.admin_address(), "/metrics")).body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// SIGKILL, and again on the same data and ports.
    pub(crate) fn restart(&mut self) {
        tokio::task::block_in_place(|| self.node.restart()).unwrap();
    }

    /// Waits until every device of a member has everything, then reads each log back as several people see it.
    /// `parts`: each conversation with its devices and who they belong to.
    pub(crate) async fn settle(&self, parts: &[Part<'_>]) -> Vec<Log> {
        let mut logs = Vec::new();
        for part in parts {
            let (_, first) = part.devices[0];
            first.live(PATIENCE).await.unwrap();
            let log = self.read(part.c, &first.access_token(), "first").await;
            let members = members(&log);
            let mut read_by = vec![part.devices[0].0];
            logs.push(log.clone());
            for (user, device) in part.devices.iter().filter(|(user, _)| members.contains(user)) {
                let arrived = device.settle(part.c, log.head, PATIENCE).await;
                assert!(arrived, "{user} has {} of {} in {}", device.position(part.c), log.head, part.c);
                if read_by.len() < READERS_MAX && !read_by.contains(user) {
                    read_by.push(*user);
                    let token = device.access_token();
                    logs.push(self.read(part.c, &token, &user.to_string()).await);
                }
            }
        }
        logs
    }

    /// The log as its reader sees it. A node that is still at work for others may ask to come back later.
    async fn read(&self, c: ConversationId, token: &str, reader: &str) -> Log {
        let begun = Instant::now();
        loop {
            match read_log(&self.rest, token, c, reader).await {
                Err(failed)
                    if matches!(failed.code(), Some(Code::Unavailable | Code::Overloaded | Code::Timeout))
                        && begun.elapsed() < 3 * PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                read => return read.unwrap(),
            }
        }
    }

    /// What was recorded since it was asked for last.
    pub(crate) fn news(&mut self) -> &[Record] {
        let known = self.records.len();
        self.records.extend(self.recorders.lock().unwrap().iter().flat_map(Recorder::take));
        &self.records[known..]
    }

    /// Everything recorded so far, and the logs.
    pub(crate) fn history(&mut self, logs: Vec<Log>) -> History {
        self.news();
        History { records: std::mem::take(&mut self.records), logs }
    }
}

/// A conversation with the devices that watched it; the first belongs to somebody who was a member throughout.
pub(crate) struct Part<'a> {
    pub(crate) c: ConversationId,
    pub(crate) devices: Vec<(UserId, &'a Device)>,
}

/// The verdict, which must be good. A bad one leaves the history behind, for `starling-load check`.
#[track_caller]
pub(crate) fn judge(name: &str, history: &History) -> Counts {
    let started = Instant::now();
    let verdict = checker::check(history);
    println!("{name}: {:?}, judged in {:?}", verdict.counts, started.elapsed());
    if !verdict.violations.is_empty() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
        history.write(BufWriter::new(File::create(&path).unwrap())).unwrap();
        let told: Vec<String> = verdict.violations.iter().take(10).map(ToString::to_string).collect();
        panic!("{name}: {} violations, history in {}:\n{}", verdict.violations.len(), path.display(), told.join("\n"));
    }
    verdict.counts
}

/// Memory a process has resident, KiB.
pub(crate) fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A post.
pub(crate) fn post(c: ConversationId, cid: &str, text: &str) -> Send {
    let cid = ClientId::try_from(cid.to_owned()).unwrap();
    Send { c, cid, base: None, post: Post { text: Some(text.to_owned()), ..Post::default() } }
}

/// Who is a member at the end of a log.
fn members(log: &Log) -> Vec<UserId> {
    let mut members = Vec::new();
    for entry in &log.entries {
        members.extend(&entry.joined);
        members.retain(|user| Some(*user) != entry.gone);
    }
    members
}
