//! Where a log stands: from a bucket that is known of, on to the last one. Writes nothing.

use super::{Answer, Ask, Bucket, Statics, Steps, failed};
use crate::{Error, log};

/// [`crate::log::Log::standing`].
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    walk: Walk,
}

impl Standing {
    /// `hint`: a bucket that the log reached at some time. A wrong one costs reads, nothing else.
    pub fn new(hint: Bucket) -> Standing {
        Standing { walk: Walk::from(hint) }
    }
}

impl Steps for Standing {
    type Outcome = Option<log::Standing>;

    fn ask(&self) -> Ask {
        self.walk.ask()
    }

    fn answer(&mut self, answer: Answer) -> Option<Result<Self::Outcome, Error>> {
        match self.walk.answer(answer) {
            Ok(None) => None,
            Ok(Some(Found::Nothing)) => Some(Ok(None)),
            Ok(Some(Found::Last(_, Statics { epoch, owner, head, .. }))) => {
                Some(Ok(Some(log::Standing { epoch, owner, head })))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// On past full buckets, to the last one of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    bucket: Bucket,
    /// The one before, which is full.
    full: Option<Statics>,
}

/// Where a walk ends.
pub(super) enum Found {
    /// There is no such log.
    Nothing,
    /// The last bucket as it was when it was looked at.
    Last(Bucket, Statics),
}

impl Walk {
    pub(super) fn from(bucket: Bucket) -> Walk {
        Walk { bucket, full: None }
    }

    pub(super) fn ask(&self) -> Ask {
        Ask::Look { bucket: self.bucket }
    }

    pub(super) fn answer(&mut self, answer: Answer) -> Result<Option<Found>, Error> {
        match (answer, self.full, self.bucket.before()) {
            (Answer::Statics(Some(statics)), ..) => Ok(self.on(statics)),
            (Answer::Statics(None), Some(full), Some(before)) => Ok(Some(Found::Last(before, full))),
            (Answer::Statics(None), None, Some(_)) => {
                *self = Walk::from(Bucket(0)); // a hint that was wrong
                Ok(None)
            }
            (Answer::Statics(None), _, None) => Ok(Some(Found::Nothing)),
            (other, ..) => Err(failed(other)),
        }
    }

    /// These stand where it is now: the end, if there is room for more.
    pub(super) fn on(&mut self, statics: Statics) -> Option<Found> {
        if !self.bucket.is_full(&statics) {
            return Some(Found::Last(self.bucket, statics));
        }
        *self = Walk { bucket: self.bucket.next(), full: Some(statics) };
        None
    }
}
