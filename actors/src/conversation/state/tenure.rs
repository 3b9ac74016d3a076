//! Beginning, claiming, repairing and losing a log.

use std::time::Duration;

use protocol::{
    Epoch, Kind, Seq, UserId,
    peer::{Change, Done, Outcome},
};
use storage::log::{Claimed, Created, Lane, Range, Tenancy};

use super::{
    Action, Index, Job, Loaded, Peek, Stage, State, Stored, Wish,
    clock::STORE_DEADLINE,
    extract,
    outcomes::{answer, give_up, stored, timeout, unavailable},
    placed::moved,
    planted::Mistake,
    untold::DEPARTED_EVENTS_MAX,
};
use crate::{
    conversation::{recent::Recent, roster::Roster},
    entities::Now,
    meters::Owned,
    refusals::{no_such_conversation, too_many_members},
};

/// The pause after the store failed; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Who lost a log does not claim it back for this long, and for twice as long each time that it loses it again before it has
/// stored anything. Mostly the other one went by an earlier view, and will have read the present one by then.
const NO_DUEL_MIN: Duration = Duration::from_millis(100);
const NO_DUEL_MAX: Duration = Duration::from_secs(2);

impl State {
    pub(super) fn advance_cold(&mut self, now: Now, out: &mut Vec<Action>) {
        let here = self.is_here();
        let creates = |w: &Wish| matches!(w.what.change, Change::Create { .. }) && !w.exists;
        let begins = self.waiting.iter().position(|wish| here && creates(wish));
        if let Some(wish) = begins.and_then(|at| self.waiting.remove(at)) {
            return self.create(wish, now, out);
        }
        #[cfg(test)]
        self.ask_early(out);
        for wish in self.waiting.iter_mut().filter(|w| here && w.peek == Peek::NotAsked) {
            wish.peek = Peek::Asked;
            out.push(Action::Store(Job::Peek(wish.what.by)));
        }
        // a claim proves more than a read does
        self.restarted |= std::mem::take(&mut self.untold.unproved);
        let wanted = here && self.waiting.iter().any(|w| w.peek == Peek::Known);
        if self.restarted || !self.limbo.is_empty() || wanted {
            self.stage = Stage::Claiming;
            let tail_from =
                if self.continues { Some(self.limbo_from.unwrap_or(self.head.seq)) } else { self.limbo_from };
            out.push(Action::Store(Job::Claim { tail_from }));
        } else if here && self.roster.is_none() && !self.loading && !(self.marks.is_empty() && self.typing.is_empty()) {
            self.loading = true;
            out.push(Action::Store(Job::Load(self.epoch, None)));
        }
    }

    pub(super) fn create(&mut self, wish: Wish, now: Now, out: &mut Vec<Action>) {
        let Change::Create { kind, title, members } = wish.what.change.clone() else { return };
        if members.len() > self.members_max {
            return answer(wish.what.requester, Outcome::Refused(too_many_members(self.members_max).into()), out);
        }
        (self.epoch, self.made) = (Epoch(1), 0);
        self.loading = false;
        let body = protocol::Body::Create(protocol::event::Create { conversation_kind: kind, title, members });
        let event = self.event(&wish.what, body, Seq(1), 0, now.wall);
        out.push(Action::Store(Job::Create(vec![event.clone()])));
        self.stage = Stage::Creating(Box::new((wish, event)));
    }

    pub(super) fn created(&mut self, result: Result<Created, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let (mut wish, event) = match std::mem::replace(&mut self.stage, Stage::Cold) {
            Stage::Creating(creating) => *creating,
            unasked => return self.stage = unasked,
        };
        match result {
            Ok(Created::Created { head }) => {
                self.failures = 0;
                self.head = head;
                self.untold.claimed();
                self.recent = Recent::from_tail(Seq(0), std::slice::from_ref(&event));
                let mut telling = Vec::new();
                self.audience.load(std::iter::empty(), Seq(0), &mut telling);
                out.extend(telling.into_iter().map(Action::Tell));
                if let Change::Create { kind, title, members } = &wish.what.change {
                    self.roster = Some(Roster::created(*kind, title.clone(), members));
                }
                self.stage = Stage::Ready;
                self.owned.get_or_insert_with(Owned::begin);
                self.stored([Stored::of(event, &wish)], now, out);
            }
            // it is that one; whoever began it may have crashed before its rows were written
            Ok(Created::Exists) if matches!(wish.what.change, Change::Create { kind: Kind::Direct, .. }) => {
                (wish.exists, wish.peek) = (true, Peek::NotAsked);
                self.put_back(wish);
            }
            // made by an earlier attempt, or by somebody else under the same id: the log's dedupe knows
            Ok(Created::Exists) => {
                (wish.exists, wish.peek, wish.index) = (true, Peek::Known, Index::NotAsked);
                self.put_back(wish);
            }
            Err(storage::Error::Unknown(_)) if now.mono.duration_since(wish.since) < STORE_DEADLINE => {
                wish.unknown = true;
                self.put_back(wish);
                self.pause(now);
            }
            Err(error) => {
                wish.unknown |= matches!(error, storage::Error::Unknown(_));
                give_up(&wish, out);
                self.pause(now);
            }
        }
    }

