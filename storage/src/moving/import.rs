//! Everything of a file into a store: the file is read through first, then moved, then compared with what is there. Every
//! step may be done again, so an import that was interrupted can go on.

use std::path::Path;

use protocol::{ConversationId, Epoch, Event, Incarnation, Millis, Seq, limits::BATCH_EVENTS_MAX, push::Marks};
use tokio::sync::mpsc;

use super::{
    Counts, MoveError, PAUSE, TRIES, compare, patiently,
    units::{self, Piece, Unit},
};
use crate::{
    Error, Store,
    accounts::{Session, SignIn, User, UserCreated},
    directory::MarkUpdate,
    inventory::Place,
    log::{Appended, Claimed, Created},
    tokens::Family,
};

/// Access tokens live for a day at most, and clocks may be set back: a session that ended longer ago has none any more.
const REVOKED_MS: u64 = 26 * 3_600_000;

/// What to import, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// The file.
    pub path: &'a Path,
    /// Into a store that holds part of this file already.
    pub resume: bool,
    /// The owner of the logs meanwhile: of this run, never used again.
    pub owner: Incarnation,
    /// Now.
    pub now: Millis,
}

/// Moves a file into a store that nobody else uses, and compares. Answers what is there then.
///
/// # Errors
/// [`MoveError`]. Before the first write if the file is not whole or the store not empty.
pub async fn import(store: &Store, how: Import<'_>) -> Result<Counts, MoveError> {
    units::each(how.path, |_| std::future::ready(Ok(()))).await?;
    if !how.resume {
        must_be_empty(store).await?;
    }
    units::each(how.path, |unit| put(store.clone(), how.owner, how.now, unit)).await?;
    compare::compare(store, how.path, how.now).await
}

async fn must_be_empty(store: &Store) -> Result<(), MoveError> {
    let failed = |what| MoveError::store(format!("cannot see whether there are {what}"));
    let start = Place::default();
    let keys = patiently(|| store.accounts.signing_keys()).await.map_err(failed("signing keys"))?;
    let users = patiently(|| store.inventory.users(&start)).await.map_err(failed("users"))?;
    let sessions = patiently(|| store.inventory.sessions(&start)).await.map_err(failed("sessions"))?;
    let logs = patiently(|| store.inventory.conversations(&start)).await;
    let logs = logs.map_err(failed("conversations"))?;
    let found = [
        (keys.is_empty(), "signing keys"),
        (users.items.is_empty() && users.next.is_none(), "users"),
        (sessions.items.is_empty() && sessions.next.is_none(), "sessions"),
        (logs.items.is_empty() && logs.next.is_none(), "conversations"),
    ];
    found.iter().find(|(empty, _)| !empty).map_or(Ok(()), |(_, what)| Err(MoveError::NotEmpty(what)))
}

async fn put(store: Store, owner: Incarnation, now: Millis, unit: Unit) -> Result<(), MoveError> {
    match unit {
        Unit::SigningKey(key) => patiently(|| store.accounts.add_signing_key(&key))
            .await
            .map_err(MoveError::store(format!("cannot write signing key {}", key.kid))),
        Unit::User { handle, row, sign_ins } => user(&store, &row, &handle, &sign_ins).await,
        Unit::Session { row, family } => session(&store, &row, family.as_ref(), now)
            .await
            .map_err(MoveError::store(format!("cannot write session {}", row.id))),
        Unit::Conversation { c, pieces } => conversation(&store, owner, c, pieces)
            .await
            .map_err(MoveError::store(format!("cannot write conversation {c}"))),
    }
}

async fn user(store: &Store, row: &User, handle: &str, sign_ins: &[SignIn]) -> Result<(), MoveError> {
    let created = patiently(|| store.accounts.create_user(row, handle)).await;
    match created.map_err(MoveError::store(format!("cannot write user {}", row.id)))? {
        UserCreated::Created => {}
        UserCreated::NameTaken => {
            return Err(MoveError::Differs(format!("somebody else has the name of user {}", row.id)));
        }
    }
    for sign_in in sign_ins {
        let noted = patiently(|| store.sessions.note_sign_in(sign_in)).await;
        noted.map_err(MoveError::store(format!("cannot write the sign-ins of user {}", row.id)))?;
    }
    Ok(())
}

