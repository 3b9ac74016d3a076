//! `starling-load bench`: the figures, each beside its baseline in the same run, as medians of interleaved rounds.
//! Starts the node with everything that limits a crowd switched off, and with cheap password hashes.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command as Process, Stdio},
};

use clap::Args;
use loadtest::{Node, Rest, Starter, Target};

use super::{
    CommandError, Common, Outcome, Output,
    chat::Chat,
    crowd,
    echo::Echo,
    fanout::{Fanout, Mode},
    figures::{Metrics, median},
    growth::Growth,
    idle::Idle,
    rows::{Row, row},
};

mod stores;

#[derive(Args)]
pub(crate) struct Bench {
    /// The node's binary, built for release
    #[arg(long, default_value = "target/release/starling")]
    node: PathBuf,
    /// The store's own benchmark, built for release: the baseline of P2 that the node cannot measure itself
    #[arg(long)]
    store_bench: Option<PathBuf>,
    /// Rounds of everything that is compared
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Receivers of the fan-out
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Idle connections at the end of the slope; it begins at a fifth
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Messages in the largest conversation
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Only these: p1 p2 p3 p4 p7 p11; and stores, which wants real ones (see scripts/bench-stores)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// More keys of the nodes: where the real stores are
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How to print the table
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Bench {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        let mut rows = Vec::new();
        for name in ["p11", "p1", "p2", "p3", "p4", "p7", "stores"] {
            if !self.wants(name) {
                continue;
            }
            let more = match name {
                "p11" => self.start().await?,
                "p1" => self.fan_out().await?,
                "p2" => self.durable_sends().await?,
                "p3" => self.latency().await?,
                "p4" => self.memory().await?,
                "stores" => self.durable_sends_on_servers().await?,
                _ => self.growth().await?,
            };
            rows.extend(more.into_iter().inspect(|row| row.print(self.output)));
        }
        Ok(Outcome::Pass)
    }

    fn wants(&self, name: &str) -> bool {
        (self.only.is_empty() && name != "stores") || self.only.iter().any(|only| only == name)
    }

