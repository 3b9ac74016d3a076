//! How ids, numbers and words of a fixed set stand in columns.

use protocol::{Body, ClientId, Event, EventId, Kind, Millis, Role, Seq, UserId};
use rusqlite::{Row, types::Type};

use super::job::Fail;
use crate::{Error, codes};

/// SQLite's integers are signed. Seqs, numbers and times stay below 2^53; beyond the end counts as the end.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(e)))
}

pub(super) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<Kind> {
    let code = row.get(column)?;
    codes::kind(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

pub(super) fn role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    let code = row.get(column)?;
    codes::role(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

/// An event as it is stored: encoded and decoded by the caller's thread, never by the writer.
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) id: [u8; 16],
    pub(super) by: [u8; 16],
    pub(super) cid: Option<ClientId>,
    pub(super) request_hash: [u8; 16],
    pub(super) at: u64,
    pub(super) post_no: u64,
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// The columns that [`Stored::read`] expects.
pub(super) const EVENT: &str = "seq, event_id, sender, client_id, request_hash, at, post_no, kind, body";

impl Stored {
    pub(super) fn of(event: &Event) -> Stored {
        Stored {
            seq: event.seq.0,
            id: event.id.0,
            by: event.by.0,
            cid: event.cid.clone(),
            request_hash: event.request_hash,
            at: event.at.0,
            post_no: event.post_no,
            kind: event.body.kind(),
            body: event.body.encode(),
        }
    }

    pub(super) fn lane(&self) -> u8 {
        codes::lane(self.kind)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
        let cid: Option<String> = row.get(3)?;
        let malformed = |e: &'static str| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, e.into());
        Ok(Stored {
            seq: number(row, 0)?,
            id: row.get(1)?,
            by: row.get(2)?,
            cid: cid.map(ClientId::try_from).transpose().map_err(malformed)?,
            request_hash: row.get(4)?,
            at: number(row, 5)?,
            post_no: number(row, 6)?,
            kind: row.get(7)?,
            body: row.get(8)?,
        })
    }

    pub(super) fn into_event(self) -> Result<Event, Error> {
        let unreadable = |e| Error::Corrupt(format!("event {} of {}: {e}", self.seq, UserId(self.by)));
        let body = Body::decode(self.kind, &self.body).map_err(unreadable)?;
        Ok(Event {
            seq: Seq(self.seq),
            id: EventId(self.id),
            by: UserId(self.by),
            cid: self.cid,
            request_hash: self.request_hash,
            at: Millis(self.at),
            post_no: self.post_no,
            body,
        })
    }
}

/// All rows of a cached query.
pub(super) fn rows<T>(
    connection: &rusqlite::Connection, sql: &str, params: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fail> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The row of a cached query, if there is one.
pub(super) fn row<T>(
    connection: &rusqlite::Connection, sql: &str, params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Fail> {
    use rusqlite::OptionalExtension;
    Ok(connection.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// How many rows a cached statement changed.
pub(super) fn change(
    connection: &rusqlite::Connection, sql: &str, params: impl rusqlite::Params,
) -> Result<usize, Fail> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
