//! Accounts: who somebody is and since when they are not any more. Plain functions over the store; what each write
//! means, and what happens when it is lost, is in `ACCOUNTS.md`. Never speaks to a socket: it tells of ended sessions
//! through [`OnEnd`].

mod access;
mod keys;
mod limits;
mod names;
mod passwords;
mod profile;
mod revocations;
mod secrets;
mod sessions;
mod signin;
mod slowdown;

use std::{future::Future, net::IpAddr, sync::Arc};

use protocol::{Code, Error, Millis, SessionId, UserId, close::CloseCode, peer::EndedSession, rest};
use storage::accounts::SignIn;

use self::{
    access::{Refusal, Ring},
    keys::Keys,
    passwords::Passwords,
    revocations::Revoked,
    secrets::Secrets,
    slowdown::Slowdown,
};
use crate::{Settings, World, settings::Auth};

/// Users whose sign-ins may run side by side.
const DOORS: usize = 64;

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

/// What follows from the end of a session outside of the accounts.
pub trait OnEnd: Send + Sync {
    /// Its sockets on this node are closed.
    fn close(&self, session: SessionId, code: CloseCode);

    /// It was ended here: the other nodes are told at once. What is lost of that they read from the token store.
    fn tell_others(&self, ended: EndedSession);
}

/// Accounts over the store. Errors of all that may fail: `unavailable` if the store refused (nothing was done), `timeout`
/// if it did not say; asking again is safe.
///
/// What writes is carried out to its end even if nobody waits for the answer any more: a client that hangs up must not
/// leave a session half ended.
pub struct Accounts(Arc<Inner>);

struct Inner {
    world: World,
    auth: Auth,
    secrets: Arc<Secrets>,
    keys: Arc<Keys>,
    passwords: Passwords,
    slowdown: Slowdown,
    revoked: Revoked,
    doors: [tokio::sync::Mutex<()>; DOORS],
    on_end: Arc<dyn OnEnd>,
}

impl Accounts {
    /// Loads the signing keys (or makes the first) and the revocations that still matter.
    ///
    /// # Errors
    /// The store's; `Corrupt` if the keys were sealed under another secret.
    pub async fn start(world: World, settings: &Settings, on_end: Arc<dyn OnEnd>) -> Result<Accounts, storage::Error> {
        let secrets = Arc::new(Secrets::new(&settings.auth.secret));
        let inner = Inner {
            keys: Keys::start(world.clone(), secrets.clone(), settings.auth.access_ttl).await?,
            passwords: Passwords::new(&settings.auth, world.random.clone())?,
            slowdown: Slowdown::new(world.clone(), settings.limits),
            revoked: Revoked::default(),
            doors: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            auth: settings.auth.clone(),
            secrets,
            world,
            on_end,
        };
        inner.load_revoked().await?;
        let inner = Arc::new(inner);
        revocations::watch(&inner);
        Ok(Accounts(inner))
    }

    /// Makes a user and signs them in.
    ///
    /// # Errors
    /// `bad_field`; `already_exists` if the name is taken; `rate_limited`, `overloaded`.
    pub async fn register(&self, body: rest::Register, from: IpAddr) -> Result<rest::SignedIn, Error> {
        self.to_the_end(|inner| async move { inner.sign_up(body, from).await }).await
    }

    /// Signs in by name and password. The session of the same device is replaced.
    ///
    /// # Errors
    /// `unauthenticated`, the same for an unknown name and a wrong password; `forbidden` if banned; `rate_limited`,
    /// `overloaded`.
    pub async fn login(&self, body: rest::Login, from: IpAddr) -> Result<rest::SignedIn, Error> {
        self.to_the_end(|inner| async move { inner.sign_in(body, from).await }).await
    }

