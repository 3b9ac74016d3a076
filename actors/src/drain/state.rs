//! What a drain does next, by what it sees: nothing is to be placed here, then the sockets are told at a paced rate, then
//! they are gone, then what was told has arrived. Until then it can be taken back. Never touches a socket. Pure.

use std::{collections::HashMap, time::Duration};

use protocol::{ConnId, close::CloseCode, limits::STORE_DEADLINE_MS, push::Bye};
use tokio::time::Instant;

use super::{Phase, Progress, Terms};
use crate::cluster::jitter::Jitter;

/// Over how long those are spread who can go elsewhere, unless the operator wants it otherwise.
const NOTICE: Duration = Duration::from_secs(5);
/// How long it waits for the view to say that nothing is placed here: with the store away it never does.
const VIEW_PATIENCE: Duration = Duration::from_secs(2);
/// How long a socket that was told works on, beyond the time it was given: for opening the next one elsewhere.
const MOVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long requests in flight may take before their socket is closed all the same: a store's deadline and a little.
const ANSWERS_PATIENCE: Duration = Duration::from_millis(STORE_DEADLINE_MS + 500);
/// How long it waits, with everybody gone, until what was told has arrived and conversations have ended here. The others
/// look after the rest, as after anybody who is gone.
const SETTLE_PATIENCE: Duration = Duration::from_secs(3);

/// What it is told.
#[derive(Debug)]
pub(super) enum Input {
    /// The node is to go.
    Begin,
    /// After all it is not.
    TakeBack,
    /// How things are.
    Look(Sight),
}

/// How things are.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// The view places things here.
    pub(super) placed: bool,
    /// Another node is there for clients to go to.
    pub(super) elsewhere: bool,
    /// Sockets that said hello and are not gone yet.
    pub(super) sockets: Vec<ConnId>,
    /// A conversation here has something to do.
    pub(super) at_work: bool,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Take no more sockets; have nothing placed here.
    Withdraw,
    /// Take sockets again; have things placed here.
    Return,
    /// Say this, and let the socket work on: its client opens another first.
    Announce(ConnId, Bye),
    /// Close with this once what is in flight is answered.
    Part(ConnId, Bye),
    /// Close with this now.
    Close(ConnId, Bye),
}

/// What becomes of a socket that was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    part_at: Instant,
    parted: bool,
}

/// See the module. One drain, from its beginning.
#[derive(Debug)]
pub(super) struct State {
    terms: Terms,
    phase: Phase,
    began: Instant,
    /// When the first socket may be told.
    tell_from: Instant,
    /// Since when there are no sockets.
    empty_since: Option<Instant>,
    told: HashMap<ConnId, Told>,
    jitter: Jitter,
}

impl State {
    pub(super) fn new(terms: Terms, seed: u64, now: Instant) -> State {
        State {
            terms,
            phase: Phase::Serving,
            began: now,
            tell_from: now,
            empty_since: None,
            told: HashMap::new(),
            jitter: Jitter::new(seed),
        }
    }

    /// How far it is.
    pub(super) fn progress(&self, n_sockets: usize, now: Instant) -> Progress {
        let elapsed = now.saturating_duration_since(self.began);
        Progress { phase: self.phase, told: self.told.len(), left: n_sockets, elapsed }
    }

    /// Decides.
    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Begin if self.phase == Phase::Serving => {
                (self.phase, self.began) = (Phase::Unplacing, now);
                out.push(Action::Withdraw);
            }
            // who was told goes, and may come back
            Input::TakeBack if !matches!(self.phase, Phase::Serving | Phase::Leaving) => {
                self.phase = Phase::Serving;
                out.push(Action::Return);
            }
            Input::Look(sight) if !matches!(self.phase, Phase::Serving | Phase::Leaving) => {
                self.look(&sight, now, &mut out);
            }
            Input::Begin | Input::TakeBack | Input::Look(_) => {}
        }
        out
    }

    fn look(&mut self, sight: &Sight, now: Instant, out: &mut Vec<Action>) {
        if now >= self.began + self.terms.deadline {
            out.extend(sight.sockets.iter().map(|conn| Action::Close(*conn, Bye::of(self.terms.why))));
            self.phase = Phase::Leaving;
            return;
        }
        if self.phase == Phase::Unplacing {
            if sight.placed && now < self.began + VIEW_PATIENCE {
                return;
            }
            (self.phase, self.tell_from) = (Phase::Telling, now);
        }
        if !sight.sockets.is_empty() {
            // also one whose hello had begun before the doors were closed
            (self.phase, self.empty_since) = (Phase::Telling, None);
            return self.tell(sight, now, out);
        }
        let since = *self.empty_since.get_or_insert(now);
        let settled = !sight.at_work || now >= since + SETTLE_PATIENCE;
        self.phase = if settled { Phase::Leaving } else { Phase::Settling };
    }

    fn tell(&mut self, sight: &Sight, now: Instant, out: &mut Vec<Action>) {
        let elapsed = now.saturating_duration_since(self.tell_from);
        let due = 1 + elapsed.as_millis() * u128::from(self.terms.rate) / 1000;
        for conn in &sight.sockets {
            if let Some(told) = self.told.get_mut(conn) {
                if now >= told.part_at + ANSWERS_PATIENCE {
                    out.push(Action::Close(*conn, Bye::of(self.terms.why)));
                } else if now >= told.part_at && !told.parted {
                    told.parted = true;
                    out.push(Action::Part(*conn, Bye::of(self.terms.why)));
                }
            } else if (self.told.len() as u128) < due {
                out.push(self.first_word(*conn, sight.elsewhere, now));
            }
        }
    }

    /// Where there is another node a socket works on until its client is there. Where there is none, waiting helps nobody.
    fn first_word(&mut self, conn: ConnId, elsewhere: bool, now: Instant) -> Action {
        let works_on = elsewhere && self.terms.why == CloseCode::Drain;
        let notice = self.terms.notice.unwrap_or(if works_on { NOTICE } else { Duration::ZERO });
        let after = self.jitter.up_to(notice);
        let bye = Bye { after_ms: u64::try_from(after.as_millis()).ok(), ..Bye::of(self.terms.why) };
        let part_at = if works_on { now + after + MOVE_PATIENCE } else { now };
        self.told.insert(conn, Told { part_at, parted: !works_on });
        if works_on { Action::Announce(conn, bye) } else { Action::Part(conn, bye) }
    }
}

#[cfg(test)]
mod tests;