    /// P11: from starting the process to the first user who is signed in.
    async fn start(&self) -> Result<Vec<Row>, CommandError> {
        let mut took = Vec::new();
        for _ in 0..self.rounds {
            let started = std::time::Instant::now();
            let server = self.server("sqlite")?;
            crowd::users(&Rest::new(&Target::new(&server.node.client, None)?)?, 1).await?;
            took.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(vec![row("P11", "start to first login, ms", None, median(took), "≤ 1000")])
    }

    /// P1, P13: CPU per delivery, beside a server that only broadcasts.
    async fn fan_out(&self) -> Result<Vec<Row>, CommandError> {
        let mut rows = Vec::new();
        for (mode, name) in [(Mode::Lone, "lone"), (Mode::Burst, "burst")] {
            let (mut ours, mut raw) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
            for _ in 0..self.rounds {
                let bare = Bare::start("raw-broadcaster")?;
                let server = self.server("sqlite")?;
                for (url, pid, raw, out) in [
                    (&bare.url, bare.child.id(), true, &mut raw),
                    (&server.node.client, server.node.pid(), false, &mut ours),
                ] {
                    let (common, members, duration) = (Common::local(url), self.members, self.seconds);
                    let run = Fanout { common, also: Vec::new(), members, mode, duration, raw, pid: vec![pid] };
                    let report = run.measure().await?;
                    out.0.extend(report.cpu_us_per_delivery);
                    out.1.push(report.deliveries_per_s);
                }
            }
            let (cpu, bare) = (median(ours.0), median(raw.0));
            rows.push(row(
                "P1",
                format!("fan-out {name}, µs CPU per delivery"),
                Some(bare),
                cpu,
                "≤ 1.25 (now ≤ 1.67)",
            ));
            let (rate, bare) = (median(ours.1), median(raw.1));
            rows.push(row("P1", format!("fan-out {name}, deliveries/s"), Some(bare), rate, "≥ 0.8 (now ≥ 0.6)"));
        }
        Ok(rows)
    }

    /// P2, P12: sends that are synced to disk, beside the same node that only remembers.
    async fn durable_sends(&self) -> Result<Vec<Row>, CommandError> {
        let mut rows = Vec::new();
        for (users, outstanding) in [(64, 1), (100, 10)] {
            let mut rates = [Vec::new(), Vec::new()];
            let (mut cpu, mut acks, mut alone) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                for (backend, rates) in ["memory", "sqlite"].into_iter().zip(&mut rates) {
                    let server = self.server(backend)?;
                    let chat = self.chat(&server, users, Some(outstanding), 0.0);
                    let report = chat.measure().await?;
                    rates.push(report.sends_per_s);
                    if backend == "sqlite" {
                        cpu.extend(report.cpu_us_per_send);
                        acks.push(report.ack_ms.p50);
                        let batch = batch_events(&server)?;
                        alone.extend(self.store_alone(users / 2, batch)?);
                    }
                }
            }
            let [memory, sqlite] = rates.map(median);
            let under_way = users * outstanding;
            let what = |beside| format!("sends/s, {under_way} outstanding, beside {beside}");
            let target = "≥ 0.8 of the lower (now ≥ 0.6)";
            rows.push(row("P2", what("the node on memory"), Some(memory), sqlite, target));
            if !alone.is_empty() {
                rows.push(row("P2", what("the store alone"), Some(median(alone)), sqlite, target));
            }
            rows.push(row("P12", format!("µs CPU per send, {under_way} outstanding"), None, median(cpu), "≤ 60 at 64"));
            rows.push(row("P12", format!("ack p50 ms, {under_way} outstanding"), None, median(acks), "≤ 5 at 64"));
        }
        let (mut cpu, mut acks) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let report = self.chat(&self.server("sqlite")?, 64, None, 1000.0).measure().await?;
            cpu.extend(report.cpu_us_per_send);
            acks.push(report.ack_ms.p50);
        }
        rows.push(row("P12", "µs CPU per send at 1,000/s", None, median(cpu), "≤ 200"));
        rows.push(row("P12", "ack p50 ms at 1,000/s", None, median(acks), "≤ 1.5"));
        Ok(rows)
    }

    /// P3: at a fifth of what the node takes in memory, beside a bare echo at the same rate.
    async fn latency(&self) -> Result<Vec<Row>, CommandError> {
        let capacity = {
            let server = self.server("memory")?;
            self.chat(&server, 64, Some(1), 0.0).measure().await?.sends_per_s
        };
        let rate = (capacity / 5.0).max(1.0);
        let (mut echo, mut acks, mut deliveries) = (Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..self.rounds {
            let bare = Bare::start("raw-echo")?;
            let (common, duration) = (Common::local(&bare.url), self.seconds);
            echo.push(Echo { common, connections: 64, rate, duration }.measure().await?.round_trip_ms.p99);
            for (index, backend) in ["memory", "sqlite"].into_iter().enumerate() {
                let server = self.server(backend)?;
                let report = self.chat(&server, 64, None, rate).measure().await?;
                acks[index].push(report.ack_ms.p99);
                deliveries[index].push(report.deliver_ms.p99);
            }
        }
        let echo = Some(median(echo));
        let mut rows = Vec::new();
        for (what, values) in [("ack", acks), ("deliver", deliveries)] {
            for (backend, values) in ["memory", "sqlite"].into_iter().zip(values) {
                let target = if backend == "memory" { "≤ 3" } else { "≤ 3, and one commit" };
                rows.push(row(
                    "P3",
                    format!("send → {what} p99 ms, {backend}, {rate:.0}/s"),
                    echo,
                    median(values),
                    target,
                ));
            }
        }
        Ok(rows)
    }

    /// P4: bytes per idle connection, each of another user.
    async fn memory(&self) -> Result<Vec<Row>, CommandError> {
        let mut server = self.server("sqlite")?;
        let users = crowd::users(&Rest::new(&Target::new(&server.node.client, None)?)?, self.idle).await?;
        server.node.restart().map_err(CommandError::Start)?;
        let idle = Idle {
            common: Common::local(&server.node.client),
            connections: self.idle,
            from: self.idle / 5,
            pause: 3.0,
            hold: 0.0,
            pid: Some(server.node.pid()),
            bytes_max: None,
        };
        let report = idle.measure(&users).await?;
        let what = format!("bytes per idle connection, {} to {}", self.idle / 5, self.idle);
        Ok(vec![row("P4", what, None, report.bytes_per_connection.unwrap_or_default(), "≤ 19456")])
    }

    /// P7: the cost at each size, beside the smallest.
    async fn growth(&self) -> Result<Vec<Row>, CommandError> {
        let server = self.server("sqlite")?;
        let sizes = (2..).map(|exponent| 10_u64.pow(exponent)).take_while(|size| *size <= self.messages).collect();
        let report = Growth { common: Common::local(&server.node.client), sizes }.measure().await?;
        let Some(first) = report.sizes.first() else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for at in &report.sizes {
            for (what, value, base) in [
                ("send", at.send_ms_p50, first.send_ms_p50),
                ("newest page", at.newest_page_ms_p50, first.newest_page_ms_p50),
                ("middle page", at.middle_page_ms_p50, first.middle_page_ms_p50),
            ] {
                let what = format!("{what} p50 ms at {} messages", at.messages);
                rows.push(row("P7", what, Some(base), value, "0.9 to 1.1"));
            }
        }
        Ok(rows)
    }

    /// Events a second that the store alone takes from as many conversations in batches of that size; between two whole
    /// sizes, what lies between their rates.
    fn store_alone(&self, conversations: usize, batch: f64) -> Result<Option<f64>, CommandError> {
        let Some(store_bench) = &self.store_bench else { return Ok(None) };
        let rate = |batch: f64| -> Result<Option<f64>, CommandError> {
            let arguments = ["alone".to_owned(), conversations.to_string(), format!("{batch:.0}")];
            let output = Process::new(store_bench).args(arguments).output().map_err(CommandError::Start)?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
        };
        let (below, above) = (rate(batch.floor())?, rate(batch.ceil())?);
        Ok(below.zip(above).map(|(below, above)| below + (above - below) * batch.fract()))
    }

    fn chat(&self, server: &Server, users: usize, outstanding: Option<usize>, rate: f64) -> Chat {
        Chat {
            common: Common::local(&server.node.client),
            also: Vec::new(),
            users,
            devices: 1,
            conversations: users / 2,
            members: 2,
            rate,
            outstanding,
            duration: self.seconds,
            size: 100,
            check: false,
            history: None,
            pid: Some(server.node.pid()),
        }
    }

    /// A node on an empty directory.
    fn server(&self, backend: &str) -> Result<Server, CommandError> {
        static STARTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("starling-bench-{}-{number}", std::process::id()));
        let starter = without_limits(Starter::new(&self.node, &dir)).set("storage.backend", backend);
        let starter = with_keys(starter, &self.set);
        let node = starter.start().map_err(CommandError::Start)?;
        Ok(Server { node, dir })
    }
}

