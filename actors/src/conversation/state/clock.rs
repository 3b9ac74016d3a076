//! What time alone brings: the end of a pause, of patience and of the conversation's stay; and when to look again.

use std::time::Duration;

use protocol::limits::STORE_DEADLINE_MS;

use super::{Action, Stage, State};
use crate::entities::Now;

/// How long a conversation without traffic stays.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// How often deadlines are looked at.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often a channel that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long telling waits for presence channels that do not answer.
pub(super) const WATCH_PATIENCE: Duration = Duration::from_secs(1);
pub(super) const STORE_DEADLINE: Duration = Duration::from_millis(STORE_DEADLINE_MS);
/// Who has waited this long is answered, whatever the store does: nobody waits longer than the store's deadline, although
/// it is looked only now and then.
pub(super) const PATIENCE: Duration = STORE_DEADLINE.saturating_sub(TICK);

impl State {
    pub(super) fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
        }
        self.answer_late(now, out);
        if self.untold_since.is_some_and(|since| now.mono.duration_since(since) >= WATCH_PATIENCE) {
            let mut telling = Vec::new();
            self.audience.flush(true, &mut telling);
            self.untold_since = None;
            out.extend(telling.into_iter().map(Action::Tell));
        }
        if self.ask_again_at.is_some_and(|at| at <= now.mono) {
            self.ask_again_at = None;
            self.watching(out, |watches, out| watches.retry(out));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Cold | Stage::Ready)
            && self.waiting.is_empty()
            && self.flight.is_none()
            && self.limbo.is_empty()
            && self.refusing.is_empty()
            && self.verifying.is_empty()
            && self.unsettled.is_empty()
            && self.held.is_empty()
            && self.audience.is_told()
            && self.audience.watches.are_answered()
            && self.marks.is_empty()
            && self.typing.is_empty()
            && !self.loading
            && !self.restarted
            && !self.untold.unproved
            && !self.untold.proving
    }

    pub(super) fn schedule(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.parting {
            return;
        }
        if self.audience.watches.are_answered() {
            self.ask_again_at = None;
        } else {
            self.ask_again_at.get_or_insert(now.mono + ASK_AGAIN);
        }
        let idle = self.is_idle();
        let at = match (idle, self.retry_at, self.last_mail) {
            (false, Some(retry), _) if retry > now.mono => retry.min(now.mono + TICK),
            (false, ..) => now.mono + TICK,
            // about to stop, and waiting for channels
            (true, _, Some(last)) if last + IDLE <= now.mono || !self.is_here() => now.mono + TICK,
            (true, _, Some(last)) => last + IDLE,
            (true, _, None) => now.mono + IDLE,
        };
        let at = if self.audience.has_departed() { at.min(now.mono + TICK) } else { at };
        let at = self.untold.due(now.mono).map_or(at, |due| at.min(due.max(now.mono + TICK)));
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            out.push(Action::WakeAt(at));
        }
    }
}