    /// A new access token and the refresh token's successor. The same request again within 20 s has the same successor;
    /// later, it ends the session.
    ///
    /// # Errors
    /// `unauthenticated`, whatever is wrong with the token.
    pub async fn refresh(&self, body: rest::Refresh, _from: IpAddr) -> Result<rest::Tokens, Error> {
        self.to_the_end(|inner| async move { inner.rotate_refresh(&body.refresh_token).await }).await
    }

    /// Ends the session that asks.
    ///
    /// # Errors
    /// The store's.
    pub async fn logout(&self, caller: Caller) -> Result<(), Error> {
        self.to_the_end(|inner| async move { inner.end(caller.session, CloseCode::SessionRevoked).await }).await
    }

    /// Ends all other sessions of who asks.
    ///
    /// # Errors
    /// The store's.
    pub async fn logout_others(&self, caller: Caller) -> Result<(), Error> {
        let others = CloseCode::SessionRevoked;
        self.to_the_end(|inner| async move { inner.end_all(caller.user, Some(caller.session), others).await }).await
    }

    /// Changes the password and ends all other sessions.
    ///
    /// # Errors
    /// `bad_field`: `old` is wrong, or `new` not good enough; `rate_limited`, `overloaded`.
    pub async fn change_password(&self, caller: Caller, body: rest::ChangePassword, from: IpAddr) -> Result<(), Error> {
        self.to_the_end(|inner| async move { inner.new_password(caller, body, from).await }).await
    }

    /// A one-time pass to a WebSocket, for clients that can send no header. It lives 30 s.
    ///
    /// # Errors
    /// The store's.
    pub async fn ticket(&self, caller: Caller) -> Result<rest::Ticket, Error> {
        self.0.make_ticket(caller).await
    }

