//! Sessions: the durable word on who is signed in. Whatever is written twice, late, or by two nodes at once can only raise a
//! generation, move a time forward, and revoke: each cell's stamp says which value wins, and no clock of a server does.
//!
//! Rows end by themselves, some time after the session could no longer be used. A revocation stays for longer than any other
//! cell of its row can: a session must never look alive again because the word on its end was forgotten first.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{DeviceId, Millis, SessionId, UserId};
use scylla::value::{CqlTimestamp, MaybeUnset};
use uuid::Uuid;

use super::{
    Cql,
    accounts::SIDE_BY_SIDE,
    call::half_done,
    statements::statements,
    values::{bigint, millis, number, time, uuid},
};
use crate::{
    Error,
    accounts::{Session, Sessions, SignIn},
};

/// How long a row stays after its session has expired, seconds: who comes back late is told that it expired.
const KEPT_S: u64 = 7 * 86_400;
/// How long a revocation stays, seconds. No refresh token lives for more than 400 days (`auth.refresh_ttl_s`).
const REVOCATION_KEPT_S: i32 = 800 * 86_400;
/// What times are taken from where the earlier one is to win: in the past as a stamp (microseconds), for ScyllaDB refuses
/// stamps from the future, and above every time there will be (milliseconds).
const EARLIER_WINS: i64 = 1 << 50;

statements! {
    Read session = "SELECT user_id, device, device_name, generation, created_at, last_seen_at, expires_at, revoked_at
        FROM ks.auth_sessions WHERE id = ?";
    Read sessions_of = "SELECT session_id, revoked_at FROM ks.user_sessions WHERE user_id = ?";
    Read last_seen = "SELECT at FROM ks.last_seen WHERE user_id = ?";
    Read sign_ins = "SELECT at, session_id, address, device_name FROM ks.login_history WHERE user_id = ? LIMIT ?";
    // Stamped with the generation: every rotation writes them again, with more time to live.
    Write put = "UPDATE ks.auth_sessions USING TIMESTAMP ? AND TTL ?
        SET user_id = ?, device = ?, device_name = ?, generation = ?, created_at = ? WHERE id = ?";
    // Stamped with themselves: the later one wins.
    Write seen = "UPDATE ks.auth_sessions USING TIMESTAMP ? AND TTL ? SET last_seen_at = ? WHERE id = ?";
    Write expires = "UPDATE ks.auth_sessions USING TIMESTAMP ? AND TTL ? SET expires_at = ? WHERE id = ?";
    Write list = "INSERT INTO ks.user_sessions (user_id, session_id) VALUES (?, ?) USING TIMESTAMP ? AND TTL ?";
    Write note_seen = "UPDATE ks.last_seen USING TIMESTAMP ? SET at = ? WHERE user_id = ?";
    Write note_sign_in = "INSERT INTO ks.login_history (user_id, at, session_id, address, device_name)
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
    Write forget_sign_ins = "DELETE FROM ks.login_history USING TIMESTAMP ? WHERE user_id = ?";
    // Stamped against the time: the earlier one wins.
    Write revoke = "UPDATE ks.auth_sessions USING TIMESTAMP ? AND TTL ? SET revoked_at = ? WHERE id = ?";
    Write unlist = "UPDATE ks.user_sessions USING TIMESTAMP ? AND TTL ? SET revoked_at = ?
        WHERE user_id = ? AND session_id = ?";
}

type Row = (
    Option<Uuid>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<CqlTimestamp>,
    Option<CqlTimestamp>,
    Option<CqlTimestamp>,
    Option<CqlTimestamp>,
);

/// `None`: of its row only a part is left, so it has ended.
fn session(id: SessionId, row: Row) -> Result<Option<Session>, Error> {
    let (Some(user), device, device_name, Some(generation), Some(created_at), Some(seen), Some(expires), revoked) = row
    else {
        return Ok(None);
    };
    let malformed = |why: &str| Error::Corrupt(format!("auth_sessions.device of {id}: {why}"));
    Ok(Some(Session {
        id,
        user: UserId(user.into_bytes()),
        device: device.map(DeviceId::try_from).transpose().map_err(malformed)?,
        device_name,
        generation: number("auth_sessions.generation", generation)?,
        created_at: millis("auth_sessions.created_at", created_at)?,
        last_seen_at: millis("auth_sessions.last_seen_at", seen)?,
        expires_at: millis("auth_sessions.expires_at", expires)?,
        revoked_at: revoked.map(|at| millis("auth_sessions.revoked_at", at)).transpose()?,
    }))
}

/// How long a row written at `now` stays, seconds.
fn time_to_live(now: Millis, expires_at: Millis) -> i32 {
    let left_s = expires_at.0.saturating_sub(now.0) / 1000 + KEPT_S;
    i32::try_from(left_s).unwrap_or(REVOCATION_KEPT_S).min(REVOCATION_KEPT_S / 2)
}

/// The files of the sign-ins are divided by their stamps, which count microseconds there.
fn micros(at: Millis) -> i64 {
    bigint(at.0.saturating_mul(1000))
}

fn earlier_wins(at: Millis) -> i64 {
    EARLIER_WINS - bigint(at.0)
}

