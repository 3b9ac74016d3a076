//! The logs. An append and everything that follows from it is one job: one savepoint of one transaction.

use async_trait::async_trait;
use protocol::{ClientId, ConversationId, Epoch, Event, Incarnation, Millis, Seq, UserId};
use rusqlite::{Connection, Row, params};
use tokio::time::Instant;

use super::{
    Sqlite,
    job::Fail,
    row::{EVENT, Stored, change, int, number, row, rows},
};
use crate::{
    Error, codes,
    derive::{Change, changes},
    log::{Appended, Claimed, Created, Head, Known, Lane, Log, Range, Standing, Tenancy, check, check_post_no},
};

/// A conversation's short name and the head of its log.
struct Place {
    no: i64,
    epoch: Epoch,
    owner: Incarnation,
    head: Head,
}

/// What a test asks the plans of, beside [`range_sql`].
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[PLACE, CLAIM, HEAD, EXIT, ROLE, READ, FIND];

const PLACE: &str = "SELECT no, epoch, owner, seq, post_no, at FROM conversations WHERE id = ?1";
const ROLE: &str = "UPDATE members SET role = ?3 WHERE conversation = ?1 AND user = ?2 AND left_seq IS NULL";
const READ: &str =
    "UPDATE members SET read = max(read, ?3), delivered = max(delivered, ?3), read_post = max(read_post, ?4)
                 WHERE conversation = ?1 AND user = ?2";
const EXIT: &str = "UPDATE members SET left_seq = ?3 WHERE conversation = ?1 AND user = ?2 AND left_seq IS NULL";
const HEAD: &str =
    "UPDATE conversations SET seq = ?2, post_no = ?3, at = ?4, members = members + ?5, title = coalesce(?6, title)
         WHERE no = ?1";
const CLAIM: &str =
    "UPDATE conversations SET epoch = epoch + 1, owner = ?2 WHERE id = ?1 RETURNING no, epoch, owner, seq, post_no, at";

impl Place {
    fn read(row: &Row<'_>) -> rusqlite::Result<Place> {
        let seq = Seq(number(row, 3)?);
        Ok(Place {
            no: row.get(0)?,
            epoch: Epoch(number(row, 1)?),
            owner: Incarnation(row.get(2)?),
            head: Head { seq, post_no: number(row, 4)?, at: Millis(number(row, 5)?), settled: seq },
        })
    }
}

/// Checks and encodes a batch, on the caller's thread.
fn pack(head: Seq, events: &[Event]) -> Result<Vec<Stored>, Error> {
    let stored: Vec<Stored> = events.iter().map(Stored::of).collect();
    check(head, events, stored.iter().map(|event| event.body.len()).sum())?;
    Ok(stored)
}

#[async_trait]
impl Log for Sqlite {
    async fn create(&self, c: ConversationId, owner: Incarnation, events: &[Event]) -> Result<Created, Error> {
        let stored = self.meters.count(pack(Seq(0), events))?;
        let changes = changes(events);
        self.write(move |connection| create(connection, c, owner, &stored, &changes)).await
    }

    async fn claim(&self, c: ConversationId, owner: Incarnation, tail_from: Option<Seq>) -> Result<Claimed, Error> {
        let claimed = self.write(move |connection| claim(connection, c, owner, tail_from)).await?;
        let Some((place, tail)) = claimed else { return Ok(Claimed::NotFound) };
        let tail = self.meters.count(decode(tail))?;
        Ok(Claimed::Claimed(Tenancy { epoch: place.epoch, head: place.head, tail }))
    }

    async fn append(
        &self, c: ConversationId, epoch: Epoch, head: Seq, _settled: Seq, events: &[Event],
    ) -> Result<Appended, Error> {
        let stored = self.meters.count(pack(head, events))?;
        let changes = changes(events);
        let begun = Instant::now();
        let n_events = events.len();
        let appended = self.write(move |connection| append(connection, c, epoch, head, &stored, &changes)).await?;
        if let Appended::Applied { .. } = appended {
            self.meters.appended(n_events, begun.elapsed());
        }
        Ok(appended)
    }

    async fn follow(&self, _: ConversationId, _: &[Event]) -> Result<(), Error> {
        Ok(())
    }

