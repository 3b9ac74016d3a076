//! From a wish to an event: dedupe, judgement, the append and what becomes of it; refusals for good; what follows.

use protocol::{
    ClientId, Code, Epoch, Error, Event, Seq, UserId,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BUCKET_EVENTS},
    peer::{Change, Done, Outcome, Submission},
};
use storage::log::{Appended, Head, Known, Standing};

use super::{
    Action, Flight, Index, Job, Peek, Stage, State, Stored, Wish, extract,
    outcomes::{answer, give_up, stored},
    planted::Mistake,
};
use crate::{
    conversation::{recent::Recent, roster::Verdict},
    entities::Now,
    meters::METERS,
};

/// Wishes about which the index is asked before their turn: those of the batch after the one under way, and as many again.
const ASKED_AHEAD: usize = 2 * BATCH_EVENTS_MAX;
/// Events from which one call writes what follows: a backlog is worked off in runs that a slow store ends in time.
const FOLLOW_EVENTS_MAX: usize = 4 * BATCH_EVENTS_MAX;

impl State {
    pub(super) fn advance_ready(&mut self, now: Now, out: &mut Vec<Action>) {
        self.ask_index(out);
        // an append waits for the one before it, and for the rows of what is no post
        if self.flight.is_some() || !self.held.is_empty() {
            return;
        }
        if !self.waiting.is_empty() && !self.may_append(now, out) {
            return self.verify(out);
        }
        let mut batch = Flight { events: Vec::new(), wishes: Vec::new() };
        let mut bytes = 0;
        let (mut seq, mut post_no) = (self.head.seq, self.head.post_no);
        let at = now.wall.max(self.head.at);
        while let Some(wish) = self.waiting.front() {
            match self.settle_without_event(wish, &batch) {
                Settled::Wait => break,
                Settled::Ask => {
                    // the tail has been trimmed since it arrived: it can no longer speak for those that wait
                    self.unasked = self.waiting.len();
                    self.ask_index(out);
                    break;
                }
                Settled::Answer(outcome) => {
                    if let Some(wish) = self.waiting.pop_front() {
                        answer(wish.what.requester, outcome, out);
                    }
                }
                Settled::Final(outcome) => {
                    if let Some(wish) = self.waiting.pop_front() {
                        self.refusing.push((wish, outcome));
                    }
                }
                Settled::Event(body) => {
                    let size = wish_bytes(&wish.what);
                    let crosses = !batch.events.is_empty() && (seq.0 + 1) % BUCKET_EVENTS == 0;
                    if batch.events.len() >= BATCH_EVENTS_MAX || bytes + size > BATCH_BYTES_MAX || crosses {
                        break;
                    }
                    let Some(wish) = self.waiting.pop_front() else { break };
                    (seq, bytes) = (seq.next(), bytes + size);
                    post_no += u64::from(body.is_post());
                    let ends = !body.is_post();
                    batch.events.push(self.event(&wish.what, body, seq, post_no, at));
                    batch.wishes.push(wish);
                    if ends {
                        break;
                    }
                }
            }
        }
        if !batch.events.is_empty() {
            // who claims the log after this finds in its tail who has left and may not know it
            let told = self.audience.first_leaving().map_or(Seq(u64::MAX), |seq| Seq(seq.0 - 1));
            let (epoch, head, settled) = (self.epoch, self.head.seq, self.head.settled.min(told));
            out.push(Action::Store(Job::Append { epoch, head, settled, events: batch.events.clone() }));
            self.flight = Some(batch);
        }
        self.verify(out);
    }

