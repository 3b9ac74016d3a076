//! Conversations, members and marks. All but the marks is written by the appends in `log.rs`.

use std::collections::HashSet;

use async_trait::async_trait;
use protocol::{ConversationId, Millis, Seq, UserId, push::Marks};
use rusqlite::{Connection, Row, params};

use super::{
    Sqlite,
    job::Fail,
    row::{int, kind, number, role, row, rows},
};
use crate::{
    Error,
    directory::{Conversation, Directory, MarkUpdate, Member, Membership},
    log::Head,
};

const MEMBER: &str = "m.user, m.role, m.joined_seq, m.left_seq, m.read, m.delivered, m.read_post";
const MEMBER_COLUMNS: usize = 7;
const CONVERSATION: &str = "c.id, c.kind, c.title, c.pair_a, c.pair_b, c.members, c.created_at, c.seq, c.post_no, c.at";

/// The statements, whole, so that a test can ask for the plan of each.
pub(super) mod sql {
    use super::{CONVERSATION, MEMBER};
    use std::sync::LazyLock;

    macro_rules! statements {
        ($($name:ident = $($text:expr),+;)+) => {
            $(pub(in crate::sqlite) static $name: LazyLock<String> = LazyLock::new(|| [$($text),+].concat());)+
            #[cfg(test)]
            pub(in crate::sqlite) fn all() -> Vec<&'static str> { vec![$(&$name),+] }
        };
    }

    statements! {
        ONE = "SELECT ", CONVERSATION, " FROM conversations c WHERE c.id = ?1";
        ONE_MEMBER = "SELECT ", MEMBER, " FROM members m
            WHERE m.conversation = (SELECT no FROM conversations WHERE id = ?1) AND m.user = ?2";
        MEMBERS = "SELECT ", MEMBER, " FROM members m
            WHERE m.conversation = (SELECT no FROM conversations WHERE id = ?1) AND m.user > ?2 AND m.left_seq IS NULL
            ORDER BY m.user LIMIT ?3";
        LIST = "SELECT ", MEMBER, ", ", CONVERSATION, " FROM members m JOIN conversations c ON c.no = m.conversation
            WHERE m.user = ?1 AND m.left_seq IS NULL";
        MEMBERSHIP = "SELECT ", MEMBER, ", ", CONVERSATION, " FROM conversations c
            JOIN members m ON m.conversation = c.no WHERE c.id = ?1 AND m.user = ?2";
        PLACES_OF = "SELECT conversation FROM members WHERE user = ?1 AND left_seq IS NULL ORDER BY conversation";
        IDS_OF = "SELECT c.id FROM members m JOIN conversations c ON c.no = m.conversation
            WHERE m.user = ?1 AND m.left_seq IS NULL";
        HEAD = "SELECT no, seq FROM conversations WHERE id = ?1";
        POST_NO = "SELECT post_no FROM log WHERE conversation = ?1 AND lane = 0 AND seq <= ?2
            ORDER BY seq DESC LIMIT 1";
        MARK = "UPDATE members SET read = max(read, ?3), delivered = max(delivered, ?4), read_post = max(read_post, ?5)
            WHERE conversation = ?1 AND user = ?2 RETURNING read, delivered";
    }
}

fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let left_seq: Option<i64> = row.get(3)?;
    Ok(Member {
        user: UserId(row.get(0)?),
        role: role(row, 1)?,
        joined_seq: Seq(number(row, 2)?),
        left_seq: left_seq.map(|_| number(row, 3).map(Seq)).transpose()?,
        marks: Marks { read: Seq(number(row, 4)?), delivered: Seq(number(row, 5)?) },
        read_post: number(row, 6)?,
    })
}

fn conversation(row: &Row<'_>, at: usize) -> rusqlite::Result<Conversation> {
    let pair: (Option<[u8; 16]>, Option<[u8; 16]>) = (row.get(at + 3)?, row.get(at + 4)?);
    let seq = Seq(number(row, at + 7)?);
    Ok(Conversation {
        id: ConversationId(row.get(at)?),
        kind: kind(row, at + 1)?,
        title: row.get(at + 2)?,
        pair: pair.0.zip(pair.1).map(|(a, b)| (UserId(a), UserId(b))),
        members: number(row, at + 5)?,
        created_at: Millis(number(row, at + 6)?),
        head: Head { seq, post_no: number(row, at + 8)?, at: Millis(number(row, at + 9)?), settled: seq },
    })
}

