//! A file held against a store: every row and every event of the file is there, and nothing else is. Writes nothing.

use std::{path::Path, sync::Arc};

use protocol::{ConversationId, Millis, Seq};
use tokio::sync::mpsc;

use super::{
    Counts, MoveError, patiently,
    units::{self, Piece, Unit},
};
use crate::{
    Error, Store,
    accounts::{Session, SignIn, SigningKey, User},
    inventory::{Page, Place},
    log::{Lane, Range},
    tokens::Family,
};

/// Answers what is in both.
pub(super) async fn compare(store: &Store, path: &Path, now: Millis) -> Result<Counts, MoveError> {
    let keys = patiently(|| store.accounts.signing_keys()).await;
    let keys = Arc::new(keys.map_err(MoveError::store("cannot read the signing keys"))?);
    let counts = units::each(path, |unit| one(store.clone(), keys.clone(), now, unit)).await?;
    let inventory = store.inventory.as_ref();
    let there = [
        ("signing keys", counts.signing_keys, keys.len() as u64),
        ("users", counts.users, count("users", |at| async move { inventory.users(&at).await }).await?),
        ("sessions", counts.sessions, count("sessions", |at| async move { inventory.sessions(&at).await }).await?),
        (
            "conversations",
            counts.conversations,
            count("conversations", |at| async move { inventory.conversations(&at).await }).await?,
        ),
    ];
    for (what, in_file, in_store) in there {
        if in_file != in_store {
            return Err(MoveError::Differs(format!("{in_store} {what} where there should be {in_file}")));
        }
    }
    Ok(counts)
}

async fn count<T, F>(what: &str, walk: impl Fn(Place) -> F) -> Result<u64, MoveError>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let (mut n, mut from) = (0, Some(Place::default()));
    while let Some(place) = from {
        let page = patiently(|| walk(place.clone())).await;
        let page = page.map_err(MoveError::store(format!("cannot count the {what}")))?;
        n += page.items.len() as u64;
        from = page.next;
    }
    Ok(n)
}

async fn one(store: Store, keys: Arc<Vec<SigningKey>>, now: Millis, unit: Unit) -> Result<(), MoveError> {
    let (what, same) = match unit {
        Unit::SigningKey(key) => (format!("signing key {}", key.kid), Ok(keys.contains(&key))),
        Unit::User { handle, row, sign_ins } => {
            (format!("user {}", row.id), user(&store, &row, &handle, &sign_ins).await)
        }
        Unit::Session { row, family } => {
            (format!("session {}", row.id), session(&store, &row, family.as_ref(), now).await)
        }
        Unit::Conversation { c, pieces } => (format!("conversation {c}"), conversation(&store, c, pieces).await),
    };
    match same {
        Ok(true) => Ok(()),
        Ok(false) => Err(MoveError::Differs(what)),
        Err(source) => Err(MoveError::Store { what: format!("cannot compare {what}"), source }),
    }
}

async fn user(store: &Store, row: &User, handle: &str, sign_ins: &[SignIn]) -> Result<bool, Error> {
    let by_id = patiently(|| store.accounts.user(row.id)).await?;
    let by_handle = patiently(|| store.accounts.user_by_handle(handle)).await?;
    let noted = super::sign_ins(store, row.id).await?;
    Ok(by_id.as_ref() == Some(row) && by_handle == by_id && noted == sign_ins)
}

async fn session(store: &Store, row: &Session, family: Option<&Family>, now: Millis) -> Result<bool, Error> {
    let there = patiently(|| store.sessions.session(row.id)).await?;
    // a store may forget a family as soon as it ends
    let Some(family) = family.filter(|family| family.expires_at > now) else { return Ok(there.as_ref() == Some(row)) };
    let stands = patiently(|| store.families.family(row.id)).await?;
    Ok(there.as_ref() == Some(row) && stands.as_ref() == Some(family))
}

async fn conversation(store: &Store, c: ConversationId, mut pieces: mpsc::Receiver<Piece>) -> Result<bool, Error> {
    let mut end = (Seq(0), 0);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Events(events) => {
                let after = end.0;
                end = events.last().map_or(end, |last| (last.seq, last.post_no));
                let before = Some(end.0.next());
                let range = Range { after, before, lane: Lane::Both, limit: events.len() + 1, newest: false };
                if patiently(|| store.log.read(c, range)).await? != events {
                    return Ok(false);
                }
            }
            Piece::Members(members) => {
                for member in members {
                    let there = patiently(|| store.directory.member(c, member.user)).await?;
                    if there != Some(member) {
                        return Ok(false);
                    }
                }
            }
        }
    }
    let standing = patiently(|| store.log.standing(c)).await?;
    Ok(standing.is_some_and(|standing| (standing.head.seq, standing.head.post_no) == end))
}
