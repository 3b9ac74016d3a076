//! Everything of a store into a file. Reads page by page and keeps of a conversation no more than a page and who was ever
//! in it. Whoever calls sees to it that nobody writes meanwhile.

use std::{collections::BTreeSet, path::Path};

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{Body, ConversationId, Event, Incarnation, Millis, Seq, UserId, limits::BATCH_EVENTS_MAX};

use super::{
    Counts, MoveError,
    file::{Line, Writer},
    patiently, sign_ins,
};
use crate::{
    Error, Store,
    accounts::{SIGN_INS_KEPT_S, Session},
    inventory::{Account, Page, Place},
    log::{Claimed, Lane, Range},
};

/// Small reads made at once.
const AT_ONCE: usize = 32;
/// Events read at once.
const EVENTS: usize = 500;

/// Writes everything to a file that must not be there yet. Only this user may read it: it holds password hashes and
/// sealed keys, and every word that was said. `owner` takes the logs whose last owner left something to do: of this run,
/// never used again.
///
/// # Errors
/// [`MoveError`]: there is no file then.
pub async fn export(store: &Store, path: &Path, owner: Incarnation, now: Millis) -> Result<Counts, MoveError> {
    let mut out = Writer::begin(path, now)?;
    let keys = patiently(|| store.accounts.signing_keys()).await;
    for key in keys.map_err(MoveError::store("cannot read the signing keys"))? {
        out.line(&Line::SigningKey(key))?;
    }
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let page = page("users", || store.inventory.users(&place)).await?;
        for line in users(store, page.items, now).await? {
            out.line(&line)?;
        }
        from = page.next;
    }
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let page = page("sessions", || store.inventory.sessions(&place)).await?;
        for line in sessions(store, page.items, now).await? {
            out.line(&line)?;
        }
        from = page.next;
    }
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let page = page("conversations", || store.inventory.conversations(&place)).await?;
        let settled = stream::iter(page.items.iter().copied()).map(|c| settle(store, c, owner));
        settled.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        for c in page.items {
            conversation(store, c, &mut out).await?;
        }
        from = page.next;
    }
    if out.counts.users + out.counts.conversations == 0 {
        return Err(MoveError::Empty);
    }
    out.end()
}

/// Writes what follows from the end of a log, if its last owner may not have come to it: as the next owner would.
async fn settle(store: &Store, c: ConversationId, owner: Incarnation) -> Result<(), MoveError> {
    let failed = || MoveError::store(format!("cannot settle the log of {c}"));
    let standing = patiently(|| store.log.standing(c)).await.map_err(failed())?;
    if standing.is_some_and(|standing| standing.head.settled < standing.head.seq)
        && let Claimed::Claimed(tenancy) = patiently(|| store.log.claim(c, owner, None)).await.map_err(failed())?
    {
        for events in tenancy.tail.chunks(BATCH_EVENTS_MAX) {
            patiently(|| store.log.follow(c, events)).await.map_err(failed())?;
        }
    }
    Ok(())
}

async fn page<T, F>(what: &str, read: impl Fn() -> F) -> Result<Page<T>, MoveError>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    patiently(read).await.map_err(MoveError::store(format!("cannot read the {what}")))
}

/// Users with their latest sign-ins. What is older than a store remembers, or is dated later than now, might make one forget
/// the others.
async fn users(store: &Store, accounts: Vec<Account>, now: Millis) -> Result<Vec<Line>, MoveError> {
    let oldest = Millis(now.0.saturating_sub(u64::from(SIGN_INS_KEPT_S) * 1000));
    let whole = |Account { user: row, handle }: Account| async move {
        let sign_ins =
            sign_ins(store, row.id).await?.into_iter().filter(|sign_in| (oldest..=now).contains(&sign_in.at));
        Ok(Line::User { handle, row, sign_ins: sign_ins.map(Into::into).collect() })
    };
    let lines = stream::iter(accounts).map(whole).buffered(AT_ONCE).try_collect().await;
    lines.map_err(MoveError::store("cannot read the sign-ins"))
}

/// Sessions with their families; one that has ended helps nobody.
async fn sessions(store: &Store, sessions: Vec<Session>, now: Millis) -> Result<Vec<Line>, MoveError> {
    let whole = |row: Session| async move {
        let family = patiently(|| store.families.family(row.id)).await?;
        let family = family.filter(|family| family.expires_at > now).map(Into::into);
        Ok(Line::Session { row, family })
    };
    let lines = stream::iter(sessions).map(whole).buffered(AT_ONCE).try_collect().await;
    lines.map_err(MoveError::store("cannot read the refresh families"))
}

async fn conversation(store: &Store, c: ConversationId, out: &mut Writer) -> Result<(), MoveError> {
    out.line(&Line::Conversation { c })?;
    let mut after = Seq(0);
    let mut members = BTreeSet::new();
    loop {
        let range = Range { after, before: None, lane: Lane::Both, limit: EVENTS, newest: false };
        let events = patiently(|| store.log.read(c, range)).await;
        let events = events.map_err(MoveError::store(format!("cannot read the log of {c}")))?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in events {
            members.extend(entered(&event));
            out.line(&Line::Event { c, row: event })?;
        }
    }
    let row = |user| async move { patiently(|| store.directory.member(c, user)).await };
    let mut rows = stream::iter(members).map(row).buffered(AT_ONCE);
    while let Some(row) = rows.next().await {
        if let Some(row) = row.map_err(MoveError::store(format!("cannot read the members of {c}")))? {
            out.line(&Line::Member { c, row })?;
        }
    }
    Ok(())
}

/// Who becomes a member by an event.
fn entered(event: &Event) -> &[UserId] {
    match &event.body {
        Body::Create(create) => &create.members,
        Body::Join(join) => &join.users,
        _ => &[],
    }
}
