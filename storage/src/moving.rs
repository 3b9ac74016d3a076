//! Moving house: everything of a store into a file, and from the file into another store, whatever their kinds. All of
//! it goes through the faces that a node uses, so every rule of theirs holds. Never part of serving.

mod compare;
mod export;
mod file;
mod import;
mod units;

use std::{cmp::Reverse, io, path::PathBuf, time::Duration};

pub use export::export;
pub use import::{Import, import};
use protocol::UserId;

use crate::{Error, Store, accounts::SignIn};

/// How often a call that the store refused is made again before the move is given up: half a minute in all.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// Of one user's sign-ins the latest are taken along: they are read at once and stand in one line. Whoever has more is a
/// program, and an operator who looks is shown fewer.
const SIGN_INS: usize = 1000;

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Keys that sign access tokens.
    pub signing_keys: u64,
    /// Users, banned and deleted ones included.
    pub users: u64,
    /// Sign-ins of theirs that are remembered.
    pub sign_ins: u64,
    /// Sessions, revoked and expired ones included.
    pub sessions: u64,
    /// Families of refresh tokens that have not ended.
    pub families: u64,
    /// Conversations.
    pub conversations: u64,
    /// Their events.
    pub events: u64,
    /// Their members, those who left included.
    pub members: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { signing_keys, users, sign_ins, sessions, families, conversations, events, members } = self;
        write!(
            f,
            "{users} users with {sign_ins} past sign-ins, {sessions} sessions ({families} can be refreshed), \
             {conversations} conversations with {events} events and {members} members, {signing_keys} signing keys"
        )
    }
}

/// Why nothing, or not everything, was moved. One line each: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The store did not do what was asked, though it was asked again and again.
    #[error("{what}: {source}; look after the store, then do it again")]
    Store {
        /// What was asked.
        what: String,
        /// Its answer.
        source: Error,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{} line {line}: {reason}; export again, or fetch the file again", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to take along.
    #[error("the store is empty: there is nothing to export; is this the configuration of the node that is to move?")]
    Empty,
    /// There is something already.
    #[error(
        "the store is not empty: it holds {0}; import into an empty one, or go on with an import that was interrupted \
         with --resume"
    )]
    NotEmpty(&'static str),
    /// What is in the store afterwards is not what is in the file.
    #[error("the store differs from the file: {0}; empty the store and import again")]
    Differs(String),
}

impl MoveError {
    fn store(what: impl Into<String>) -> impl FnOnce(Error) -> MoveError {
        let what = what.into();
        |source| MoveError::Store { what, source }
    }
}

/// The latest sign-ins of a user, newest first; stores have orders of their own for those of one moment.
async fn sign_ins(store: &Store, user: UserId) -> Result<Vec<SignIn>, Error> {
    let mut sign_ins = patiently(|| store.sessions.sign_ins(user, SIGN_INS)).await?;
    sign_ins.sort_unstable_by_key(|sign_in| (Reverse(sign_in.at), sign_in.session));
    Ok(sign_ins)
}

/// Makes a call that may be repeated until the store does it. What cannot get better is not tried again.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(call: impl Fn() -> F) -> Result<T, Error> {
    let mut tries = 0;
    loop {
        match call().await {
            Err(error @ (Error::Refused(_) | Error::Unknown(_))) if tries < TRIES => {
                tries += 1;
                tracing::debug!(%error, tries, "trying again");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
