//! Users, signing keys and sessions.

use async_trait::async_trait;
use protocol::{DeviceId, Millis, SessionId, UserId};
use rusqlite::{Row, named_params, params};

use super::{
    Sqlite,
    row::{change, int, number, row, rows},
};
use crate::{
    Error,
    accounts::{Accounts, SIGN_INS_KEPT_S, Session, Sessions, SignIn, SigningKey, User, UserCreated, UserUpdate},
};

const USER: &str =
    "SELECT id, username, display_name, email, password_hash, created_at, banned_at, deleted_at FROM users";

pub(super) fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: UserId(row.get(0)?),
        username: row.get(1)?,
        display_name: row.get(2)?,
        email: row.get(3)?,
        password_hash: row.get(4)?,
        created_at: Millis(number(row, 5)?),
        banned_at: time(row, 6)?,
        deleted_at: time(row, 7)?,
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Millis>> {
    let at: Option<i64> = row.get(column)?;
    at.map(|_| number(row, column).map(Millis)).transpose()
}

fn time_column(at: Option<Millis>) -> Option<i64> {
    at.map(|at| int(at.0))
}

#[async_trait]
impl Accounts for Sqlite {
    async fn create_user(&self, new: &User, handle: &str) -> Result<UserCreated, Error> {
        let (new, handle) = (new.clone(), handle.to_owned());
        self.write(move |connection| {
            let named = "INSERT INTO user_handles (handle, user) VALUES (?1, ?2) ON CONFLICT (handle) DO NOTHING";
            if change(connection, named, params![handle, new.id.0])? == 0 {
                let sql = "SELECT user FROM user_handles WHERE handle = ?1";
                let taken_by: Option<[u8; 16]> = row(connection, sql, [handle], |row| row.get(0))?;
                // One's own, after an unknown outcome: it was done.
                return Ok(if taken_by == Some(new.id.0) { UserCreated::Created } else { UserCreated::NameTaken });
            }
            change(
                connection,
                "INSERT INTO users (id, username, display_name, email, password_hash, created_at, banned_at, deleted_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.id.0,
                    new.username,
                    new.display_name,
                    new.email,
                    new.password_hash,
                    int(new.created_at.0),
                    time_column(new.banned_at),
                    time_column(new.deleted_at),
                ],
            )?;
            Ok(UserCreated::Created)
        })
        .await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        self.read(move |connection| row(connection, &format!("{USER} WHERE id = ?1"), [id.0], user)).await
    }

    async fn user_by_handle(&self, handle: &str) -> Result<Option<User>, Error> {
        let handle = handle.to_owned();
        self.read(move |connection| {
            let sql = format!("{USER} WHERE id = (SELECT user FROM user_handles WHERE handle = ?1)");
            row(connection, &sql, [handle], user)
        })
        .await
    }

    async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Error> {
        let ids = ids.to_vec();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT 1 FROM users WHERE id = ?1 AND deleted_at IS NULL")?;
            let mut existing = Vec::with_capacity(ids.len());
            for id in ids {
                if statement.exists([id.0])? {
                    existing.push(id);
                }
            }
            Ok(existing)
        })
        .await
    }

    async fn update_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error> {
        let update = update.clone();
        self.write(move |connection| {
            let deleted = update.deleted_at.is_some();
            let changed = change(
                connection,
                "UPDATE users SET
                    display_name = CASE WHEN :deleted THEN '' ELSE coalesce(:display_name, display_name) END,
                    password_hash = CASE WHEN :deleted THEN '' ELSE coalesce(:password_hash, password_hash) END,
                    email = CASE WHEN :deleted THEN NULL ELSE email END,
                    banned_at = CASE WHEN :ban THEN :banned_at ELSE banned_at END,
                    deleted_at = coalesce(:deleted_at, deleted_at)
                 WHERE id = :id",
                named_params! {
                    ":id": id.0,
                    ":deleted": deleted,
                    ":display_name": update.display_name,
                    ":password_hash": update.password_hash,
                    ":ban": update.banned_at.is_some(),
                    ":banned_at": time_column(update.banned_at.flatten()),
                    ":deleted_at": time_column(update.deleted_at),
                },
            )?;
            if deleted {
                change(connection, "DELETE FROM sign_ins WHERE user = ?1", [id.0])?;
            }
            Ok(changed > 0)
        })
        .await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        self.read(|connection| {
            let sql = "SELECT kid, sealed, public, created_at FROM signing_keys ORDER BY created_at, kid";
            rows(connection, sql, [], |row| {
                let created_at = Millis(number(row, 3)?);
                Ok(SigningKey { kid: row.get(0)?, sealed: row.get(1)?, public: row.get(2)?, created_at })
            })
        })
        .await
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), Error> {
        let key = key.clone();
        self.write(move |connection| {
            let sql = "INSERT INTO signing_keys (kid, sealed, public, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kid) DO NOTHING";
            change(connection, sql, params![key.kid, key.sealed, key.public, int(key.created_at.0)])?;
            Ok(())
        })
        .await
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<u64, Error> {
        self.write(move |connection| {
            let sql = "DELETE FROM signing_keys WHERE created_at < ?1
                 AND kid <> (SELECT kid FROM signing_keys ORDER BY created_at DESC, kid DESC LIMIT 1)";
            Ok(change(connection, sql, [int(before.0)])? as u64)
        })
        .await
    }
}

