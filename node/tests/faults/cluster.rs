//! Three nodes as processes on one keyspace and one Redis, each with all three as its seeds. Between each two of them, and
//! between each of them and its stores, there is a wire that a story can cut. One story has the machine at a time: a node
//! that gets no processor looks like a dead one.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    net::TcpStream,
    path::Path,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use loadtest::{
    Node, Starter, Target,
    proxy::{Mesh, Proxy},
    random::Random,
    servers::{Cql, redis_url},
    starter::free_address,
};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    rig::{self, PATIENCE, Rig},
    support::Place,
};

/// How many nodes there are.
pub(crate) const N_NODES: usize = 3;
/// Healing is promised within ten seconds.
const WHOLE_WITHIN: Duration = Duration::from_secs(180);

static ALONE: Mutex<()> = Mutex::const_new(());

/// See the module. The rig's node is the first.
pub(crate) struct Cluster {
    // ended before the place they keep things in
    others: Vec<Node>,
    pub(crate) rig: Rig,
    /// Between the nodes.
    pub(crate) links: Mesh,
    /// Between each node and its stores.
    pub(crate) stores: Vec<Stores>,
    /// Where the rows are.
    pub(crate) cql: Cql,
    pub(crate) keyspace: String,
    starters: Vec<Starter>,
    _alone: MutexGuard<'static, ()>,
}

/// One node's wires to its stores.
pub(crate) struct Stores {
    pub(crate) cql: Proxy,
    pub(crate) redis: Proxy,
}

impl Cluster {
    /// The first, then the others.
    pub(crate) async fn start() -> Cluster {
        Cluster::start_with(&[]).await
    }

    /// The same with these keys.
    pub(crate) async fn start_with(set: &[(&str, &str)]) -> Cluster {
        Cluster::started(set, |starters| {
            let mut nodes = vec![starters[0].start().unwrap()];
            nodes.extend(at_once(&starters[1..], |starter| starter.start().unwrap()));
            nodes
        })
        .await
    }

    /// All at the same moment, where there is nothing yet: not even tables.
    pub(crate) async fn start_at_once() -> Cluster {
        Cluster::started(&[], |starters| at_once(starters, |starter| starter.start().unwrap())).await
    }

    async fn started(set: &[(&str, &str)], start: impl FnOnce(&[Starter]) -> Vec<Node>) -> Cluster {
        let alone = ALONE.lock().await;
        let place = Place::shared();
        let peers: Vec<String> = (0..N_NODES).map(|_| free_address().unwrap().to_string()).collect();
        let known: Vec<(String, String)> =
            peers.iter().enumerate().map(|(n, at)| (format!("node.id=n{n}"), at.clone())).collect();
        let links = Mesh::start(&known).unwrap();
        let seeds: Vec<String> = (0..N_NODES).map(|n| links.address(n).to_string()).collect();
        let (mut stores, mut starters) = (Vec::new(), Vec::new());
        for n in 0..N_NODES {
            let wires = Stores::of_node().await;
            let starter = wires.wear(rig::unlimited(&place, set), &place, n);
            let starter = starter
                .set("node.id", format!("n{n}"))
                .set("node.data_dir", place.path().join(format!("n{n}")).display())
                .set("listen.peer", &peers[n])
                .set("cluster.advertise", &seeds[n])
                .set("cluster.seeds", seeds.join(","));
            stores.push(wires);
            starters.push(starter);
        }
        let mut others = tokio::task::block_in_place(|| start(&starters));
        let (cql, keyspace) = place.keyspace();
        let mut rig = Rig::with(others.remove(0), starters[0].clone(), place);
        rig.beside = others.iter().map(target).collect();
        Cluster { others, rig, links, stores, cql, keyspace, starters, _alone: alone }
    }

    pub(crate) fn node(&mut self, n: usize) -> &mut Node {
        if n == 0 { &mut self.rig.node } else { &mut self.others[n - 1] }
    }

    pub(crate) fn target(&self, n: usize) -> Target {
        self.rig.targets(n).swap_remove(0)
    }

    /// As this node is started, for one that is like it in something.
    pub(crate) fn starter(&self, n: usize) -> Starter {
        self.starters[n].clone()
    }

