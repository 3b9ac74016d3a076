//! What who asked is told.

use protocol::{
    Code, Error, Millis, Seq,
    peer::{Done, Outcome, Requester, ToConnections},
};
use tokio::time::Instant;

use super::{Action, Stage, State, Wish, clock::PATIENCE, extract};
use crate::{conversation::audience::Telling, entities::Now};

impl State {
    /// Answers who has waited too long. What only waits is given up; of what is on its way to the store, or is there and not
    /// told yet, nobody can say more than that.
    pub(super) fn answer_late(&mut self, now: Now, out: &mut Vec<Action>) {
        let late = |since: Instant| now.mono.duration_since(since) >= PATIENCE;
        for wish in extract(&mut self.waiting, |wish| late(wish.since)) {
            give_up(&wish, out);
        }
        let creating = match &mut self.stage {
            Stage::Creating(creating) => Some(&mut creating.0),
            _ => None,
        };
        let unsaid = self.flight.iter_mut().flat_map(|flight| &mut flight.wishes);
        let unsaid = unsaid.chain(creating).chain(self.limbo.iter_mut().map(|(wish, _)| wish));
        let judged = self.refusing.iter_mut().chain(&mut self.verifying).map(|(wish, _)| wish);
        let of_wishes = unsaid.chain(judged).map(|wish| (wish.since, &mut wish.what.requester));
        let of_events = self.held.iter_mut().map(|stored| (stored.since, &mut stored.requester));
        for (_, requester) in of_wishes.chain(of_events).filter(|(since, _)| late(*since)) {
            answer(requester.take(), timeout(), out);
        }
    }
}

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
