//! Members' rows, on both sides: of a conversation in `members`, of a user in `user_conversations`. Every cell is written
//! under the seq that caused it, so writing again, late or twice changes nothing, and no cell ever goes back.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use protocol::{ConversationId, Role, Seq, UserId, push::Marks};
use scylla::value::CqlValue;
use uuid::Uuid;

use super::{
    Cql,
    places::Shards,
    statements::{Write, statements},
    values::{bigint, number, uuid},
};
use crate::{Error, codes, derive::Change, directory::Member};

/// Statements of one call that run side by side. At 300 ms each, which is slow, a call does some 800 before its deadline.
pub(super) const SIDE_BY_SIDE: usize = 128;
/// Users that one read names: ScyllaDB takes up to a hundred.
const USERS_PER_READ: usize = 100;
/// Rows that one batch writes.
pub(super) const ROWS_PER_BATCH: usize = 200;

const ROW: &str = "role, joined_seq, left_seq, read, delivered, read_post";
const ENTER: &str = "role = ?, joined_seq = ?, read = ?, delivered = ?, read_post = ?";
const EXIT: &str = "left_seq = ?";
const ROLE: &str = "role = ?";
const BOTH: &str = "read = ?, delivered = ?, read_post = ?";
const READ: &str = "read = ?, read_post = ?";
const DELIVERED: &str = "delivered = ?";

