//! Sessions: begun, listed, ended. The durable row is the word that counts; everything else follows from it.
//! Never proves who somebody is (see `signin`).

use std::net::IpAddr;

use protocol::{Code, DeviceId, Error, Millis, SessionId, UserId, close::CloseCode, rest};
use storage::accounts::{Session, SignIn, User};

use super::{
    Caller, Inner, failed,
    keys::millis,
    secrets::{RefreshToken, hash},
};

/// A row that begins a session was not written because the user changed since the password was checked.
pub(super) enum Begun {
    /// The session is there; this is its first refresh token.
    Begun(SessionId, String),
    /// Look at the user again.
    Changed,
}

fn is_same_device(one: &Session, other: &Session) -> bool {
    one.device.is_some() && one.device == other.device
}

impl Inner {
    /// Begins a session of a user whose password was right, and ends those it replaces: the one of the same device, and
    /// what the policy or the cap does not allow beside it.
    pub(super) async fn begin(
        &self, user: &User, device: Option<DeviceId>, device_name: Option<String>, from: IpAddr,
    ) -> Result<Begun, Error> {
        let _door = self.door(user.id).lock().await;
        if !self.stands(user).await? {
            return Ok(Begun::Changed);
        }
        let mut others = self.world.store.sessions.sessions_of(user.id).await.map_err(failed)?;
        let now = self.world.clock.wall();
        let id = SessionId(self.world.id());
        let expires_at = Millis(now.0 + millis(self.auth.refresh_ttl));
        let token = self.secrets.refresh_token(RefreshToken { family: id, generation: 1 });
        // The family first: without its row it is nothing, while a row without a family would show up in lists.
        if let Err(error) = self.world.store.tokens.begin_family(id, hash(&token), now, expires_at).await {
            tracing::debug!(%error, "cannot begin a family of refresh tokens; its first refresh will");
        }
        let session = Session {
            id,
            user: user.id,
            device: device.clone(),
            device_name: device_name.clone(),
            generation: 1,
            created_at: now,
            last_seen_at: now,
            expires_at,
            revoked_at: None,
        };
        self.world.store.sessions.create_session(&session).await.map_err(failed)?;
        // The door is this node's. Another one that changes the user ends sessions after that: it sees this one, or this
        // one sees the change.
        if !self.stands(user).await? {
            self.end(id, CloseCode::SessionRevoked).await?;
            return Ok(Begun::Changed);
        }
        let sign_in = SignIn { user: user.id, at: now, session: id, address: from, device_name };
        if let Err(error) = self.world.store.sessions.note_sign_in(&sign_in).await {
            // for looking back at: nobody is kept out for want of it
            tracing::debug!(%error, "cannot note a sign-in");
        }

        self.end_rivals(&session, &others).await?;
        for other in others.extract_if(.., |other| is_same_device(other, &session)) {
            self.end(other.id, CloseCode::Replaced).await?;
        }
        let n_live = others.iter().filter(|other| other.expires_at > now).count();
        let n_kept = if self.auth.single_session { 0 } else { self.auth.sessions_per_user_max.saturating_sub(1) };
        let mut n_over = n_live.saturating_sub(n_kept);
        for other in others {
            let over = other.expires_at > now && n_over > 0;
            if over {
                n_over -= 1;
            }
            if over || other.expires_at <= now {
                self.end(other.id, CloseCode::SessionRevoked).await?;
            }
        }
        Ok(Begun::Begun(id, token))
    }

    /// Where there may be one session only, of a device or by policy, and another node began one at the same time, which
    /// was not there yet when this node looked: both look again, and the same one of them stays.
    async fn end_rivals(&self, session: &Session, known: &[Session]) -> Result<(), Error> {
        if session.device.is_none() && !self.auth.single_session {
            return Ok(());
        }
        let there = self.world.store.sessions.sessions_of(session.user).await.map_err(failed)?;
        let is_new = |other: &&Session| other.id != session.id && known.iter().all(|known| known.id != other.id);
        for other in there.iter().filter(is_new) {
            let code = match is_same_device(other, session) {
                true => CloseCode::Replaced,
                false if self.auth.single_session => CloseCode::SessionRevoked,
                false => continue,
            };
            let earlier = std::cmp::min_by_key(other, session, |one| (one.created_at, one.id));
            self.end(earlier.id, code).await?;
        }
        Ok(())
    }