    /// Asks the index for the client ids that the tail cannot speak for, of those whose turn comes soon: a read each, and
    /// whoever is at the end of a long line may never be served.
    pub(super) fn ask_index(&mut self, out: &mut Vec<Action>) {
        let examined = self.waiting.len().saturating_sub(self.unasked);
        self.unasked = self.waiting.len().saturating_sub(examined.max(ASKED_AHEAD));
        let (epoch, head) = (self.epoch, self.head.seq);
        for wish in self.waiting.iter_mut().take(ASKED_AHEAD).skip(examined) {
            let Some(cid) = &wish.what.cid else { continue };
            let asked = matches!(wish.index, Index::Asked(_));
            if !asked && !is_exact(&self.recent, wish, epoch) && self.recent.find(wish.what.by, cid).is_none() {
                wish.index = Index::Asked(head);
                out.push(Action::Store(Job::Find(wish.what.by, cid.clone(), epoch)));
            }
        }
    }

    /// What becomes of the first wish that waits. Dedupe comes before every refusal.
    fn settle_without_event(&self, wish: &Wish, batch: &Flight) -> Settled {
        if let Some(cid) = &wish.what.cid {
            if let Some(known) = self.recent.find(wish.what.by, cid) {
                return known_already(&wish.what, &known);
            }
            if batch.wishes.iter().any(|w| w.what.by == wish.what.by && w.what.cid.as_ref() == Some(cid)) {
                return Settled::Wait;
            }
            if !is_exact(&self.recent, wish, self.epoch) {
                return if matches!(wish.index, Index::Asked(_)) { Settled::Wait } else { Settled::Ask };
            }
        }
        let Some(roster) = &self.roster else { return Settled::Wait };
        if self.is_planted(Mistake::NotJudgedAgain)
            && wish.unknown
            && let Change::Post(envelope) = &wish.what.change
            && let Ok(body) = protocol::Body::decode(0, envelope)
        {
            return Settled::Event(body);
        }
        match roster.judge(wish.what.by, &wish.what.change, self.members_max) {
            Verdict::Event(body) => Settled::Event(body),
            Verdict::Unchanged => Settled::Final(Outcome::Done(Done::Unchanged)),
            Verdict::Refused(error) => Settled::Final(Outcome::Refused(error.into())),
        }
    }

    pub(super) fn found(
        &mut self, by: UserId, cid: &ClientId, epoch: Epoch, result: Result<Option<Known>, storage::Error>,
        out: &mut Vec<Action>,
    ) {
        let same = |w: &Wish| w.what.by == by && w.what.cid.as_ref() == Some(cid);
        let asked = |w: &Wish| matches!(w.index, Index::Asked(_)) && same(w);
        match result {
            Ok(None) => {
                for wish in self.waiting.iter_mut().filter(|w| same(w)) {
                    if let Index::Asked(head) = wish.index {
                        wish.index = Index::Absent(epoch, head);
                    }
                }
            }
            Ok(Some(known)) => {
                for wish in extract(&mut self.waiting, asked) {
                    match known_already(&wish.what, &known) {
                        Settled::Final(outcome) => self.refusing.push((wish, outcome)),
                        Settled::Answer(outcome) => answer(wish.what.requester, outcome, out),
                        Settled::Wait | Settled::Ask | Settled::Event(_) => {}
                    }
                }
            }
            Err(_) => extract(&mut self.waiting, asked).iter().for_each(|wish| give_up(wish, out)),
        }
    }

