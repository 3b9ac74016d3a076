//! Nodes that are one cluster, as processes on a keyspace of their own, and what they have cost so far.

use std::{
    io::{Error, Result},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use loadtest::{Node, Rest, Starter, Target, starter::free_address};

use super::{
    super::{
        CommandError,
        bench::{with_keys, without_limits},
        figures::{Metrics, cpu_us},
    },
    BenchCluster,
};

/// Until all nodes agree on who is there.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
/// How often they are asked.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// See the module. Ended, and its directory gone, when it is dropped.
pub(super) struct House {
    starters: Vec<Starter>,
    pub(super) nodes: Vec<Node>,
    dir: PathBuf,
    began: Instant,
}

/// What all nodes together have used and sent to each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    seconds: f64,
    pub(super) cpu_us: f64,
    pub(super) frames: f64,
    pub(super) bytes: f64,
    /// Parcels that hold an event.
    pub(super) events: f64,
}

impl Spent {
    /// Since an earlier reading.
    pub(super) fn since(self, before: Spent) -> Spent {
        self.each_with(before, |now, before| now - before)
    }

    /// Without what is spent in the same time while nobody does anything.
    pub(super) fn without(self, idle: Spent) -> Spent {
        let times = self.seconds / idle.seconds;
        self.each_with(idle, |spent, idle| (spent - idle * times).max(0.0))
    }

    /// One of so many parts.
    pub(super) fn each(self, parts: f64) -> Spent {
        self.each_with(self, |spent, _| spent / parts)
    }

    /// In a second.
    pub(super) fn per_second(self) -> Spent {
        self.each(self.seconds)
    }

    fn each_with(self, other: Spent, with: impl Fn(f64, f64) -> f64) -> Spent {
        Spent {
            seconds: with(self.seconds, other.seconds),
            cpu_us: with(self.cpu_us, other.cpu_us),
            frames: with(self.frames, other.frames),
            bytes: with(self.bytes, other.bytes),
            events: with(self.events, other.events),
        }
    }
}

impl BenchCluster {
    /// A cluster of this many nodes, all up.
    pub(super) fn house(&self, n_nodes: usize) -> std::result::Result<House, CommandError> {
        let mut house = self.lot(n_nodes, &[]).map_err(CommandError::Start)?;
        house.grow(n_nodes).map_err(CommandError::Start)?;
        Ok(house)
    }

    /// The same before the first of them is started.
    pub(super) fn lot(&self, n_nodes: usize, keys: &[(&str, &str)]) -> Result<House> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}_{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("starling-bench-{name}"));
        let peers = (0..n_nodes).map(|_| Ok(free_address()?.to_string())).collect::<Result<Vec<_>>>()?;
        let keyspace = self.set.iter().find_map(|pair| pair.strip_prefix("storage.cql.keyspace="));
        let keyspace = format!("{}_{name}", keyspace.unwrap_or("bench"));
        let starters = (0..n_nodes).map(|n| {
            let starter = without_limits(Starter::new(&self.node, dir.join(format!("n{n}"))));
            let starter = with_keys(starter.set("storage.backend", "cql"), &self.set)
                .set("storage.cql.keyspace", &keyspace)
                .set("cluster.name", &keyspace)
                .set("node.id", format!("n{n}"))
                .set("listen.peer", &peers[n])
                .set("cluster.seeds", peers.join(","));
            keys.iter().fold(starter, |starter, (key, value)| starter.set(key, value)).keeping_ports()
        });
        Ok(House { starters: starters.collect::<Result<_>>()?, nodes: Vec::new(), dir, began: Instant::now() })
    }
}

impl House {
    /// Starts those that are missing to be so many: the very first one alone, since it makes the tables, the others at once.
    pub(super) fn grow(&mut self, n_nodes: usize) -> Result<()> {
        if self.nodes.is_empty() {
            self.nodes.push(tokio::task::block_in_place(|| self.starters[0].start())?);
        }
        let missing = &self.starters[self.nodes.len()..n_nodes];
        self.nodes.extend(at_once(missing, Starter::start)?);
        Ok(())
    }

    /// Kills them all and starts them at once.
    pub(super) fn restart_all(&mut self) -> Result<()> {
        self.nodes.iter_mut().for_each(Node::kill);
        at_once(&mut self.nodes, Node::restart).map(drop)
    }

    /// Waits until these nodes see so many that are up, and no more.
    pub(super) fn agree(&self, nodes: std::ops::Range<usize>, n_up: usize) -> std::result::Result<(), CommandError> {
        let began = Instant::now();
        for node in &self.nodes[nodes] {
            let sees = || Metrics::of(node).map(|metrics| metrics.value(r#"starling_cluster_nodes{state="up"}"#));
            while tokio::task::block_in_place(sees)? != Some(n_up as f64) {
                if began.elapsed() > AGREED_WITHIN {
                    let why = format!("a node does not see {n_up} nodes up\n{}", node.log());
                    return Err(CommandError::Start(Error::other(why)));
                }
                thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }

    pub(super) fn targets(&self) -> std::result::Result<Vec<Target>, CommandError> {
        self.nodes.iter().map(|node| Ok(Target::new(&node.client, None)?)).collect()
    }

    /// The REST side of the first node.
    pub(super) fn rest(&self) -> std::result::Result<Rest, CommandError> {
        Ok(Rest::new(&Target::new(&self.nodes[0].client, None)?)?)
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::pid).collect()
    }

    /// How many logs each node may append to.
    pub(super) fn owned(&self) -> std::result::Result<Vec<f64>, CommandError> {
        self.read(|metrics| metrics.value("starling_conversations_owned ").unwrap_or_default())
    }

    pub(super) fn spent(&self) -> std::result::Result<Spent, CommandError> {
        let cpu_us = cpu_us(&self.pids())? as f64;
        let sum = |name: &'static str| -> std::result::Result<f64, CommandError> {
            Ok(self.read(|metrics| metrics.value(name).unwrap_or_default())?.iter().sum())
        };
        Ok(Spent {
            seconds: self.began.elapsed().as_secs_f64(),
            cpu_us,
            frames: sum("starling_peer_frames_total ")?,
            bytes: sum("starling_peer_frame_bytes_total ")?,
            events: sum(r#"starling_peer_parcels_total{type="event"}"#)?,
        })
    }

    /// What they spend on nothing, measured for so long.
    pub(super) async fn idle(&self, seconds: f64) -> std::result::Result<Spent, CommandError> {
        let before = self.spent()?;
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(self.spent()?.since(before))
    }

    fn read(&self, of: impl Fn(&Metrics) -> f64) -> std::result::Result<Vec<f64>, CommandError> {
        tokio::task::block_in_place(|| self.nodes.iter().map(|node| Ok(of(&Metrics::of(node)?))).collect())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.nodes.clear();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn at_once<T: Send, A: Send>(
    what: impl IntoIterator<Item = T>, with: impl Fn(T) -> Result<A> + Sync,
) -> Result<Vec<A>> {
    let with = &with;
    tokio::task::block_in_place(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = what.into_iter().map(|one| scope.spawn(move || with(one))).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|ended| ended.unwrap_or_else(|_| Err(Error::other("starting a node failed")))).collect()
        })
    })
}