    /// The sessions of who asks that are neither ended nor expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn sessions(&self, caller: Caller) -> Result<Vec<rest::Session>, Error> {
        self.0.list_sessions(caller).await
    }

    /// Ends a session of who asks. Ending it again changes nothing.
    ///
    /// # Errors
    /// `not_found` if it is not theirs.
    pub async fn end_session(&self, caller: Caller, id: SessionId) -> Result<(), Error> {
        self.to_the_end(|inner| async move { inner.end_own(caller, id).await }).await
    }

    /// Checks an access token: signature by `kid`, type, issuer, audience, ends against the world's clock, not revoked.
    /// Asks the store only about a key that is not known here: another node may have made it a moment ago.
    ///
    /// # Errors
    /// `token_expired` if refreshing helps, else `unauthenticated`; the store's, if it cannot say whether there is such a key.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        let verify = |ring: &Ring| ring.verify(token, &self.0.auth.issuer, self.0.world.clock.wall());
        let mut verified = verify(&self.0.keys.ring());
        if verified == Err(Refusal::UnknownKey) {
            verified = verify(&*self.0.keys.fresh().await.map_err(failed)?);
        }
        let caller = verified?;
        if self.is_revoked(caller.session) { Err(access::unauthenticated()) } else { Ok(caller) }
    }

    /// True if nothing of a session may be accepted any more, as far as this node knows: at most a second late. Who
    /// registers a socket asks again afterwards: the session may have ended in between.
    pub fn is_revoked(&self, session: SessionId) -> bool {
        self.0.revoked.has(session)
    }

    /// Another node has ended a session. To hear it again changes nothing.
    pub fn hear(&self, ended: EndedSession) {
        self.0.hear(ended);
    }

    /// Takes a one-time ticket.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub async fn redeem(&self, ticket: &str) -> Result<Caller, Error> {
        self.0.take_ticket(ticket).await
    }

    /// The durable word, asked at `hello`, and notes that the session was seen.
    ///
    /// # Errors
    /// The code to close with if the session or its user may not connect, or the store cannot say.
    pub async fn admit(&self, caller: &Caller) -> Result<(), CloseCode> {
        self.0.admit_session(caller).await
    }

    /// One REST request of a caller, or of an address.
    ///
    /// # Errors
    /// `rate_limited`.
    pub async fn throttle(&self, caller: Option<&Caller>, from: IpAddr) -> Result<(), Error> {
        self.0.slowdown.request(caller, from).await
    }

    /// Oneself.
    ///
    /// # Errors
    /// `not_found` if deleted.
    pub async fn me(&self, caller: Caller) -> Result<rest::User, Error> {
        self.0.own_row(caller).await.map(|user| profile::own_view(&user))
    }

    /// Somebody, as others see them.
    ///
    /// # Errors
    /// `not_found`, also for who is deleted.
    pub async fn user(&self, id: UserId) -> Result<rest::User, Error> {
        let user = self.0.world.store.accounts.user(id).await.map_err(failed)?;
        let user = user.filter(|user| user.deleted_at.is_none()).ok_or_else(profile::no_such_user)?;
        Ok(profile::view(&user))
    }

    /// The last sign-ins of a user, newest first, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error> {
        self.0.world.store.sessions.sign_ins(user, limit).await.map_err(failed)
    }

    /// Who has this username, whatever its case.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_user(&self, username: &str) -> Result<Option<rest::User>, Error> {
        Ok(self.0.user_named(username).await?.map(|user| profile::view(&user)))
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// `bad_field`.
    pub async fn update_me(&self, caller: Caller, body: rest::UserChange) -> Result<rest::User, Error> {
        self.0.change_me(caller, body).await
    }

    /// Deletes the account of who asks and ends its sessions. The username stays taken.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete_me(&self, caller: Caller) -> Result<(), Error> {
        self.to_the_end(|inner| async move { inner.remove_me(caller).await }).await
    }

    /// Bans a user and ends their sessions, or lets them sign in again.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn ban(&self, user: UserId, banned: bool) -> Result<(), Error> {
        self.to_the_end(|inner| async move { inner.set_banned(user, banned).await }).await
    }

    /// The public keys, as a JWK set, those too that another node made a moment ago; with the store away, those known here.
    pub async fn jwks(&self) -> serde_json::Value {
        self.0.keys.fresh().await.unwrap_or_else(|_| self.0.keys.ring()).jwks()
    }

    /// Adds a signing key that signs from now on; older ones go on verifying. Answers its `kid`.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate_keys(&self) -> Result<String, Error> {
        self.0.keys.rotate().await.map_err(failed)
    }

    /// `(kid, made, signs)` of every key, newest first.
    pub fn keys(&self) -> Vec<(String, Millis, bool)> {
        let ring = self.0.keys.ring();
        ring.keys.iter().enumerate().map(|(i, key)| (key.kid.clone(), key.created_at, i == 0)).collect()
    }
}

impl Accounts {
    async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let work = tokio::spawn(work(self.0.clone()));
        work.await.unwrap_or_else(|_| Err(Error::new(Code::Internal, "a request about an account did not end well")))
    }
}

/// A store's error as who asked hears it. What it says of the store's inside goes to the log only.
fn failed(error: storage::Error) -> Error {
    tracing::debug!(%error, "the store failed an account's request");
    match error {
        storage::Error::Refused(_) => {
            Error::new(Code::Unavailable, "the store of accounts is away; nothing was changed")
        }
        storage::Error::Unknown(_) => Error::new(Code::Timeout, "the store of accounts did not answer in time"),
        storage::Error::Corrupt(_) | storage::Error::Duplicate => {
            Error::new(Code::Internal, "the store of accounts could not be read")
        }
    }
}

/// The same for the store of tokens, where nothing is lost by asking again: whatever became of the first try.
fn tokens_failed(error: storage::Error) -> Error {
    match error {
        storage::Error::Refused(_) | storage::Error::Unknown(_) => {
            tracing::debug!(%error, "the token store failed a request");
            Error::new(Code::Unavailable, "the store of tokens is away; try again")
        }
        storage::Error::Corrupt(_) | storage::Error::Duplicate => failed(error),
    }
}
