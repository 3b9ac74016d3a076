//! Whom to dial, and when again: members without a link, and, until it is a member itself, seeds.

use std::{collections::BTreeMap, time::Duration};

use protocol::{NodeId, cluster::View};
use tokio::time::Instant;

use super::{Me, peers::Peers};
use crate::cluster::{jitter::Jitter, link::PeerAddress};

/// Of two members the one with the lower incarnation dials, the other one only if no link stands by then: two links at
/// once would replace each other. Short: whoever dials learns whether a peer whose link was reset is dead.
const DEFER: Duration = Duration::from_millis(250);
/// The pause after the first dial that came to nothing; it doubles with each further one, and is drawn between half and
/// one and a half of that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause before it is drawn.
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// A dial of which nothing is heard for this long is over: a link came of it, and went.
const LOST: Duration = Duration::from_secs(10);
/// A link that did not stand for so long counts as a dial that came to nothing: the peer wants none, and says why by other
/// ways (the view), or never.
const STOOD: Duration = Duration::from_secs(1);
/// Names of seeds are looked up again this often.
const RESOLVE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Dials {
    targets: BTreeMap<(String, Option<NodeId>), Target>,
    seeds: Option<Vec<String>>,
    resolving: Option<Instant>,
    jitter: Jitter,
}

#[derive(Debug)]
struct Target {
    next: Instant,
    under_way: Option<Instant>,
    /// Since when there is the link that came of it.
    linked: Option<Instant>,
    failures: u32,
}

impl Target {
    /// Is called while a link stands; true if that may still come to nothing.
    fn may_come_to_nothing(&mut self, now: Instant) -> bool {
        if self.under_way.take().is_some() {
            self.linked = Some(now);
        }
        self.linked.is_some_and(|since| now < since + STOOD)
    }

    fn failed(&mut self, now: Instant, jitter: &mut Jitter) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        (self.under_way, self.linked) = (None, None);
        self.next = now + pause / 2 + jitter.up_to(pause);
    }
}

impl Dials {
    pub(super) fn new(random: u64) -> Dials {
        // not the same numbers as the row's
        Dials { targets: BTreeMap::new(), seeds: None, resolving: None, jitter: Jitter::new(!random) }
    }

    pub(super) fn resolve_due(&mut self, now: Instant) -> bool {
        let due = self.resolving.is_none_or(|asked| now >= asked + RESOLVE);
        if due {
            self.resolving = Some(now);
        }
        due
    }

    pub(super) fn resolved(&mut self, addresses: Vec<String>) {
        self.seeds = Some(addresses);
    }

    /// Addresses without a link, and how long each may be left to the other side.
    pub(super) fn wanted(
        &self, me: &Me, view: &View, peers: &Peers, joined: bool,
    ) -> Vec<((String, Option<NodeId>), Duration)> {
        let others = view.live().filter(|member| member.node != me.node);
        let without = others.filter(|m| peers.get(m.incarnation).is_none_or(|peer| !peer.is_linked()));
        let mut wanted: Vec<_> = without
            .map(|member| {
                // who does not see this node in the view cannot dial it
                let first = !joined || me.incarnation < member.incarnation;
                let defer = if first { Duration::ZERO } else { DEFER };
                ((member.address.clone(), Some(member.node.clone())), defer)
            })
            .collect();
        // one peer is enough to learn whether this node fits in
        if !joined && peers.linked().next().is_none() {
            let known = |at: &str| at == me.address || view.live().any(|member| member.address == at);
            let seeds = self.seeds.iter().flatten().filter(|at| !known(at));
            wanted.extend(seeds.map(|at| ((at.clone(), None), Duration::ZERO)));
        }
        wanted
    }

    /// Goes by `wanted` from now on; returns whom to dial now.
    pub(super) fn due(&mut self, wanted: Vec<((String, Option<NodeId>), Duration)>, now: Instant) -> Vec<PeerAddress> {
        let is_wanted = |key: &_| wanted.iter().any(|(wanted, _)| wanted == key);
        self.targets.retain(|key, target| is_wanted(key) || target.may_come_to_nothing(now));
        for (key, defer) in wanted {
            let fresh = Target { next: now + defer, under_way: None, linked: None, failures: 0 };
            let target = self.targets.entry(key).or_insert(fresh);
            if target.linked.is_some() {
                target.failed(now, &mut self.jitter);
            }
        }
        let mut due = Vec::new();
        for ((at, node), target) in self.targets.iter_mut().filter(|(_, target)| target.linked.is_none()) {
            if now >= target.next && target.under_way.is_none_or(|since| now >= since + LOST) {
                target.under_way = Some(now);
                due.push(PeerAddress { at: at.clone(), node: node.clone() });
            }
        }
        due
    }

    pub(super) fn failed(&mut self, address: &PeerAddress, now: Instant) {
        if let Some(target) = self.targets.get_mut(&(address.at.clone(), address.node.clone())) {
            target.failed(now, &mut self.jitter);
        }
    }

    /// All of them were tried in vain.
    pub(super) fn nobody_answers(&self, has_seeds: bool) -> bool {
        (self.seeds.is_some() || !has_seeds) && self.targets.values().all(|target| target.failures > 0)
    }
}
