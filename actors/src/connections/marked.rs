//! The marks that sockets of this node were told lately. What an earlier owner of a conversation has told, and comes late
//! over a slow link, takes none of them back (G11). Pure; remembers for a while, not for ever.

use std::time::Duration;

use protocol::{ConversationId, UserId, push::Marks};
use tokio::time::Instant;

use crate::maps::HashMap;

/// Longer than a link can hold mail back without counting as broken.
const KEPT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// When `lately` began.
    since: Option<Instant>,
    lately: HashMap<(ConversationId, UserId), Marks>,
    before: HashMap<(ConversationId, UserId), Marks>,
}

impl Marked {
    /// Drops those that go back, and remembers the others.
    pub(super) fn advance(&mut self, c: ConversationId, marks: &mut Vec<(UserId, Marks)>, now: Instant) {
        if self.since.is_none_or(|since| now >= since + KEPT) {
            self.before = std::mem::take(&mut self.lately);
            self.since = Some(now);
        }
        marks.retain(|(user, marks)| {
            let known = self.lately.get(&(c, *user)).or_else(|| self.before.get(&(c, *user)));
            let advances = known.is_none_or(|known| known.read <= marks.read && known.delivered <= marks.delivered);
            if advances {
                self.lately.insert((c, *user), *marks);
            }
            advances
        });
    }
}

#[cfg(test)]
mod tests {
    use protocol::Seq;

    use super::*;

    const C: ConversationId = ConversationId([1; 16]);

    fn told(marked: &mut Marked, read: u64, delivered: u64, now: Instant) -> bool {
        let mut marks = vec![(UserId([2; 16]), Marks { read: Seq(read), delivered: Seq(delivered) })];
        marked.advance(C, &mut marks, now);
        !marks.is_empty()
    }

    #[test]
    fn g11_marks_that_come_late_from_an_earlier_owner_are_dropped() {
        let (mut marked, now) = (Marked::default(), Instant::now());
        assert!(told(&mut marked, 4, 7, now));
        assert!(!told(&mut marked, 3, 7, now) && !told(&mut marked, 4, 6, now));
        assert!(told(&mut marked, 4, 7, now), "again is not back");
        assert!(!told(&mut marked, 3, 3, now + KEPT), "it is remembered for a while");
        told(&mut marked, 5, 7, now + KEPT);
        assert!(!told(&mut marked, 4, 7, now + KEPT * 2));
        assert_eq!(marked.lately.len(), 0, "and not for ever");
    }
}
