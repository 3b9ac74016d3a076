//! What of the mail is let in: wishes, marks and signs of typing wait in lines of bounded length, and nobody joins a line
//! that is served too late.

use std::time::Duration;

use protocol::{limits::BATCH_EVENTS_MAX, peer::ToConversation};
use tokio::time::Instant;

use super::{Action, Index, Peek, State, Wish, clock::STORE_DEADLINE, outcomes::overloaded};
use crate::entities::Now;

/// Wishes, marks and signs of typing, each, that wait while the store is slow. What waits must be served within the
/// store's deadline, or it was admitted for nothing: 512 events a second do it, of one conversation.
pub(super) const WAITING_MAX: usize = 1024;
/// While a line of wishes is being served, and who is next has waited this long, no more are let in: who is served must be
/// served well before the store's deadline, or the work was for nothing.
pub(super) const BEHIND: Duration = Duration::from_millis(500);

impl State {
    pub(super) fn mail(&mut self, mail: ToConversation, forwarded: bool, now: Now, out: &mut Vec<Action>) {
        let mut telling = Vec::new();
        match mail {
            ToConversation::Submit(what) if self.waiting.len() >= WAITING_MAX || self.is_behind(now) => {
                overloaded(what.requester, out);
            }
            ToConversation::Mark(request) if self.marks.len() >= WAITING_MAX => overloaded(request.requester, out),
            ToConversation::Typing { .. } if self.typing.len() >= WAITING_MAX => overloaded(None, out),
            ToConversation::Submit(what) => {
                self.last_mail = Some(now.mono);
                let (index, peek) = (Index::NotAsked, Peek::NotAsked);
                let (exists, unknown) = (false, false);
                self.waiting.push_back(Wish { what, since: now.mono, index, peek, forwarded, exists, unknown });
                self.unasked += 1;
            }
            ToConversation::Mark(request) => {
                self.last_mail = Some(now.mono);
                self.marks.add(request);
            }
            ToConversation::Typing { by, on } => {
                self.last_mail = Some(now.mono);
                self.typing.push((by, on));
            }
            ToConversation::Watched { slice, watch, devices, complete } => {
                self.audience.answered(slice, watch, devices, complete, &mut telling);
            }
            ToConversation::Attached { watch, user, at } => self.audience.attached(watch, user, at, &mut telling),
            ToConversation::Detached { watch, user, at } => self.audience.detached(watch, user, at),
            ToConversation::Unwatched { slice, watch } => self.audience.watches.ended(slice, watch),
            ToConversation::Dropped { slice, watch } => self.audience.watches.dropped(slice, watch, &mut telling),
        }
        out.extend(telling.into_iter().map(Action::Tell));
    }

    /// True if there is a line, it moves, and it moves too slowly.
    fn is_behind(&self, now: Now) -> bool {
        let since = |at: Instant| now.mono.duration_since(at);
        self.waiting.len() >= BATCH_EVENTS_MAX
            && self.waiting.front().is_some_and(|wish| since(wish.since) >= BEHIND)
            && self.applied_at.is_some_and(|at| since(at) < STORE_DEADLINE)
    }
}
