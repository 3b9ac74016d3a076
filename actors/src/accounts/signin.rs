//! Proving who one is: register, sign in, refresh, tickets, a new password.
//! What follows from a session's beginning or end is in `sessions`.

use std::net::IpAddr;

use protocol::{Code, Error, Millis, UserId, close::CloseCode, rest};
use storage::{
    accounts::{User, UserCreated, UserUpdate},
    tokens::{Rotated, Rotation, Ticket},
};

use super::{
    Caller, Inner,
    access::unauthenticated,
    failed,
    keys::millis,
    names,
    passwords::Checked,
    profile::own_view,
    secrets::{RefreshToken, hash},
    sessions::Begun,
    tokens_failed,
};

/// How long a refresh whose answer was lost may be repeated.
const GRACE_MS: u64 = 20_000;
/// Life of a ticket.
const TICKET_S: u64 = 30;
/// A password checked while the user's row changed is checked again; nobody changes theirs so often.
const SIGN_IN_TRIES: usize = 3;

impl Inner {
    pub(super) async fn sign_up(&self, body: rest::Register, from: IpAddr) -> Result<rest::SignedIn, Error> {
        let name = names::username(&body.username)?;
        let display_name = body.display_name.unwrap_or_else(|| name.text.clone());
        names::display_name("display_name", &display_name)?;
        body.email.as_deref().map_or(Ok(()), names::email)?;
        body.device_name.as_deref().map_or(Ok(()), |name| names::display_name("device_name", name))?;
        self.slowdown.register(from).await?;
        let password_hash = self.passwords.admit("password", &body.password, &name.text, body.email.as_deref()).await?;
        let user = User {
            id: UserId(self.world.id()),
            username: name.text,
            display_name,
            email: body.email,
            password_hash,
            created_at: self.world.clock.wall(),
            banned_at: None,
            deleted_at: None,
        };
        self.create_user(&user, &name.handle).await?;
        match self.begin(&user, body.device, body.device_name, from).await? {
            Begun::Begun(session, refresh) => self.signed_in(&user, session, refresh),
            Begun::Changed => Err(unauthenticated()),
        }
    }

    async fn create_user(&self, user: &User, handle: &str) -> Result<(), Error> {
        let created = match self.world.store.accounts.create_user(user, handle).await {
            // The id is new, so a look says what became of it.
            Err(error @ storage::Error::Unknown(_)) => {
                let found = self.world.store.accounts.user(user.id).await.map_err(failed)?;
                found.map(|_| UserCreated::Created).ok_or_else(|| failed(error))?
            }
            created => created.map_err(failed)?,
        };
        match created {
            UserCreated::Created => Ok(()),
            UserCreated::NameTaken => {
                let reason = "this username is taken, or looks like one that is";
                Err(Error { field: Some("username".to_owned()), ..Error::new(Code::AlreadyExists, reason) })
            }
        }
    }

    pub(super) async fn sign_in(&self, body: rest::Login, from: IpAddr) -> Result<rest::SignedIn, Error> {
        body.device_name.as_deref().map_or(Ok(()), |name| names::display_name("device_name", name))?;
        let attempt = self.slowdown.attempt(&names::look_up(&body.login).unwrap_or_default(), from)?;
        for _ in 0..SIGN_IN_TRIES {
            let user = self.user_named(&body.login).await?;
            let stored = user.as_ref().map(|user| user.password_hash.clone());
            let checked = self.passwords.check(&body.password, stored).await?;
            let Some(user) = user.filter(|_| checked != Checked::Wrong) else {
                self.slowdown.failed(attempt).await;
                return Err(Error::new(Code::Unauthenticated, "wrong username or password"));
            };
            if user.banned_at.is_some() {
                return Err(Error::new(Code::Forbidden, "this account is banned"));
            }
            if let Begun::Begun(session, refresh) =
                self.begin(&user, body.device.clone(), body.device_name.clone(), from).await?
            {
                self.slowdown.succeeded(&attempt);
                if let Checked::Rehashed(new) = checked {
                    self.replace_hash(&user, new).await;
                }
                return self.signed_in(&user, session, refresh);
            }
        }
        Err(Error::new(Code::Unavailable, "the account is being changed; try again"))
    }

    /// The same password under today's parameters. If it cannot be written, the next sign-in tries again.
    async fn replace_hash(&self, user: &User, new: String) {
        let _door = self.door(user.id).lock().await;
        let Ok(Some(current)) = self.world.store.accounts.user(user.id).await else { return };
        if current.password_hash == user.password_hash {
            let update = UserUpdate { password_hash: Some(new), ..UserUpdate::default() };
            if let Err(error) = self.world.store.accounts.update_user(user.id, &update).await {
                tracing::debug!(%error, "cannot store a password's new hash");
            }
        }
    }

