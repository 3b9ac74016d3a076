//! A network of nodes in memory: links that delay, double, reorder, hold back and break, as the dice say. Time is what
//! the test says it is; the same seed does the same again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    Incarnation,
    peer::{Greeting, common_version},
};
use tokio::time::Instant;

use super::Dice;
use crate::cluster::link::{ClusterLink, LinkEvent, PeerAddress};

/// What the links do by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The longest that a frame takes, milliseconds, unless it is held back.
    pub(super) delay_ms: u64,
    /// Of a thousand frames so many come twice.
    pub(super) doubles: u64,
    /// Of a thousand frames so many are overtaken by later ones.
    pub(super) reorders: u64,
    /// The longest until an end notices that its link broke, milliseconds.
    pub(super) notice_ms: u64,
}

/// A cut end is dialled for so long.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<Wires>>);

/// One node's way into it.
pub(super) struct TestLink {
    me: Incarnation,
    network: Network,
}

struct Wires {
    dice: Dice,
    now: Instant,
    weather: Weather,
    nodes: BTreeMap<Incarnation, (String, Greeting)>,
    wires: Vec<Wire>,
    /// The wire that a node believes to have to a peer; it may be broken already.
    ends: BTreeMap<(Incarnation, Incarnation), usize>,
    held_back: BTreeMap<(Incarnation, Incarnation), Instant>,
    due: BTreeMap<(Instant, u64), Due>,
    n_due: u64,
    /// Bytes under way, from and to, and the most there ever were.
    under_way: BTreeMap<(Incarnation, Incarnation), usize>,
    under_way_max: usize,
}

struct Wire {
    broken: bool,
    /// Nothing in a direction comes before what was sent earlier.
    last: BTreeMap<Incarnation, Instant>,
}

enum Due {
    Frame { wire: usize, from: Incarnation, to: Incarnation, frame: Bytes },
    Down { wire: usize, whose: Incarnation, peer: Incarnation, why: &'static str },
    Dial { from: Incarnation, address: PeerAddress },
    NotReached { from: Incarnation, event: LinkEvent },
}

impl Network {
    /// Nobody is there yet.
    pub(super) fn new(seed: u64, now: Instant, weather: Weather) -> Network {
        Network(Arc::new(Mutex::new(Wires {
            dice: Dice::new(seed),
            now,
            weather,
            nodes: BTreeMap::new(),
            wires: Vec::new(),
            ends: BTreeMap::new(),
            held_back: BTreeMap::new(),
            due: BTreeMap::new(),
            n_due: 0,
            under_way: BTreeMap::new(),
            under_way_max: 0,
        })))
    }

    /// A node that says this of itself is reached at this address.
    pub(super) fn join(&self, at: &str, greeting: Greeting) -> TestLink {
        let me = greeting.incarnation;
        self.lock().nodes.insert(me, (at.to_owned(), greeting));
        TestLink { me, network: self.clone() }
    }

    /// It was killed: its links break, and nobody listens there.
    pub(super) fn kill(&self, node: Incarnation) {
        let mut wires = self.lock();
        wires.nodes.remove(&node);
        let peers: Vec<_> = wires.ends.keys().filter(|(whose, _)| *whose == node).map(|(_, peer)| *peer).collect();
        for peer in peers {
            wires.break_wire(node, peer, "it was killed");
            wires.ends.remove(&(node, peer));
        }
    }

    /// The link between the two breaks; each end notices in its own time.
    pub(super) fn reset(&self, a: Incarnation, b: Incarnation) {
        self.lock().break_wire(a, b, "reset");
    }

    /// What one says to the other is held back until then.
    pub(super) fn hold_back(&self, from: Incarnation, to: Incarnation, until: Instant) {
        self.lock().held_back.insert((from, to), until);
    }

    /// Another weather from now on.
    pub(super) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// The most bytes that were ever under way in one direction: what a transport would have had to keep.
    pub(super) fn under_way_max(&self) -> usize {
        self.lock().under_way_max
    }

    /// It is later.
    pub(super) fn is_now(&self, now: Instant) {
        self.lock().now = now;
    }

    /// When the next thing happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lock().due.keys().next().map(|(at, _)| *at)
    }

    /// What has happened by now, and to whom, in order.
    pub(super) fn poll(&self, now: Instant) -> Vec<(Incarnation, LinkEvent)> {
        let mut wires = self.lock();
        wires.now = now;
        let mut out = Vec::new();
        while let Some(entry) = wires.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, n), due) = entry.remove_entry();
            wires.happen(n, due, &mut out);
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }
}

impl ClusterLink for TestLink {
    fn dial(&self, address: PeerAddress) {
        let mut wires = self.network.lock();
        let at = wires.soon();
        wires.push(at, Due::Dial { from: self.me, address });
    }

    fn send(&self, peer: Incarnation, frame: Bytes) {
        self.network.lock().send(self.me, peer, frame);
    }

    fn drop_peer(&self, peer: Incarnation) {
        let mut wires = self.network.lock();
        let (me, now) = (self.me, wires.now);
        if let Some(wire) = wires.ends.get(&(me, peer)).copied() {
            wires.break_wire(me, peer, "the peer dropped it");
            wires.push(now, Due::Down { wire, whose: me, peer, why: "dropped" });
        }
    }
}

impl Wires {
    fn soon(&self) -> Instant {
        self.now + Duration::from_micros(50 + self.dice.roll(self.weather.delay_ms * 1000 + 1))
    }

