//! Who has left a conversation and may not have heard of it. They stay watched: a socket of theirs that turns up is told
//! that they have left, and never anything of what came after (G9). Pure; what it is for is in `CLUSTER.md` ("Who is told").

use protocol::{Body, Event, Seq, UserId};

use crate::maps::HashMap;

/// See the module.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Departed {
    left: HashMap<UserId, Seq>,
}

impl Departed {
    /// Whoever left in this end of a log and did not come back in it.
    pub(super) fn of(tail: &[Event]) -> Departed {
        let mut departed = Departed::default();
        departed.replay(tail);
        departed
    }

    /// These are the last events of the log, or some of them.
    pub(super) fn replay(&mut self, events: &[Event]) {
        for event in events {
            joining(event).iter().for_each(|user| self.returned(*user));
            if let Some(user) = leaving(event) {
                self.left(user, event.seq);
            }
        }
    }

    /// They have left by this event.
    pub(super) fn left(&mut self, user: UserId, seq: Seq) {
        self.left.insert(user, seq);
    }

    /// They are back.
    pub(super) fn returned(&mut self, user: UserId) {
        self.left.remove(&user);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.left.keys().copied()
    }

    /// The event by which this one has left.
    pub(super) fn since(&self, user: UserId) -> Option<Seq> {
        self.left.get(&user).copied()
    }

    /// The first event by which one of them has left.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.left.values().min().copied()
    }

    /// Forgets, and answers, those of whom this holds.
    pub(super) fn let_go(&mut self, mut known: impl FnMut(UserId, Seq) -> bool) -> Vec<UserId> {
        self.left.extract_if(|user, seq| known(*user, *seq)).map(|(user, _)| user).collect()
    }
}

/// Who is a member from this event on.
pub(super) fn joining(event: &Event) -> &[UserId] {
    match &event.body {
        Body::Create(create) => &create.members,
        Body::Join(join) => &join.users,
        _ => &[],
    }
}

/// Whose last event this is.
pub(super) fn leaving(event: &Event) -> Option<UserId> {
    match &event.body {
        Body::Leave(_) => Some(event.by),
        Body::Remove(remove) => Some(remove.user),
        _ => None,
    }
}

/// For the model checker.
#[cfg(test)]
impl std::hash::Hash for Departed {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        crate::conversation::state::digest::unordered(&self.left).hash(hasher);
    }
}
