//! Beginning a log: one statement.

use protocol::{Epoch, Event, Incarnation, Seq};

use super::{Answer, Ask, Bucket, Statics, Steps, failed, head_after};
use crate::{
    Error,
    derive::{Change, changes},
    log::{Created, Head, check, check_post_no},
};

/// [`crate::log::Log::create`].
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    owner: Incarnation,
    head: Head,
}

impl Create {
    /// `bytes`: of all bodies.
    ///
    /// # Errors
    /// [`Error::Refused`] if no store may begin a log with these events.
    pub fn new(owner: Incarnation, events: &[Event], bytes: usize) -> Result<Create, Error> {
        check(Seq(0), events, bytes)?;
        check_post_no(0, events.iter().map(|event| (event.body.is_post(), event.post_no)))?;
        if !matches!(changes(&events[..1]).first(), Some(Change::Begin { .. })) {
            return Err(Error::Refused("a log begins with an event that creates the conversation".into()));
        }
        Ok(Create { owner, head: head_after(events, Seq(0)) })
    }
}

impl Steps for Create {
    type Outcome = Created;

    fn ask(&self) -> Ask {
        let statics = Statics { epoch: Epoch(1), owner: self.owner, head: self.head, post_bucket: None };
        Ask::Open { bucket: Bucket(0), statics }
    }

    fn answer(&mut self, answer: Answer) -> Option<Result<Created, Error>> {
        Some(match answer {
            Answer::Applied => Ok(Created::Created { head: self.head }),
            // also where this shows one's own: it is there, and was perhaps another call's
            Answer::NotApplied(_) => Ok(Created::Exists),
            other => Err(failed(other)),
        })
    }
}