    pub(super) fn appended(&mut self, result: Result<Appended, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Some(flight) = self.flight.take() else { return };
        let result = match result {
            Err(storage::Error::Unknown(_)) if crate::planted::is(crate::planted::Mistake::AckUnknown) => {
                Ok(Appended::Applied { settled: self.head.settled })
            }
            result => result,
        };
        match result {
            Ok(Appended::Applied { settled }) => {
                (self.failures, self.losses) = (0, 0);
                self.applied_at = Some(now.mono);
                if let Some(last) = flight.events.last() {
                    let settled = self.head.settled.max(settled);
                    self.head = Head { seq: last.seq, post_no: last.post_no, at: last.at, settled };
                }
                for (event, wish) in flight.events.iter().zip(&flight.wishes) {
                    self.recent.add(event);
                    METERS.send_commit_seconds.record(now.mono.duration_since(wish.since).as_secs_f64());
                }
                self.recent.trim(self.head.settled);
                let stored = flight.events.into_iter().zip(&flight.wishes);
                self.stored(stored.map(|(event, wish)| Stored::of(event, wish)), now, out);
            }
            Ok(Appended::Fenced { owner, .. }) if owner != self.me => {
                metrics::counter!("starling_fenced_total").increment(1);
                flight.wishes.into_iter().for_each(|wish| self.waiting.push_back(wish));
                self.deposed(now, out);
            }
            // some client's `base` was wrong: believe none of them, ask the index
            Err(storage::Error::Duplicate) => {
                for mut wish in flight.wishes.into_iter().rev() {
                    (wish.what.base, wish.index) = (None, Index::NotAsked);
                    self.put_back(wish);
                }
            }
            Err(storage::Error::Refused(_) | storage::Error::Corrupt(_)) => {
                flight.wishes.iter().for_each(|wish| give_up(wish, out));
                self.pause(now);
            }
            Ok(Appended::Fenced { head, .. }) if self.is_planted(Mistake::AppendAgain) => {
                self.head.seq = head;
                flight.wishes.into_iter().rev().for_each(|wish| self.put_back(wish));
            }
            // also a refusal that shows one's own epoch: it can be wrong about one's own write
            Ok(Appended::Fenced { .. }) | Err(storage::Error::Unknown(_)) => {
                self.limbo_from = Some(self.head.seq);
                let ids = flight.events.iter().map(|event| event.id);
                self.limbo = flight.wishes.into_iter().map(|w| Wish { unknown: true, ..w }).zip(ids).collect();
                assert!(self.held.is_empty(), "an append waits for the rows of the one before");
                self.lose(true, out);
            }
        }
    }

    /// Events are in the log: the roster moves on, and everybody is told, of what is no post once its rows are written.
    pub(super) fn stored(&mut self, events: impl IntoIterator<Item = Stored>, now: Now, out: &mut Vec<Action>) {
        for stored in events {
            let event = &stored.event;
            if let Some(roster) = &mut self.roster {
                roster.apply(event);
            }
            if event.seq > self.head.settled {
                self.unsettled.push_back(event.clone());
            }
            if !event.body.is_post() && event.seq > self.head.settled {
                self.held.push_back(stored);
            } else {
                self.tell(stored, now, out);
            }
        }
    }

    fn tell(&mut self, stored: Stored, now: Now, out: &mut Vec<Action>) {
        let mut telling = Vec::new();
        self.audience.tell(stored.event, stored.requester, &mut telling);
        self.untold_since = if self.audience.is_told() { None } else { self.untold_since.or(Some(now.mono)) };
        out.extend(telling.into_iter().map(Action::Tell));
    }

    pub(super) fn follow(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.following.is_none()
            && !self.unsettled.is_empty()
            && matches!(self.stage, Stage::Ready | Stage::Repairing)
            && self.may_show(now, out)
        {
            let run: Vec<Event> = self.unsettled.iter().take(FOLLOW_EVENTS_MAX).cloned().collect();
            self.following = run.last().map(|last| last.seq);
            out.push(Action::Store(Job::Follow(run)));
        }
    }

