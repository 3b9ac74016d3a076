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
    /// What waits though something is placed here.
    pub degraded: Vec<String>,
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
        let (unready, degraded) = (self.unready(now), self.degraded(now));
        Snapshot { version: view.version, state: self.state(), unready, degraded, peers }
    }

    fn unready(&self, now: Instant) -> Vec<String> {
        let mut why = Vec::new();
        if self.ended {
            why.push("not a member of the cluster any more".to_owned());
        } else if self.row.known().is_none() {
            why.push("the view has not been read from the store yet".to_owned());
        }
        if let (Some((at, misfit)), false) = (self.kept_out(), self.joined) {
            why.push(format!("kept out by {at}: {misfit}"));
        }
        let awaited = || self.awaited(now).map(|awaited| format!(": {awaited}")).unwrap_or_default();
        match self.state() {
            Some(MemberState::Up) => {}
            Some(MemberState::Joining) => why.push(format!("joining the cluster{}", awaited())),
            Some(MemberState::NoStore) => why.push(format!("unplaced, its store was away{}", awaited())),
            Some(MemberState::Draining) => why.push("draining".to_owned()),
            Some(MemberState::Later(state)) => why.push(format!("in a state of a later release: {}", state.as_str())),
            Some(MemberState::Gone) | None if why.is_empty() => why.push("waiting to join the cluster".to_owned()),
            Some(MemberState::Gone) | None => {}
        }
        why
    }

    /// Who is silent and stays a member for a while, as those that are left are no majority.
    fn degraded(&self, now: Instant) -> Vec<String> {
        let serves = self.state() == Some(MemberState::Up) && !self.hears_most(now);
        let awaited = if serves { self.awaited(now) } else { None };
        awaited.map(|awaited| format!("what is placed on other nodes waits: {awaited}")).into_iter().collect()
    }

    /// Members that are up and do not hear this one or are not heard, and until when.
    fn awaited(&self, now: Instant) -> Option<String> {
        let others = self.row.view().up().filter(|member| member.incarnation != self.id());
        let missing: Vec<_> = others.filter(|member| !self.peers.two_way(member.incarnation, now)).collect();
        let heard = self.row.view().up().count() > missing.len() + usize::from(self.state() == Some(MemberState::Up));
        let mut names: Vec<_> = missing.iter().map(|member| member.node.as_str()).collect();
        names.sort_unstable();
        let names = names.join(", ");
        let peers: Vec<_> = missing.iter().filter_map(|member| self.peers.get(member.incarnation)).collect();
        if missing.is_empty() {
            return None;
        }
        if heard || peers.iter().any(|peer| peer.silent(now) < self.me.dead) {
            return Some(format!("no beats both ways with {names}"));
        }
        let alive = peers.iter().filter(|peer| peer.is_alive_elsewhere()).map(|peer| peer.node.as_str());
        let alive: Vec<_> = alive.collect();
        if !alive.is_empty() {
            return Some(format!(
                "no beats both ways with {names}; by the store {} lives: see whether the two reach each other at \
                 cluster.advertise",
                alive.join(", ")
            ));
        }
        let until = match peers.iter().map(|peer| peer.stuck_in(now)).collect::<Option<Vec<_>>>() {
            Some(left) => {
                let left = left.into_iter().max().unwrap_or_default();
                format!("in about {} s", left.as_secs() + u64::from(left.subsec_nanos() > 0))
            }
            None => "which cannot be read there now".to_owned(),
        };
        Some(format!(
            "{names} silent, and without a majority of those that were up nobody is taken out before its sign of life in \
             the store has stood still for 30 s, {until}; sooner if it is started"
        ))
    }
}
