//! A plain copy of what a node knows of the others, for readiness, `status` and tests.

use std::time::Duration;

use protocol::{Incarnation, NodeId, cluster::MemberState};
use tokio::time::Instant;

use super::State;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Of the view in force.
    pub version: u64,
    /// What this node is in it; `None`: no member yet, or any more.
    pub state: Option<MemberState>,
    /// Why nothing is placed here; empty: something is.
    pub unready: Vec<String>,
    /// All other members, gone ones too, in the order in which they joined.
    pub peers: Vec<PeerSnapshot>,
}

/// One other member.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSnapshot {
    /// Which node.
    pub node: NodeId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// What it is in the view.
    pub state: MemberState,
    /// A link stands.
    pub linked: bool,
    /// Beats go both ways.
    pub two_way: bool,
    /// For how long it was not heard, or did not hear this node; zero for gone ones.
    pub silent: Duration,
    /// From here to there and back.
    pub round_trip: Option<Duration>,
    /// What waits here to be sent to it; `None`: it was never met. Filled in by who keeps the queues.
    pub queue_bytes: Option<usize>,
    /// What it runs; `None`: it does not say, or was never met.
    pub release: Option<String>,
    /// How long this run of it has been one of many; `None`: no link stands.
    pub uptime: Option<Duration>,
}

impl State {
    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let view = self.row.view();
        let others = view.members.iter().filter(|member| member.incarnation != self.id());
        let peers = others.map(|member| {
            let peer = self.peers.get(member.incarnation);
            PeerSnapshot {
                node: member.node.clone(),
                incarnation: member.incarnation,
                state: member.state,
                linked: peer.is_some_and(|peer| peer.is_linked()),
                two_way: peer.is_some_and(|peer| peer.two_way(now)),
                silent: peer.map_or(Duration::ZERO, |peer| peer.silent(now)),
                round_trip: peer.and_then(|peer| peer.round_trip),
                queue_bytes: None,
                release: peer.and_then(|peer| peer.release.clone()),
                uptime: peer.and_then(|peer| peer.uptime(now)),
            }
        });
        let peers: Vec<_> = peers.collect();
        Snapshot { version: view.version, state: self.state(), unready: self.unready(&peers), peers }
    }

    fn unready(&self, peers: &[PeerSnapshot]) -> Vec<String> {
        let mut why = Vec::new();
        if self.ended {
            why.push("not a member of the cluster any more".to_owned());
        } else if self.row.known().is_none() {
            why.push("the view has not been read from the store yet".to_owned());
        }
        if let (Some((at, misfit)), false) = (self.kept_out(), self.joined) {
            why.push(format!("kept out by {at}: {misfit}"));
        }
        let missing = || {
            let up = peers.iter().filter(|peer| peer.state == MemberState::Up && !peer.two_way);
            let names: Vec<_> = up.map(|peer| peer.node.as_str()).collect();
            if names.is_empty() { String::new() } else { format!(": no beats both ways with {}", names.join(", ")) }
        };
        match self.state() {
            Some(MemberState::Up) => {}
            Some(MemberState::Joining) => why.push(format!("joining the cluster{}", missing())),
            Some(MemberState::NoStore) => why.push(format!("unplaced, its store was away{}", missing())),
            Some(MemberState::Draining) => why.push("draining".to_owned()),
            Some(MemberState::Gone) | None if why.is_empty() => why.push("waiting to join the cluster".to_owned()),
            Some(MemberState::Gone) | None => {}
        }
        why
    }
}
