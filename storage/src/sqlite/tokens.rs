//! Tokens beside everything else, in the same file and through the same writer: a kill right after an answer undoes
//! nothing of it. Rate limits stay in memory.

use std::sync::PoisonError;

use async_trait::async_trait;
use protocol::{Millis, SessionId, UserId};
use rusqlite::{Row, params};

use super::{
    Sqlite,
    row::{change, int, number, row, rows},
};
use crate::{
    Error,
    tokens::{Family, Rate, Rotated, Rotation, SWEEP_AFTER_MS, Ticket, Tokens},
};

pub(super) const FAMILY: &str =
    "SELECT generation, hash, predecessor_hash, rotated_at, expires_at FROM families WHERE session = ?1";

pub(super) fn family(row: &Row<'_>) -> rusqlite::Result<Family> {
    let predecessor: Option<[u8; 32]> = row.get(2)?;
    Ok(Family {
        generation: number(row, 0)?,
        hash: row.get(1)?,
        predecessor: predecessor.map(|hash| number(row, 3).map(|at| (hash, Millis(at)))).transpose()?,
        expires_at: Millis(number(row, 4)?),
    })
}

#[async_trait]
impl Tokens for Sqlite {
    async fn begin_family(
        &self, family: SessionId, hash: [u8; 32], _now: Millis, expires_at: Millis,
    ) -> Result<(), Error> {
        self.write(move |connection| {
            let sql = "INSERT INTO families (session, generation, hash, expires_at) VALUES (?1, 1, ?2, ?3)
                 ON CONFLICT (session) DO NOTHING";
            change(connection, sql, params![family.0, hash, int(expires_at.0)])?;
            Ok(())
        })
        .await
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, Error> {
        self.write(move |connection| {
            // A few at a time: what has ended goes as fast as new ones come.
            let sweep = "DELETE FROM families WHERE session IN
                 (SELECT session FROM families WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";
            change(connection, sweep, [int(rotation.now.0)])?;
            let id = rotation.family.0;
            let stored = row(connection, FAMILY, [id], family)?;
            let Some(mut family) = stored else { return Ok(Rotated::Unknown) };
            let verdict = family.rotate(&rotation);
            match verdict {
                Rotated::Rotated => {
                    let (predecessor, rotated_at) = family.predecessor.unzip();
                    change(
                        connection,
                        "UPDATE families SET generation = ?2, hash = ?3, predecessor_hash = ?4, rotated_at = ?5,
                             expires_at = ?6 WHERE session = ?1",
                        params![
                            id,
                            int(family.generation),
                            family.hash,
                            predecessor,
                            rotated_at.map(|at| int(at.0)),
                            int(family.expires_at.0)
                        ],
                    )?;
                }
                Rotated::Reused => {
                    change(connection, "DELETE FROM families WHERE session = ?1", [id])?;
                }
                Rotated::Again | Rotated::Unknown => {}
            }
            Ok(verdict)
        })
        .await
    }

    async fn revoke(&self, family: SessionId, at: Millis, until: Millis) -> Result<(), Error> {
        self.write(move |connection| {
            change(connection, "DELETE FROM families WHERE session = ?1", [family.0])?;
            let sweep = "DELETE FROM revocations WHERE session IN
                 (SELECT session FROM revocations WHERE until <= ?1 ORDER BY until LIMIT 4)";
            change(connection, sweep, [int(at.0)])?;
            let sql = "INSERT INTO revocations (session, at, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (session) DO UPDATE SET at = max(at, ?2), until = max(until, ?3)";
            change(connection, sql, params![family.0, int(at.0), int(until.0)])?;
            Ok(())
        })
        .await
    }

    async fn revoked(&self, since: Millis, now: Millis) -> Result<Vec<(SessionId, Millis)>, Error> {
        self.read(move |connection| {
            let sql = "SELECT session, until FROM revocations WHERE at >= ?1 AND until > ?2 ORDER BY at, session";
            rows(connection, sql, [int(since.0), int(now.0)], |row| {
                Ok((SessionId(row.get(0)?), Millis(number(row, 1)?)))
            })
        })
        .await
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, now: Millis) -> Result<(), Error> {
        self.write(move |connection| {
            let sweep = "DELETE FROM tickets WHERE hash IN
                 (SELECT hash FROM tickets WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";
            change(connection, sweep, [int(now.0.saturating_sub(SWEEP_AFTER_MS))])?;
            let sql = "INSERT INTO tickets (hash, user, session, token_expires_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (hash) DO NOTHING";
            let ends = (int(ticket.token_expires_at.0), int(ticket.expires_at.0));
            change(connection, sql, params![hash, ticket.user.0, ticket.session.0, ends.0, ends.1])?;
            Ok(())
        })
        .await
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, Error> {
        self.write(move |connection| {
            let sql = "DELETE FROM tickets WHERE hash = ?1 RETURNING user, session, token_expires_at, expires_at";
            let ticket = row(connection, sql, [hash], |row| {
                Ok(Ticket {
                    user: UserId(row.get(0)?),
                    session: SessionId(row.get(1)?),
                    token_expires_at: Millis(number(row, 2)?),
                    expires_at: Millis(number(row, 3)?),
                })
            })?;
            Ok(ticket.filter(|ticket| ticket.expires_at > now))
        })
        .await
    }

    async fn take(&self, key: &str, rate: Rate, now: Millis) -> Result<Result<(), u64>, Error> {
        Ok(self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(key, rate, now))
    }

    fn is_shared(&self) -> bool {
        false
    }
}
