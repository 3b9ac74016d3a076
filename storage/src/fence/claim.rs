//! Claiming: find the last bucket, change its epoch, read what stands there, open the next one if it is full; then the
//! log is the caller's, and not before.

use protocol::{Epoch, Event, Incarnation, Seq};

use super::{
    Answer, Ask, Bucket, Full, Statics, Steps, failed, missing,
    standing::{Found, Walk},
};
use crate::{
    Error,
    log::{Claimed, Head, Tenancy},
};

/// How often others may come first, or a reading be incomplete, before this gives up.
const TRIES_MAX: u8 = 4;

/// [`crate::log::Log::claim`].
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    owner: Incarnation,
    tail_from: Option<Seq>,
    tries: u8,
    step: Step,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Walk(Walk),
    Take(Bucket, Statics),
    /// The epoch was taken; from where the events are read.
    Read(Bucket, Epoch, Seq),
    /// Does the full bucket hold posts?
    Count(Bucket, Full, Tail),
    Open(Bucket, Statics, Tail),
    /// Owned; the tail reaches back into this earlier bucket.
    Back(Bucket, Epoch, Head, Tail),
}

/// All events above `floor`, up to the head.
#[derive(Clone, Debug, PartialEq)]
struct Tail {
    floor: Seq,
    events: Vec<Event>,
}

type Next = Result<Step, Result<Claimed, Error>>;

impl Claim {
    /// `hint`: a bucket that the log reached at some time. A wrong one costs reads, nothing else.
    pub fn new(owner: Incarnation, hint: Bucket, tail_from: Option<Seq>) -> Claim {
        Claim { owner, tail_from, tries: 0, step: Step::Walk(Walk::from(hint)) }
    }

    /// From where the tail is wanted.
    fn from(&self, head: &Head) -> Seq {
        self.tail_from.map_or(head.settled, |from| from.min(head.settled))
    }

    fn walk(&self, mut walk: Walk, answer: Answer) -> Next {
        match walk.answer(answer) {
            Ok(None) => Ok(Step::Walk(walk)),
            Ok(Some(Found::Nothing)) => Err(Ok(Claimed::NotFound)),
            Ok(Some(Found::Last(bucket, statics))) => Ok(Step::Take(bucket, statics)),
            Err(error) => Err(Err(error)),
        }
    }