    pub(super) fn peeked(&mut self, user: UserId, result: Result<bool, storage::Error>, out: &mut Vec<Action>) {
        let peeking = |w: &Wish| w.what.by == user && w.peek == Peek::Asked;
        match result {
            Ok(true) => {
                for wish in extract(&mut self.waiting, |w| peeking(w) && w.exists) {
                    answer(wish.what.requester, Outcome::Done(Done::Unchanged), out);
                }
                self.waiting.iter_mut().filter(|w| peeking(w)).for_each(|w| w.peek = Peek::Known);
            }
            Ok(false) => {
                // never was a member: the member row alone is enough to say so
                for wish in extract(&mut self.waiting, |w| peeking(w) && !w.exists) {
                    answer(wish.what.requester, Outcome::Refused(no_such_conversation().into()), out);
                }
                // begun, and its rows were never written: a claim writes them
                self.waiting.iter_mut().filter(|w| peeking(w)).for_each(|w| w.peek = Peek::Known);
            }
            Err(_) => extract(&mut self.waiting, peeking).iter().for_each(|wish| give_up(wish, out)),
        }
    }

    pub(super) fn claimed(&mut self, result: Result<Claimed, storage::Error>, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.stage, Stage::Claiming) {
            return;
        }
        self.stage = Stage::Cold;
        let label = match &result {
            Ok(Claimed::Claimed(_)) => "claimed",
            Ok(Claimed::NotFound) => "not_found",
            Err(error) => error.kind(),
        };
        metrics::counter!("starling_claims_total", "result" => label).increment(1);
        match result {
            Ok(Claimed::Claimed(tenancy)) => {
                (self.restarted, self.returned) = (false, false);
                self.begin_tenancy(tenancy, now, out);
            }
            Ok(Claimed::NotFound) => {
                self.restarted = false;
                for wish in self.waiting.drain(..).chain(self.limbo.drain(..).map(|(wish, _)| wish)) {
                    answer(wish.what.requester, Outcome::Refused(no_such_conversation().into()), out);
                }
                self.limbo_from = None;
            }
            Err(error) => {
                if !matches!(error, storage::Error::Unknown(_)) {
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.pause(now);
            }
        }
    }

    pub(super) fn begin_tenancy(&mut self, tenancy: Tenancy, now: Now, out: &mut Vec<Action>) {
        let Tenancy { epoch, head, tail } = tenancy;
        self.failures = 0;
        (self.epoch, self.made, self.loading) = (epoch, 0, false);
        self.untold.claimed();
        self.owned.get_or_insert_with(Owned::begin);
        let before = std::mem::replace(&mut self.head, head);
        let reach = tail.first().map_or(head.seq, |first| Seq(first.seq.0 - 1));
        if !self.is_planted(Mistake::StaleTail) {
            self.recent = Recent::from_tail(reach, &tail);
        }
        self.unsettled = tail.iter().filter(|e| e.seq > head.settled).cloned().collect();

        let mut applied = Vec::new();
        for (mut wish, id) in self.limbo.drain(..).rev() {
            if let Some(event) = tail.iter().find(|event| event.id == id) {
                metrics::counter!("starling_append_unknown_total", "resolved" => "applied").increment(1);
                applied.push(Stored::of(event.clone(), &wish));
                continue;
            }
            metrics::counter!("starling_append_unknown_total", "resolved" => "not_applied").increment(1);
            // never will be by that append: like a new one, if anybody still waits
            wish.index = Index::NotAsked;
            if wish.what.requester.is_some() {
                self.waiting.push_front(wish);
            }
        }
        self.limbo_from = None;
        self.unasked = self.waiting.len();
        if self.is_planted(Mistake::OldMiss) {
            let missed = self.waiting.iter_mut().filter(|wish| matches!(wish.index, Index::Absent(..)));
            missed.for_each(|wish| wish.index = Index::Absent(epoch, head.seq));
        }
        if self.continues {
            for event in tail.into_iter().filter(|event| event.seq > before.seq) {
                if let Some(roster) = &mut self.roster {
                    roster.apply(&event);
                }
                let mine = applied.iter().find(|stored| stored.event.seq == event.seq).cloned();
                self.held.push_back(mine.unwrap_or(Stored { event, requester: None, since: now.mono }));
            }
        } else {
            self.roster = None;
            self.audience.inherit(&tail);
            for Stored { event, requester, .. } in applied {
                answer(requester, stored(event.seq, event.post_no, event.at, false), out);
            }
        }
        self.stage = Stage::Repairing;
        self.prepare(now, out);
        self.repaired(now, out);
    }

