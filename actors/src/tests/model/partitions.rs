//! The store as the model knows it: partitions of one log whose writes are conditional and atomic, and what follows from
//! events. A write of unknown outcome may wait here to be performed late.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use protocol::{ClientId, Epoch, Event, Incarnation, Kind, Millis, Role, Seq, UserId, limits::BUCKET_EVENTS};
use storage::{
    fence::{Answer, Ask, Bucket, Statics},
    log::{Head, Known},
};

use super::{
    clients::{ADMIN, SENDER, epoch},
    scenes::{Membership, Planted, Scene},
};
use crate::conversation::{
    roster::{Roster, Standing},
    state::digest::hash_event,
};

const BUCKETS: usize = 2;

/// See the module.
#[derive(Clone)]
pub(super) struct Partitions {
    statics: [Option<Statics>; BUCKETS],
    /// Where the events below begin.
    begins: Seq,
    /// What was appended since.
    pub(super) log: Vec<Event>,
    /// Which of them have been followed, bit by bit.
    followed: u32,
    /// Writes that may still be performed.
    pub(super) pending: Vec<Write>,
}

/// A conditional write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) ask: Ask,
    pub(super) events: Vec<Event>,
}

impl Partitions {
    pub(super) fn new(scene: &Scene) -> Partitions {
        let seq = Seq(scene.head);
        let head = Head { seq, post_no: seq.0 - 1, at: Millis(0), settled: seq };
        let first = Statics { epoch: Epoch(1), owner: Incarnation([9; 16]), head, post_bucket: None };
        Partitions { statics: [Some(first), None], begins: seq, log: Vec::new(), followed: 0, pending: Vec::new() }
    }

    pub(super) fn last(&self) -> Option<Statics> {
        self.statics.iter().rev().find_map(|statics| *statics)
    }

    pub(super) fn is_opened(&self) -> bool {
        self.statics[1].is_some()
    }

    fn at(&self, bucket: Bucket) -> Option<Statics> {
        self.statics.get(bucket.0 as usize).copied().flatten()
    }

    /// Whether a write would be performed now.
    pub(super) fn holds(&self, ask: &Ask, planted: Option<Planted>) -> bool {
        match *ask {
            Ask::Take { bucket, expect, .. } => self.at(bucket).is_some_and(|s| s.epoch == expect),
            Ask::Open { bucket, .. } => self.at(bucket).is_none(),
            Ask::Append { bucket, epoch, head, post_no, .. } => self.at(bucket).is_some_and(|s| {
                let same = s.epoch == epoch || planted == Some(Planted::NoEpoch);
                same && (s.head.seq, s.head.post_no) == (head, post_no)
            }),
            Ask::Look { .. } | Ask::Tail { .. } => false,
        }
    }

    /// Whether it could be performed at some later time: epochs and heads only grow.
    fn may_hold(&self, ask: &Ask, planted: Option<Planted>) -> bool {
        match *ask {
            Ask::Take { bucket, expect, .. } => self.at(bucket).is_none_or(|s| s.epoch <= expect),
            Ask::Open { bucket, .. } => self.at(bucket).is_none(),
            Ask::Append { bucket, epoch, head, .. } => self
                .at(bucket)
                .is_none_or(|s| (s.epoch <= epoch || planted == Some(Planted::NoEpoch)) && s.head.seq <= head),
            Ask::Look { .. } | Ask::Tail { .. } => false,
        }
    }

    /// Keeps a write for later.
    pub(super) fn keep(&mut self, write: Write, planted: Option<Planted>) {
        if self.may_hold(&write.ask, planted) {
            self.pending.push(write);
        }
    }

