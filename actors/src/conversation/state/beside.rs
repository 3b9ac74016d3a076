//! What needs the members but not the log: marks and typing.

use protocol::{
    Error,
    peer::{Done, MarkRequest, Outcome, ToConnections},
    push::Marks,
};

use super::{
    Action, Job, State,
    clock::WATCH_PATIENCE,
    outcomes::{answer, timeout, unavailable},
};
use crate::{entities::Now, refusals::no_such_conversation};

impl State {
    /// Marks and typing need to know the members, not to own the log.
    pub(super) fn serve_roster(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(roster) = &self.roster else { return };
        // nobody could be told before it is known who is connected; a channel that stays silent holds up nobody for long
        if self.audience.is_known() {
            self.unheard_since = None;
        } else if !(self.marks.is_empty() && self.typing.is_empty()) {
            let since = *self.unheard_since.get_or_insert(now.mono);
            if now.mono.duration_since(since) < WATCH_PATIENCE {
                return;
            }
        }
        let head = self.head.seq;
        let mut telling = Vec::new();
        for (by, on) in std::mem::take(&mut self.typing) {
            if roster.members.contains_key(&by) {
                let conversation = self.id;
                self.audience.everybody(&mut telling, |to| ToConnections::Typing { conversation, user: by, on, to });
            }
        }
        out.extend(telling.into_iter().map(Action::Tell));
        let accept = |request: &MarkRequest| {
            let refusal = if !roster.members.contains_key(&request.by) {
                no_such_conversation()
            } else if request.seq > head {
                Error::field("seq", format!("the conversation ends at {head}"))
            } else {
                return true;
            };
            answer(request.requester, Outcome::Refused(refusal.into()), out);
            false
        };
        if let Some(updates) = self.marks.begin(accept) {
            out.push(Action::Store(Job::Mark(updates)));
        }
    }

    pub(super) fn marked(&mut self, result: Result<Vec<Marks>, storage::Error>, out: &mut Vec<Action>) {
        let now = match result {
            Ok(now) => now,
            Err(error) => {
                let unknown = matches!(error, storage::Error::Unknown(_));
                for request in self.marks.failed() {
                    answer(request.requester, if unknown { timeout() } else { unavailable() }, out);
                }
                return;
            }
        };
        let (requests, moved) = self.marks.stored(&now);
        for request in &requests {
            answer(request.requester, Outcome::Done(Done::Unchanged), out);
        }
        let (conversation, mut telling) = (self.id, Vec::new());
        if !moved.is_empty() {
            let marks: Vec<_> = moved.iter().map(|m| (m.user, m.marks)).collect();
            self.audience.everybody(&mut telling, |to| ToConnections::Receipts {
                conversation,
                marks: marks.clone(),
                to,
            });
        }
        for m in moved.iter().filter(|m| m.read) {
            let asked = requests.iter().rev().find(|r| r.by == m.user && r.read).and_then(|r| r.requester);
            let seq = m.marks.read;
            self.audience.devices_of(m.user, asked.map(|r| r.at), &mut telling, |to| ToConnections::OwnRead {
                conversation,
                seq,
                to,
            });
        }
        out.extend(telling.into_iter().map(Action::Tell));
    }
}