/// A node that lets a crowd do what it wants, and says little.
pub(super) fn without_limits(starter: Starter) -> Starter {
    let unlimited = ["send_per_s", "rest_per_min", "login_per_min", "register_per_min", "handshakes_per_s"];
    let starter = unlimited.iter().fold(starter, |starter, key| starter.set(&format!("limits.{key}"), 0));
    starter.set("limits.address_connections", 0).set("limits.inflight", 64).set("log.level", "warn")
}

/// `KEY=VALUE`, each.
pub(super) fn with_keys(starter: Starter, pairs: &[String]) -> Starter {
    let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
    pairs.fold(starter, |starter, (key, value)| starter.set(key, value))
}

/// A node whose directory goes with it.
struct Server {
    node: Node,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.node.kill();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// One of this command's own bare servers, as a process.
struct Bare {
    child: Child,
    url: String,
}

impl Bare {
    fn start(command: &str) -> Result<Bare, CommandError> {
        let myself = std::env::current_exe().map_err(CommandError::Start)?;
        let mut child = Process::new(myself)
            .args([command, "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(CommandError::Start)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(CommandError::Start)?;
        }
        let url = line.trim().strip_prefix("ready client=").unwrap_or_default().to_owned();
        Ok(Bare { child, url })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The mean number of events in the appends of a node, from its metrics, at least 1.
fn batch_events(server: &Server) -> Result<f64, CommandError> {
    let metrics = Metrics::of(&server.node)?;
    let value = |name: &str| metrics.value(name).unwrap_or(1.0);
    Ok((value("starling_append_batch_events_sum") / value("starling_append_batch_events_count")).max(1.0))
}
