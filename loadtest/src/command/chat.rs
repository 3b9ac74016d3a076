//! `starling-load chat`: people in groups who send at a given rate, or as fast as they are answered. Latencies count
//! from when a send was due, not from when it left, so a server that stalls does not hide its stall.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufWriter,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use loadtest::{
    Device, History, Recorder, Rest, checker,
    device::{BACKOFF_MAX, Setup},
    history::RunClock,
    random::Random,
    readback::read_log,
};
use protocol::{ClientId, ConversationId, Post, Seq, event::View, request::Send};
use serde::Serialize;

use super::{
    CommandError, Common, Outcome, check, crowd,
    figures::{Latencies, Percentiles, Process, ratio},
};

/// How long a send may go on being tried: longer than a server needs to come back.
const SEND_WITHIN: Duration = Duration::from_secs(60);
/// How long the last deliveries may take.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);
/// A generator later than this at p99 measures itself.
const LAG_MS_MAX: f64 = 50.0;

#[derive(Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many people
    #[arg(long, default_value_t = 20)]
    pub(crate) users: usize,
    /// Devices of each
    #[arg(long, default_value_t = 1)]
    pub(crate) devices: usize,
    /// How many groups
    #[arg(long, default_value_t = 10)]
    pub(crate) conversations: usize,
    /// Members of each group
    #[arg(long, default_value_t = 2)]
    pub(crate) members: usize,
    /// Sends per second in all, evenly spaced, whatever the server does
    #[arg(long, default_value_t = 100.0, conflicts_with = "outstanding")]
    pub(crate) rate: f64,
    /// Instead of a rate: every device keeps this many sends unanswered
    #[arg(long)]
    pub(crate) outstanding: Option<usize>,
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    /// Bytes of a text
    #[arg(long, default_value_t = 100)]
    pub(crate) size: usize,
    /// Record everything, read the logs back and decide the promises
    #[arg(long)]
    pub(crate) check: bool,
    /// Write what was recorded to this file
    #[arg(long, requires = "check")]
    pub(crate) history: Option<PathBuf>,
    /// The server's process, for CPU per send
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    acked: u64,
    pub(crate) sends_per_s: f64,
    pub(crate) ack_ms: Percentiles,
    pub(crate) deliver_ms: Percentiles,
    /// Sends that ended without `ok`, by code; `unknown` never got an answer.
    errors: BTreeMap<String, u64>,
    generator_lag_ms: Percentiles,
    /// Devices that still lacked something long after the last send.
    unsettled: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us_per_send: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<checker::Verdict>,
}

/// What the sending tasks share.
struct Run {
    devices: Vec<Device>,
    /// Every group with the indices of its members' devices.
    groups: Vec<(ConversationId, Vec<usize>)>,
    clock: RunClock,
    tag: u64,
    next: AtomicU64,
    size: usize,
    acks: Latencies,
    errors: Mutex<BTreeMap<String, u64>>,
    acked: AtomicU64,
}

