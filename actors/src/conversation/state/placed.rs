//! What a conversation does when it learns where it and what it watches are placed: it owns the log only where the view
//! places it. Elsewhere it sends on what waits, ends what it has begun, and stops; the store keeps it honest meanwhile.

use std::{sync::Arc, time::Duration};

use protocol::{
    Code, Error, Incarnation,
    peer::{Change, Outcome, Requester, Slice, ToConversation},
};

use super::{
    Action, Stage, State,
    clock::IDLE,
    outcomes::{answer, give_up},
};
use crate::{
    cluster::places::Places,
    conversation::audience::{Telling, watches::Watches},
    entities::Now,
};

/// How long it waits for its watches to end before it makes them again, and begins to end them anew.
pub(super) const ENDING_PATIENCE: Duration = Duration::from_secs(2);

impl State {
    pub(super) fn placed(&mut self, places: Arc<Places>, out: &mut Vec<Action>) {
        let was_here = self.is_here();
        self.places = places.clone();
        if !was_here && self.is_here() {
            (self.returned, self.retry_at) = (true, None);
        }
        self.watching(out, |watches, out| watches.moved(places, out));
    }

    pub(super) fn forgotten(&mut self, by: Incarnation, which: Option<Slice>, out: &mut Vec<Action>) {
        self.watching(out, |watches, out| watches.forgotten(by, which, out));
    }

    pub(super) fn watching(&mut self, out: &mut Vec<Action>, work: impl FnOnce(&mut Watches, &mut Vec<Telling>)) {
        let mut telling = Vec::new();
        work(&mut self.audience.watches, &mut telling);
        out.extend(telling.into_iter().map(Action::Tell));
    }

    pub(super) fn is_here(&self) -> bool {
        self.places.conversation(self.id) == Some(self.me)
    }

    /// Sends on what waits for another owner. What it has begun itself it ends itself.
    pub(super) fn hand_over(&mut self, out: &mut Vec<Action>) {
        if self.is_here() || matches!(self.stage, Stage::Claiming | Stage::Creating(_)) || !self.limbo.is_empty() {
            return;
        }
        self.typing.clear();
        let owner = self.places.conversation(self.id);
        for wish in std::mem::take(&mut self.waiting) {
            match owner {
                // a beginning of unknown outcome may still happen: only who began it may say that it did not
                _ if wish.unknown && matches!(wish.what.change, Change::Create { .. }) => give_up(&wish, out),
                Some(owner) if !wish.forwarded => {
                    out.push(Action::Forward(owner, ToConversation::Submit(wish.what)));
                }
                Some(_) if !wish.unknown => moved(wish.what.requester, out),
                _ => give_up(&wish, out),
            }
        }
        for request in self.marks.take_waiting() {
            match owner {
                Some(owner) => out.push(Action::Forward(owner, ToConversation::Mark(request))),
                None => moved(request.requester, out),
            }
        }
    }

    /// Ends its watches and then itself, once nobody has needed it for a while, or its place is elsewhere: not before
    /// everybody knows everything, and not before each channel has said that it had nothing more to say.
    pub(super) fn stop_if_done(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.parting {
            return;
        }
        let unused = self.last_mail.is_some_and(|at| now.mono.duration_since(at) >= IDLE) || !self.is_here();
        if !unused || !self.is_idle() {
            self.ending_since = None;
            return self.watching(out, |watches, out| watches.resume(out));
        }
        let watches = &self.audience.watches;
        if watches.are_ending() {
            let since = *self.ending_since.get_or_insert(now.mono);
            if now.mono.duration_since(since) >= ENDING_PATIENCE {
                self.ending_since = None;
                self.watching(out, |watches, out| watches.resume(out));
            }
        } else {
            if self.is_known_to_all(now, out) {
                self.ending_since = Some(now.mono);
                self.watching(out, |watches, out| watches.end_all(out));
            }
        }
        if self.audience.watches.are_ended() {
            out.push(Action::StopIfIdle);
            self.parting = true;
        }
    }
}

/// Not stored by this attempt: another node is to be asked.
pub(super) fn moved(requester: Option<Requester>, out: &mut Vec<Action>) {
    let error = Error::new(Code::Moved, "another node owns this conversation now");
    answer(requester, Outcome::Refused(error.into()), out);
}
