//! How long until writes are accepted again: two people with a device on every node and many groups, so that some of
//! them are always owned by the node that something happens to. They write when they are asked to, in all groups at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use loadtest::{Device, History};
use protocol::{ConversationId, UserId};

use crate::{
    cluster::{Cluster, N_NODES},
    rig::{Part, judge, post},
    talk::Talk,
};

/// With three nodes, one of them owns none of these once in 500 times.
const N_GROUPS: usize = 15;
/// Writes wait as long as they may, so that what is printed is how long it was.
const WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Probes {
    user: UserId,
    /// Of that user, one on each node.
    devices: Vec<Device>,
    groups: Vec<ConversationId>,
    rounds: u64,
}

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
        let mut probes = Probes { user: people[0].user.id, devices, groups, rounds: 0 };
        for through in 0..N_NODES {
            probes.write(through, Instant::now(), "before").await;
        }
        probes
    }

    /// Writes in every group through this node; prints and answers how long after `since` the last was accepted.
    pub(crate) async fn write(&mut self, through: usize, since: Instant, what: &str) -> Duration {
        self.rounds += 1;
        let cid = format!("probe-{}", self.rounds);
        let mut took = join_all(self.groups.iter().map(async |c| {
            self.devices[through].send(&post(*c, &cid, "are you there?"), WITHIN).await.unwrap();
            since.elapsed()
        }))
        .await;
        took.sort_unstable();
        println!("{what}: writes through n{through} accepted after {:.1?} to {:.1?}", took[0], took[N_GROUPS - 1]);
        took[N_GROUPS - 1]
    }

    /// Everybody finishes; the verdict on all that was said.
    pub(crate) async fn finish(self, mut talk: Talk, mut cluster: Cluster, name: &str) {
        talk.hush().await;
        let rig = &mut cluster.rig;
        let parts: Vec<Part<'_>> = self
            .groups
            .iter()
            .map(|c| Part { c: *c, devices: self.devices.iter().map(|device| (self.user, device)).collect() })
            .collect();
        let mut logs = rig.settle(&parts).await;
        let said = talk.read_back(rig).await;
        logs.extend(said.logs);
        judge(name, &History { records: said.records, logs });
    }
}