    /// Whether the user is still as when the password was checked.
    async fn stands(&self, user: &User) -> Result<bool, Error> {
        let current = self.world.store.accounts.user(user.id).await.map_err(failed)?;
        Ok(current.is_some_and(|current| {
            current.password_hash == user.password_hash && current.banned_at.is_none() && current.deleted_at.is_none()
        }))
    }

    /// Ends a session: first its row, which is the word that counts; then everything else.
    pub(super) async fn end(&self, session: SessionId, code: CloseCode) -> Result<(), Error> {
        let now = self.world.clock.wall();
        self.world.store.sessions.revoke(session, now).await.map_err(failed)?;
        self.finish_end(session, now, code).await;
        Ok(())
    }

    /// Ends all sessions of a user but one.
    pub(super) async fn end_all(&self, user: UserId, but: Option<SessionId>, code: CloseCode) -> Result<(), Error> {
        for session in self.world.store.sessions.sessions_of(user).await.map_err(failed)? {
            if Some(session.id) != but {
                self.end(session.id, code).await?;
            }
        }
        Ok(())
    }

    /// Ends a session of who asks; somebody else's is told like none.
    pub(super) async fn end_own(&self, caller: Caller, id: SessionId) -> Result<(), Error> {
        let session = self.world.store.sessions.session(id).await.map_err(failed)?;
        if session.is_none_or(|session| session.user != caller.user) {
            return Err(Error::new(Code::NotFound, "there is no such session"));
        }
        self.end(id, CloseCode::SessionRevoked).await
    }

    pub(super) async fn list_sessions(&self, caller: Caller) -> Result<Vec<rest::Session>, Error> {
        let now = self.world.clock.wall();
        let sessions = self.world.store.sessions.sessions_of(caller.user).await.map_err(failed)?;
        let live = sessions.into_iter().filter(|session| session.expires_at > now);
        let shown = live.map(|session| rest::Session {
            id: session.id,
            device: session.device,
            device_name: session.device_name,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            current: session.id == caller.session,
        });
        Ok(shown.collect())
    }

    /// What the rows say of a session that wants to connect.
    pub(super) async fn admit_session(&self, caller: &Caller) -> Result<(), CloseCode> {
        if self.revoked.has(caller.session) {
            return Err(CloseCode::SessionRevoked);
        }
        let unreadable = |_| CloseCode::ServerError;
        let session = self.world.store.sessions.session(caller.session).await.map_err(unreadable)?;
        let session = session.filter(|session| session.user == caller.user).ok_or(CloseCode::SessionRevoked)?;
        let user = self.world.store.accounts.user(caller.user).await.map_err(unreadable)?;
        match user {
            None => return Err(CloseCode::AccountGone),
            Some(user) if user.deleted_at.is_some() => return Err(CloseCode::AccountGone),
            Some(user) if user.banned_at.is_some() => return Err(CloseCode::Banned),
            Some(_) => {}
        }
        if let Some(at) = session.revoked_at {
            // Only a node that died between the row and the rest leaves this behind.
            self.finish_end(session.id, at, CloseCode::SessionRevoked).await;
            return Err(CloseCode::SessionRevoked);
        }
        if let Err(error) = self.world.store.sessions.seen(session.id, self.world.clock.wall()).await {
            tracing::debug!(%error, "cannot note that a session connected");
        }
        Ok(())
    }

    /// Sign-ins, bans and the like of one user happen one after the other.
    pub(super) fn door(&self, user: UserId) -> &tokio::sync::Mutex<()> {
        &self.doors[usize::from(user.0[15]) % self.doors.len()]
    }
}
