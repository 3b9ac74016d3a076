//! Appending: one conditional statement, and at the end of a bucket what opens the next.

use protocol::{Epoch, Event, Seq};

use super::{Answer, Ask, Bucket, Full, Statics, Steps, failed, head_after, missing};
use crate::{
    Error,
    log::{Appended, Head, check, check_post_no},
};

/// [`crate::log::Log::append`].
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    epoch: Epoch,
    head: Seq,
    /// Posts up to `head`.
    post_no: u64,
    after: Head,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The bucket before is full: perhaps this one was opened by the claim.
    Next(Bucket),
    /// It was not. What stands in the full one?
    Full(Bucket),
    /// Does the full one hold posts?
    Count(Bucket, Full),
    Open(Bucket, Statics),
    Append(Bucket),
}

impl Append {
    /// `bytes`: of all bodies. `settled`: what the caller has written of what follows.
    ///
    /// # Errors
    /// [`Error::Refused`] if no store may append these events there.
    pub fn new(epoch: Epoch, head: Seq, settled: Seq, events: &[Event], bytes: usize) -> Result<Append, Error> {
        check(head, events, bytes)?;
        let counted = || events.iter().map(|event| (event.body.is_post(), event.post_no));
        let post_no = counted().next().map_or(0, |(is_post, stated)| stated.saturating_sub(u64::from(is_post)));
        check_post_no(post_no, counted())?;
        let (bucket, into) = (Bucket::of(head), Bucket::of(head.next()));
        let step = if bucket == into { Step::Append(into) } else { Step::Next(into) };
        Ok(Append { epoch, head, post_no, after: head_after(events, settled.min(head)), step })
    }

    fn full(&self, bucket: Bucket, statics: Statics) -> Result<Step, Result<Appended, Error>> {
        if (statics.epoch, statics.head.seq) != (self.epoch, self.head) {
            return Err(Ok(fenced(&statics)));
        }
        if statics.head.post_no != self.post_no {
            return Err(Err(self.miscounted(&statics)));
        }
        let full = Full { bucket, statics };
        Ok(full.unclear().map_or_else(|| self.open(full, 0), |before| Step::Count(before, full)))
    }

    fn open(&self, full: Full, posts: u64) -> Step {
        let (before, after) = (full.statics.head, self.after);
        let head = Head { at: after.at.max(before.at), settled: after.settled.max(before.settled), ..after };
        Step::Open(full.bucket.next(), Statics { head, ..full.next(posts) })
    }

    fn miscounted(&self, statics: &Statics) -> Error {
        let (stated, stand) = (self.post_no, statics.head.post_no);
        Error::Refused(format!("a batch counts {stated} posts before it where there are {stand}"))
    }

    fn not_applied(&self, statics: Option<Statics>) -> Result<Appended, Error> {
        match statics {
            None => Err(Error::Refused("there is no such log".into())),
            // the epoch and the head held, so it was the count: not applied, and never will be
            Some(s) if (s.epoch, s.head.seq) == (self.epoch, self.head) && s.head.post_no != self.post_no => {
                Err(self.miscounted(&s))
            }
            Some(statics) => Ok(fenced(&statics)),
        }
    }
}

impl Steps for Append {
    type Outcome = Appended;

    fn ask(&self) -> Ask {
        let Append { epoch, head, post_no, after, .. } = *self;
        match self.step {
            Step::Next(bucket) | Step::Full(bucket) | Step::Count(bucket, _) => Ask::Look { bucket },
            Step::Open(bucket, statics) => Ask::Open { bucket, statics },
            Step::Append(bucket) => Ask::Append { bucket, epoch, head, post_no, after },
        }
    }

    fn answer(&mut self, answer: Answer) -> Option<Result<Appended, Error>> {
        let step = match (self.step, answer) {
            (Step::Next(bucket), Answer::Statics(Some(_))) => Ok(Step::Append(bucket)),
            (Step::Next(_), Answer::Statics(None)) => Ok(Step::Full(Bucket::of(self.head))),
            (Step::Full(bucket), Answer::Statics(Some(statics))) => self.full(bucket, statics),
            (Step::Full(_), Answer::Statics(None)) => Err(self.not_applied(None)),
            (Step::Count(_, full), Answer::Statics(Some(before))) => Ok(self.open(full, before.head.post_no)),
            (Step::Count(bucket, _), Answer::Statics(None)) => Err(Err(missing(bucket))),
            (Step::Open(_, statics), Answer::Applied) => Err(Ok(Appended::Applied { settled: statics.head.settled })),
            (Step::Append(_), Answer::Applied) => Err(Ok(Appended::Applied { settled: self.after.settled })),
            (Step::Open(..), Answer::NotApplied(Some(statics))) => Err(Ok(fenced(&statics))),
            (Step::Append(_), Answer::NotApplied(statics)) => Err(self.not_applied(statics)),
            (_, other) => Err(Err(failed(other))),
        };
        match step {
            Ok(step) => {
                self.step = step;
                None
            }
            Err(end) => Some(end),
        }
    }
}

fn fenced(statics: &Statics) -> Appended {
    Appended::Fenced { epoch: statics.epoch, owner: statics.owner, head: statics.head.seq }
}