    async fn standing(&self, c: ConversationId) -> Result<Option<Standing>, Error> {
        let place = self.read(move |connection| row(connection, PLACE, [c.0], Place::read)).await?;
        Ok(place.map(|Place { epoch, owner, head, .. }| Standing { epoch, owner, head }))
    }

    async fn find(&self, c: ConversationId, by: UserId, cid: &ClientId) -> Result<Option<Known>, Error> {
        let cid = cid.clone();
        self.read(move |connection| row(connection, FIND, params![c.0, by.0, cid.as_str()], known)).await
    }

    async fn read(&self, c: ConversationId, range: Range) -> Result<Vec<Event>, Error> {
        let stored = Sqlite::read(self, move |connection| read(connection, c, range)).await?;
        self.meters.count(decode(stored))
    }
}

fn decode(stored: Vec<Stored>) -> Result<Vec<Event>, Error> {
    stored.into_iter().map(Stored::into_event).collect()
}

fn create(
    connection: &Connection, c: ConversationId, owner: Incarnation, events: &[Stored], changes: &[Change],
) -> Result<Created, Fail> {
    let Some(Change::Begin { kind, title, pair, created_at }) = changes.first() else {
        return Err(Error::Refused("a log begins with an event that creates the conversation".into()).into());
    };
    let (a, b) = pair.map(|(a, b)| (a.0, b.0)).unzip();
    let begun = change(
        connection,
        "INSERT INTO conversations (id, epoch, owner, seq, post_no, at, kind, title, pair_a, pair_b, members, created_at)
         VALUES (?1, 1, ?2, 0, 0, 0, ?3, ?4, ?5, ?6, 0, ?7) ON CONFLICT (id) DO NOTHING",
        params![c.0, owner.0, codes::of_kind(*kind), title, a, b, int(created_at.0)],
    )?;
    if begun == 0 {
        return Ok(Created::Exists);
    }
    let place = Place { no: connection.last_insert_rowid(), epoch: Epoch(1), owner, head: Head::default() };
    Ok(Created::Created { head: extend(connection, &place, events, changes)? })
}

fn claim(
    connection: &Connection, c: ConversationId, owner: Incarnation, tail_from: Option<Seq>,
) -> Result<Option<(Place, Vec<Stored>)>, Fail> {
    let claimed = row(connection, CLAIM, [c.0, owner.0], Place::read)?;
    let Some(place) = claimed else { return Ok(None) };
    // Everything is settled here, so the tail reaches back as far as the caller asks and no further.
    let after = tail_from.unwrap_or(place.head.seq);
    let tail = if after < place.head.seq {
        let all = Range { after, before: None, lane: Lane::Both, limit: usize::MAX, newest: false };
        read(connection, c, all)?
    } else {
        Vec::new()
    };
    Ok(Some((place, tail)))
}

fn append(
    connection: &Connection, c: ConversationId, epoch: Epoch, head: Seq, events: &[Stored], changes: &[Change],
) -> Result<Appended, Fail> {
    let Some(place) = row(connection, PLACE, [c.0], Place::read)? else {
        return Err(Error::Refused(format!("there is no log of {c}")).into());
    };
    if (place.epoch, place.head.seq) != (epoch, head) {
        return Ok(Appended::Fenced { epoch: place.epoch, owner: place.owner, head: place.head.seq });
    }
    let head = extend(connection, &place, events, changes).map_err(|fail| match fail {
        // the place is ours alone, so only the index of client ids can object
        Fail::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Fail::Store(Error::Duplicate)
        }
        other => other,
    })?;
    Ok(Appended::Applied { settled: head.settled })
}

