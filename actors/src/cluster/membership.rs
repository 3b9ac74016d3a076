//! One node among the others, in one of its runs: when it joins, whom it hears, whom it takes out of the view, what it does
//! when it finds itself taken out. The rules and what happens when a message is lost stand in `CLUSTER.md` beside this
//! crate's README. Pure: touches neither the store, nor a link, nor a clock. For safety all of this is a hint: whoever
//! believes to own a log proves it to the store with every append.

mod dials;
mod figures;
mod own;
mod peers;
mod row;
mod shares;
mod slots;
mod snapshot;
#[cfg(test)]
mod tests;
mod verdicts;
mod words;

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    Incarnation,
    cluster::{MemberState, View},
    peer::{Beat, Greeting},
};
use tokio::time::Instant;

pub use slots::slot;
pub use snapshot::{PeerSnapshot, Snapshot};
pub use words::{Action, Input, Me, Note};

use super::view::{Edit, edited};
use own::Wish;
use row::Finding;

/// How often it wants to be woken.
pub const TICK: Duration = Duration::from_millis(100);
/// Between two beats to a peer.
pub const BEAT: Duration = Duration::from_millis(500);
/// A member that was not heard of for this long is suspected.
pub const SUSPECT: Duration = Duration::from_millis(1_500);
/// A node that was woken this much too late accuses nobody for [`SUSPECT`].
const LAG: Duration = Duration::from_millis(500);
/// The key in [`Greeting::alike`] of what a node runs.
pub const RELEASE: &str = "release";
/// A misfit that does not show itself again is forgotten.
const MISFIT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct State {
    me: Me,
    began: Instant,
    wish: Wish,
    /// It has seen itself in the view.
    joined: bool,
    /// The revision with which it asked to join, until it is told what became of that.
    joining: Option<u64>,
    /// Removed, or left: nothing happens any more.
    ended: bool,
    woken: Instant,
    /// Until then its own silence explains everything.
    calm_until: Instant,
    beat_at: Instant,
    /// Since when its store answers; `None`: it does not.
    store_ok: Option<Instant>,
    row: row::Row,
    peers: peers::Peers,
    dials: dials::Dials,
    shares: shares::Shares,
    slots: slots::Slots,
    /// By address: why not, and when that was said last.
    misfits: BTreeMap<String, (String, Instant)>,
}

