//! What this node knows of each peer: whether a link stands, when it was last heard, whether it hears this node, whether
//! its store answers. Facts only; what follows from them is decided in `verdicts` and `own`.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    Incarnation, NodeId,
    cluster::{MemberState, SLOT, View},
    peer::Beat,
};
use tokio::time::Instant;

use super::{Note, SUSPECT, figures::RoundTrip};
use crate::cluster::link::PeerAddress;

/// How often the store is asked for the slot of a silent member.
const SLOTS_EVERY: Duration = Duration::from_secs(3);
/// A silent member whose slot has not moved for this long is dead, whoever hears or does not hear the accuser.
const STUCK: Duration = SLOT.saturating_mul(3);

/// Members that are not gone, this node aside, and strangers with a link.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<Incarnation, Peer>);

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// Since when a link stands.
    linked: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
    /// What it runs, by its own word.
    pub(super) release: Option<String>,
    figures: RoundTrip,
    member: bool,
    /// When a frame came; or since when one could have come.
    heard: Instant,
    /// Since when its beats say that it does not hear this node.
    deaf: Option<Instant>,
    /// When its last beat came that said it hears this node.
    met: Option<Instant>,
    /// Since when its beats say that its store does not answer.
    storeless: Option<Instant>,
    /// Its link stood, and went.
    reset: bool,
    /// Since when nobody listens where it was, or another run of it does.
    refused: Option<Instant>,
    suspected: bool,
    /// Of its last beat: its own time, and when it came.
    echo: Option<(u64, Instant)>,
    slot: Option<Watched>,
    slots_asked: Option<Instant>,
}

/// A slot in the store: seen first and last then, and at no time between was it another one or unreadable.
#[derive(Debug)]
struct Watched {
    slot: Option<u64>,
    first: Instant,
    last: Instant,
    /// It was another one when it was first seen: that run lives, wherever it is.
    moved: bool,
}

impl Peer {
    fn new(node: NodeId, now: Instant) -> Peer {
        Peer {
            figures: RoundTrip::of(&node),
            release: None,
            node,
            linked: None,
            round_trip: None,
            member: false,
            heard: now,
            deaf: None,
            met: None,
            storeless: None,
            reset: false,
            refused: None,
            suspected: false,
            echo: None,
            slot: None,
            slots_asked: None,
        }
    }

    fn silent_since(&self) -> Instant {
        self.deaf.map_or(self.heard, |deaf| deaf.min(self.heard))
    }

    /// For how long this run of it has been one of many: the time on its own clock.
    pub(super) fn uptime(&self, now: Instant) -> Option<Duration> {
        let (sent_us, at) = self.echo?;
        Duration::from_micros(sent_us).checked_add(now.saturating_duration_since(at))
    }

    pub(super) fn is_linked(&self) -> bool {
        self.linked.is_some()
    }

    /// For how long it was not heard, or did not hear this node: a link that works one way is none.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.silent_since())
    }

    /// Beats arrive both ways.
    pub(super) fn two_way(&self, now: Instant) -> bool {
        self.linked.is_some() && self.met.is_some_and(|met| now.saturating_duration_since(met) < SUSPECT)
    }

    /// Since when it counts as dead for who is that patient.
    pub(super) fn dead_since(&self, patience: Duration, now: Instant) -> Option<Instant> {
        let silent = self.silent_since() + patience;
        let since = self.refused.map_or(silent, |refused| refused.min(silent));
        (since <= now).then_some(since)
    }

    /// Its slot in the store stands still, while the store can be read.
    pub(super) fn stuck(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.last.duration_since(slot.first) >= STUCK)
    }

    /// How long its slot has to stand still yet for it to be dead; `None`: it moves, or is not known.
    pub(super) fn stuck_in(&self, now: Instant) -> Option<Duration> {
        let slot = self.slot.as_ref().filter(|slot| !slot.moved)?;
        Some(STUCK.saturating_sub(now.saturating_duration_since(slot.first)))
    }

    /// The store says that it lives.
    pub(super) fn is_alive_elsewhere(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.moved)
    }

    pub(super) fn storeless_since(&self) -> Option<Instant> {
        self.storeless
    }
}

impl Peers {
    pub(super) fn get(&self, peer: Incarnation) -> Option<&Peer> {
        self.0.get(&peer)
    }

    pub(super) fn linked(&self) -> impl Iterator<Item = Incarnation> {
        self.0.iter().filter(|(_, peer)| peer.is_linked()).map(|(id, _)| *id)
    }

    pub(super) fn two_way(&self, peer: Incarnation, now: Instant) -> bool {
        self.0.get(&peer).is_some_and(|peer| peer.two_way(now))
    }

    pub(super) fn link_up(&mut self, node: NodeId, id: Incarnation, release: Option<String>, now: Instant) {
        for (_, other) in
            self.0.iter_mut().filter(|(other, peer)| **other != id && peer.node == node && !peer.is_linked())
        {
            other.refused = other.refused.or(Some(now));
        }
        let peer = self.0.entry(id).or_insert_with(|| Peer::new(node, now));
        (peer.linked, peer.heard, peer.release) = (Some(now), now, release);
        (peer.reset, peer.refused) = (false, None);
        (peer.met, peer.deaf, peer.storeless, peer.echo) = (None, None, None, None);
    }

