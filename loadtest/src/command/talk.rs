//! People in groups who send, evenly spaced in time or as fast as they are answered: the load of `chat` and of figures.
//! Latencies count from when a send was due, not from when it left, so a server that stalls does not hide its stall.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use loadtest::{
    Device, History, Recorder, Rest, Target, device::Setup, history::RunClock, random::Random, readback::read_log,
};
use protocol::{ClientId, ConversationId, Post, Seq, event::View, request::Send, rest::SignedIn};

use super::{CommandError, crowd, figures::Latencies};

/// How long a send may go on being tried: longer than a server needs to come back.
pub(crate) const SEND_WITHIN: Duration = Duration::from_secs(60);
/// How long the last deliveries may take.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// A device that is to come: whose how-many-th, and where it connects, by turns.
pub(crate) struct Seat {
    pub(crate) user: SignedIn,
    pub(crate) number: usize,
    pub(crate) targets: Vec<Target>,
    /// The longest wait before it tries to come back.
    pub(crate) backoff_max: Duration,
}

/// Devices that are there, and what they receive.
pub(crate) struct Crew {
    pub(crate) devices: Vec<Device>,
    recorders: Vec<Recorder>,
    clock: RunClock,
    deliveries: Arc<Latencies>,
}

/// A group, with the places of its members' devices in the crew. The first of them reads its log.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) c: ConversationId,
    pub(crate) members: Vec<usize>,
}

/// What the sending tasks share.
pub(crate) struct Talk {
    crew: Arc<Crew>,
    groups: Vec<Group>,
    tag: u64,
    next: AtomicU64,
    size: usize,
    over: AtomicBool,
    pub(crate) acks: Latencies,
    pub(crate) lag: Latencies,
    acked: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Crew {
    /// Returns when every device is live. `record`: what the checker needs is written down.
    pub(crate) async fn gather(rest: &Rest, seats: Vec<Seat>, record: bool) -> Result<Crew, CommandError> {
        let (clock, deliveries) = (RunClock::start(), Arc::new(Latencies::new()));
        let (mut devices, mut recorders) = (Vec::new(), Vec::new());
        for Seat { user, number, targets, backoff_max } in seats {
            let signed_in = if number == 0 { user.clone() } else { crowd::another(rest, &user, number).await? };
            let place = u32::try_from(devices.len()).unwrap_or(u32::MAX);
            let recorder = record.then(|| Recorder::new(clock, place, user.user.id));
            recorders.extend(recorder.clone());
            let deliveries = deliveries.clone();
            devices.push(Device::start(Setup {
                targets,
                rest: rest.clone(),
                signed_in,
                device: crowd::device(number),
                backoff_max,
                recorder,
                on_event: Some(Box::new(move |view| note_delivery(view, clock, &deliveries))),
            }));
        }
        for device in &devices {
            device.live(SEND_WITHIN).await?;
        }
        Ok(Crew { devices, recorders, clock, deliveries })
    }

    /// Of posts of others, to each device.
    pub(crate) fn deliveries(&self) -> &Latencies {
        &self.deliveries
    }

    /// Waits until everybody has everything; says how many never got it.
    pub(crate) async fn settle(&self, rest: &Rest, groups: &[Group]) -> Result<usize, CommandError> {
        let mut unsettled = 0;
        for Group { c, members } in groups {
            let first = &self.devices[members[0]];
            first.live(SEND_WITHIN).await?;
            let head = read_log(rest, &first.access_token(), *c, "settle").await?.head;
            for member in members {
                unsettled += usize::from(!self.devices[*member].settle(*c, head, SETTLE_WITHIN).await);
            }
        }
        Ok(unsettled)
    }

    /// What was recorded, and the logs as the first and the last member of each group read them.
    pub(crate) async fn history(&self, rest: &Rest, groups: &[Group]) -> Result<History, CommandError> {
        let mut history = History::default();
        for recorder in &self.recorders {
            history.records.append(&mut recorder.take());
        }
        for Group { c, members } in groups {
            for reader in [members[0], members[members.len() - 1]] {
                let (name, token) = (format!("device {reader}"), self.devices[reader].access_token());
                history.logs.push(read_log(rest, &token, *c, &name).await?);
            }
        }
        Ok(history)
    }
}

impl Talk {
    /// Nobody has said anything. `size`: bytes of a text.
    pub(crate) fn new(crew: Arc<Crew>, groups: Vec<Group>, size: usize) -> Arc<Talk> {
        Arc::new(Talk {
            crew,
            groups,
            tag: Random::unseeded().bits(),
            next: AtomicU64::new(0),
            size,
            over: AtomicBool::new(false),
            acks: Latencies::new(),
            lag: Latencies::new(),
            acked: AtomicU64::new(0),
            errors: Mutex::default(),
        })
    }

