//! The log of a conversation: create, claim, append, read. An append is one conditional batch, fenced by the epoch and
//! by the head its owner knows; see `README.md` of this crate for the rules.

use async_trait::async_trait;
use protocol::{
    ClientId, ConversationId, Epoch, Event, Incarnation, Millis, Seq, UserId,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BUCKET_EVENTS},
};

use crate::Error;

/// The end of a log as its owner knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last event.
    pub seq: Seq,
    /// The number of posts.
    pub post_no: u64,
    /// When the last event was accepted; never goes back.
    pub at: Millis,
    /// All that follows from the log up to here (member rows, lists, index) is written.
    pub settled: Seq,
}

/// Answer to [`Log::create`].
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// The log begins with these events and belongs to the caller, under epoch 1.
    Created {
        /// The head after it.
        head: Head,
    },
    /// There is one of this id already; nothing was written.
    Exists,
}

/// Answer to [`Log::claim`].
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The log belongs to the caller until the next claim.
    Claimed(Tenancy),
    /// There is no such log.
    NotFound,
}

/// A log in the hands of its owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenancy {
    /// The term; every append carries it.
    pub epoch: Epoch,
    /// The end of the log.
    pub head: Head,
    /// The events above `min(head.settled, tail_from)`, ascending, complete up to the head.
    pub tail: Vec<Event>,
}

/// Answer to [`Log::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Durable.
    Applied {
        /// Up to where all that follows is written: the new head where the store does it in the same transaction.
        settled: Seq,
    },
    /// Not applied: the log stands elsewhere. With one's own epoch in it, treat it as unknown.
    Fenced {
        /// The term now.
        epoch: Epoch,
        /// Whose.
        owner: Incarnation,
        /// The last event now.
        head: Seq,
    },
}

/// Which events of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Posts only.
    Posts,
    /// Everything but posts.
    Events,
    /// Both, merged by seq.
    Both,
}

/// A run of a log. Bounds are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Above this seq.
    pub after: Seq,
    /// Below this seq; `None`: to the end.
    pub before: Option<Seq>,
    /// Which events.
    pub lane: Lane,
    /// How many at most.
    pub limit: usize,
    /// True: the newest of the range. False: the oldest. The answer is ascending either way.
    pub newest: bool,
}

/// What the index knows of a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where the event is.
    pub seq: Seq,
    /// Its number among the posts.
    pub post_no: u64,
    /// When it was accepted.
    pub at: Millis,
    /// The hash of its request.
    pub request_hash: [u8; 16],
}

/// The end of a log and whose it is, as anybody may read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The term.
    pub epoch: Epoch,
    /// Whose.
    pub owner: Incarnation,
    /// The end of the log.
    pub head: Head,
}

/// Logs of conversations. All methods may fail with [`Error::Refused`]; those that write also with [`Error::Unknown`].
#[async_trait]
pub trait Log: Send + Sync {
    /// Begins a log with `events` (seq from 1), owned by `owner` under epoch 1. Repeated as it is after `Unknown`.
    async fn create(&self, c: ConversationId, owner: Incarnation, events: &[Event]) -> Result<Created, Error>;

    /// Makes `owner` the owner under a later epoch, then reads the end of the log. The tail reaches back to
    /// `min(head.settled, tail_from)`. An unknown claim is followed by another, never adopted.
    async fn claim(&self, c: ConversationId, owner: Incarnation, tail_from: Option<Seq>) -> Result<Claimed, Error>;

    /// Appends `events` in order if `epoch` and `head` still hold, durable when this returns.
    ///
    /// `events`: 1..=[`protocol::limits::BATCH_EVENTS_MAX`], consecutive from `head + 1`, at most
    /// [`protocol::limits::BATCH_BYTES_MAX`], all in one bucket ([`protocol::limits::BUCKET_EVENTS`]).
    /// `settled` is what the caller has written of what follows.
    async fn append(
        &self, c: ConversationId, epoch: Epoch, head: Seq, settled: Seq, events: &[Event],
    ) -> Result<Appended, Error>;

    /// Writes all that follows from `events`: member rows, the users' lists, the conversation's row, the index, the
    /// posters' read marks. Idempotent, stamped with the seqs. Only for stores whose append does not.
    async fn follow(&self, c: ConversationId, events: &[Event]) -> Result<(), Error>;

    /// Where the log stands; `None`: there is no such log.
    async fn standing(&self, c: ConversationId) -> Result<Option<Standing>, Error>;

    /// What the index knows of a client id of a sender, also for events that are not settled where the store can.
    async fn find(&self, c: ConversationId, by: UserId, cid: &ClientId) -> Result<Option<Known>, Error>;

    /// Events of the log, ascending. Says nothing about who may read them.
    async fn read(&self, c: ConversationId, range: Range) -> Result<Vec<Event>, Error>;
}

/// Refuses what no store may append: a caller that does this is wrong, and nothing is written.
pub(crate) fn check(head: Seq, events: &[Event], bytes: usize) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Refused(format!("a batch above {head} {why}")));
    if events.is_empty() || events.len() > BATCH_EVENTS_MAX {
        return refuse(format!("has {} events, allowed are 1 to {BATCH_EVENTS_MAX}", events.len()));
    }
    if bytes > BATCH_BYTES_MAX {
        return refuse(format!("has {bytes} bytes of bodies, allowed are {BATCH_BYTES_MAX}"));
    }
    if let Some((i, event)) = events.iter().enumerate().find(|(i, event)| event.seq.0 != head.0 + 1 + *i as u64) {
        return refuse(format!("holds seq {} at place {i}", event.seq));
    }
    let last = head.0 + events.len() as u64;
    if (head.0 + 1) / BUCKET_EVENTS != last / BUCKET_EVENTS {
        return refuse(format!("reaches {last} and crosses a multiple of {BUCKET_EVENTS}"));
    }
    Ok(())
}

/// Refuses events whose running number of posts does not go on from `post_no`: unread counts are made of it.
pub(crate) fn check_post_no(mut post_no: u64, events: impl Iterator<Item = (bool, u64)>) -> Result<(), Error> {
    for (is_post, stated) in events {
        post_no += u64::from(is_post);
        if stated != post_no {
            return Err(Error::Refused(format!("a batch counts {stated} posts where there are {post_no}")));
        }
    }
    Ok(())
}
