//! A user's list of conversations: its order, its pages.

use protocol::{ConversationId, Error, UserId};
use storage::directory::{self, Membership};

/// The other side of a direct conversation.
pub(crate) fn other_of(conversation: &directory::Conversation, user: UserId) -> Option<UserId> {
    conversation.pair.map(|(a, b)| if a == user { b } else { a })
}

/// Sorts a list: most recent activity first, ties by id.
pub(crate) fn cursor_of(membership: &Membership) -> (u64, ConversationId) {
    (membership.conversation.head.at.0, membership.conversation.id)
}

/// A page of a user's list, most recent activity first, and the cursor of the next.
pub(crate) fn page_of<'a>(
    all: impl Iterator<Item = &'a Membership>, limit: usize, cursor: Option<&str>,
) -> Result<(Vec<&'a Membership>, Option<String>), Error> {
    if limit == 0 {
        return Ok((Vec::new(), None));
    }
    let below = cursor.map(parse_cursor).transpose()?;
    let mut page: Vec<_> = all.filter(|m| below.is_none_or(|below| cursor_of(m) < below)).collect();
    page.sort_by_key(|m| std::cmp::Reverse(cursor_of(m)));
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| {
        let (at, id) = cursor_of(last);
        format!("{at}.{id}")
    });
    Ok((page, next))
}

fn parse_cursor(text: &str) -> Result<(u64, ConversationId), Error> {
    let parsed = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| Error::field("cursor", "not a cursor of this list; begin again without one"))
}