impl State {
    /// A run that begins now. Wake it at once.
    #[must_use]
    pub fn new(me: Me, now: Instant) -> State {
        State {
            began: now,
            wish: Wish::Serve,
            joined: false,
            joining: None,
            ended: false,
            woken: now,
            calm_until: now,
            beat_at: now,
            store_ok: Some(now),
            row: row::Row::new(me.random),
            peers: peers::Peers::default(),
            dials: dials::Dials::new(me.random),
            shares: shares::Shares::default(),
            slots: slots::Slots::new(now),
            misfits: BTreeMap::new(),
            me,
        }
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> &View {
        self.row.view()
    }

    /// False while its store does not answer: nobody is taken out of the view then, if that is so for all.
    pub(crate) fn has_store(&self) -> bool {
        self.store_ok.is_some()
    }

    /// Decides.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        if self.ended {
            return out;
        }
        self.notice_lag(now, &mut out);
        match input {
            Input::Heard(peer) => {
                self.peers.heard(peer, now);
                return out;
            }
            Input::Tick => self.tick(now, &mut out),
            Input::ViewRead { decided, result } => {
                match self.row.read(decided, result, now) {
                    Finding::Nothing => {}
                    Finding::Newer(view) => self.take(view, now, &mut out),
                    Finding::WentBack => {
                        out.push(Action::Note(Note::RowWentBack));
                        self.end(false, &mut out);
                    }
                }
                if decided && !self.ended && self.may_be_forgotten() {
                    self.end(false, &mut out);
                }
            }
            Input::ViewChanged(result) => {
                // an answer that was given up is no answer
                if result.is_ok() && self.row.is_changing() {
                    self.joining = None;
                }
                if let Some(view) = self.row.changed(result, now) {
                    self.take(view, now, &mut out);
                }
            }
            Input::BeatStored(slot, result) => self.slots.stored(slot, result.is_ok()),
            Input::SlotsRead(node, result) => self.peers.slots_read(&node, result.ok(), now),
            Input::SeedsResolved(addresses) => self.dials.resolved(addresses),
            Input::LinkUp(greeting) => self.link_up(greeting, now, &mut out),
            Input::LinkDown(peer) => self.peers.link_down(peer),
            Input::NotReached { address, refused, misfit, why } => {
                if refused {
                    self.peers.refused(&address, self.row.view(), now);
                }
                self.dials.failed(&address, now);
                if misfit {
                    self.misfits.insert(address.at, (why, now));
                }
            }
            Input::Beat(peer, beat) => self.heard_beat(peer, beat, now),
            Input::Saw(version) => self.row.saw(version),
            Input::StoreOk(false) => self.store_ok = None,
            Input::StoreOk(true) => self.store_ok = self.store_ok.or(Some(now)),
            Input::Told { gone, version } => self.shares.told(gone, version, now),
            Input::Drain => self.wish = Wish::Drain,
            Input::Undrain => self.wish = Wish::Serve,
            Input::Leave => self.wish = Wish::Leave,
        }
        if !self.ended {
            self.read(now, &mut out);
            self.dial(now, &mut out);
            self.decide(now, &mut out);
        }
        out
    }

    /// With every input: after a pause, any of those that waited may come before the tick.
    fn notice_lag(&mut self, now: Instant, out: &mut Vec<Action>) {
        let late = now.saturating_duration_since(self.woken + TICK);
        if late > LAG {
            self.woken = now;
            self.calm_until = now + SUSPECT;
            self.peers.forgive(now);
            self.row.want();
            out.push(Action::Note(Note::Lagged(late)));
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.woken = now;
        self.misfits.retain(|_, (_, shown)| now.duration_since(*shown) < MISFIT);
        for note in self.peers.suspicions(now) {
            if matches!(note, Note::Suspects(_)) {
                self.row.want();
            }
            out.push(Action::Note(note));
        }
        self.live(now, out);
        out.extend(self.peers.slots_due(self.me.dead, now).into_iter().map(Action::ReadSlots));
        if self.me.has_seeds && !self.joined && self.dials.resolve_due(now) {
            out.push(Action::ResolveSeeds);
        }
        if now >= self.beat_at {
            self.send_beats(now, out);
        }
        out.push(Action::WakeAt(now + TICK));
    }

    /// Tells the store that it lives, if it is time.
    fn live(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.joined {
            out.extend(self.slots.due(now).map(Action::BeatStore));
        }
    }

    fn read(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.row.read_due(now) {
            let decided = self.row.reading(now);
            out.push(Action::ReadView { decided });
        }
    }

    fn dial(&mut self, now: Instant, out: &mut Vec<Action>) {
        let wanted = self.dials.wanted(&self.me, self.row.view(), &self.peers, self.joined);
        out.extend(self.dials.due(wanted, now).into_iter().map(Action::Dial));
    }

    /// Asks for the one change of the view that all its wishes make together.
    fn decide(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.wish == Wish::Leave && !self.joined {
            return self.end(false, out);
        }
        if self.store_ok.is_none() || !self.row.may_change(now) {
            return;
        }
        let edits = self.edits(now);
        if edits.is_empty() {
            return;
        }
        let Some(next) = edited(self.row.view(), &edits) else { return };
        out.extend(edits.iter().filter_map(|edit| self.note(edit)).map(Action::Note));
        if !self.joined {
            self.joining = Some(next.revision);
        }
        self.row.changing(next.clone(), now);
        out.push(Action::ChangeView(next));
    }

    fn edits(&self, now: Instant) -> Vec<Edit> {
        let Some(state) = self.state() else { return self.join(now).into_iter().collect() };
        let mut edits = self.verdicts(state, now);
        edits.extend(self.own(state, now));
        if state == MemberState::Up {
            edits.extend(self.shares.reports(self.row.view(), self.id(), self.rank(now), now));
        }
        edits
    }

    fn note(&self, edit: &Edit) -> Option<Note> {
        let node = |who| self.row.view().member(who).map(|member| member.node.clone());
        match edit {
            Edit::Gone(who) if *who != self.id() => node(*who).map(Note::Removes),
            Edit::NoStore(who) => node(*who).map(Note::Unplaces),
            _ => None,
        }
    }

    /// A view that somebody has written, perhaps this node.
    fn take(&mut self, view: View, now: Instant, out: &mut Vec<Action>) {
        let Some(before) = self.row.install(view) else { return };
        let view = self.row.view().clone();
        match view.member(self.id()).map(|member| member.state) {
            None if self.joined => return self.end(false, out),
            None => {}
            Some(MemberState::Gone) => {
                let replaced = view.live().any(|member| member.node == self.me.node);
                return self.end(replaced, out);
            }
            Some(_) => self.joined = true,
        }
        self.live(now, out);
        if view.version == before.version {
            return;
        }
        out.extend(self.peers.follow(&before, &view, self.id(), now).into_iter().map(Action::DropPeer));
        figures::count(Some(&view));
        out.push(Action::Install(view.clone()));
        // the others read the row when they see a higher version
        self.send_beats(now, out);
        self.shares.anew(view.version);
        if self.state() == Some(MemberState::Up) {
            let gone = view.members.iter().filter(|member| member.state == MemberState::Gone);
            out.extend(gone.map(|member| Action::LookAfter {
                node: member.node.clone(),
                gone: member.incarnation,
                version: view.version,
            }));
        }
    }

    /// It asked to join and was never told what became of that; the row has moved on, and does not name it. It may have
    /// been a member that all others have taken for dead and forgotten: a run that was gone never comes back.
    fn may_be_forgotten(&self) -> bool {
        !self.joined && self.joining.is_some_and(|revision| self.row.view().revision >= revision)
    }

    fn end(&mut self, replaced: bool, out: &mut Vec<Action>) {
        self.ended = true;
        figures::count(None);
        out.extend(self.peers.linked().map(Action::DropPeer));
        out.push(if self.wish == Wish::Leave { Action::Left } else { Action::Removed { replaced } });
    }

    fn link_up(&mut self, greeting: Greeting, now: Instant, out: &mut Vec<Action>) {
        let (node, peer) = (greeting.node.clone(), greeting.incarnation);
        let gone = self.row.view().member(peer).is_some_and(|member| member.state == MemberState::Gone);
        // its own name: itself by another address, a run that has ended, or a twin that the view will judge
        if gone || node == self.me.node {
            out.push(Action::DropPeer(peer));
            return;
        }
        let address = self.row.view().member(peer).map(|member| &member.address);
        if let Some(address) = address {
            self.misfits.remove(address);
        }
        let release = greeting.alike.into_iter().find(|(key, _)| key == RELEASE).map(|(_, release)| release);
        self.peers.link_up(node, peer, release, now);
        let beat = self.beat(peer, now);
        out.extend(beat.map(|beat| Action::SendBeat(peer, beat)));
    }

    fn heard_beat(&mut self, peer: Incarnation, beat: Beat, now: Instant) {
        self.row.saw(beat.view);
        self.peers.beat(peer, beat, self.micros(now), now);
    }

    fn send_beats(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.beat_at = now + BEAT;
        let peers: Vec<_> = self.peers.linked().collect();
        out.extend(peers.into_iter().filter_map(|peer| Some(Action::SendBeat(peer, self.beat(peer, now)?))));
    }

    fn beat(&self, peer: Incarnation, now: Instant) -> Option<Beat> {
        let (hears_you, echo) = self.peers.of_beat(peer, now)?;
        let (view, store_ok) = (self.row.view().version, self.store_ok.is_some());
        Some(Beat { view, hears_you, store_ok, sent_us: self.micros(now), echo })
    }

    /// On this run's own clock, which began with it: whoever hears it knows how long that is.
    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    fn id(&self) -> Incarnation {
        self.me.incarnation
    }

    /// What it is in the view.
    fn state(&self) -> Option<MemberState> {
        self.row.view().member(self.id()).map(|member| member.state)
    }
}