statements! {
    Read some = &format!("SELECT user_id, {ROW} FROM ks.members WHERE conversation_id = ? AND shard = ? AND user_id IN ?");
    Read page = &format!("SELECT user_id, {ROW} FROM ks.members
        WHERE conversation_id = ? AND shard = ? AND user_id > ? LIMIT ?");
    Read one = &format!("SELECT conversation_id, {ROW} FROM ks.user_conversations
        WHERE user_id = ? AND conversation_id = ?");
    Read all = &format!("SELECT conversation_id, {ROW} FROM ks.user_conversations WHERE user_id = ?");
    Read places = "SELECT conversation_id, joined_seq, left_seq FROM ks.user_conversations WHERE user_id = ?";
    Write enter = &of_conversation(ENTER);
    Write exit = &of_conversation(EXIT);
    Write role = &of_conversation(ROLE);
    Write both = &of_conversation(BOTH);
    Write read = &of_conversation(READ);
    Write delivered = &of_conversation(DELIVERED);
    Write enter_place = &of_user(ENTER);
    Write exit_place = &of_user(EXIT);
    Write role_place = &of_user(ROLE);
    Write both_place = &of_user(BOTH);
    Write read_place = &of_user(READ);
    Write delivered_place = &of_user(DELIVERED);
}

fn of_conversation(set: &str) -> String {
    format!("UPDATE ks.members USING TIMESTAMP ? SET {set} WHERE conversation_id = ? AND shard = ? AND user_id = ?")
}

fn of_user(set: &str) -> String {
    format!("UPDATE ks.user_conversations USING TIMESTAMP ? SET {set} WHERE user_id = ? AND conversation_id = ?")
}

/// A row without its key. A user whose marks were written before they were a member has no role and no `joined_seq`.
pub(super) type Row<Id> = (Id, Option<i8>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// `None`: never was a member.
pub(super) fn member<Id>(user: UserId, row: Row<Id>) -> Result<Option<Member>, Error> {
    let (_, role, joined, left, read, delivered, read_post) = row;
    let Some(joined) = joined else { return Ok(None) };
    let present = |column: &str, cell: Option<i64>| match cell {
        Some(cell) => number(column, cell),
        None => Err(Error::Corrupt(format!("a member's row has no {column}"))),
    };
    let code = role.map_or(-1, i64::from);
    let joined_seq = Seq(number("joined_seq", joined)?);
    let left_seq = left.map(|left| number("left_seq", left).map(Seq)).transpose()?;
    Ok(Some(Member {
        user,
        role: codes::role(code).ok_or_else(|| Error::Corrupt(format!("a member's role is {code}")))?,
        joined_seq,
        // who came back has left no more
        left_seq: left_seq.filter(|&left| left > joined_seq),
        marks: Marks { read: Seq(present("read", read)?), delivered: Seq(present("delivered", delivered)?) },
        read_post: present("read_post", read_post)?,
    }))
}

/// A write of one member's rows, the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cells {
    user: UserId,
    /// The seq that caused it, and its stamp.
    seq: Seq,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Enter(Role, u64),
    Exit,
    Role(Role),
    /// Both marks, and the number of posts up to there.
    Both(u64),
    Read(u64),
    Delivered,
}

impl Cells {
    /// `None`: the change is not one of a member's rows.
    pub(super) fn of(change: &Change) -> Option<Cells> {
        let (user, seq, what) = match *change {
            Change::Enter { user, role, seq, post_no } => (user, seq, What::Enter(role, post_no)),
            Change::Exit { user, seq } => (user, seq, What::Exit),
            Change::Role { user, role, seq } => (user, seq, What::Role(role)),
            Change::Read { user, seq, post_no } => (user, seq, What::Both(post_no)),
            Change::Begin { .. } | Change::Title(..) => return None,
        };
        Some(Cells { user, seq, what })
    }

    pub(super) fn both(user: UserId, seq: Seq, post_no: u64) -> Cells {
        Cells { user, seq, what: What::Both(post_no) }
    }

    pub(super) fn read(user: UserId, seq: Seq, post_no: u64) -> Cells {
        Cells { user, seq, what: What::Read(post_no) }
    }

    pub(super) fn delivered(user: UserId, seq: Seq) -> Cells {
        Cells { user, seq, what: What::Delivered }
    }

    /// Stamp, cells and key, in the order of the statements.
    fn values(&self, key: impl IntoIterator<Item = CqlValue>) -> Vec<CqlValue> {
        let seq = CqlValue::BigInt(bigint(self.seq.0));
        let role = |role| CqlValue::TinyInt(codes::of_role(role).cast_signed());
        let post_no = |n| CqlValue::BigInt(bigint(n));
        let mut values = vec![seq.clone()];
        match self.what {
            What::Enter(is, n) => values.extend([role(is), seq.clone(), seq.clone(), seq, post_no(n)]),
            What::Role(is) => values.push(role(is)),
            What::Both(n) => values.extend([seq.clone(), seq, post_no(n)]),
            What::Read(n) => values.extend([seq, post_no(n)]),
            What::Exit | What::Delivered => values.push(seq),
        }
        values.extend(key);
        values
    }
}

impl Cql {
    /// The rows of these users, of those that have any.
    pub(super) async fn member_rows(
        &self, c: ConversationId, shards: Shards, users: impl Iterator<Item = UserId>,
    ) -> Result<HashMap<UserId, Member>, Error> {
        let mut by_shard: BTreeMap<i32, Vec<Vec<u8>>> = BTreeMap::new();
        for user in users {
            by_shard.entry(shards.of(user)).or_default().push(user.0.to_vec());
        }
        let mut reads = Vec::new();
        for (shard, users) in &by_shard {
            for run in users.chunks(USERS_PER_READ) {
                reads.push(self.rows::<Row<Vec<u8>>>(&self.members.some, (uuid(c.0), *shard, run)));
            }
        }
        let rows: Vec<Vec<_>> = stream::iter(reads).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
        let members = rows.into_iter().flatten().map(|row| member(user_id(&row.0)?, row));
        members.filter_map(Result::transpose).map(|member| member.map(|m| (m.user, m))).collect()
    }

    /// The users' side of these writes.
    pub(super) fn place_writes<'a>(&'a self, c: ConversationId, cells: &'a [Cells]) -> Vec<Writing<'a>> {
        let write = |cells: &'a Cells| -> Writing<'a> {
            let values = cells.values([CqlValue::Uuid(uuid(cells.user.0)), CqlValue::Uuid(uuid(c.0))]);
            Box::pin(self.write(self.of_place(cells.what), values))
        };
        cells.iter().map(write).collect()
    }

    /// The conversation's side of these writes, as many rows together as lie together.
    pub(super) fn member_writes<'a>(
        &'a self, c: ConversationId, shards: Shards, cells: &'a [Cells],
    ) -> Vec<Writing<'a>> {
        let mut by_shard: BTreeMap<i32, Vec<&'a Cells>> = BTreeMap::new();
        for cells in cells {
            by_shard.entry(shards.of(cells.user)).or_default().push(cells);
        }
        let mut writes: Vec<Writing<'a>> = Vec::with_capacity(by_shard.len());
        for (shard, cells) in by_shard {
            for run in cells.chunks(ROWS_PER_BATCH) {
                let key =
                    |user: UserId| [CqlValue::Uuid(uuid(c.0)), CqlValue::Int(shard), CqlValue::Blob(user.0.to_vec())];
                let mut values: Vec<_> = run.iter().map(|cells| cells.values(key(cells.user))).collect();
                let statements: Vec<_> = run.iter().map(|cells| self.of_member(cells.what)).collect();
                writes.push(match &statements[..] {
                    [one] => Box::pin(self.write(one, values.swap_remove(0))),
                    _ => Box::pin(self.write_batch(statements, values)),
                });
            }
        }
        writes
    }

    fn of_member(&self, what: What) -> &Write {
        match what {
            What::Enter(..) => &self.members.enter,
            What::Exit => &self.members.exit,
            What::Role(_) => &self.members.role,
            What::Both(_) => &self.members.both,
            What::Read(_) => &self.members.read,
            What::Delivered => &self.members.delivered,
        }
    }

    fn of_place(&self, what: What) -> &Write {
        match what {
            What::Enter(..) => &self.members.enter_place,
            What::Exit => &self.members.exit_place,
            What::Role(_) => &self.members.role_place,
            What::Both(_) => &self.members.both_place,
            What::Read(_) => &self.members.read_place,
            What::Delivered => &self.members.delivered_place,
        }
    }
}

/// One write under way.
pub(super) type Writing<'a> = BoxFuture<'a, Result<(), Error>>;

/// Carries out writes, as many at once as one call may.
pub(super) async fn side_by_side(writes: Vec<Writing<'_>>) -> Result<(), Error> {
    stream::iter(writes).buffer_unordered(SIDE_BY_SIDE).try_collect().await
}

/// Users' ids are the key's bytes as they are there: uuids would not be sorted as bytes.
pub(super) fn user_id(bytes: &[u8]) -> Result<UserId, Error> {
    let id = bytes.try_into().map_err(|_| Error::Corrupt(format!("a member's id has {} bytes", bytes.len())))?;
    Ok(UserId(id))
}

pub(super) fn conversation_id(id: Uuid) -> ConversationId {
    ConversationId(id.into_bytes())
}
