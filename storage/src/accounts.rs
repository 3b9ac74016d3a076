//! Users, credentials, sessions and signing keys.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{DeviceId, Millis, SessionId, UserId};

use crate::Error;

/// A user's row.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// The public name as the user writes it.
    pub username: String,
    /// The name to show.
    pub display_name: String,
    /// Unverified.
    pub email: Option<String>,
    /// PHC string of the password's hash.
    pub password_hash: String,
    /// When the account was made.
    pub created_at: Millis,
    /// When it was banned.
    pub banned_at: Option<Millis>,
    /// When it was deleted; the name stays taken.
    pub deleted_at: Option<Millis>,
}

/// A change of a user's row; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserUpdate {
    /// The name to show.
    pub display_name: Option<String>,
    /// The new password's hash.
    pub password_hash: Option<String>,
    /// Banned since, or `Some(None)`: no longer.
    pub banned_at: Option<Option<Millis>>,
    /// Deleted; also forgets e-mail, display name, password and sign-ins.
    pub deleted_at: Option<Millis>,
}

/// A session's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Which; also the family of its refresh tokens.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The client's name for the device; one live session per (user, device).
    pub device: Option<DeviceId>,
    /// What the client calls it.
    pub device_name: Option<String>,
    /// The generation of the live refresh token, from 1.
    pub generation: u64,
    /// When it signed in.
    pub created_at: Millis,
    /// When it was last connected or refreshed.
    pub last_seen_at: Millis,
    /// When the refresh token ends.
    pub expires_at: Millis,
    /// When it was signed out.
    pub revoked_at: Option<Millis>,
}

/// How long it is remembered who signed in; on CQL the table says it.
pub(crate) const SIGN_INS_KEPT_S: u32 = 90 * 86_400;

/// A sign-in that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Who.
    pub user: UserId,
    /// When.
    pub at: Millis,
    /// The session that began with it.
    pub session: SessionId,
    /// Where it came from.
    pub address: IpAddr,
    /// What the client called the device.
    pub device_name: Option<String>,
}

/// A signing key, sealed under the node's secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningKey {
    /// Its name in tokens.
    pub kid: String,
    /// Encrypted PKCS#8; the store cannot read it.
    pub sealed: Vec<u8>,
    /// Public key, raw.
    pub public: Vec<u8>,
    /// When it was made. The newest signs, all verify.
    pub created_at: Millis,
}

/// Answer to [`Accounts::create_user`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserCreated {
    /// Done.
    Created,
    /// Somebody has a name that counts as the same.
    NameTaken,
}

/// Users, sessions, keys. Writes are durable when they return.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes a user. `handle` is the username in the form in which it must be unique (folded, confusables merged).
    async fn create_user(&self, user: &User, handle: &str) -> Result<UserCreated, Error>;

    /// A user by id.
    async fn user(&self, id: UserId) -> Result<Option<User>, Error>;

    /// A user by the unique form of the username.
    async fn user_by_handle(&self, handle: &str) -> Result<Option<User>, Error>;

    /// Those of `ids` that exist and are not deleted.
    async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Error>;

    /// Changes a user; false: there is none.
    async fn update_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error>;

    /// Signing keys, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error>;

    /// Adds a signing key.
    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), Error>;

    /// Drops keys made before a time, the newest always kept. Answers how many.
    async fn drop_signing_keys(&self, before: Millis) -> Result<u64, Error>;
}

/// Sessions: the durable word on who is signed in. Writes are durable when they return.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Makes a session.
    async fn create_session(&self, session: &Session) -> Result<(), Error>;

    /// A session by id, revoked and expired ones included.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, Error>;

    /// All sessions of a user that are not revoked, oldest first.
    async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, Error>;

    /// Raises the generation after a rotation, never lowers it, and moves `last_seen_at` and `expires_at`.
    async fn rotated(&self, id: SessionId, generation: u64, at: Millis, expires_at: Millis) -> Result<(), Error>;

    /// Notes that a session was connected.
    async fn seen(&self, id: SessionId, at: Millis) -> Result<(), Error>;

    /// Signs a session out for good; doing it again changes nothing.
    async fn revoke(&self, id: SessionId, at: Millis) -> Result<(), Error>;

    /// Notes a sign-in, for some months or until the user is deleted. Repeated, nothing new.
    async fn note_sign_in(&self, sign_in: &SignIn) -> Result<(), Error>;

    /// The last sign-ins of a user, newest first, at most `limit`.
    async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error>;

    /// When each of `users` was last connected or refreshed; who never was is left out.
    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Millis)>, Error>;
}
