//! Nodes, links between them, one row in a store, and time: everything that membership decides is carried out, and faults
//! come when a test says so. Links are as TCP makes them: in order, silent while cut, reset after a while, refused by a
//! machine on which nobody listens.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    time::Duration,
};

use loadtest::random::Random;
use protocol::{
    Incarnation, NodeId,
    cluster::{MemberState, View},
    peer::{Beat, Greeting},
};
use storage::cluster::Changed;
use tokio::time::Instant;

use crate::cluster::{
    link::PeerAddress,
    membership::{Action, Input, Me, Note, Snapshot, State},
};

/// A link whose bytes are not acknowledged for this long is reset.
const USER_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a dial takes to fail if nobody says anything.
const DIAL_DEADLINE: Duration = Duration::from_secs(3);
const STORE_DEADLINE: Duration = Duration::from_secs(2);

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn name(node: usize) -> NodeId {
    NodeId::try_from(format!("n{node}")).unwrap()
}

pub(super) fn address(node: usize) -> String {
    format!("n{node}:7946")
}

/// One run of one node.
pub(super) struct Run {
    pub(super) node: usize,
    pub(super) id: Incarnation,
    pub(super) state: State,
    pub(super) dead: bool,
    /// Views it was told to go by.
    pub(super) installed: Vec<View>,
    pub(super) notes: Vec<Note>,
}

enum Event {
    Start(usize),
    Tell(usize, Input),
    Carry { link: u64, from: usize, to: usize, beat: Beat, sent: Instant },
    Connect { from: usize, address: PeerAddress },
    Break(u64),
    Notice { link: u64, end: usize },
    Write { run: usize, next: View, answer: Answer },
    Read { run: usize, decided: bool },
}

/// What is said of a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    AsItIs,
    /// It is carried out, or not, and nobody knows.
    Unknown,
    /// Not carried out and unknown.
    Lost,
}

/// See the module.
pub(super) struct World {
    pub(super) now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    what: HashMap<u64, Event>,
    count: u64,
    pub(super) random: Random,
    pub(super) runs: Vec<Run>,
    pub(super) n_nodes: usize,
    pub(super) row: View,
    slots: BTreeMap<(NodeId, Incarnation), u64>,
    links: BTreeMap<u64, (usize, usize)>,
    last: BTreeMap<(u64, usize), Instant>,
    /// Ends that have yet to notice that a link is no more, and who the other end was.
    unnoticed: BTreeMap<(u64, usize), usize>,
    pub(super) cuts: BTreeMap<(usize, usize), Instant>,
    pub(super) paused: BTreeMap<usize, Instant>,
    pub(super) store_away: BTreeMap<usize, Instant>,
    store_said: BTreeMap<usize, bool>,
    /// In a hundred.
    pub(super) beats_lost: u64,
    /// In a hundred changes and reads.
    pub(super) store_slow: u64,
    pub(super) changes_unknown: u64,
    /// Who wrote which revision.
    pub(super) written: Vec<(Incarnation, View)>,
    /// They know seeds: all nodes.
    pub(super) seeds: bool,
    /// They have other settings than the rest.
    pub(super) misfits: BTreeSet<usize>,
    /// What gone members left is never told.
    pub(super) untold: bool,
    pub(super) twins: Vec<Incarnation>,
}

impl World {
    pub(super) fn new(n_nodes: usize, seed: u64) -> World {
        let now = Instant::now();
        World {
            now,
            events: BinaryHeap::new(),
            what: HashMap::new(),
            count: 0,
            random: Random::seeded(seed),
            runs: Vec::new(),
            n_nodes,
            row: View::default(),
            slots: BTreeMap::new(),
            links: BTreeMap::new(),
            last: BTreeMap::new(),
            unnoticed: BTreeMap::new(),
            cuts: BTreeMap::new(),
            paused: BTreeMap::new(),
            store_away: BTreeMap::new(),
            store_said: BTreeMap::new(),
            beats_lost: 0,
            store_slow: 0,
            changes_unknown: 0,
            written: Vec::new(),
            seeds: true,
            misfits: BTreeSet::new(),
            untold: false,
            twins: Vec::new(),
        }
    }

