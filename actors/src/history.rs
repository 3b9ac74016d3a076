//! Pages of history. Reads the page first and membership second, and returns nothing unless the reader is a member.

use protocol::{
    ConversationId, Error, Event, Seq, UserId,
    event::View,
    limits::{PAGE_BYTES_MAX, PAGE_POSTS_DEFAULT},
    push::HistoryPage,
    request::Page,
};
use storage::{
    Store,
    log::{Lane, Range},
};

use crate::refusals::{no_such_conversation, store_failed};

/// Other events on one page; more than that between its posts, and the page gets shorter.
const PAGE_EVENTS_MAX: usize = 500;

/// One page for `reader`. The caller has checked `page`, and has a [turn](crate::turns).
///
/// # Errors
/// `not_found` for who is not a member, `unavailable` if the store does not answer.
pub(crate) async fn page(store: &Store, reader: UserId, c: ConversationId, page: Page) -> Result<HistoryPage, Error> {
    let limit = page.limit.unwrap_or(PAGE_POSTS_DEFAULT);
    let run = match (page.before, page.after, page.around) {
        (_, Some(after), _) => run(store, c, after, None, false, limit).await?,
        (before, None, None) => run(store, c, Seq(0), before, true, limit).await?,
        (_, None, Some(around)) => {
            // the post itself belongs to the older half
            let older = run(store, c, Seq(0), Some(around.next()), true, limit.div_ceil(2)).await?;
            let newer = run(store, c, around, None, false, limit / 2).await?;
            let mut events = older.events;
            events.extend(newer.events);
            Run { events, more: older.more || newer.more }
        }
    };
    let membership = store.directory.membership(c, reader).await.map_err(|e| store_failed(&e))?;
    let membership = membership.filter(|m| m.member.left_seq.is_none()).ok_or_else(no_such_conversation)?;

    let mut answer = HistoryPage { head: membership.conversation.head.seq, more: run.more, ..HistoryPage::default() };
    let mut bytes = 0;
    // what does not fit is dropped at the end that the next page begins at
    let oldest_first = page.after.is_some();
    let views: Vec<View> = run.events.iter().filter_map(|event| event.view(c)).collect();
    let ordered: Box<dyn Iterator<Item = View>> =
        if oldest_first { Box::new(views.into_iter()) } else { Box::new(views.into_iter().rev()) };
    for view in ordered {
        bytes += serde_json::to_vec(&view).map_or(0, |json| json.len() + 1);
        let is_first = answer.messages.is_empty() && answer.events.is_empty();
        // the first one fits always, or the next page would begin before it again
        if bytes > PAGE_BYTES_MAX - 1024 && !is_first {
            answer.more = true;
            break;
        }
        match view {
            View::Post(post) => answer.messages.push(post),
            View::Event(event) => answer.events.push(event),
        }
    }
    answer.messages.sort_by_key(|post| post.seq);
    answer.events.sort_by_key(|event| event.seq);
    Ok(answer)
}

struct Run {
    events: Vec<Event>,
    more: bool,
}

/// Up to `limit` posts between two exclusive bounds, and every other event in the range of seqs that they span.
async fn run(
    store: &Store, c: ConversationId, after: Seq, before: Option<Seq>, newest: bool, limit: usize,
) -> Result<Run, Error> {
    if limit == 0 {
        return Ok(Run { events: Vec::new(), more: false });
    }
    let posts = Range { after, before, lane: Lane::Posts, limit: limit + 1, newest };
    let mut posts = store.log.read(c, posts).await.map_err(|e| store_failed(&e))?;
    let mut more = posts.len() > limit;
    // the range ends with the last post only if there are more posts beyond it
    let (mut after, mut before) = (after, before);
    if more && newest {
        posts.remove(0);
        after = posts.first().map_or(after, |post| Seq(post.seq.0 - 1));
    } else if more {
        posts.pop();
        before = posts.last().map_or(before, |post| Some(post.seq.next()));
    }
    let others = Range { after, before, lane: Lane::Events, limit: PAGE_EVENTS_MAX, newest };
    let others = store.log.read(c, others).await.map_err(|e| store_failed(&e))?;
    if others.len() == PAGE_EVENTS_MAX {
        more = true;
        match (newest, others.first(), others.last()) {
            (true, Some(first), _) => posts.retain(|post| post.seq > first.seq),
            (false, _, Some(last)) => posts.retain(|post| post.seq < last.seq),
            _ => {}
        }
    }
    posts.extend(others);
    posts.sort_by_key(|event| event.seq);
    Ok(Run { events: posts, more })
}