async fn session(store: &Store, row: &Session, family: Option<&Family>, now: Millis) -> Result<(), Error> {
    patiently(|| store.sessions.create_session(row)).await?;
    if let Some(family) = family {
        patiently(|| store.families.put_family(row.id, family)).await?;
    }
    let Some(at) = row.revoked_at else { return Ok(()) };
    // a store may begin every session as one that lasts
    patiently(|| store.sessions.revoke(row.id, at)).await?;
    // access tokens of a session that was ended a moment ago are still about
    if at.0 + REVOKED_MS > now.0 {
        patiently(|| store.tokens.revoke(row.id, at, Millis(at.0 + REVOKED_MS))).await?;
    }
    Ok(())
}

async fn conversation(
    store: &Store, owner: Incarnation, c: ConversationId, mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), Error> {
    let mut log = Tenure { store, owner, c, epoch: None, head: Seq(0) };
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Events(events) => log.extend(&events).await?,
            Piece::Members(members) => {
                let update = |marks: Marks, user| MarkUpdate { user, marks };
                let updates: Vec<_> = members.iter().map(|member| update(member.marks, member.user)).collect();
                patiently(|| store.directory.mark(c, &updates)).await?;
            }
        }
    }
    Ok(())
}

/// A log in the importer's hands, written as every owner writes.
struct Tenure<'a> {
    store: &'a Store,
    owner: Incarnation,
    c: ConversationId,
    /// None: there is no log yet.
    epoch: Option<Epoch>,
    /// The last event, and all that follows from it is written.
    head: Seq,
}

impl Tenure<'_> {
    /// Appends those of `events` that are not there yet.
    async fn extend(&mut self, events: &[Event]) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let events = &events[events.partition_point(|event| event.seq <= self.head)..];
            let Some(last) = events.last() else { return Ok(()) };
            match self.write(events).await {
                Ok(Some((epoch, settled))) => {
                    if settled < last.seq {
                        patiently(|| self.store.log.follow(self.c, events)).await?;
                    }
                    (self.epoch, self.head) = (Some(epoch), last.seq);
                    return Ok(());
                }
                // somebody's before: an interrupted import's, or one's own of which nothing was heard
                Ok(None) => self.claim().await?,
                Err(Error::Unknown(_)) if tries < TRIES => self.claim().await?,
                Err(Error::Refused(_)) if tries < TRIES => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
            tries += 1;
        }
    }

    /// The term and what is settled; `None`: the log stands elsewhere.
    async fn write(&self, events: &[Event]) -> Result<Option<(Epoch, Seq)>, Error> {
        let log = &self.store.log;
        match self.epoch {
            None => Ok(match log.create(self.c, self.owner, events).await? {
                Created::Created { head } => Some((Epoch(1), head.settled)),
                Created::Exists => None,
            }),
            Some(epoch) => Ok(match log.append(self.c, epoch, self.head, self.head, events).await? {
                Appended::Applied { settled } => Some((epoch, settled)),
                Appended::Fenced { .. } => None,
            }),
        }
    }

    async fn claim(&mut self) -> Result<(), Error> {
        match patiently(|| self.store.log.claim(self.c, self.owner, None)).await? {
            Claimed::NotFound => (self.epoch, self.head) = (None, Seq(0)),
            Claimed::Claimed(tenancy) => {
                for events in tenancy.tail.chunks(BATCH_EVENTS_MAX) {
                    patiently(|| self.store.log.follow(self.c, events)).await?;
                }
                (self.epoch, self.head) = (Some(tenancy.epoch), tenancy.head.seq);
            }
        }
        Ok(())
    }
}