    /// All nodes started and up.
    pub(super) fn up(n_nodes: usize) -> World {
        let mut world = World::new(n_nodes, 7);
        (0..n_nodes).for_each(|node| world.start(node));
        world.run(ms(10_000));
        assert!(world.settled(), "{:?}", world.row);
        world
    }

    // what tests do and ask

    pub(super) fn start(&mut self, node: usize) {
        self.after(Duration::ZERO, Event::Start(node));
    }

    pub(super) fn kill(&mut self, node: usize) {
        if let Some(run) = self.running(node) {
            self.die(run);
            self.paused.remove(&node);
        }
    }

    pub(super) fn pause(&mut self, node: usize, how_long: Duration) {
        self.paused.insert(node, self.now + how_long);
    }

    pub(super) fn cut(&mut self, from: usize, to: usize, how_long: Duration) {
        self.cuts.insert((from, to), self.now + how_long);
    }

    pub(super) fn take_store(&mut self, node: usize, how_long: Duration) {
        self.store_away.insert(node, self.now + how_long);
    }

    pub(super) fn tell(&mut self, node: usize, input: Input) {
        let run = self.running(node).unwrap();
        self.after(Duration::ZERO, Event::Tell(run, input));
    }

    /// The run of a node that is alive.
    pub(super) fn running(&self, node: usize) -> Option<usize> {
        self.runs.iter().rposition(|run| run.node == node && !run.dead)
    }

    pub(super) fn id(&self, node: usize) -> Incarnation {
        self.runs[self.running(node).unwrap()].id
    }

    /// What the row says of the run of a node that is alive.
    pub(super) fn state(&self, node: usize) -> Option<MemberState> {
        let id = self.runs[self.running(node)?].id;
        self.row.member(id).map(|member| member.state)
    }

    /// What this node says of itself and the others.
    pub(super) fn snapshot(&self, node: usize) -> Snapshot {
        self.runs[self.running(node).unwrap()].state.snapshot(self.now)
    }

    /// Every node that runs is up, the row names nobody else, and everybody goes by it.
    pub(super) fn settled(&self) -> bool {
        let running: BTreeSet<_> =
            (0..self.n_nodes).filter_map(|node| self.running(node)).map(|run| self.runs[run].id).collect();
        let all_up = self.row.members.iter().all(|member| member.state == MemberState::Up);
        let members: BTreeSet<_> = self.row.members.iter().map(|member| member.incarnation).collect();
        let agreed = self.runs.iter().filter(|run| !run.dead).all(|run| *run.state.view() == self.row);
        all_up && members == running && agreed && !running.is_empty()
    }

    /// For whoever looks for the reason: what was written from a change on, and what the nodes said.
    pub(super) fn story(&self, from: usize) -> String {
        let node = |id| self.runs.iter().find(|run| run.id == id).map_or(99, |run| run.node);
        let mut lines: Vec<String> = Vec::new();
        for (by, view) in &self.written[from..] {
            let members: Vec<_> = view.members.iter().map(|m| (m.node.as_str(), m.incarnation.0[8], m.state)).collect();
            lines.push(format!("{} by n{}: {members:?}", view.revision, node(*by)));
        }
        for run in &self.runs {
            lines.push(format!("n{} run {} dead {} said {:?}", run.node, run.id.0[8], run.dead, run.notes));
            lines.push(format!("   {:?}", run.state.snapshot(self.now)));
        }
        lines.join("\n")
    }

    pub(super) fn run(&mut self, how_long: Duration) {
        let until = self.now + how_long;
        self.run_until(until, |_| false);
        self.now = until;
    }

    /// Until something is so; how long it took.
    pub(super) fn until(&mut self, at_most: Duration, so: impl Fn(&World) -> bool) -> Duration {
        let from = self.now;
        assert!(self.run_until(from + at_most, so), "not so within {at_most:?}: {:#?}", self.row);
        self.now - from
    }

