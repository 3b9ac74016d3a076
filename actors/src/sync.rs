//! Everything a device missed, in one round trip: the start-up path and the recovery path alike.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use protocol::{
    ConversationId, Error, Event, Seq, UserId,
    event::View,
    limits::{SYNC_BYTES_MAX, SYNC_EVENTS_MAX, SYNC_LIST_MAX},
    push::{Range, SyncItem, Synced},
    request::Sync,
};
use storage::{
    Store,
    directory::{Conversation, Membership},
    log::{self, Lane},
};

use crate::{
    listing::{cursor_of, other_of, page_of},
    refusals::store_failed,
};

/// How far each conversation is covered by an answer: a head beyond it is news.
pub(crate) type Covered = HashMap<ConversationId, Seq>;

/// Logs read side by side: a store may be a round trip away, and a device that was offline misses something in many.
const SIDE_BY_SIDE: usize = 8;
/// Bytes an item is counted with, besides its events.
const ITEM_BYTES: usize = 400;

/// What the events of one answer may take. The first one fits always: a post may be larger as it is read than as it was
/// written, and who waits behind it would never get past it.
struct Budget {
    left: usize,
    is_whole: bool,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.is_whole;
        self.left = if fits { self.left.saturating_sub(bytes) } else { 0 };
        self.is_whole = false;
        fits
    }
}

/// Answers a `sync` of `reader`. The caller has a [turn](crate::turns).
///
/// # Errors
/// `bad_field` for a cursor that is none, `unavailable` if the store does not answer.
pub(crate) async fn answer(store: &Store, reader: UserId, request: Sync) -> Result<(Synced, Covered), Error> {
    let mut covered: Covered = request.have.clone();
    let mine = store.directory.list(reader).await.map_err(|e| store_failed(&e))?;
    let mine: HashMap<ConversationId, Membership> = mine.into_iter().map(|m| (m.conversation.id, m)).collect();

    let limit = request.list.limit.min(SYNC_LIST_MAX);
    let (window, next) = page_of(mine.values(), limit, request.list.cursor.as_deref())?;
    let mut wanted: Vec<&Membership> = window;
    let behind = request.have.iter().filter_map(|(c, have)| mine.get(c).filter(|m| m.conversation.head.seq > *have));
    for membership in behind {
        if !wanted.iter().any(|w| w.conversation.id == membership.conversation.id) {
            wanted.push(membership);
        }
    }
    wanted.sort_by_key(|m| std::cmp::Reverse(cursor_of(m)));

    let mut synced = Synced { next, ..Synced::default() };
    let mut budget = Budget { left: SYNC_BYTES_MAX, is_whole: true };
    for some in wanted.chunks(SIDE_BY_SIDE) {
        let have = |m: &Membership| request.have.get(&m.conversation.id).copied().unwrap_or_default();
        let spent = budget.left == 0;
        let runs = try_join_all(some.iter().map(|m| missing(store, m, have(m), spent))).await?;
        for (membership, events) in some.iter().zip(runs) {
            covered.insert(membership.conversation.id, membership.conversation.head.seq);
            synced.conversations.push(item(membership, have(membership), events, &mut budget));
        }
    }
    // pages first, membership second: who was removed meanwhile sees nothing of it
    if synced.conversations.iter().any(|item| !item.events.is_empty()) {
        let still = store.directory.places(reader).await.map_err(|e| store_failed(&e))?;
        synced.conversations.retain(|item| still.contains(&item.id));
        synced.left = request.have.keys().filter(|c| !still.contains(c)).copied().collect();
    } else {
        synced.left = request.have.keys().filter(|c| !mine.contains_key(c)).copied().collect();
    }
    Ok((synced, covered))
}

/// The newest events that a device lacks of one conversation, if there is room for any.
async fn missing(store: &Store, membership: &Membership, have: Seq, spent: bool) -> Result<Vec<Event>, Error> {
    let Conversation { id, head, .. } = membership.conversation;
    if spent || head.seq <= have {
        return Ok(Vec::new());
    }
    // up to the head that was read together with the membership, not beyond
    let before = Some(head.seq.next());
    let missing = log::Range { after: have, before, lane: Lane::Both, limit: SYNC_EVENTS_MAX, newest: true };
    store.log.read(id, missing).await.map_err(|e| store_failed(&e))
}

fn item(membership: &Membership, have: Seq, events: Vec<Event>, budget: &mut Budget) -> SyncItem {
    let Membership { conversation, member } = membership;
    let head = conversation.head;
    let mut item = SyncItem {
        id: conversation.id,
        kind: conversation.kind,
        title: conversation.title.clone(),
        with: other_of(conversation, member.user),
        head: head.seq,
        head_post: head.post_no,
        read: member.marks.read,
        unread: head.post_no.saturating_sub(member.read_post),
        events: Vec::new(),
        more: false,
        gap: None,
    };
    budget.left = budget.left.saturating_sub(ITEM_BYTES);
    if head.seq <= have {
        return item;
    }
    if budget.left == 0 {
        item.more = true;
        return item;
    }
    let first = events.first().map_or(head.seq.next(), |event| event.seq);
    let long = first > have.next();
    let sized = events.iter().filter_map(|event| event.view(conversation.id)).map(|view| {
        let size = serde_json::to_vec(&view).map_or(0, |json| json.len() + 1);
        (view, size)
    });
    if long {
        // the newest that fit; what lies before them is a gap
        let mut kept: Vec<View> = Vec::new();
        for (view, size) in sized.collect::<Vec<_>>().into_iter().rev() {
            if !budget.take(size) {
                break;
            }
            kept.push(view);
        }
        kept.reverse();
        let to = kept.first().map_or(head.seq, |view| Seq(view.seq().0 - 1));
        item.gap = Some(Range { from: have.next(), to });
        item.events = kept;
    } else {
        for (view, size) in sized {
            if !budget.take(size) {
                item.more = true;
                break;
            }
            item.events.push(view);
        }
    }
    item
}
