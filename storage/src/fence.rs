//! The rules of the log over conditional writes of one partition: what create, claim, append and standing ask of a
//! store, one statement after the other. Pure: it never touches a store, a clock or a thread.
//!
//! A log is cut into buckets, one partition each; an owner keeps the log by keeping its last bucket. What must hold:
//!
//! - A claim changes the epoch of the bucket it found before it reads anything, full or not: whatever an earlier owner
//!   has under way there can no longer succeed. If the epoch it then reads is not its own, it claims again.
//! - A full bucket is no place to own: the next one is opened, or claimed if somebody opened it, whoever that was.
//! - A bucket is opened once (its epoch was null), with all statics copied from the one before.
//! - "Not applied" may be wrong about one's own write. A claim takes the epoch again; an append says what stands there.
//! - A write of unknown outcome ends the call. Nothing is repeated in here but what was surely not applied.
//!
//! Whoever executes this performs [`Steps::ask`], hands the answer to [`Steps::answer`], and goes on until that says
//! how it ended. The events of a [`Create`] and an [`Append`] belong into every [`Ask::Open`] and [`Ask::Append`] they
//! ask for; a [`Claim`] has none.

mod append;
mod claim;
mod create;
mod standing;
#[cfg(test)]
mod tests;

use protocol::{Epoch, Event, Incarnation, Millis, Seq, limits::BUCKET_EVENTS};

pub use self::{append::Append, claim::Claim, create::Create, standing::Standing};
use crate::{Error, log::Head};

/// One partition of a log: [`BUCKET_EVENTS`] seqs, numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(pub u64);

/// What stands beside the events of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statics {
    /// The term.
    pub epoch: Epoch,
    /// Whose.
    pub owner: Incarnation,
    /// The end of the log, as far as this bucket goes. Until a bucket has events, the end of the one before.
    pub head: Head,
    /// The nearest earlier bucket that holds a post.
    pub post_bucket: Option<Bucket>,
}

/// One statement. Those that write are conditional, of one partition, all or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read the statics. Answered with [`Answer::Statics`].
    Look {
        /// Where.
        bucket: Bucket,
    },
    /// If `epoch = expect`: set it to the one after, and the owner.
    Take {
        /// Where.
        bucket: Bucket,
        /// The condition.
        expect: Epoch,
        /// Whose it becomes.
        owner: Incarnation,
    },
    /// Read the statics, then the events of this bucket above `after`, ascending. What is read later than the statics
    /// may be newer than they are. Answered with [`Answer::Tail`].
    Tail {
        /// Where.
        bucket: Bucket,
        /// Exclusive.
        after: Seq,
    },
    /// If `epoch` is null: write these statics, the row without a body, and the caller's events.
    Open {
        /// Where.
        bucket: Bucket,
        /// All of them.
        statics: Statics,
    },
    /// If epoch, last seq and number of posts are these: write the caller's events and the head after them.
    Append {
        /// Where.
        bucket: Bucket,
        /// The condition.
        epoch: Epoch,
        /// The condition.
        head: Seq,
        /// The condition.
        post_no: u64,
        /// What the statics say afterwards.
        after: Head,
    },
}

/// What the store said.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These stand there; `None`: there is no such bucket.
    Statics(Option<Statics>),
    /// These stand there, and these events.
    Tail(Option<Statics>, Vec<Event>),
    /// Written and durable.
    Applied,
    /// The condition did not hold; these stand there. Can be wrong about one's own write, never about another's.
    NotApplied(Option<Statics>),
    /// [`Error::Unknown`] if a write may have happened or may still happen.
    Failed(Error),
}

/// One call of [`crate::log::Log`], statement by statement.
pub trait Steps {
    /// What the call comes to.
    type Outcome;

    /// What is to be asked now.
    fn ask(&self) -> Ask;

    /// Takes the answer to that. `Some`: this is the end; `None`: there is more to ask.
    fn answer(&mut self, answer: Answer) -> Option<Result<Self::Outcome, Error>>;
}

impl Bucket {
    /// Where an event is, by its place in the log.
    pub fn of(seq: Seq) -> Bucket {
        Bucket(seq.0 / BUCKET_EVENTS)
    }

    /// Its last event.
    pub fn last(self) -> Seq {
        Seq(self.next().0 * BUCKET_EVENTS - 1)
    }

    /// The last event before it; 0 for the first bucket, which has no event of seq 0.
    pub(crate) fn floor(self) -> Seq {
        Seq((self.0 * BUCKET_EVENTS).saturating_sub(1))
    }

    pub(crate) fn next(self) -> Bucket {
        Bucket(self.0 + 1)
    }

    fn before(self) -> Option<Bucket> {
        self.0.checked_sub(1).map(Bucket)
    }

    fn is_full(self, statics: &Statics) -> bool {
        statics.head.seq >= self.last()
    }
}

/// A full bucket, about to be followed by the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    bucket: Bucket,
    statics: Statics,
}

impl Full {
    /// The bucket whose number of posts says whether this one holds any; `None`: that is known already.
    fn unclear(&self) -> Option<Bucket> {
        self.bucket.before().filter(|_| self.statics.head.post_no > 0)
    }

    /// What the next bucket is opened with, if `posts` were in the log before this one.
    fn next(&self, posts: u64) -> Statics {
        let holds_posts = self.statics.head.post_no > posts;
        Statics { post_bucket: if holds_posts { Some(self.bucket) } else { self.statics.post_bucket }, ..self.statics }
    }
}

/// The head after `events`, of which there is at least one.
fn head_after(events: &[Event], settled: Seq) -> Head {
    let last = events.last();
    Head {
        seq: last.map_or(Seq(0), |event| event.seq),
        post_no: last.map_or(0, |event| event.post_no),
        at: events.iter().map(|event| event.at).max().unwrap_or(Millis(0)),
        settled,
    }
}

/// The end of a call whose last statement was not answered as asked.
fn failed(answer: Answer) -> Error {
    match answer {
        Answer::Failed(error) => error,
        // a mistake of who executes this: what became of the statement cannot be told
        other => Error::Unknown(format!("the answer does not fit the question: {other:?}")),
    }
}

fn missing(bucket: Bucket) -> Error {
    Error::Corrupt(format!("bucket {} of a log is gone", bucket.0))
}