impl Chat {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        let mut report = self.measure().await?;
        let verdict = if self.common.text() { report.verdict.take() } else { None };
        self.common.print(&report);
        if let Some(verdict) = &verdict {
            check::print(verdict);
        }
        Ok(match verdict.or(report.verdict) {
            Some(verdict) if !verdict.violations.is_empty() => Outcome::Failed,
            _ if report.unsettled > 0 => Outcome::Failed,
            _ if report.generator_lag_ms.p99 > LAG_MS_MAX => Outcome::TooSlow,
            _ => Outcome::Pass,
        })
    }

    pub(crate) async fn measure(&self) -> Result<Report, CommandError> {
        if self.members < 2 || self.users < self.members || self.conversations == 0 || self.devices == 0 {
            let message = "--members is at least 2, --users at least --members, the others at least 1";
            return Err(CommandError::Usage(message.into()));
        }
        let (_, rest) = self.common.server()?;
        let deliveries = Arc::new(Latencies::new());
        let (run, recorders, owners) = self.prepare(&rest, &deliveries).await?;
        let lag = Latencies::new();
        let server = self.pid.map(Process);
        let cpu = server.map(Process::cpu_us).transpose()?;
        let started = Instant::now();
        match self.outstanding {
            Some(outstanding) => closed_loop(&run, outstanding, self.duration).await,
            None => open_loop(&run, self.rate, self.duration, &lag).await,
        }
        let took = started.elapsed().as_secs_f64();
        let acked = run.acked.load(Ordering::Relaxed);
        let cpu = match (server, cpu) {
            (Some(server), Some(before)) => Some((server.cpu_us()? - before) as f64),
            _ => None,
        };
        let unsettled = if self.check { self.settle(&rest, &run, &owners).await? } else { 0 };
        let verdict = if self.check { Some(self.judge(&rest, &run, &recorders, &owners).await?) } else { None };
        let errors = run.errors.lock().expect("nobody panics while holding it").clone();
        Ok(Report {
            acked,
            sends_per_s: ratio(acked as f64, took),
            ack_ms: run.acks.percentiles(),
            deliver_ms: deliveries.percentiles(),
            errors,
            generator_lag_ms: lag.percentiles(),
            cpu_us_per_send: cpu.map(|cpu| ratio(cpu, acked as f64)),
            unsettled,
            verdict,
        })
    }

    /// Users, groups, devices; returns when every device is live.
    async fn prepare(
        &self, rest: &Rest, deliveries: &Arc<Latencies>,
    ) -> Result<(Arc<Run>, Vec<Recorder>, Vec<usize>), CommandError> {
        let (target, _) = self.common.server()?;
        let users = crowd::users(rest, self.users).await?;
        let mut groups = Vec::new();
        let mut owners = Vec::new();
        for number in 0..self.conversations {
            let members: Vec<usize> = (0..self.members).map(|i| (number + i) % self.users).collect();
            let others: Vec<_> = members[1..].iter().map(|user| users[*user].user.id).collect();
            let c = crowd::group(rest, &users[members[0]], &others).await?;
            let devices = members.iter().flat_map(|user| (0..self.devices).map(move |d| user * self.devices + d));
            groups.push((c, devices.collect()));
            owners.push(members[0] * self.devices);
        }
        let clock = RunClock::start();
        let (mut devices, mut recorders) = (Vec::new(), Vec::new());
        for user in &users {
            for number in 0..self.devices {
                let signed_in = if number == 0 { user.clone() } else { crowd::another(rest, user, number).await? };
                let device = u32::try_from(devices.len()).unwrap_or(u32::MAX);
                let recorder = self.check.then(|| Recorder::new(clock, device, user.user.id));
                recorders.extend(recorder.clone());
                let deliveries = deliveries.clone();
                devices.push(Device::start(Setup {
                    targets: vec![target.clone()],
                    rest: rest.clone(),
                    signed_in,
                    device: crowd::device(number),
                    backoff_max: BACKOFF_MAX,
                    recorder,
                    on_event: Some(Box::new(move |view| note_delivery(view, clock, &deliveries))),
                }));
            }
        }
        for device in &devices {
            device.live(SEND_WITHIN).await?;
        }
        let run = Run {
            devices,
            groups,
            clock,
            tag: Random::unseeded().bits(),
            next: AtomicU64::new(0),
            size: self.size,
            acks: Latencies::new(),
            errors: Mutex::default(),
            acked: AtomicU64::new(0),
        };
        Ok((Arc::new(run), recorders, owners))
    }

    /// Waits until everybody has everything; says how many never got it.
    async fn settle(&self, rest: &Rest, run: &Run, owners: &[usize]) -> Result<usize, CommandError> {
        let mut unsettled = 0;
        for ((c, members), owner) in run.groups.iter().zip(owners) {
            let device = &run.devices[*owner];
            device.live(SEND_WITHIN).await?;
            let head = read_log(rest, &device.access_token(), *c, "settle").await?.head;
            for member in members {
                unsettled += usize::from(!run.devices[*member].settle(*c, head, SETTLE_WITHIN).await);
            }
        }
        Ok(unsettled)
    }

    /// Reads the logs back and decides.
    async fn judge(
        &self, rest: &Rest, run: &Run, recorders: &[Recorder], owners: &[usize],
    ) -> Result<checker::Verdict, CommandError> {
        let mut history = History::default();
        for recorder in recorders {
            history.records.append(&mut recorder.take());
        }
        for ((c, members), owner) in run.groups.iter().zip(owners) {
            for reader in [*owner, members[members.len() - 1]] {
                let name = format!("device {reader}");
                history.logs.push(read_log(rest, &run.devices[reader].access_token(), *c, &name).await?);
            }
        }
        if let Some(path) = &self.history {
            let failed = |source| CommandError::File { path: path.clone(), source };
            history.write(BufWriter::new(File::create(path).map_err(failed)?)).map_err(failed)?;
        }
        Ok(checker::check(&history))
    }
}