    pub(super) fn link_down(&mut self, id: Incarnation) {
        let Some(peer) = self.0.get_mut(&id) else { return };
        (peer.reset, peer.linked) = (peer.is_linked() || peer.reset, None);
        peer.heard = peer.silent_since();
        (peer.met, peer.deaf, peer.storeless, peer.echo, peer.round_trip) = (None, None, None, None, None);
        peer.figures.show(None);
        if !peer.member {
            self.0.remove(&id);
        }
    }

    /// Nobody listens at this address: a member whose link was reset is dead then. Of one that was never met this says
    /// little: it may listen in a moment.
    pub(super) fn refused(&mut self, address: &PeerAddress, view: &View, now: Instant) {
        for member in view.live().filter(|m| m.address == address.at && Some(&m.node) == address.node.as_ref()) {
            if let Some(peer) = self.0.get_mut(&member.incarnation).filter(|peer| peer.reset) {
                peer.refused = peer.refused.or(Some(now));
            }
        }
    }

    pub(super) fn heard(&mut self, id: Incarnation, now: Instant) {
        if let Some(peer) = self.0.get_mut(&id).filter(|peer| peer.is_linked()) {
            peer.heard = now;
        }
    }

    pub(super) fn beat(&mut self, id: Incarnation, beat: Beat, my_us: u64, now: Instant) {
        let Some(peer) = self.0.get_mut(&id).filter(|peer| peer.is_linked()) else { return };
        peer.heard = now;
        if beat.hears_you {
            (peer.met, peer.deaf) = (Some(now), None);
        } else {
            // it has not heard this node for that long already, or not since the link stands
            let since = peer.linked.max(now.checked_sub(SUSPECT));
            peer.deaf = peer.deaf.or(since);
        }
        peer.storeless = if beat.store_ok { None } else { peer.storeless.or(Some(now)) };
        peer.echo = Some((beat.sent_us, now));
        if let Some((sent_us, held_us)) = beat.echo {
            // both are this peer's word: a lie makes a wrong figure and nothing else
            peer.round_trip =
                my_us.checked_sub(sent_us).and_then(|us| us.checked_sub(held_us)).map(Duration::from_micros);
            peer.figures.show(peer.round_trip);
        }
    }

    /// For a beat to this peer: whether it is heard, and the echo of its last one.
    pub(super) fn of_beat(&self, id: Incarnation, now: Instant) -> Option<(bool, Option<(u64, u64)>)> {
        let peer = self.0.get(&id).filter(|peer| peer.is_linked())?;
        let held = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(u64::MAX);
        let hears_you = now.saturating_duration_since(peer.heard) < SUSPECT;
        Some((hears_you, peer.echo.map(|(sent_us, at)| (sent_us, held(at)))))
    }

    /// Takes up who became a member and lets go of who is none any more; returns whose links are to be ended.
    pub(super) fn follow(&mut self, before: &View, after: &View, me: Incarnation, now: Instant) -> Vec<Incarnation> {
        for member in after.live().filter(|member| member.incarnation != me) {
            let peer = self.0.entry(member.incarnation).or_insert_with(|| Peer::new(member.node.clone(), now));
            // who links before it joins has as long as anybody from now on
            if !peer.member {
                (peer.member, peer.heard) = (true, peer.heard.max(now));
            }
        }
        let is_out = |id: Incarnation| match after.member(id) {
            Some(member) => member.state == MemberState::Gone,
            None => before.member(id).is_some(),
        };
        let out: Vec<_> = self.0.keys().copied().filter(|id| is_out(*id)).collect();
        out.into_iter().filter(|id| self.0.remove(id).is_some_and(|peer| peer.is_linked())).collect()
    }

    /// What this node did not hear while it did not run proves nothing.
    pub(super) fn forgive(&mut self, now: Instant) {
        for peer in self.0.values_mut() {
            (peer.heard, peer.deaf, peer.refused, peer.slot) = (now, None, None, None);
        }
    }

    /// Who fell silent, and who is heard again, since it was asked last.
    pub(super) fn suspicions(&mut self, now: Instant) -> Vec<Note> {
        let mut notes = Vec::new();
        for peer in self.0.values_mut().filter(|peer| peer.member) {
            let suspected = peer.silent(now) >= SUSPECT;
            if suspected != peer.suspected {
                peer.suspected = suspected;
                let node = peer.node.clone();
                notes.push(if suspected { Note::Suspects(node) } else { Note::HearsAgain(node) });
            }
        }
        notes
    }

    /// Nodes whose slots are to be read: members that have been silent for that long.
    pub(super) fn slots_due(&mut self, silence: Duration, now: Instant) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for peer in self.0.values_mut().filter(|peer| peer.member) {
            if peer.silent(now) < silence {
                (peer.slot, peer.slots_asked) = (None, None);
            } else if peer.slots_asked.is_none_or(|asked| now >= asked + SLOTS_EVERY) {
                peer.slots_asked = Some(now);
                nodes.push(peer.node.clone());
            }
        }
        nodes
    }

    /// `None`: they could not be read, so nobody knows whether they stood still.
    pub(super) fn slots_read(&mut self, node: &NodeId, slots: Option<Vec<(Incarnation, u64)>>, now: Instant) {
        for (id, peer) in self.0.iter_mut().filter(|(_, peer)| peer.node == *node) {
            let Some(slots) = &slots else {
                peer.slot = None;
                continue;
            };
            let slot = slots.iter().find(|(run, _)| run == id).map(|(_, slot)| *slot);
            match &mut peer.slot {
                Some(watched) if watched.slot == slot => watched.last = now,
                watched => *watched = Some(Watched { slot, first: now, last: now, moved: watched.is_some() }),
            }
        }
    }
}
