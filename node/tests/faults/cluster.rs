//! Three nodes as processes on one keyspace and one Redis, each with all three as its seeds. One story has the machine
//! at a time: a node that gets no processor looks like a dead one.

use std::{
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use loadtest::{Node, Starter, Target, starter::lasting_port};

use crate::{
    rig::{self, PATIENCE, Rig},
    support::Place,
};

/// How many nodes there are.
pub(crate) const N_NODES: usize = 3;

static ALONE: Mutex<()> = Mutex::new(());

/// See the module. The rig's node is the first.
pub(crate) struct Cluster {
    // ended before the place they keep things in
    others: Vec<Node>,
    pub(crate) rig: Rig,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// One after the other.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// The same with these keys.
    pub(crate) fn start_with(set: &[(&str, &str)]) -> Cluster {
        Cluster::started(set, |starters| starters.iter().map(|starter| starter.start().unwrap()).collect())
    }

    /// All at the same moment, where there is nothing yet: not even tables.
    pub(crate) fn start_at_once() -> Cluster {
        Cluster::started(&[], |starters| at_once(starters, |starter| starter.start().unwrap()))
    }

    fn started(set: &[(&str, &str)], start: impl FnOnce(&[Starter]) -> Vec<Node>) -> Cluster {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place::shared();
        let ports: Vec<_> = (0..N_NODES).map(|_| lasting_port().unwrap()).collect();
        let peers: Vec<String> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let starters: Vec<Starter> = (0..N_NODES)
            .map(|n| {
                let starter = rig::unlimited(&place, set);
                starter
                    .set("node.id", format!("n{n}"))
                    .set("node.data_dir", place.path().join(format!("n{n}")).display())
                    .set("listen.peer", &peers[n])
                    .set("cluster.seeds", peers.join(","))
            })
            .collect();
        let mut others = tokio::task::block_in_place(|| start(&starters));
        let mut rig = Rig::with(others.remove(0), starters[0].clone(), place);
        rig.beside = others.iter().map(target).collect();
        Cluster { others, rig, _alone: alone }
    }

    pub(crate) fn node(&mut self, n: usize) -> &mut Node {
        if n == 0 { &mut self.rig.node } else { &mut self.others[n - 1] }
    }

    pub(crate) fn target(&self, n: usize) -> Target {
        self.rig.targets(n).swap_remove(0)
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
}

impl Drop for Cluster {
    /// Whoever reads of a failure wants to know what the nodes said.
    fn drop(&mut self) {
        if thread::panicking() {
            (0..N_NODES).for_each(|n| println!("n{n}:\n{}", self.node(n).log()));
        }
    }
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