/// Sends evenly spaced in time; a late answer delays nobody.
async fn open_loop(run: &Arc<Run>, rate: f64, seconds: f64, lag: &Latencies) {
    let start = Instant::now();
    let mut sends = tokio::task::JoinSet::new();
    for number in 0u32.. {
        let due = start + Duration::from_secs_f64(f64::from(number) / rate);
        if due.duration_since(start).as_secs_f64() >= seconds {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        // the timer wheel turns once a millisecond: a little late is on time
        lag.record(due.elapsed().saturating_sub(Duration::from_millis(2)));
        let run = run.clone();
        sends.spawn(async move { one(&run, None, due).await });
        while sends.try_join_next().is_some() {}
    }
    while sends.join_next().await.is_some() {}
}

/// Every device keeps `outstanding` sends unanswered.
async fn closed_loop(run: &Arc<Run>, outstanding: usize, seconds: f64) {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut senders = tokio::task::JoinSet::new();
    for device in 0..run.devices.len() {
        if !run.groups.iter().any(|(_, members)| members.contains(&device)) {
            continue;
        }
        for _ in 0..outstanding {
            let run = run.clone();
            senders.spawn(async move {
                while Instant::now() < end {
                    one(&run, Some(device), Instant::now()).await;
                }
            });
        }
    }
    while senders.join_next().await.is_some() {}
}

/// One send, by `device` or whoever's turn it is, to one of its groups.
async fn one(run: &Run, device: Option<usize>, due: Instant) {
    let number = run.next.fetch_add(1, Ordering::Relaxed);
    let turn = usize::try_from(number).unwrap_or(0);
    let (c, device) = match device {
        None => {
            let (c, members) = &run.groups[turn % run.groups.len()];
            (*c, members[turn / run.groups.len() % members.len()])
        }
        Some(device) => {
            let mut mine = run.groups.iter().cycle().skip(turn % run.groups.len());
            let mine = mine.find(|(_, members)| members.contains(&device));
            (mine.expect("only devices with a group send").0, device)
        }
    };
    let due_us = run.clock.now_us().saturating_sub(u64::try_from(due.elapsed().as_micros()).unwrap_or(0));
    let text = format!("{due_us:<width$}", width = run.size);
    let cid = ClientId::try_from(format!("{:x}-{number}", run.tag)).expect("short and printable");
    // as a client that has the conversation on screen does: it spares the server a look-up
    let base = Some(Seq(run.devices[device].position(c)));
    let send = Send { c, cid, base, post: Post { text: Some(text), ..Post::default() } };
    match run.devices[device].send(&send, SEND_WITHIN).await {
        Ok(_) => {
            run.acked.fetch_add(1, Ordering::Relaxed);
            run.acks.record(due.elapsed());
        }
        Err(failed) => {
            let code = failed.code().map_or("unknown", |code| code.as_str()).to_owned();
            *run.errors.lock().expect("nobody panics while holding it").entry(code).or_default() += 1;
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