    /// Somebody is there, perhaps oneself by a write that is not known of: on from what stands there.
    fn again(&mut self, bucket: Bucket, statics: Option<Statics>) -> Next {
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            return Err(Err(Error::Refused(format!("others claimed the log {TRIES_MAX} times meanwhile"))));
        }
        let mut walk = Walk::from(bucket);
        Ok(match statics.and_then(|statics| walk.on(statics)) {
            Some(Found::Last(bucket, statics)) => Step::Take(bucket, statics),
            _ => Step::Walk(walk),
        })
    }

    fn read(&mut self, bucket: Bucket, epoch: Epoch, after: Seq, statics: Statics, events: Vec<Event>) -> Next {
        if (statics.epoch, statics.owner) != (epoch, self.owner) {
            return self.again(bucket, Some(statics));
        }
        let mut tail = Tail { floor: statics.head.seq, events: Vec::new() };
        if let Err(incomplete) = tail.reach_back(bucket, after, events) {
            return self.incomplete(incomplete, Step::Read(bucket, epoch, after));
        }
        if !bucket.is_full(&statics) {
            return self.back(epoch, statics.head, tail);
        }
        let full = Full { bucket, statics };
        Ok(match full.unclear() {
            Some(before) => Step::Count(before, full, tail),
            None => Step::Open(bucket.next(), full.next(0), tail),
        })
    }

    /// Owned. Done, once the tail reaches back far enough.
    fn back(&self, epoch: Epoch, head: Head, mut tail: Tail) -> Next {
        let from = self.from(&head);
        if tail.floor > from {
            return Ok(Step::Back(Bucket::of(tail.floor), epoch, head, tail));
        }
        tail.events.retain(|event| event.seq > from);
        Err(Ok(Claimed::Claimed(Tenancy { epoch, head, tail: tail.events })))
    }

    fn incomplete(&mut self, incomplete: Error, step: Step) -> Next {
        self.tries += 1;
        if self.tries >= TRIES_MAX { Err(Err(incomplete)) } else { Ok(step) }
    }

    fn next(&mut self, step: Step, answer: Answer) -> Next {
        match (step, answer) {
            (Step::Walk(walk), answer) => self.walk(walk, answer),
            (Step::Take(bucket, statics), Answer::Applied) => {
                let after = self.from(&statics.head).max(bucket.floor());
                Ok(Step::Read(bucket, Epoch(statics.epoch.0 + 1), after))
            }
            (Step::Take(bucket, _), Answer::NotApplied(statics)) => self.again(bucket, statics),
            (Step::Read(bucket, epoch, after), Answer::Tail(Some(statics), events)) => {
                self.read(bucket, epoch, after, statics, events)
            }
            (Step::Count(_, full, tail), Answer::Statics(Some(before))) => {
                Ok(Step::Open(full.bucket.next(), full.next(before.head.post_no), tail))
            }
            (Step::Open(_, statics, tail), Answer::Applied) => self.back(statics.epoch, statics.head, tail),
            (Step::Open(bucket, ..), Answer::NotApplied(statics)) => self.again(bucket, statics),
            (Step::Back(bucket, epoch, head, mut tail), Answer::Tail(Some(_), events)) => {
                match tail.reach_back(bucket, self.from(&head).max(bucket.floor()), events) {
                    Ok(()) => self.back(epoch, head, tail),
                    Err(incomplete) => self.incomplete(incomplete, Step::Back(bucket, epoch, head, tail)),
                }
            }
            (Step::Read(bucket, ..) | Step::Back(bucket, ..), Answer::Tail(None, _))
            | (Step::Count(bucket, ..), Answer::Statics(None)) => Err(Err(missing(bucket))),
            (_, other) => Err(Err(failed(other))),
        }
    }
}

impl Steps for Claim {
    type Outcome = Claimed;

    fn ask(&self) -> Ask {
        match &self.step {
            Step::Walk(walk) => walk.ask(),
            Step::Take(bucket, statics) => Ask::Take { bucket: *bucket, expect: statics.epoch, owner: self.owner },
            Step::Read(bucket, _, after) => Ask::Tail { bucket: *bucket, after: *after },
            Step::Count(bucket, ..) => Ask::Look { bucket: *bucket },
            Step::Open(bucket, statics, _) => Ask::Open { bucket: *bucket, statics: *statics },
            Step::Back(bucket, _, head, _) => Ask::Tail { bucket: *bucket, after: self.from(head).max(bucket.floor()) },
        }
    }

    fn answer(&mut self, answer: Answer) -> Option<Result<Claimed, Error>> {
        // the step is taken out: it may hold a long tail. Whoever asks after the end begins to walk again.
        let step = std::mem::replace(&mut self.step, Step::Walk(Walk::from(Bucket(0))));
        match self.next(step, answer) {
            Ok(step) => {
                self.step = step;
                None
            }
            Err(end) => Some(end),
        }
    }
}

impl Tail {
    /// Puts before it what was read above `after` in a bucket; all of it must be there. What is newer than the head was
    /// written by who came later.
    fn reach_back(&mut self, bucket: Bucket, after: Seq, mut events: Vec<Event>) -> Result<(), Error> {
        events.retain(|event| event.seq > after && event.seq <= self.floor);
        let wanted = self.floor.0.saturating_sub(after.0);
        let in_order = events.iter().zip(after.0 + 1..).all(|(event, seq)| event.seq.0 == seq);
        if !in_order || events.len() as u64 != wanted {
            let (found, bucket, floor) = (events.len(), bucket.0, self.floor);
            return Err(Error::Corrupt(format!(
                "bucket {bucket} of a log has {found} of the {wanted} events from {after} to {floor}"
            )));
        }
        events.append(&mut self.events);
        *self = Tail { floor: after.min(self.floor), events };
        Ok(())
    }
}