    pub(crate) fn kill(&mut self, n: usize) {
        tokio::task::block_in_place(|| self.node(n).kill());
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn terminate(&mut self, n: usize) -> ExitStatus {
        tokio::task::block_in_place(|| self.node(n).terminate(PATIENCE)).unwrap()
    }

    /// On the same data and ports, all at the same moment; those that still run are killed first.
    pub(crate) fn restart(&mut self, which: &[usize]) {
        let nodes = [&mut self.rig.node].into_iter().chain(&mut self.others).enumerate();
        let nodes = nodes.filter(|(n, _)| which.contains(n)).map(|(_, node)| node);
        tokio::task::block_in_place(|| at_once(nodes, |node| node.restart().unwrap()));
    }

    /// One node, run by another program from now on, or by none.
    pub(crate) fn restart_through(&mut self, n: usize, program: &[&str]) {
        let starter = self.starter(n).through(program);
        self.kill(n);
        *self.node(n) = tokio::task::block_in_place(|| starter.start()).unwrap();
    }

    /// Waits until every node says that all of them are up and hear each other; answers how long after `since`.
    pub(crate) async fn whole(&mut self, since: Instant) -> Duration {
        loop {
            let seen: Vec<Option<Value>> =
                tokio::task::block_in_place(|| (0..N_NODES).map(|n| self.nodes(n)).collect());
            if seen.iter().all(|nodes| nodes.as_ref().is_some_and(are_whole)) {
                return since.elapsed();
            }
            assert!(since.elapsed() < WHOLE_WITHIN, "the nodes are not together again: {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a node knows of all; none while it is not there.
    pub(crate) fn nodes(&mut self, n: usize) -> Option<Value> {
        serde_json::from_str(&self.page(n, "/admin/nodes")?).ok()
    }

    /// One number of a node's metrics, named with its labels; 0 if it is not there.
    pub(crate) fn metric(&mut self, n: usize, name: &str) -> f64 {
        let page = tokio::task::block_in_place(|| self.page(n, "/metrics")).unwrap_or_default();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// What a node's operator reads there. A node may begin again at any moment.
    fn page(&mut self, n: usize, path: &str) -> Option<String> {
        let mut tcp = TcpStream::connect(self.node(n).admin_address()).ok()?;
        tcp.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(tcp, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }
}

impl Drop for Cluster {
    /// Whoever reads of a failure wants to know what the nodes said, and what everybody saw.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.keyspace);
        fs::create_dir_all(&kept).unwrap();
        for n in 0..N_NODES {
            fs::write(kept.join(format!("n{n}.log")), self.node(n).log()).unwrap();
        }
        let seen = self.rig.history(Vec::new());
        seen.write(BufWriter::new(File::create(kept.join("seen.jsonl")).unwrap())).unwrap();
        println!("what the nodes said, and what everybody saw that is in no history yet: {}", kept.display());
    }
}

impl Stores {
    async fn of_node() -> Stores {
        let redis = redis_url();
        let redis = redis.trim_start_matches("redis://").trim_end_matches('/');
        let cql = Proxy::start_cql(&Cql::started().node, Random::unseeded().bits()).await.unwrap();
        Stores { cql, redis: Proxy::start(redis).await.unwrap() }
    }

    /// Tells node `n` to use them.
    fn wear(&self, starter: Starter, place: &Place, n: usize) -> Starter {
        let file = place.path().join(format!("redis-n{n}"));
        // with the rights that a secret must have
        fs::copy(place.path().join("redis"), &file).unwrap();
        fs::write(&file, format!("redis://{}/", self.redis.address())).unwrap();
        starter.set("storage.cql.nodes", self.cql.address()).set("tokens.redis.url_file", file.display())
    }
}

fn are_whole(nodes: &Value) -> bool {
    let of = |wanted: &dyn Fn(&Value) -> bool| {
        nodes["nodes"].as_array().into_iter().flatten().filter(|node| wanted(node)).count()
    };
    of(&|node| node["state"] == "up" && node["linked"] == true) == N_NODES && of(&|_| true) == N_NODES
}

fn target(node: &Node) -> Target {
    Target::new(&node.client, None).unwrap()
}

fn at_once<T: Send, A: Send>(what: impl IntoIterator<Item = T>, with: impl Fn(T) -> A + Sync) -> Vec<A> {
    let with = &with;
    thread::scope(|scope| {
        let threads: Vec<_> = what.into_iter().map(|one| scope.spawn(move || with(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