/// Writes events above the head, what follows from them, and the new head.
fn extend(connection: &Connection, place: &Place, events: &[Stored], changes: &[Change]) -> Result<Head, Fail> {
    check_post_no(place.head.post_no, events.iter().map(|event| (event.lane() == 0, event.post_no)))?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO log (conversation, lane, seq, event_id, sender, client_id, request_hash, at, post_no, kind, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut head = place.head;
    for event in events {
        let cid = event.cid.as_ref().map(ClientId::as_str);
        let (seq, at, post_no) = (int(event.seq), int(event.at), int(event.post_no));
        insert.execute(params![
            place.no,
            event.lane(),
            seq,
            event.id,
            event.by,
            cid,
            event.request_hash,
            at,
            post_no,
            event.kind,
            event.body
        ])?;
        let at = head.at.max(Millis(event.at));
        head = Head { seq: Seq(event.seq), post_no: event.post_no, at, settled: Seq(event.seq) };
    }
    let mut members = 0;
    let mut title = None;
    for follows in changes {
        match follows {
            Change::Begin { .. } => {}
            Change::Title(_, text) => title = Some(text),
            change => members += apply(connection, place.no, change)?,
        }
    }
    change(connection, HEAD, params![place.no, int(head.seq.0), int(head.post_no), int(head.at.0), members, title])?;
    Ok(head)
}

/// Changes a member's row; answers by how much the number of members changed.
fn apply(connection: &Connection, no: i64, follows: &Change) -> Result<i64, Fail> {
    match *follows {
        Change::Begin { .. } | Change::Title(..) => Ok(0),
        Change::Enter { user, role, seq, post_no } => {
            let entered = change(
                connection,
                "INSERT INTO members (conversation, user, role, joined_seq, left_seq, read, delivered, read_post)
                 VALUES (?1, ?2, ?3, ?4, NULL, ?4, ?4, ?5)
                 ON CONFLICT (conversation, user) DO UPDATE SET role = ?3, joined_seq = ?4, left_seq = NULL,
                     read = max(read, ?4), delivered = max(delivered, ?4), read_post = max(read_post, ?5)
                 WHERE left_seq IS NOT NULL",
                params![no, user.0, codes::of_role(role), int(seq.0), int(post_no)],
            )?;
            Ok(entered as i64)
        }
        Change::Exit { user, seq } => {
            let left = change(connection, EXIT, params![no, user.0, int(seq.0)])?;
            Ok(-(left as i64))
        }
        Change::Role { user, role, .. } => {
            change(connection, ROLE, params![no, user.0, codes::of_role(role)])?;
            Ok(0)
        }
        Change::Read { user, seq, post_no } => {
            change(connection, READ, params![no, user.0, int(seq.0), int(post_no)])?;
            Ok(0)
        }
    }
}

const FIND: &str = "SELECT seq, post_no, at, request_hash FROM log
     WHERE conversation = (SELECT no FROM conversations WHERE id = ?1) AND sender = ?2 AND client_id = ?3";

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let (seq, at) = (Seq(number(row, 0)?), Millis(number(row, 2)?));
    Ok(Known { seq, post_no: number(row, 1)?, at, request_hash: row.get(3)? })
}

/// The statement for a range: both lanes are merged as they come, so that a limit bounds what is read.
pub(super) fn range_sql(lane: Lane, newest: bool) -> String {
    let order = if newest { "DESC" } else { "ASC" };
    let part = |lane: u8| {
        format!(
            "SELECT {EVENT} FROM log WHERE conversation = (SELECT no FROM conversations WHERE id = ?1) AND lane = {lane}
             AND seq > ?2 AND seq < ?3"
        )
    };
    let parts = match lane {
        Lane::Posts => part(0),
        Lane::Events => part(1),
        Lane::Both => format!("{} UNION ALL {}", part(0), part(1)),
    };
    format!("{parts} ORDER BY seq {order} LIMIT ?4")
}

fn read(connection: &Connection, c: ConversationId, range: Range) -> Result<Vec<Stored>, Fail> {
    use std::sync::LazyLock;
    static SQL: LazyLock<[[String; 2]; 3]> = LazyLock::new(|| {
        [Lane::Posts, Lane::Events, Lane::Both].map(|lane| [false, true].map(|newest| range_sql(lane, newest)))
    });
    let before = range.before.map_or(i64::MAX, |before| int(before.0));
    let bounds = params![c.0, int(range.after.0), before, int(range.limit as u64)];
    let sql = &SQL[range.lane as usize][usize::from(range.newest)];
    let mut events = rows(connection, sql, bounds, Stored::read)?;
    if range.newest {
        events.reverse();
    }
    Ok(events)
}