    /// Sends evenly spaced in time; a late answer delays nobody. Ends when all are answered.
    pub(crate) async fn open_loop(self: &Arc<Talk>, rate: f64, seconds: f64) {
        let start = Instant::now();
        let mut sends = tokio::task::JoinSet::new();
        for number in 0u32.. {
            let due = start + Duration::from_secs_f64(f64::from(number) / rate);
            if due.duration_since(start).as_secs_f64() >= seconds || self.over.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            // the timer wheel turns once a millisecond: a little late is on time
            self.lag.record(due.elapsed().saturating_sub(Duration::from_millis(2)));
            let talk = self.clone();
            sends.spawn(async move { talk.one(None, due).await });
            while sends.try_join_next().is_some() {}
        }
        while sends.join_next().await.is_some() {}
    }

    /// Every device keeps `outstanding` sends unanswered.
    pub(crate) async fn closed_loop(self: &Arc<Talk>, outstanding: usize, seconds: f64) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut senders = tokio::task::JoinSet::new();
        for device in 0..self.crew.devices.len() {
            if !self.groups.iter().any(|group| group.members.contains(&device)) {
                continue;
            }
            for _ in 0..outstanding {
                let talk = self.clone();
                senders.spawn(async move {
                    while Instant::now() < end {
                        talk.one(Some(device), Instant::now()).await;
                    }
                });
            }
        }
        while senders.join_next().await.is_some() {}
    }

    /// Nothing new is said from now on.
    pub(crate) fn hush(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sends that were acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Sends that ended without `ok`, by code; `unknown` never got an answer.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().expect("nobody panics while holding it").clone()
    }

    /// One send, by `device` or whoever's turn it is, to one of its groups.
    async fn one(&self, device: Option<usize>, due: Instant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = usize::try_from(number).unwrap_or(0);
        let (c, device) = match device {
            None => {
                let Group { c, members } = &self.groups[turn % self.groups.len()];
                (*c, members[turn / self.groups.len() % members.len()])
            }
            Some(device) => {
                let mut mine = self.groups.iter().cycle().skip(turn % self.groups.len());
                let mine = mine.find(|group| group.members.contains(&device));
                (mine.expect("only devices with a group send").c, device)
            }
        };
        let now_us = self.crew.clock.now_us();
        let due_us = now_us.saturating_sub(u64::try_from(due.elapsed().as_micros()).unwrap_or(0));
        let text = format!("{due_us:<width$}", width = self.size);
        let cid = ClientId::try_from(format!("{:x}-{number}", self.tag)).expect("short and printable");
        let device = &self.crew.devices[device];
        // as a client that has the conversation on screen does: it spares the server a look-up
        let base = Some(Seq(device.position(c)));
        let send = Send { c, cid, base, post: Post { text: Some(text), ..Post::default() } };
        match device.send(&send, SEND_WITHIN).await {
            Ok(_) => {
                self.acked.fetch_add(1, Ordering::Relaxed);
                self.acks.record(due.elapsed());
            }
            Err(failed) => {
                let code = failed.code().map_or("unknown", |code| code.as_str()).to_owned();
                *self.errors.lock().expect("nobody panics while holding it").entry(code).or_default() += 1;
            }
        }
    }
}

/// A text begins with the time at which it was due.
fn note_delivery(view: &View, clock: RunClock, deliveries: &Latencies) {
    let View::Post(post) = view else { return };
    let due = post.post.text.as_deref().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    if let Some(due_us) = due {
        deliveries.record_us(clock.now_us().saturating_sub(due_us));
    }
}
