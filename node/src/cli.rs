//! The command line: what there is to type. Does nothing itself.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Sources;

/// Real-time conversations that keep what they acknowledged.
#[derive(Parser)]
#[command(name = "starling", version, about, args_conflicts_with_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a node (what `starling` alone does)
    Serve,
    /// The configuration in effect
    #[command(subcommand)]
    Config(Config),
    /// Keys that sign access tokens
    #[command(subcommand)]
    Keys(Keys),
    /// Accounts
    #[command(subcommand)]
    User(User),
    /// How the running node is, and the nodes it knows
    Status(Look),
    /// Nodes
    #[command(subcommand)]
    Node(Node),
    /// Several nodes together
    #[command(subcommand)]
    Cluster(Cluster),
    /// Whether a node could run here: configuration, ports, descriptors, data directory, speed of the disk, stores
    Check,
    /// Bring the history's schema to this release's; a starting node does the same
    Migrate {
        /// Only say what would be applied
        #[arg(long)]
        plan: bool,
    },
    /// Copy the SQLite database of `node.data_dir` to a new file, while the node runs
    Backup { file: PathBuf },
    /// Write everything the stores hold to a new file; no node may run on them
    Export { file: PathBuf },
    /// Bring everything from an exported file into empty stores, and compare; no node may run on them
    Import {
        file: PathBuf,
        /// Go on with an import of this file that was interrupted
        #[arg(long)]
        resume: bool,
    },
    /// Version of this binary
    Version,
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// Every effective value with where it came from
    Print {
        /// Instead: every key with its documentation and default, as in cluster.toml
        #[arg(long)]
        defaults: bool,
    },
    /// Say what is wrong, or nothing
    Check,
}

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// All keys, newest first
    Ls {
        /// `json` is stable
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Add a key that signs from now on; nobody is signed out
    Rotate,
}

#[derive(Subcommand)]
pub(crate) enum User {
    /// Make an account; the password is read from the first line of stdin
    Add { username: String },
    /// End all sessions of an account and let it sign in no more
    Ban { username: String },
    /// Let it sign in again
    Unban { username: String },
    /// What is known of it
    Show {
        username: String,
        /// `json` is stable
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
}

#[derive(Subcommand)]
pub(crate) enum Node {
    /// The running node and those it knows
    Ls(Look),
    /// Have the running node tell all clients to go, finish what is under way, and end the process
    Drain,
    /// Take that back, as long as clients are there: it takes clients and conversations again
    Undrain,
}

#[derive(Subcommand)]
pub(crate) enum Cluster {
    /// Make an authority and certificates for nodes; run again, it makes those of further nodes
    Init {
        /// Where to put them
        #[arg(long, value_name = "DIR", default_value = "starling-cluster")]
        out: PathBuf,
        /// `node.id` of a node to make a certificate for; repeatable
        #[arg(long = "node", value_name = "NAME")]
        nodes: Vec<String>,
    },
}

/// How to look at running nodes.
#[derive(Args)]
pub(crate) struct Look {
    /// `json` is stable
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
    /// Look again every two seconds
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// `listen.admin` of another node, to ask it for what only it knows of itself; repeatable
    #[arg(long = "ask", value_name = "ADDRESS")]
    pub(crate) others: Vec<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}