impl Cql {
    pub(super) async fn read_session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        match self.row::<Row>(&self.sessions.session, (uuid(id.0),)).await? {
            Some(row) => session(id, row),
            None => Ok(None),
        }
    }

    /// Writes a session as it is now, over whatever older there is. Listed first: no session that works is missing there.
    async fn put_session(&self, session: &Session, now: Millis) -> Result<(), Error> {
        let (id, user) = (uuid(session.id.0), uuid(session.user.0));
        let (generation, ttl) = (bigint(session.generation), time_to_live(now, session.expires_at));
        let (seen, expires) = (time(session.last_seen_at), time(session.expires_at));
        let listed = self.write(&self.sessions.list, (user, id, generation, ttl));
        let noted = self.write(&self.sessions.note_seen, (seen.0, seen, user));
        tokio::try_join!(listed, noted)?;
        let device = MaybeUnset::from_option(session.device.as_ref().map(DeviceId::as_str));
        let device_name = MaybeUnset::from_option(session.device_name.as_deref());
        let rows = (
            (generation, ttl, user, device, device_name, generation, time(session.created_at), id),
            (seen.0, ttl, seen, id),
            (expires.0, ttl, expires, id),
        );
        let statements = [&self.sessions.put, &self.sessions.seen, &self.sessions.expires];
        self.write_batch(statements, rows).await.map_err(half_done)
    }

    async fn note_seen(&self, session: &Session, at: Millis) -> Result<(), Error> {
        let ttl = time_to_live(at, session.expires_at);
        let seen = self.write(&self.sessions.seen, (bigint(at.0), ttl, time(at), uuid(session.id.0)));
        let noted = self.write(&self.sessions.note_seen, (bigint(at.0), time(at), uuid(session.user.0)));
        tokio::try_join!(seen, noted).map(drop).map_err(half_done)
    }

    /// All up to a time.
    pub(super) async fn forget_sign_ins(&self, user: UserId, until: Millis) -> Result<(), Error> {
        self.write(&self.sessions.forget_sign_ins, (micros(until), uuid(user.0))).await
    }

    /// The session's own row first: it is the word that counts.
    async fn write_revocation(&self, session: &Session, at: Millis) -> Result<(), Error> {
        let (id, stamp) = (uuid(session.id.0), earlier_wins(at));
        self.write(&self.sessions.revoke, (stamp, REVOCATION_KEPT_S, time(at), id)).await?;
        let ttl = time_to_live(at, session.expires_at);
        let unlisted = (stamp, ttl, time(at), uuid(session.user.0), id);
        self.write(&self.sessions.unlist, unlisted).await.map_err(half_done)
    }
}

#[async_trait]
impl Sessions for Cql {
    async fn create_session(&self, new: &Session) -> Result<(), Error> {
        self.writing(async {
            if self.read_session(new.id).await?.is_some() {
                return Ok(());
            }
            // One that moves here from another store may have ended there: it must not work here for a moment.
            if let Some(at) = new.revoked_at {
                self.write_revocation(new, at).await?;
            }
            self.put_session(new, new.created_at).await
        })
        .await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.reading(self.read_session(id)).await
    }

    async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, Error> {
        self.reading(async {
            let listed = self.rows::<(Uuid, Option<CqlTimestamp>)>(&self.sessions.sessions_of, (uuid(user.0),)).await?;
            let live = listed.into_iter().filter(|(_, revoked_at)| revoked_at.is_none());
            let read = async |(id, _): (Uuid, _)| self.read_session(SessionId(id.into_bytes())).await;
            let rows: Vec<_> = stream::iter(live).map(read).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
            let live = rows.into_iter().flatten().filter(|session| session.revoked_at.is_none());
            let mut sessions: Vec<Session> = live.collect();
            sessions.sort_by_key(|session| (session.created_at, session.id));
            Ok(sessions)
        })
        .await
    }

    async fn rotated(&self, id: SessionId, generation: u64, at: Millis, expires_at: Millis) -> Result<(), Error> {
        self.writing(async {
            let Some(session) = self.read_session(id).await? else { return Ok(()) };
            // Of an older generation than what is there it changes only the times that it moves forward.
            self.put_session(&Session { generation, last_seen_at: at, expires_at, ..session }, at).await
        })
        .await
    }

    async fn seen(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.writing(async {
            let Some(session) = self.read_session(id).await? else { return Ok(()) };
            self.note_seen(&session, at).await
        })
        .await
    }

    async fn revoke(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.writing(async {
            match self.read_session(id).await? {
                Some(session) if session.revoked_at.is_none() => self.write_revocation(&session, at).await,
                _ => Ok(()),
            }
        })
        .await
    }

    async fn note_sign_in(&self, new: &SignIn) -> Result<(), Error> {
        let (user, session) = (uuid(new.user.0), uuid(new.session.0));
        let device_name = MaybeUnset::from_option(new.device_name.as_deref());
        let row = (user, time(new.at), session, new.address.to_string(), device_name, micros(new.at));
        self.writing(self.write(&self.sessions.note_sign_in, row)).await
    }

    async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error> {
        let sign_in = |(at, session, address, device_name): (CqlTimestamp, Uuid, String, Option<String>)| {
            let malformed = |error| Error::Corrupt(format!("login_history.address: {error}"));
            let (at, session) = (millis("login_history.at", at)?, SessionId(session.into_bytes()));
            Ok(SignIn { user, at, session, address: address.parse().map_err(malformed)?, device_name })
        };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        self.reading(async {
            // Cassandra refuses a limit of nothing.
            let key = (uuid(user.0), limit.max(1));
            let found = self.rows(&self.sessions.sign_ins, key).await?;
            found.into_iter().take(limit as usize).map(sign_in).collect()
        })
        .await
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Millis)>, Error> {
        let seen = async |user: UserId| {
            let row = self.row::<(CqlTimestamp,)>(&self.sessions.last_seen, (uuid(user.0),)).await?;
            row.map(|(at,)| Ok((user, millis("last_seen.at", at)?))).transpose()
        };
        self.reading(async {
            let seen: Vec<_> =
                stream::iter(users.iter().copied()).map(seen).buffered(SIDE_BY_SIDE).try_collect().await?;
            Ok(seen.into_iter().flatten().collect())
        })
        .await
    }
}