    fn run_until(&mut self, until: Instant, so: impl Fn(&World) -> bool) -> bool {
        while let Some(Reverse((at, id))) = self.events.pop() {
            if at > until {
                self.events.push(Reverse((at, id)));
                break;
            }
            self.now = self.now.max(at);
            let event = self.what.remove(&id).unwrap();
            if let Some(until) = self.pause_of(&event) {
                self.at(until, event);
                continue;
            }
            self.happen(event);
            if so(self) {
                return true;
            }
        }
        false
    }

    // what happens

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count)));
        self.what.insert(self.count, event);
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    fn pause_of(&self, event: &Event) -> Option<Instant> {
        let node = match event {
            Event::Tell(run, _) => self.runs[*run].node,
            _ => return None,
        };
        self.paused.get(&node).copied().filter(|until| *until > self.now)
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.runs[from].node, self.runs[to].node);
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    fn hop(&mut self) -> Duration {
        if self.random.below(33) == 0 { ms(self.random.below(120)) } else { ms(1 + self.random.below(3)) }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(node) => self.begin(node),
            Event::Tell(run, input) if !self.runs[run].dead => {
                self.probe(run);
                let actions = self.runs[run].state.on(input, self.now);
                actions.into_iter().for_each(|action| self.perform(run, action));
            }
            Event::Tell(..) => {}
            Event::Carry { link, from, to, beat, sent } => self.carry(link, from, to, beat, sent),
            Event::Connect { from, address } => self.connect(from, address),
            Event::Break(link) => self.break_link(link),
            Event::Notice { link, end } => self.notice(link, end),
            Event::Write { run, next, answer } => self.write(run, next, answer),
            Event::Read { run, decided } => {
                let (result, back) = (Ok(self.row.clone()), self.hop());
                self.after(back, Event::Tell(run, Input::ViewRead { decided, result }));
            }
        }
    }

    fn begin(&mut self, node: usize) {
        if self.running(node).is_some() {
            return;
        }
        let run = self.runs.len();
        // in no order, as random ones are
        let mut id = [0; 16];
        id[0] = self.random.below(256) as u8;
        id[1..9].copy_from_slice(&(run as u64).to_be_bytes());
        let (id, has_seeds, random) = (Incarnation(id), self.seeds, self.random.bits());
        let (node_id, dead) = (name(node), ms(3_000));
        let me = Me { node: node_id, incarnation: id, address: address(node), weight: 1, has_seeds, dead, random };
        let state = State::new(me, self.now);
        self.runs.push(Run { node, id, state, dead: false, installed: vec![], notes: vec![] });
        self.store_said.insert(run, true);
        self.after(Duration::ZERO, Event::Tell(run, Input::Tick));
    }

    fn die(&mut self, run: usize) {
        self.runs[run].dead = true;
        let links: Vec<_> = self.links.iter().filter(|(_, (a, b))| *a == run || *b == run).map(|(l, _)| *l).collect();
        for link in links {
            self.break_link(link);
        }
    }

    /// Says whether its store answers, when that changed.
    fn probe(&mut self, run: usize) {
        let ok = !self.store_is_away(run);
        if self.store_said.insert(run, ok) != Some(ok) {
            self.after(ms(500), Event::Tell(run, Input::StoreOk(ok)));
        }
    }

    fn store_is_away(&self, run: usize) -> bool {
        self.store_away.get(&self.runs[run].node).is_some_and(|until| *until > self.now)
    }

    fn perform(&mut self, run: usize, action: Action) {
        let there = self.hop();
        let slow = self.random.below(100) < self.store_slow;
        let unknown = self.random.below(100) < self.changes_unknown;
        let away = self.store_is_away(run);
        let refused = || storage::Error::Refused("away".into());
        match action {
            Action::ReadView { decided } if away => {
                let input = Input::ViewRead { decided, result: Err(refused()) };
                self.after(STORE_DEADLINE, Event::Tell(run, input));
            }
            Action::ReadView { decided } => {
                let there = if slow { ms(self.random.below(1_500)) } else { there };
                self.after(there, Event::Read { run, decided });
            }
            Action::ChangeView(next) => {
                assert_eq!(next.revision, self.runs[run].state.view().revision + 1);
                let answer = match self.random.below(2) {
                    _ if away => Answer::Lost,
                    0 if unknown => Answer::Lost,
                    _ if unknown => Answer::Unknown,
                    _ => Answer::AsItIs,
                };
                let there = if slow || unknown { ms(self.random.below(3_000)) } else { there };
                self.after(there, Event::Write { run, next, answer });
            }
            Action::BeatStore(slot) => {
                let result = if away { Err(refused()) } else { Ok(()) };
                if !away {
                    self.slots.insert((name(self.runs[run].node), self.runs[run].id), slot);
                }
                self.after(there, Event::Tell(run, Input::BeatStored(slot, result)));
            }
            Action::ReadSlots(node) => {
                let of_node = self.slots.iter().filter(|((n, _), _)| *n == node);
                let slots = of_node.map(|((_, id), slot)| (*id, *slot)).collect();
                let result = if away { Err(refused()) } else { Ok(slots) };
                self.after(there, Event::Tell(run, Input::SlotsRead(node, result)));
            }
            Action::ResolveSeeds => {
                let seeds = (0..self.n_nodes).map(address).collect();
                self.after(there, Event::Tell(run, Input::SeedsResolved(seeds)));
            }
            Action::Dial(address) => self.after(there, Event::Connect { from: run, address }),
            Action::DropPeer(peer) => {
                let link = self.links.iter().find(|(_, (a, b))| {
                    (*a == run && self.runs[*b].id == peer) || (*b == run && self.runs[*a].id == peer)
                });
                if let Some(link) = link.map(|(link, _)| *link) {
                    self.break_link(link);
                }
            }
            Action::SendBeat(peer, beat) => self.send(run, peer, beat),
            Action::Install(view) => self.runs[run].installed.push(view),
            Action::LookAfter { gone, version, .. } => {
                if !self.untold {
                    let pause = ms(50 + self.random.below(1_000));
                    self.after(pause, Event::Tell(run, Input::Told { gone, version }));
                }
            }
            Action::Removed { replaced } => {
                self.die(run);
                if replaced {
                    self.twins.push(self.runs[run].id);
                } else {
                    let (pause, node) = (ms(50 + self.random.below(450)), self.runs[run].node);
                    self.after(pause, Event::Start(node));
                }
            }
            Action::Left => self.die(run),
            Action::WakeAt(at) => self.at(at, Event::Tell(run, Input::Tick)),
            Action::Note(note) => self.runs[run].notes.push(note),
        }
    }

    fn write(&mut self, run: usize, next: View, answer: Answer) {
        let result = if answer == Answer::Lost {
            Err(storage::Error::Unknown("lost".into()))
        } else if next.revision == self.row.revision + 1 {
            self.check(&next);
            self.row = next.clone();
            self.written.push((self.runs[run].id, next));
            Ok(Changed::Applied)
        } else {
            Ok(Changed::Stale(self.row.clone()))
        };
        let result = if answer == Answer::AsItIs { result } else { Err(storage::Error::Unknown("late".into())) };
        let back = self.hop();
        self.after(back, Event::Tell(run, Input::ViewChanged(result)));
    }

    /// What must hold of every change, whoever makes it.
    fn check(&self, next: &View) {
        let what = |view: &View| view.members.iter().map(|m| (m.incarnation, m.state)).collect::<Vec<_>>();
        let changed = u64::from(what(&self.row) != what(next));
        assert_eq!(next.version, self.row.version + changed, "the version counts who is what");
        for member in next.live() {
            assert_eq!(next.live().filter(|other| other.node == member.node).count(), 1, "one run of a node");
        }
    }

    // links

    fn between(&self, a: usize, b: usize) -> Option<u64> {
        self.links.iter().find(|(_, ends)| **ends == (a, b) || **ends == (b, a)).map(|(link, _)| *link)
    }

    fn send(&mut self, from: usize, peer: Incarnation, beat: Beat) {
        let Some(to) = self.runs.iter().position(|run| run.id == peer) else { return };
        let Some(link) = self.between(from, to) else { return };
        if self.random.below(100) < self.beats_lost {
            return;
        }
        let at = self.now + self.hop();
        let last = self.last.entry((link, from)).or_insert(at);
        *last = at.max(*last);
        let (at, sent) = (*last, self.now);
        self.at(at, Event::Carry { link, from, to, beat, sent });
    }

    fn carry(&mut self, link: u64, from: usize, to: usize, beat: Beat, sent: Instant) {
        if !self.links.contains_key(&link) {
            return;
        }
        if self.is_cut(from, to) {
            if self.now.duration_since(sent) > USER_TIMEOUT {
                return self.break_link(link);
            }
            return self.after(ms(150), Event::Carry { link, from, to, beat, sent });
        }
        let id = self.runs[from].id;
        self.after(Duration::ZERO, Event::Tell(to, Input::Beat(id, beat)));
    }

    fn connect(&mut self, from: usize, address: PeerAddress) {
        if self.runs[from].dead {
            return;
        }
        let to = (0..self.n_nodes).find(|node| format!("n{node}:7946") == address.at);
        let to = to.and_then(|node| self.running(node));
        let failed = |refused, misfit| {
            let why = if misfit { "another cluster" } else { "no answer" }.to_owned();
            Input::NotReached { address: address.clone(), refused, misfit, why }
        };
        let Some(to) = to else { return self.after(ms(1), Event::Tell(from, failed(true, false))) };
        let asleep = self.paused.get(&self.runs[to].node).is_some_and(|until| *until > self.now);
        if asleep || self.is_cut(from, to) || self.is_cut(to, from) {
            return self.after(DIAL_DEADLINE, Event::Tell(from, failed(false, false)));
        }
        if self.misfits.contains(&self.runs[from].node) != self.misfits.contains(&self.runs[to].node) {
            return self.after(ms(2), Event::Tell(from, failed(false, true)));
        }
        if let Some(link) = self.between(from, to) {
            self.break_link(link);
        }
        self.count += 1;
        self.links.insert(self.count, (from, to));
        for (end, other) in [(from, to), (to, from)] {
            let earlier: Vec<_> = self.unnoticed.iter().filter(|((_, e), o)| (*e, **o) == (end, other)).collect();
            let earlier: Vec<_> = earlier.into_iter().map(|((link, _), _)| *link).collect();
            earlier.into_iter().for_each(|link| self.notice(link, end));
            let greeting = Greeting {
                versions: (1, 1),
                node: name(self.runs[other].node),
                incarnation: self.runs[other].id,
                equal: Vec::new(),
                alike: Vec::new(),
            };
            self.after(ms(1), Event::Tell(end, Input::LinkUp(greeting)));
        }
    }

    /// Both ends hear of it; over a cut, one of them only when its own bytes time out.
    fn break_link(&mut self, link: u64) {
        let Some((a, b)) = self.links.remove(&link) else { return };
        for (end, other) in [(a, b), (b, a)] {
            let pause = if self.is_cut(other, end) { USER_TIMEOUT } else { Duration::ZERO };
            self.unnoticed.insert((link, end), other);
            self.after(pause, Event::Notice { link, end });
        }
    }

    fn notice(&mut self, link: u64, end: usize) {
        if let Some(other) = self.unnoticed.remove(&(link, end)) {
            let peer = self.runs[other].id;
            self.after(Duration::ZERO, Event::Tell(end, Input::LinkDown(peer)));
        }
    }

    /// Ends a link without harm to its nodes.
    pub(super) fn reset(&mut self, a: usize, b: usize) {
        if let (Some(a), Some(b)) = (self.running(a), self.running(b))
            && let Some(link) = self.between(a, b)
        {
            self.after(Duration::ZERO, Event::Break(link));
        }
    }
}