    pub(super) fn followed(&mut self, result: Result<(), storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Some(written) = self.following.take() else { return };
        let owned = matches!(self.stage, Stage::Ready | Stage::Repairing);
        match result {
            Ok(()) if owned => {
                self.failures = 0;
                self.head.settled = self.head.settled.max(written);
                self.unsettled.retain(|event| event.seq > written);
                if matches!(self.stage, Stage::Repairing) {
                    self.repaired(now, out);
                } else {
                    self.release(now, out);
                }
            }
            Ok(()) => {}
            Err(_) => {
                if matches!(self.stage, Stage::Repairing) {
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.pause(now);
            }
        }
    }

    /// Tells what was held and is settled now.
    pub(super) fn release(&mut self, now: Now, out: &mut Vec<Action>) {
        while self.held.front().is_some_and(|stored| stored.event.seq <= self.head.settled) {
            if let Some(stored) = self.held.pop_front() {
                self.tell(stored, now, out);
            }
        }
    }

    /// Reads whose the log is, if somebody waits to be refused or a dead node may have owned it.
    pub(super) fn verify(&mut self, out: &mut Vec<Action>) {
        let under_way = !self.verifying.is_empty() || self.untold.proving;
        if !under_way && (!self.refusing.is_empty() || self.untold.unproved) {
            self.verifying = std::mem::take(&mut self.refusing);
            self.untold.proving = std::mem::take(&mut self.untold.unproved);
            out.push(Action::Store(Job::Verify));
        }
    }

    pub(super) fn verified(
        &mut self, result: Result<Option<Standing>, storage::Error>, now: Now, out: &mut Vec<Action>,
    ) {
        let verifying = std::mem::take(&mut self.verifying);
        let proving = std::mem::take(&mut self.untold.proving);
        if verifying.is_empty() && !proving {
            return;
        }
        let owned = matches!(self.stage, Stage::Ready);
        match result {
            Ok(Some(standing)) if owned && (standing.epoch, standing.owner) == (self.epoch, self.me) => {
                verifying.into_iter().for_each(|(wish, outcome)| answer(wish.what.requester, outcome, out));
            }
            // an append under way comes first: its answer says what became of it, and whose the log is
            Ok(_) if self.flight.is_some() => {
                self.untold.unproved |= proving;
                self.refusing.splice(..0, verifying).for_each(drop);
            }
            Ok(standing) => {
                self.untold.unproved |= proving;
                // not ours any more: judge again under the next claim, which it is worth, whatever a peek may have said meanwhile
                verifying.into_iter().rev().for_each(|(wish, _)| self.put_back(Wish { peek: Peek::Known, ..wish }));
                if owned && standing.is_some_and(|s| s.owner != self.me) {
                    self.deposed(now, out);
                } else if owned {
                    self.lose(false, out);
                }
            }
            Err(_) => {
                verifying.iter().for_each(|(wish, _)| give_up(wish, out));
                if proving {
                    self.untold.unproved = true;
                    self.pause(now);
                }
            }
        }
    }
}

impl Stored {
    pub(super) fn of(event: Event, wish: &Wish) -> Stored {
        Stored { event, requester: wish.what.requester, since: wish.since }
    }
}

enum Settled {
    /// Something must be known first, and was asked for.
    Wait,
    /// The index must be asked first.
    Ask,
    /// Answered from the log; stays true.
    Answer(Outcome),
    /// To be said once it is certain that the log is still ours.
    Final(Outcome),
    /// To be appended.
    Event(protocol::Body),
}

/// True if a client id that is not in `recent` is not in the log. The index speaks only up to where the log ended when
/// it was asked, and only under the claim it was asked under; a client's `base` only up to there.
fn is_exact(recent: &Recent, wish: &Wish, epoch: Epoch) -> bool {
    let absent = match wish.index {
        Index::Absent(under, head) if under == epoch => Some(head),
        _ => None,
    };
    recent.is_exact_from(wish.what.base.max(absent))
}

fn known_already(what: &Submission, known: &Known) -> Settled {
    if known.request_hash == what.request_hash {
        return Settled::Answer(stored(known.seq, known.post_no, known.at, true));
    }
    let message = "another request was made under this client id; make a new id for a new request";
    Settled::Final(Outcome::Refused(Error::new(Code::Conflict, message).into()))
}

fn wish_bytes(what: &Submission) -> usize {
    match &what.change {
        Change::Post(envelope) => envelope.len(),
        Change::Create { members, .. } => members.len() * 36,
        Change::Join(users) => users.len() * 36,
        Change::Title(title) => title.len(),
        Change::Leave | Change::Remove(_) | Change::Role(..) => 36,
    }
}