    /// Asks for what the next append needs besides, while what follows is written and members are read: each is a step of
    /// the store, and who waits has waited for several.
    fn prepare(&mut self, now: Now, out: &mut Vec<Action>) {
        self.ask_index(out);
        if !self.waiting.is_empty() {
            self.may_append(now, out);
        }
    }

    /// Goes on once nothing of the tail is unsettled.
    pub(super) fn repaired(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.unsettled.is_empty() {
            return;
        }
        if self.continues {
            self.continues = false;
            self.stage = Stage::Ready;
            self.release(now, out);
        } else {
            self.stage = Stage::Loading;
            self.loading = true;
            let after = Seq(self.head.seq.0.saturating_sub(DEPARTED_EVENTS_MAX as u64));
            let all = Range { after, before: None, lane: Lane::Events, limit: DEPARTED_EVENTS_MAX, newest: false };
            let recalled = self.recalls.then_some(all);
            out.push(Action::Store(Job::Load(self.epoch, recalled)));
        }
    }

    pub(super) fn loaded(
        &mut self, epoch: Epoch, result: Result<Option<Loaded>, storage::Error>, now: Now, out: &mut Vec<Action>,
    ) {
        if epoch != self.epoch {
            return; // asked before the log was claimed (again)
        }
        self.loading = false;
        match result {
            Ok(Some(Loaded { roster, head, recalled })) => {
                match self.stage {
                    Stage::Loading => {
                        self.stage = Stage::Ready;
                        self.recalls = false;
                        self.audience.recall(&recalled);
                    }
                    Stage::Cold => self.head = head,
                    _ => return,
                }
                let mut telling = Vec::new();
                self.audience.load(roster.members.keys().copied(), self.head.seq, &mut telling);
                out.extend(telling.into_iter().map(Action::Tell));
                self.roster = Some(roster);
            }
            Ok(None) => {
                self.stage = Stage::Cold;
                self.typing.clear();
                let gone = || Outcome::Refused(no_such_conversation().into());
                self.waiting.drain(..).for_each(|wish| answer(wish.what.requester, gone(), out));
                self.marks.take_waiting().iter().for_each(|request| answer(request.requester, gone(), out));
                out.push(Action::StopIfIdle);
                self.parting = true;
            }
            Err(_) => {
                if matches!(self.stage, Stage::Loading) {
                    self.stage = Stage::Cold;
                    // what the claim has found may be untold
                    self.restarted = self.is_here();
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.typing.clear();
                for request in self.marks.take_waiting() {
                    answer(request.requester, unavailable(), out);
                }
                self.pause(now);
            }
        }
    }

    /// The log must be claimed again. `continues`: nobody else was seen to own it, so what is known of it still holds.
    pub(super) fn lose(&mut self, continues: bool, out: &mut Vec<Action>) {
        (self.stage, self.continues, self.loading) = (Stage::Cold, continues, false);
        self.owned = None;
        self.untold.unproved |= std::mem::take(&mut self.untold.proving);
        self.unsettled.clear();
        for (wish, _) in std::mem::take(&mut self.refusing).into_iter().rev() {
            self.waiting.push_front(wish);
        }
        for wish in &mut self.waiting {
            wish.peek = Peek::Known;
        }
        self.unasked = self.waiting.len();
        if !continues {
            self.roster = None;
            self.audience.disinherit();
            // stored, but who comes next writes the member rows and tells; the same request again is answered with it
            for Stored { requester, .. } in std::mem::take(&mut self.held) {
                answer(requester, timeout(), out);
            }
        }
    }

    pub(super) fn put_back(&mut self, wish: Wish) {
        self.waiting.push_front(wish);
        self.unasked = self.waiting.len();
    }

    /// Another node owns the log: its owner is to be asked, and not be claimed from at once.
    pub(super) fn deposed(&mut self, now: Now, out: &mut Vec<Action>) {
        self.lose(false, out);
        // its claim is from before: to claim anew is no duel
        if std::mem::take(&mut self.returned) && self.is_here() {
            return;
        }
        out.push(Action::ReadView);
        // by the view it is here: who asks again in a while may be served
        if self.is_here() {
            for wish in self.waiting.drain(..) {
                if wish.unknown {
                    answer(wish.what.requester, timeout(), out);
                } else {
                    moved(wish.what.requester, out);
                }
            }
        }
        self.retry_at = Some(now.mono + NO_DUEL_MIN.saturating_mul(1 << self.losses.min(10)).min(NO_DUEL_MAX));
        self.losses += 1;
    }

    pub(super) fn pause(&mut self, now: Now) {
        let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures += 1;
        self.retry_at = Some(now.mono + pause);
    }
}
