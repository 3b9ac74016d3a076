//! What who asked is told.

use protocol::{
    Code, Error, Millis, Seq,
    peer::{Done, Outcome, Requester, ToConnections},
};

use super::{Action, Wish};
use crate::conversation::audience::Telling;

pub(super) fn stored(seq: Seq, post_no: u64, at: Millis, dup: bool) -> Outcome {
    Outcome::Done(Done::Stored { seq, post_no, at, dup })
}

pub(super) fn unavailable() -> Outcome {
    let error = Error::new(Code::Unavailable, "the store is away; nothing was stored").after_ms(500);
    Outcome::Refused(error.into())
}

pub(super) fn timeout() -> Outcome {
    Outcome::Refused(
        Error::new(Code::Timeout, "the store did not say in time; the same cid is safe").after_ms(500).into(),
    )
}

/// Not stored for certain, unless an earlier append that carried it ended unknown.
pub(super) fn give_up(wish: &Wish, out: &mut Vec<Action>) {
    answer(wish.what.requester, if wish.unknown { timeout() } else { unavailable() }, out);
}

/// Not taken: definitely not stored.
pub(super) fn overloaded(requester: Option<Requester>, out: &mut Vec<Action>) {
    metrics::counter!("starling_admission_refused_total", "kind" => "waiting").increment(1);
    let error = Error::new(Code::Overloaded, "too much waits in this conversation; nothing was stored").after_ms(200);
    answer(requester, Outcome::Refused(error.into()), out);
}

pub(super) fn answer(requester: Option<Requester>, outcome: Outcome, out: &mut Vec<Action>) {
    if let Some(Requester { at, tag }) = requester {
        out.push(Action::Tell(Telling::Node(at.node, ToConnections::Answer(at.conn, tag, outcome))));
    }
}
