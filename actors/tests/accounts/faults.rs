//! A real store whose single writes can be made to fail: before they are done, or after.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use protocol::{Millis, SessionId, UserId};
use storage::{
    Error, Store,
    accounts::{Accounts, Session, Sessions, SignIn, SigningKey, User, UserCreated, UserUpdate},
    tokens::{Rate, Rotated, Rotation, Ticket, Tokens},
};

/// Which writes fail now.
#[derive(Default)]
pub(crate) struct Faults {
    /// The signing keys cannot be read.
    pub(crate) read_keys: AtomicBool,
    /// The session's row cannot be raised after a rotation.
    pub(crate) raise: AtomicBool,
    /// The session's row cannot be revoked.
    pub(crate) revoke_row: AtomicBool,
    /// The token store cannot be told of a revocation.
    pub(crate) revoke_tokens: AtomicBool,
    /// The token store rotates, but its answer is lost.
    pub(crate) lose_rotation: AtomicBool,
    /// Whoever holds it keeps the token store from being told of revocations.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// Whoever holds it keeps sign-ins from going on after the user's row was looked at.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    /// How many have come that far.
    pub(crate) n_begun: AtomicUsize,
}

struct FaultyAccounts(Arc<dyn Accounts>, Arc<Faults>);
struct FaultySessions(Arc<dyn Sessions>, Arc<Faults>);
struct FaultyTokens(Arc<dyn Tokens>, Arc<Faults>);

pub(crate) fn faulty(store: Store) -> (Store, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let sessions = Arc::new(FaultySessions(store.sessions.clone(), faults.clone()));
    let tokens = Arc::new(FaultyTokens(store.tokens.clone(), faults.clone()));
    let accounts = Arc::new(FaultyAccounts(store.accounts.clone(), faults.clone()));
    (Store { accounts, sessions, tokens, ..store }, faults)
}

fn refused(fault: &AtomicBool) -> Result<(), Error> {
    if fault.load(Ordering::SeqCst) { Err(Error::Refused("told to".to_owned())) } else { Ok(()) }
}

#[async_trait]
impl Accounts for FaultyAccounts {
    async fn create_user(&self, user: &User, handle: &str) -> Result<UserCreated, Error> {
        self.0.create_user(user, handle).await
    }
    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        self.0.user(id).await
    }
    async fn user_by_handle(&self, handle: &str) -> Result<Option<User>, Error> {
        self.0.user_by_handle(handle).await
    }
    async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Error> {
        self.0.existing(ids).await
    }
    async fn update_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error> {
        self.0.update_user(id, update).await
    }
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        refused(&self.1.read_keys)?;
        self.0.signing_keys().await
    }
    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), Error> {
        self.0.add_signing_key(key).await
    }
    async fn drop_signing_keys(&self, before: Millis) -> Result<u64, Error> {
        self.0.drop_signing_keys(before).await
    }
}

#[async_trait]
impl Sessions for FaultySessions {
    async fn create_session(&self, session: &Session) -> Result<(), Error> {
        self.0.create_session(session).await
    }
    async fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.0.session(id).await
    }
    async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, Error> {
        self.0.sessions_of(user).await
    }
    async fn rotated(&self, id: SessionId, generation: u64, at: Millis, expires_at: Millis) -> Result<(), Error> {
        refused(&self.1.raise)?;
        self.0.rotated(id, generation, at, expires_at).await
    }
    async fn seen(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.0.seen(id, at).await
    }
    async fn revoke(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        refused(&self.1.revoke_row)?;
        self.0.revoke(id, at).await
    }
    async fn note_sign_in(&self, sign_in: &SignIn) -> Result<(), Error> {
        self.0.note_sign_in(sign_in).await
    }
    async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error> {
        self.0.sign_ins(user, limit).await
    }
    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Millis)>, Error> {
        self.0.last_seen(users).await
    }
}

#[async_trait]
impl Tokens for FaultyTokens {
    async fn begin_family(&self, id: SessionId, hash: [u8; 32], now: Millis, expires_at: Millis) -> Result<(), Error> {
        self.1.n_begun.fetch_add(1, Ordering::SeqCst);
        drop(self.1.beginning.lock().await);
        self.0.begin_family(id, hash, now, expires_at).await
    }
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, Error> {
        let rotated = self.0.rotate(rotation).await?;
        if self.1.lose_rotation.load(Ordering::SeqCst) {
            Err(Error::Unknown("told to".to_owned()))
        } else {
            Ok(rotated)
        }
    }
    async fn revoke(&self, family: SessionId, at: Millis, until: Millis) -> Result<(), Error> {
        drop(self.1.gate.lock().await);
        refused(&self.1.revoke_tokens)?;
        self.0.revoke(family, at, until).await
    }
    async fn revoked(&self, since: Millis, now: Millis) -> Result<Vec<(SessionId, Millis)>, Error> {
        self.0.revoked(since, now).await
    }
    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, now: Millis) -> Result<(), Error> {
        self.0.put_ticket(hash, ticket, now).await
    }
    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, Error> {
        self.0.take_ticket(hash, now).await
    }
    async fn take(&self, key: &str, rate: Rate, now: Millis) -> Result<Result<(), u64>, Error> {
        self.0.take(key, rate, now).await
    }
    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }
}
