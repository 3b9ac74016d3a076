//! `starling-load fanout`: one group, one sender, many receivers who only count. Against a server, or with `--raw`
//! against `raw-broadcaster`, over the same code.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use loadtest::{Socket, Target, random::Random, socket::Upgrade};
use protocol::{
    ClientId, ConversationId, Post,
    push::PING,
    request::{Hello, Send, Sync, Verb},
    rest::SignedIn,
};
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    CommandError, Common, Outcome, crowd,
    figures::{Latencies, Percentiles, cpu_us, ratio},
};

/// Messages under way in a burst: below any server's in-flight limit.
const BURST: u64 = 16;
/// How long all receivers may take for what is under way.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Another node of the same cluster, repeatable: receivers are spread over all
    #[arg(long, value_name = "URL")]
    pub(crate) also: Vec<String>,
    /// Receivers
    #[arg(long, default_value_t = 1000)]
    pub(crate) members: usize,
    /// One message at a time, or many
    #[arg(long, value_enum, default_value = "lone")]
    pub(crate) mode: Mode,
    /// Seconds
    #[arg(long, default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// The server is `raw-broadcaster`: nobody signs in
    #[arg(long)]
    pub(crate) raw: bool,
    /// The server's process, for CPU per delivery; repeatable: of all together
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Lone,
    Burst,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// From sending until the last receiver has it; in a burst, with those before it.
    all_have_it_ms: Percentiles,
}

/// A group with everybody there.
pub(crate) struct Gathering {
    sender: Socket,
    c: ConversationId,
    tally: Arc<Tally>,
    _receivers: tokio::task::JoinSet<()>,
}

/// Counts what all receivers together got.
#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    moved: Notify,
}

impl Fanout {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        self.common.print(&self.measure().await?);
        Ok(Outcome::Pass)
    }

    pub(crate) async fn measure(&self) -> Result<Report, CommandError> {
        self.gather().await?.measure(self).await
    }

    /// Everybody is there, nobody has said anything.
    pub(crate) async fn gather(&self) -> Result<Gathering, CommandError> {
        let (target, rest) = self.common.server()?;
        let mut targets = vec![target];
        for url in &self.also {
            targets.push(self.common.another(url)?);
        }
        let tally = Arc::new(Tally::default());
        let (users, c) = if self.raw {
            (Vec::new(), ConversationId([0; 16]))
        } else {
            let users = crowd::users(&rest, self.members + 1).await?;
            let others: Vec<_> = users[1..].iter().map(|user| user.user.id).collect();
            let c = crowd::group(&rest, &users[0], &others).await?;
            (users, c)
        };
        let mut receivers = tokio::task::JoinSet::new();
        for number in 1..=self.members {
            let socket = open(&targets[number % targets.len()], users.get(number)).await?;
            receivers.spawn(receive(socket, tally.clone(), self.members as u64));
        }
        let sender = open(&targets[0], users.first()).await?;
        Ok(Gathering { sender, c, tally, _receivers: receivers })
    }
}

impl Gathering {
    /// As `run` says, which may be another than the one that gathered them.
    pub(crate) async fn measure(&mut self, run: &Fanout) -> Result<Report, CommandError> {
        self.tally.delivered.store(0, Ordering::Release);
        let Gathering { sender, c, tally, .. } = self;
        let members = run.members as u64;
        let under_way_max = if run.mode == Mode::Burst { BURST } else { 1 };
        let latencies = Latencies::new();
        let tag = Random::unseeded().bits();
        let mut sent_at = std::collections::VecDeque::new();
        let cpu_before = cpu_us(&run.pid)?;
        let started = Instant::now();
        let (mut sent, mut complete) = (0, 0);
        loop {
            let running = started.elapsed().as_secs_f64() < run.duration;
            if running && sent - complete < under_way_max {
                sent += 1;
                sent_at.push_back(Instant::now());
                sender.send_text(post(*c, tag, sent)).await.map_err(stalled)?;
                continue;
            }
            if !running && complete == sent {
                break;
            }
            wait(sender, tally, (complete + 1) * members).await?;
            while tally.delivered.load(Ordering::Acquire) >= (complete + 1) * members {
                complete += 1;
                if let Some(at) = sent_at.pop_front() {
                    latencies.record(at.elapsed());
                }
            }
        }
        let took = started.elapsed().as_secs_f64();
        let deliveries = tally.delivered.load(Ordering::Acquire);
        let cpu = if run.pid.is_empty() { None } else { Some(cpu_us(&run.pid)? - cpu_before) };
        Ok(Report {
            messages: sent,
            deliveries,
            deliveries_per_s: ratio(deliveries as f64, took),
            cpu_us_per_delivery: cpu.map(|cpu| ratio(cpu as f64, deliveries as f64)),
            all_have_it_ms: latencies.percentiles(),
        })
    }
}