fn membership(row: &Row<'_>) -> rusqlite::Result<Membership> {
    Ok(Membership { member: member(row)?, conversation: conversation(row, MEMBER_COLUMNS)? })
}

#[async_trait]
impl Directory for Sqlite {
    async fn conversation(&self, c: ConversationId) -> Result<Option<Conversation>, Error> {
        self.read(move |connection| row(connection, &sql::ONE, [c.0], |row| conversation(row, 0))).await
    }

    async fn member(&self, c: ConversationId, user: UserId) -> Result<Option<Member>, Error> {
        self.read(move |connection| row(connection, &sql::ONE_MEMBER, [c.0, user.0], member)).await
    }

    async fn members(&self, c: ConversationId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>, Error> {
        self.read(move |connection| {
            // No bytes at all sort before any id.
            let after: &[u8] = after.as_ref().map_or(&[], |user| &user.0);
            rows(connection, &sql::MEMBERS, params![c.0, after, int(limit as u64)], member)
        })
        .await
    }

    async fn list(&self, user: UserId) -> Result<Vec<Membership>, Error> {
        self.read(move |connection| rows(connection, &sql::LIST, [user.0], membership)).await
    }

    async fn places(&self, user: UserId) -> Result<HashSet<ConversationId>, Error> {
        let ids =
            self.read(move |connection| rows(connection, &sql::IDS_OF, [user.0], |row| row.get(0).map(ConversationId)));
        Ok(ids.await?.into_iter().collect())
    }

    async fn membership(&self, c: ConversationId, user: UserId) -> Result<Option<Membership>, Error> {
        self.read(move |connection| row(connection, &sql::MEMBERSHIP, [c.0, user.0], membership)).await
    }

    async fn mark(&self, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Error> {
        let updates = updates.to_vec();
        self.write(move |connection| mark(connection, c, &updates)).await
    }

    async fn fellows(&self, user: UserId, candidates: &[UserId]) -> Result<Vec<UserId>, Error> {
        let candidates = candidates.to_vec();
        self.read(move |connection| fellows(connection, user, candidates)).await
    }
}

fn mark(connection: &Connection, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Fail> {
    let place = row(connection, &sql::HEAD, [c.0], |row| Ok((row.get::<_, i64>(0)?, number(row, 1)?)))?;
    let Some((no, head)) = place else { return Ok(vec![Marks::default(); updates.len()]) };
    let raise = |update: &MarkUpdate| {
        let read = int(update.marks.read.0.min(head));
        let delivered = int(update.marks.delivered.0.min(head)).max(read);
        let read_post: i64 = match read {
            0 => 0,
            _ => row(connection, &sql::POST_NO, [no, read], |row| row.get(0))?.unwrap_or(0),
        };
        let raised = row(connection, &sql::MARK, params![no, update.user.0, read, delivered, read_post], |row| {
            Ok(Marks { read: Seq(number(row, 0)?), delivered: Seq(number(row, 1)?) })
        })?;
        Ok(raised.unwrap_or_default())
    };
    updates.iter().map(raise).collect()
}

/// Reads each user's conversations once, a candidate's only up to the first that is shared.
fn fellows(connection: &Connection, user: UserId, mut candidates: Vec<UserId>) -> Result<Vec<UserId>, Fail> {
    let own: Vec<i64> = rows(connection, &sql::PLACES_OF, [user.0], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(&sql::PLACES_OF)?;
    let mut failed = None;
    candidates.retain(|candidate| {
        let mut shares = || -> rusqlite::Result<bool> {
            let mut places = statement.query([candidate.0])?;
            while let Some(row) = places.next()? {
                if own.binary_search(&row.get(0)?).is_ok() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        shares().unwrap_or_else(|e| {
            failed = Some(e);
            false
        })
    });
    failed.map_or(Ok(candidates), |e| Err(e.into()))
}
