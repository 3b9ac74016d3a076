//! How long until writes are accepted again: two people with a device on every node and many groups, so that some of
//! them are always owned by the node that something happens to. They write when they are asked to, in all groups at once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use loadtest::Device;
use protocol::{ConversationId, UserId, push, request::Verb};

use crate::{
    cluster::{Cluster, N_NODES},
    rig::{PATIENCE, Part, post},
};

/// With three nodes, one of them owns none of these once in 500 times.
const N_GROUPS: usize = 15;
/// Writes wait as long as they may, so that what is printed is how long it was.
const WITHIN: Duration = Duration::from_secs(180);

/// See the module.
pub(crate) struct Probes {
    pub(crate) groups: Vec<ConversationId>,
    user: UserId,
    /// Of that user, one on each node.
    devices: Vec<Device>,
    rounds: u64,
}

/// How many attempts were told what, and the slowest of each.
pub(crate) type Told = BTreeMap<&'static str, (usize, Duration)>;

impl Probes {
    pub(crate) async fn start(cluster: &Cluster) -> Probes {
        let rig = &cluster.rig;
        let people = rig.people(2).await;
        let (mut devices, mut groups) = (Vec::new(), Vec::new());
        for n in 0..N_NODES {
            devices.push(rig.device(&people[0], n, cluster.target(n)).await);
        }
        for _ in 0..N_GROUPS {
            groups.push(rig.group(&people).await);
        }
        let mut probes = Probes { groups, user: people[0].user.id, devices, rounds: 0 };
        for through in 0..N_NODES {
            probes.write(through).await;
        }
        probes
    }

    /// Writes in every group through this node; when the first and when the last was accepted.
    pub(crate) async fn write(&mut self, through: usize) -> [Instant; 2] {
        let cid = self.cid();
        let mut accepted = join_all(self.groups.iter().map(async |c| {
            self.devices[through].send(&post(*c, &cid, "are you there?"), WITHIN).await.unwrap();
            Instant::now()
        }))
        .await;
        accepted.sort_unstable();
        [accepted[0], accepted[N_GROUPS - 1]]
    }

    /// Writes one after another in every group through this node until it is enough; how many were accepted.
    pub(crate) async fn flood(&mut self, through: usize, bytes: usize, enough: &AtomicBool) -> usize {
        let (cid, text) = (self.cid(), "x".repeat(bytes));
        let accepted = join_all(self.groups.iter().map(async |c| {
            let mut n = 0;
            while !enough.load(Ordering::Relaxed) {
                self.devices[through].send(&post(*c, &format!("{cid}-{n}"), &text), WITHIN).await.unwrap();
                n += 1;
            }
            n
        }));
        accepted.await.iter().sum()
    }

    /// Tries once in every group through this node.
    pub(crate) async fn attempt(&mut self, through: usize) -> Told {
        let cid = self.cid();
        let socket = self.devices[through].live(PATIENCE).await.unwrap();
        let answers = join_all(self.groups.iter().map(async |c| {
            let asked = Instant::now();
            let answer = socket.request::<push::Sent>(Verb::Send(post(*c, &cid, "and now?"))).await;
            (answer.map_or_else(|failed| failed.code().map_or("lost", |code| code.as_str()), |_| "ok"), asked.elapsed())
        }));
        let mut told = Told::new();
        for (code, took) in answers.await {
            let entry = told.entry(code).or_default();
            *entry = (entry.0 + 1, entry.1.max(took));
        }
        told
    }

    fn cid(&mut self) -> String {
        self.rounds += 1;
        format!("probe-{}", self.rounds)
    }

    /// What is to be looked at in the end.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let devices = || self.devices.iter().map(|device| (self.user, device)).collect();
        self.groups.iter().map(|c| Part { c: *c, devices: devices() }).collect()
    }
}