/// Waits until `deliveries` happened; the sender's own frames are read meanwhile.
async fn wait(sender: &mut Socket, tally: &Tally, deliveries: u64) -> Result<(), CommandError> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let moved = tally.moved.notified();
        if tally.delivered.load(Ordering::Acquire) >= deliveries {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = moved => {}
            text = sender.next_text() => {
                let text = text.map_err(stalled)?;
                if text.as_str() == PING {
                    sender.send_text(PING).await.map_err(stalled)?;
                } else if text.contains(r#""t":"err""#) {
                    return Err(CommandError::Stalled(format!("the server refused a send: {text}")));
                }
            }
            () = tokio::time::sleep_until(end) => {
                let got = tally.delivered.load(Ordering::Acquire);
                return Err(CommandError::Stalled(format!("{got} deliveries after {PATIENCE:?}, expected {deliveries}")));
            }
        }
    }
}

fn stalled(e: impl std::fmt::Display) -> CommandError {
    CommandError::Stalled(format!("a socket ended: {e}"))
}

fn post(c: ConversationId, tag: u64, number: u64) -> String {
    let cid = ClientId::try_from(format!("{tag:x}-{number}")).expect("short and printable");
    let post = Post { text: Some("x".repeat(100)), ..Post::default() };
    // ids are reused: at most BURST of them are unanswered
    let id = u32::try_from(number % 1_000_000 + 10).expect("bounded by the line above");
    Verb::Send(Send { c, cid, base: None, post }).encode(Some(id))
}

/// A socket that is told everything from now on.
pub(crate) async fn open(target: &Target, user: Option<&SignedIn>) -> Result<Socket, CommandError> {
    let mut socket = Socket::connect(target, &Upgrade::default()).await?;
    let Some(user) = user else { return Ok(socket) };
    let token = Some(user.tokens.access_token.clone());
    let hello = Hello { token, device: Some(crowd::device(0)), ..Hello::default() };
    for (id, verb) in [(1, Verb::Hello(hello)), (2, Verb::Sync(Sync::default()))] {
        socket.send_text(verb.encode(Some(id))).await.map_err(stalled)?;
        let answer = socket.expect(PATIENCE, |frame| frame.id == Some(id)).await.map_err(stalled)?;
        if !answer.is("ok") {
            return Err(CommandError::Stalled(format!("{} was refused: {}", verb.name(), answer.d)));
        }
    }
    Ok(socket)
}

/// Counts posts and answers pings, nothing else.
async fn receive(mut socket: Socket, tally: Arc<Tally>, members: u64) {
    while let Ok(text) = socket.next_text().await {
        if text.as_str() == PING {
            if socket.send_text(PING).await.is_err() {
                return;
            }
            continue;
        }
        let posts = text.split('\n').filter(|frame| frame.starts_with(r#"{"t":"msg""#)).count() as u64;
        let before = tally.delivered.fetch_add(posts, Ordering::AcqRel);
        if before / members != (before + posts) / members {
            tally.moved.notify_waiters();
        }
    }
}