pub(super) const SESSION: &str =
    "SELECT id, user, device, device_name, generation, created_at, last_seen_at, expires_at, revoked_at FROM sessions";

pub(super) fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let device: Option<String> = row.get(2)?;
    let malformed =
        |e: &'static str| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, e.into());
    Ok(Session {
        id: SessionId(row.get(0)?),
        user: UserId(row.get(1)?),
        device: device.map(DeviceId::try_from).transpose().map_err(malformed)?,
        device_name: row.get(3)?,
        generation: number(row, 4)?,
        created_at: Millis(number(row, 5)?),
        last_seen_at: Millis(number(row, 6)?),
        expires_at: Millis(number(row, 7)?),
        revoked_at: time(row, 8)?,
    })
}

#[async_trait]
impl Sessions for Sqlite {
    async fn create_session(&self, new: &Session) -> Result<(), Error> {
        let new = new.clone();
        self.write(move |connection| {
            change(
                connection,
                "INSERT INTO sessions
                    (id, user, device, device_name, generation, created_at, last_seen_at, expires_at, revoked_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
                params![
                    new.id.0,
                    new.user.0,
                    new.device.as_ref().map(DeviceId::as_str),
                    new.device_name,
                    int(new.generation),
                    int(new.created_at.0),
                    int(new.last_seen_at.0),
                    int(new.expires_at.0),
                    time_column(new.revoked_at),
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.read(move |connection| row(connection, &format!("{SESSION} WHERE id = ?1"), [id.0], session)).await
    }

    async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, Error> {
        self.read(move |connection| {
            let sql = format!("{SESSION} WHERE user = ?1 AND revoked_at IS NULL ORDER BY created_at, id");
            rows(connection, &sql, [user.0], session)
        })
        .await
    }

    async fn rotated(&self, id: SessionId, generation: u64, at: Millis, expires_at: Millis) -> Result<(), Error> {
        self.write(move |connection| {
            let sql = "UPDATE sessions SET generation = max(generation, ?2), last_seen_at = max(last_seen_at, ?3),
                 expires_at = max(expires_at, ?4) WHERE id = ?1";
            change(connection, sql, params![id.0, int(generation), int(at.0), int(expires_at.0)])?;
            Ok(())
        })
        .await
    }

    async fn seen(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.write(move |connection| {
            let sql = "UPDATE sessions SET last_seen_at = ?2 WHERE id = ?1 AND last_seen_at < ?2";
            change(connection, sql, params![id.0, int(at.0)])?;
            Ok(())
        })
        .await
    }

    async fn revoke(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.write(move |connection| {
            let sql = "UPDATE sessions SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
            change(connection, sql, params![id.0, int(at.0)])?;
            Ok(())
        })
        .await
    }

    async fn note_sign_in(&self, new: &SignIn) -> Result<(), Error> {
        let new = new.clone();
        self.write(move |connection| {
            let oldest = new.at.0.saturating_sub(u64::from(SIGN_INS_KEPT_S) * 1000);
            change(connection, "DELETE FROM sign_ins WHERE at < ?1", [int(oldest)])?;
            let sql = "INSERT INTO sign_ins (user, at, session, address, device_name) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING";
            let address = new.address.to_string();
            change(connection, sql, params![new.user.0, int(new.at.0), new.session.0, address, new.device_name])?;
            Ok(())
        })
        .await
    }

    async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error> {
        self.read(move |connection| {
            let sql = "SELECT at, session, address, device_name FROM sign_ins WHERE user = ?1
                 ORDER BY at DESC, session LIMIT ?2";
            rows(connection, sql, params![user.0, int(limit as u64)], |row| {
                let (at, session) = (Millis(number(row, 0)?), SessionId(row.get(1)?));
                let address: String = row.get(2)?;
                let address = address.parse().map_err(|e: std::net::AddrParseError| {
                    rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, e.into())
                })?;
                Ok(SignIn { user, at, session, address, device_name: row.get(3)? })
            })
        })
        .await
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Millis)>, Error> {
        let users = users.to_vec();
        self.read(move |connection| {
            let sql = "SELECT max(last_seen_at) FROM sessions WHERE user = ?1";
            let mut seen = Vec::with_capacity(users.len());
            for user in users {
                let at = row(connection, sql, [user.0], |row| time(row, 0))?.flatten();
                seen.extend(at.map(|at| (user, at)));
            }
            Ok(seen)
        })
        .await
    }
}
