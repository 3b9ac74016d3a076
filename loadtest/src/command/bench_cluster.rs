//! `starling-load bench-cluster`: what it costs to be several nodes, and how fast they are whole again when one dies, each
//! figure beside its baseline of the same run. Prints a table for a document.
//! Starts clusters of real nodes on stores that run already; knows of a node its command line and its `/metrics`.

use std::{path::PathBuf, time::Instant};

use clap::Args;

use super::{CommandError, Outcome, Output, rows::Row};

mod across;
mod failover;
mod house;
mod idle;
mod many;
mod reading;
mod scale;

#[derive(Args)]
pub(crate) struct BenchCluster {
    /// The node's binary, built for release
    #[arg(long, default_value = "target/release/starling")]
    node: PathBuf,
    /// Rounds of everything that is compared
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Sends per second among pairs; the groups of ten get a quarter of it
    #[arg(long, default_value_t = 240.0)]
    rate: f64,
    /// Receivers of the fan-out
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// How many times a node is killed
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Nodes on this machine at once
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Sessions that do nothing
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Small sizes, to try it: the figures mean little
    #[arg(long)]
    quick: bool,
    /// Only these: p5 p6 p10 many idle
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// More keys of the nodes: where the stores are. Each cluster adds a number to `storage.cql.keyspace`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How to print the table
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// A promise that was broken is told beside the figures, and fails the run.
struct Figures {
    rows: Vec<Row>,
    broken: Vec<String>,
}

impl BenchCluster {
    pub(crate) async fn run(mut self) -> Result<Outcome, CommandError> {
        if self.quick {
            (self.rounds, self.seconds, self.rate, self.members) = (1, 1.0, 60.0, 60);
            (self.kills, self.nodes, self.sessions) = (4, 4, 300);
        }
        if self.output == Output::Text {
            println!("{}", Row::HEADING);
        }
        let mut outcome = Outcome::Pass;
        for name in ["p6", "p5", "p10", "many", "idle"] {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                continue;
            }
            let started = Instant::now();
            let figures = match name {
                "p6" => self.scale_out().await?,
                "p5" => self.across_nodes().await?,
                "p10" => self.failover().await?,
                "many" => self.many_nodes().await?,
                _ => self.idle_sessions().await?,
            };
            for row in &figures.rows {
                match self.output {
                    Output::Text => println!("{}", row.markdown()),
                    Output::Json => row.print(Output::Json),
                }
            }
            for broken in &figures.broken {
                eprintln!("broken: {broken}");
                outcome = Outcome::Failed;
            }
            eprintln!("{name} took {:.0?}", started.elapsed());
        }
        Ok(outcome)
    }
}

impl From<Vec<Row>> for Figures {
    fn from(rows: Vec<Row>) -> Figures {
        Figures { rows, broken: Vec::new() }
    }
}