    /// Performs a write whose condition holds.
    pub(super) fn write(&mut self, ask: &Ask, events: &[Event], planted: Option<Planted>) {
        let early = |before: Seq, head: Head| match planted {
            Some(Planted::SettledEarly) => Head { settled: before, ..head },
            _ => head,
        };
        match *ask {
            Ask::Take { bucket, expect, owner } => {
                if let Some(statics) = &mut self.statics[bucket.0 as usize] {
                    (statics.epoch, statics.owner) = (Epoch(expect.0 + 1), owner);
                }
            }
            Ask::Open { bucket, statics } => {
                let before = Seq(bucket.0 * BUCKET_EVENTS - 1);
                let head = if events.is_empty() { statics.head } else { early(before, statics.head) };
                self.statics[bucket.0 as usize] = Some(Statics { head, ..statics });
                self.log.extend_from_slice(events);
            }
            Ask::Append { bucket, head, after, .. } => {
                if let Some(statics) = &mut self.statics[bucket.0 as usize] {
                    statics.head = early(head, after);
                }
                self.log.extend_from_slice(events);
            }
            Ask::Look { .. } | Ask::Tail { .. } => {}
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending = pending.into_iter().filter(|write| self.may_hold(&write.ask, planted)).collect();
    }

    /// What a read is answered, or a write that was not performed.
    pub(super) fn read(&self, ask: &Ask) -> Answer {
        match *ask {
            Ask::Look { bucket } => Answer::Statics(self.at(bucket)),
            Ask::Tail { bucket, after } => {
                let here = |event: &&Event| Bucket::of(event.seq) == bucket && event.seq > after;
                Answer::Tail(self.at(bucket), self.log.iter().filter(here).cloned().collect())
            }
            Ask::Take { bucket, .. } | Ask::Open { bucket, .. } | Ask::Append { bucket, .. } => {
                Answer::NotApplied(self.at(bucket))
            }
        }
    }

    /// Writes what follows from events, again or not.
    pub(super) fn follow(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.followed |= self.bit(event.seq));
    }

    pub(super) fn is_followed(&self, seq: Seq) -> bool {
        self.followed & self.bit(seq) != 0
    }

    fn bit(&self, seq: Seq) -> u32 {
        1 << (seq.0 - self.begins.0)
    }

    fn rows(&self) -> impl Iterator<Item = &Event> {
        self.log.iter().filter(|event| self.is_followed(event.seq))
    }

    pub(super) fn find(&self, by: UserId, cid: &ClientId) -> Option<Known> {
        let event = self.rows().find(|event| event.by == by && event.cid.as_ref() == Some(cid))?;
        Some(Known { seq: event.seq, post_no: event.post_no, at: event.at, request_hash: event.request_hash })
    }

    /// Whether there is a member row of this user: it is never deleted.
    pub(super) fn is_known(&self, user: UserId, membership: Membership) -> bool {
        user == ADMIN || membership != Membership::AdmitsStranger || self.rows().any(|e| e.body.is_membership())
    }

    /// The members as their rows say.
    pub(super) fn roster(&self, membership: Membership) -> Roster {
        let mut roster = founded(membership);
        self.rows().for_each(|event| roster.apply(event));
        roster
    }

    /// The members as the log says, just before a place in it.
    pub(super) fn roster_before(&self, seq: Seq, membership: Membership) -> Roster {
        let mut roster = founded(membership);
        self.log.iter().filter(|event| event.seq < seq).for_each(|event| roster.apply(event));
        roster
    }

    pub(super) fn event(&self, seq: Seq) -> Option<&Event> {
        self.log.iter().find(|event| event.seq == seq)
    }
}

/// The members before anything happens.
fn founded(membership: Membership) -> Roster {
    let standing = |role| Standing { role, joined: Seq(1) };
    let mut roster =
        Roster { kind: Kind::Group, title: None, members: [(ADMIN, standing(Role::Owner))].into_iter().collect() };
    if membership == Membership::Removes {
        roster.members.insert(SENDER, standing(Role::Member));
    }
    roster
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for statics in self.statics.iter().flatten() {
            let Statics { epoch, owner, head, .. } = statics;
            write!(f, "[epoch {epoch} of {:?}, head {}, settled {}]", &owner.0[..2], head.seq, head.settled)?;
        }
        for event in &self.log {
            let cid = event.cid.as_ref().map_or("", ClientId::as_str);
            write!(f, " {} {cid} under {}", event.seq, epoch(event))?;
        }
        write!(f, "; followed {:b}; late {:?}", self.followed, self.pending)
    }
}

impl Hash for Partitions {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for statics in self.statics.iter().flatten() {
            (statics.epoch, statics.owner, statics.head.seq, statics.head.settled).hash(hasher);
        }
        self.log.iter().for_each(|event| hash_event(event, hasher));
        (self.followed, self.log.len(), self.pending.len()).hash(hasher);
        for write in &self.pending {
            format!("{:?}", write.ask).hash(hasher);
            write.events.iter().for_each(|event| hash_event(event, hasher));
        }
    }
}
