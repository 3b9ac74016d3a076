//! The commands there are, and what they share: where the server is, how results are printed, how a run ends.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use loadtest::{Rest, RestFailed, Target, client::ConnectFailed, client::Failed, crowd, target::TargetError};
use serde::Serialize;

mod bench;
mod bench_cluster;
mod chat;
mod check;
mod echo;
mod fanout;
mod figures;
mod growth;
mod idle;
mod raw;
mod rows;
mod smoke;
mod talk;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Drive every route and every verb once and check each answer
    Smoke(smoke::Smoke),
    /// People who talk: throughput, latency, and the promises
    Chat(chat::Chat),
    /// Decide from recorded histories whether the promises were kept
    Check(check::Check),
    /// One group, one sender, many receivers
    Fanout(fanout::Fanout),
    /// Connections that do nothing: memory per connection
    Idle(idle::Idle),
    /// Cost of a send and of a page as one conversation grows
    Growth(growth::Growth),
    /// The figures with their baselines: starts nodes and bare servers, compares
    Bench(bench::Bench),
    /// The figures of several nodes: starts clusters on real stores, compares, kills
    BenchCluster(bench_cluster::BenchCluster),
    /// Round trips of a bare WebSocket against `raw-echo`
    Echo(echo::Echo),
    /// The least server that answers `echo`: a baseline
    RawEcho(raw::Listen),
    /// The least server that broadcasts: the baseline of `fanout --raw`
    RawBroadcaster(raw::Listen),
}

impl Command {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        match self {
            Command::Smoke(smoke) => smoke.run().await,
            Command::Chat(chat) => chat.run().await,
            Command::Check(check) => check.run(),
            Command::Fanout(fanout) => fanout.run().await,
            Command::Idle(idle) => idle.run().await,
            Command::Growth(growth) => growth.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::BenchCluster(bench) => bench.run().await,
            Command::Echo(echo) => echo.run().await,
            Command::RawEcho(listen) => raw::echo(listen).await,
            Command::RawBroadcaster(listen) => raw::broadcast(listen).await,
        }
    }
}

/// How a run ended that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    /// A threshold or a promise.
    Failed,
    /// The generator could not keep up: the figures mean nothing.
    TooSlow,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Rest(#[from] RestFailed),
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    #[error(transparent)]
    Request(#[from] Failed),
    #[error("cannot use {}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot start a server: {0}")]
    Start(std::io::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Stalled(String),
}

impl CommandError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CommandError::Target(TargetError::Unreachable { .. })
            | CommandError::Rest(RestFailed::Lost(_))
            | CommandError::Connect(_)
            | CommandError::Request(Failed::Lost(_)) => 3,
            CommandError::Target(_) | CommandError::Usage(_) | CommandError::File { .. } => 2,
            CommandError::Listen { .. } | CommandError::Start(_) => 2,
            CommandError::Rest(_) | CommandError::Request(_) | CommandError::Stalled(_) => 99,
        }
    }
}

/// Which server, and how to print.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// http://HOST:PORT or https://HOST:PORT
    #[arg(long)]
    url: String,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long)]
    ca: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object, for programs
    Json,
}

impl Common {
    /// A server on this machine, for runs inside a run.
    pub(crate) fn local(url: &str) -> Common {
        Common { url: url.to_owned(), ca: None, output: Output::Json }
    }

    pub(crate) fn server(&self) -> Result<(Target, Rest), CommandError> {
        let target = Target::new(&self.url, self.ca.as_deref())?;
        let rest = Rest::new(&target)?;
        Ok((target, rest))
    }

    /// Another server of the same people.
    pub(crate) fn another(&self, url: &str) -> Result<Target, CommandError> {
        Ok(Target::new(url, self.ca.as_deref())?)
    }

    /// True if lines for people are wanted.
    pub(crate) fn text(&self) -> bool {
        self.output == Output::Text
    }

    pub(crate) fn print(&self, result: &impl Serialize) {
        let value = serde_json::to_value(result).expect("plain data always serialises");
        if self.output == Output::Json {
            println!("{value}");
            return;
        }
        if let serde_json::Value::Object(fields) = value {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                println!("{name:24} {value}");
            }
        }
    }
}