    fn push(&mut self, at: Instant, due: Due) {
        self.n_due += 1;
        self.due.insert((at, self.n_due), due);
    }

    fn send(&mut self, from: Incarnation, to: Incarnation, frame: Bytes) {
        let Some(wire) = self.ends.get(&(from, to)).copied().filter(|wire| !self.wires[*wire].broken) else { return };
        let last = self.wires[wire].last.get(&to).copied().unwrap_or(self.now);
        let at = self.soon().max(last);
        if self.dice.roll(1000) < self.weather.reorders {
            let late = at + Duration::from_millis(1 + 2 * self.weather.delay_ms);
            return self.put_under_way(late, wire, from, to, frame);
        }
        self.wires[wire].last.insert(to, at);
        if self.dice.roll(1000) < self.weather.doubles {
            self.put_under_way(at, wire, from, to, frame.clone());
        }
        self.put_under_way(at, wire, from, to, frame);
    }

    fn put_under_way(&mut self, at: Instant, wire: usize, from: Incarnation, to: Incarnation, frame: Bytes) {
        let bytes = self.under_way.entry((from, to)).or_default();
        *bytes += frame.len();
        self.under_way_max = self.under_way_max.max(*bytes);
        self.push(at, Due::Frame { wire, from, to, frame });
    }

    fn happen(&mut self, n: u64, due: Due, out: &mut Vec<(Incarnation, LinkEvent)>) {
        match due {
            Due::Frame { wire, from, to, frame } => {
                let is_whole = !self.wires[wire].broken && self.ends.get(&(to, from)) == Some(&wire);
                if let Some(until) = self.held_back.get(&(from, to)).filter(|until| is_whole && **until > self.now) {
                    // all that is held back comes at once, in order
                    self.due.insert((*until, n), Due::Frame { wire, from, to, frame });
                    return;
                }
                if let Some(bytes) = self.under_way.get_mut(&(from, to)) {
                    *bytes -= frame.len();
                }
                if is_whole {
                    out.push((to, LinkEvent::Frame { from, frame }));
                }
            }
            Due::Down { wire, whose, peer, why } => {
                if self.ends.get(&(whose, peer)) == Some(&wire) {
                    self.ends.remove(&(whose, peer));
                    out.push((whose, LinkEvent::Down { peer, why: why.to_owned() }));
                }
            }
            Due::Dial { from, address } => self.dial(from, address, out),
            Due::NotReached { from, event } => out.push((from, event)),
        }
    }

    fn dial(&mut self, from: Incarnation, address: PeerAddress, out: &mut Vec<(Incarnation, LinkEvent)>) {
        let Some((_, ours)) = self.nodes.get(&from).cloned() else { return };
        let there = self.nodes.values().find(|(at, _)| *at == address.at).map(|(_, greeting)| greeting.clone());
        let is_held_back = |a, b| self.held_back.get(&(a, b)).is_some_and(|until| *until > self.now);
        let misfit = |why| (Duration::ZERO, false, true, why);
        let (after, refused, misfit, why) = match &there {
            None => (Duration::ZERO, true, false, "nobody listens there"),
            Some(theirs) if is_held_back(from, theirs.incarnation) || is_held_back(theirs.incarnation, from) => {
                (DIAL_DEADLINE, false, false, "no answer in time")
            }
            Some(theirs) if address.node.as_ref().is_some_and(|node| *node != theirs.node) => {
                misfit("another node answers there")
            }
            Some(theirs) if theirs.equal != ours.equal => misfit("a setting that must be equal is not"),
            // as the transport does it: a dial that was under way when a link came up makes no second one
            Some(theirs) if self.stands(from, theirs.incarnation) => (Duration::ZERO, false, false, "a link stands"),
            Some(theirs) => match common_version(theirs.versions).and(common_version(ours.versions)) {
                None => misfit("no version in common"),
                Some(version) => return self.connect(&ours, theirs, version, out),
            },
        };
        let event = LinkEvent::NotReached { address, refused, misfit, why: why.to_owned() };
        self.push(self.now + after, Due::NotReached { from, event });
    }

    /// True if there is a link, as far as both ends know.
    fn stands(&self, a: Incarnation, b: Incarnation) -> bool {
        let (mine, theirs) = (self.ends.get(&(a, b)), self.ends.get(&(b, a)));
        mine.is_some_and(|wire| theirs == Some(wire) && !self.wires[*wire].broken)
    }

    fn connect(&mut self, a: &Greeting, b: &Greeting, version: u16, out: &mut Vec<(Incarnation, LinkEvent)>) {
        let wire = self.wires.len();
        self.wires.push(Wire { broken: false, last: BTreeMap::new() });
        for (whose, peer) in [(a, b), (b, a)] {
            if let Some(old) = self.ends.insert((whose.incarnation, peer.incarnation), wire) {
                self.wires[old].broken = true;
                let down = LinkEvent::Down { peer: peer.incarnation, why: "replaced".to_owned() };
                out.push((whose.incarnation, down));
            }
            out.push((whose.incarnation, LinkEvent::Up { peer: peer.clone(), version }));
        }
    }

    fn break_wire(&mut self, a: Incarnation, b: Incarnation, why: &'static str) {
        for (whose, peer) in [(a, b), (b, a)] {
            let Some(wire) = self.ends.get(&(whose, peer)).copied() else { continue };
            self.wires[wire].broken = true;
            let at = self.now + Duration::from_millis(self.dice.roll(self.weather.notice_ms + 1));
            self.push(at, Due::Down { wire, whose, peer, why });
        }
    }
}