    pub(super) async fn rotate_refresh(&self, text: &str) -> Result<rest::Tokens, Error> {
        let presented = self.secrets.read_refresh_token(text).ok_or_else(unauthenticated)?;
        let now = self.world.clock.wall();
        let session = self.world.store.sessions.session(presented.family).await.map_err(failed)?;
        let session = session.ok_or_else(unauthenticated)?;
        if let Some(at) = session.revoked_at {
            if !self.revoked.has(session.id) {
                self.finish_end(session.id, at, CloseCode::SessionRevoked).await;
            }
            return Err(unauthenticated());
        }
        if session.expires_at <= now {
            return Err(unauthenticated());
        }
        let user = self.world.store.accounts.user(session.user).await.map_err(failed)?;
        if user.is_none_or(|user| user.banned_at.is_some() || user.deleted_at.is_some()) {
            self.end(session.id, CloseCode::SessionRevoked).await?;
            return Err(unauthenticated());
        }
        if session.generation > presented.generation.saturating_add(1) {
            return self.end_reused(presented).await;
        }

        let successor = RefreshToken { generation: presented.generation + 1, ..presented };
        let refresh_token = self.secrets.refresh_token(successor);
        let expires_at = Millis(now.0 + millis(self.auth.refresh_ttl));
        // The row is raised before a successor is handed out. While it is not, nobody has the successor, and however
        // late the request is repeated, it is the rightful one.
        let told = session.generation > presented.generation;
        let rotation = Rotation {
            family: presented.family,
            presented: presented.generation,
            presented_hash: hash(text),
            successor_hash: hash(&refresh_token),
            now,
            expires_at,
            known: session.generation,
            grace_ms: if told { GRACE_MS } else { millis(self.auth.refresh_ttl) },
        };
        match self.rotate(rotation).await.map_err(tokens_failed)? {
            Rotated::Rotated | Rotated::Again => {}
            Rotated::Reused => return self.end_reused(presented).await,
            // Forgotten by the token store, but by the row it is spent.
            Rotated::Unknown if told => return self.end_reused(presented).await,
            Rotated::Unknown => return Err(unauthenticated()),
        }
        let sessions = &self.world.store.sessions;
        sessions.rotated(session.id, successor.generation, now, expires_at).await.map_err(failed)?;
        self.tokens(session.user, session.id, refresh_token)
    }

    /// Rotates. A first token stands on the row alone: while that knows of no successor nobody was given one, and the
    /// token store may have been away when the family should have begun.
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, storage::Error> {
        let tokens = &self.world.store.tokens;
        let rotated = tokens.rotate(rotation).await?;
        if rotated != Rotated::Unknown || (rotation.presented, rotation.known) != (1, 1) {
            return Ok(rotated);
        }
        let Rotation { family, presented_hash, now, expires_at, .. } = rotation;
        tokens.begin_family(family, presented_hash, now, expires_at).await?;
        tokens.rotate(rotation).await
    }

    /// A spent token is in two hands: whoever holds the family is signed out.
    async fn end_reused(&self, presented: RefreshToken) -> Result<rest::Tokens, Error> {
        tracing::info!(session = %presented.family, "a spent refresh token was presented; the session is ended");
        self.end(presented.family, CloseCode::SessionRevoked).await?;
        Err(unauthenticated())
    }

    pub(super) async fn new_password(
        &self, caller: Caller, body: rest::ChangePassword, from: IpAddr,
    ) -> Result<(), Error> {
        let user = self.own_row(caller).await?;
        let attempt = self.slowdown.attempt(&caller.user.to_string(), from)?;
        if self.passwords.check(&body.old, Some(user.password_hash.clone())).await? == Checked::Wrong {
            self.slowdown.failed(attempt).await;
            return Err(Error::field("old", "old is not your password"));
        }
        self.slowdown.succeeded(&attempt);
        if body.new == body.old {
            return Err(Error::field("new", "new is the password you have now"));
        }
        let password_hash = self.passwords.admit("new", &body.new, &user.username, user.email.as_deref()).await?;

        let _door = self.door(user.id).lock().await;
        if self.own_row(caller).await?.password_hash != user.password_hash {
            return Err(Error::new(Code::Conflict, "the password was changed meanwhile"));
        }
        // The others end first: if the second write is lost, the old password still allows to try again.
        self.end_all(user.id, Some(caller.session), CloseCode::SessionRevoked).await?;
        let update = UserUpdate { password_hash: Some(password_hash), ..UserUpdate::default() };
        self.world.store.accounts.update_user(user.id, &update).await.map_err(failed)?;
        // Whoever signed in with the old one at another node meanwhile.
        self.end_all(user.id, Some(caller.session), CloseCode::SessionRevoked).await
    }

    pub(super) async fn make_ticket(&self, caller: Caller) -> Result<rest::Ticket, Error> {
        let mut text = "tk_".to_owned();
        for part in [self.world.id(), self.world.id()] {
            text.push_str(&uuid::Uuid::from_bytes(part).simple().to_string());
        }
        let now = self.world.clock.wall();
        let ticket = Ticket {
            user: caller.user,
            session: caller.session,
            token_expires_at: caller.expires_at,
            expires_at: Millis(now.0 + TICKET_S * 1000),
        };
        self.world.store.tokens.put_ticket(hash(&text), ticket, now).await.map_err(tokens_failed)?;
        Ok(rest::Ticket { ticket: text, expires_in: TICKET_S })
    }

    pub(super) async fn take_ticket(&self, text: &str) -> Result<Caller, Error> {
        let now = self.world.clock.wall();
        let ticket = self.world.store.tokens.take_ticket(hash(text), now).await.map_err(tokens_failed)?;
        let ticket = ticket.filter(|ticket| !self.revoked.has(ticket.session)).ok_or_else(unauthenticated)?;
        Ok(Caller { user: ticket.user, session: ticket.session, expires_at: ticket.token_expires_at })
    }

    fn signed_in(&self, user: &User, session: protocol::SessionId, refresh: String) -> Result<rest::SignedIn, Error> {
        Ok(rest::SignedIn { user: own_view(user), session, tokens: self.tokens(user.id, session, refresh)? })
    }

    fn tokens(&self, user: UserId, session: protocol::SessionId, refresh_token: String) -> Result<rest::Tokens, Error> {
        let expires_in = self.auth.access_ttl.as_secs();
        let ring = self.keys.ring();
        let access_token = ring.sign(&self.auth.issuer, user, session, self.world.clock.wall(), expires_in);
        let access_token = access_token.ok_or_else(|| Error::new(Code::Internal, "no key to sign with"))?;
        Ok(rest::Tokens { access_token, expires_in, refresh_token })
    }
}
