//! Accounts: register, sign in, refresh, sign out. Stub.

use std::{net::IpAddr, sync::Arc};

use protocol::{Error, Millis, SessionId, UserId, close::CloseCode, rest};

use crate::{Settings, World};

/// Who is asking: proved by an access token or a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// In which session.
    pub session: SessionId,
    /// When the access token ends.
    pub expires_at: Millis,
}

/// Told when a session ends while it may have live sockets.
pub type OnEnd = Arc<dyn Fn(SessionId, CloseCode) + Send + Sync>;

/// Accounts over the store.
pub struct Accounts {}

#[allow(clippy::unused_async, missing_docs, unused_variables)]
impl Accounts {
    pub async fn start(world: World, settings: &Settings, on_end: OnEnd) -> Result<Accounts, storage::Error> {
        unimplemented!()
    }
    pub async fn register(&self, body: rest::Register, from: IpAddr) -> Result<rest::SignedIn, Error> {
        unimplemented!()
    }
    pub async fn login(&self, body: rest::Login, from: IpAddr) -> Result<rest::SignedIn, Error> {
        unimplemented!()
    }
    pub async fn refresh(&self, body: rest::Refresh, from: IpAddr) -> Result<rest::Tokens, Error> {
        unimplemented!()
    }
    pub async fn logout(&self, caller: Caller) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn logout_others(&self, caller: Caller) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn change_password(&self, caller: Caller, body: rest::ChangePassword, from: IpAddr) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn ticket(&self, caller: Caller) -> Result<rest::Ticket, Error> {
        unimplemented!()
    }
    pub async fn sessions(&self, caller: Caller) -> Result<Vec<rest::Session>, Error> {
        unimplemented!()
    }
    pub async fn end_session(&self, caller: Caller, id: SessionId) -> Result<(), Error> {
        unimplemented!()
    }
    /// Checks an access token: signature by `kid`, typ, iss, aud, exp, nbf against the world's clock, not revoked.
    pub fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        unimplemented!()
    }
    /// Takes a one-time ticket.
    pub async fn redeem(&self, ticket: &str) -> Result<Caller, Error> {
        unimplemented!()
    }
    /// The durable word, asked at `hello`: `Err(close code)` if the session or its user may not connect.
    pub async fn admit(&self, caller: &Caller) -> Result<(), CloseCode> {
        unimplemented!()
    }
    /// One REST request of a caller (or an address): rate limit.
    pub async fn throttle(&self, caller: Option<&Caller>, from: IpAddr) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn me(&self, caller: Caller) -> Result<rest::User, Error> {
        unimplemented!()
    }
    pub async fn user(&self, id: UserId) -> Result<rest::User, Error> {
        unimplemented!()
    }
    pub async fn find_user(&self, username: &str) -> Result<Option<rest::User>, Error> {
        unimplemented!()
    }
    pub async fn update_me(&self, caller: Caller, body: rest::UserChange) -> Result<rest::User, Error> {
        unimplemented!()
    }
    pub async fn delete_me(&self, caller: Caller) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn ban(&self, user: UserId, banned: bool) -> Result<(), Error> {
        unimplemented!()
    }
    /// The public keys, as a JWK set.
    pub fn jwks(&self) -> serde_json::Value {
        unimplemented!()
    }
    /// Adds a signing key that signs from now on; older ones go on verifying. Answers its `kid`.
    pub async fn rotate_keys(&self) -> Result<String, Error> {
        unimplemented!()
    }
    /// `(kid, made, signs)` of every key, newest first.
    pub fn keys(&self) -> Vec<(String, Millis, bool)> {
        unimplemented!()
    }
}
