//! What follows from events: the index of client ids, the conversation's row, members' rows on both sides, the posters'
//! marks. All of it may be written twice, late, and by who owns the log no more.
//!
//! The rows are brought from one change of members to the next, each whole before the next begins: which of them an event
//! changes, and what the number of members is after it, is decided against the rows that stand.

use std::collections::HashMap;

use protocol::{ConversationId, Event, Kind, Seq, UserId};
use scylla::value::MaybeUnset;

use super::{
    Cql,
    call::half_done,
    directory::ConversationRow,
    members::{Cells, Writing, side_by_side},
    places::Shards,
    roster::effective,
    statements::statements,
    values::{bigint, time, uuid},
};
use crate::{
    Error, codes,
    derive::{Change, changes},
};

/// Members that one partition is to hold.
const MEMBERS_PER_SHARD: usize = 10_000;

statements! {
    Write index = "INSERT INTO ks.event_by_client_id
        (conversation_id, sender_id, client_id, seq, post_no, at, request_hash) VALUES (?, ?, ?, ?, ?, ?, ?)
        USING TIMESTAMP ?";
    // Conditional, because it says for good where the members are, and nodes may be configured differently for a while.
    // Without the title: a conditional write is stamped by a clock, and no title to come would be newer.
    Conditional begin = "UPDATE ks.conversations SET kind = ?, pair_a = ?, pair_b = ?, created_at = ?, shards = ?
        WHERE conversation_id = ? IF shards = null";
    Write title = "UPDATE ks.conversations USING TIMESTAMP ? SET title = ? WHERE conversation_id = ?";
    Write count = "UPDATE ks.conversations USING TIMESTAMP ? SET members = ?, members_seq = ? WHERE conversation_id = ?";
}

impl Cql {
    pub(super) async fn write_what_follows(&self, c: ConversationId, events: &[Event]) -> Result<(), Error> {
        let mut rest = events;
        while !rest.is_empty() {
            let end = rest.iter().position(|event| event.body.is_membership()).map_or(rest.len(), |place| place + 1);
            let (run, later) = rest.split_at(end);
            self.write_run(c, run).await.map_err(half_done)?;
            rest = later;
        }
        Ok(())
    }

    /// `run`: at most one event that changes members, the last.
    async fn write_run(&self, c: ConversationId, run: &[Event]) -> Result<(), Error> {
        let changes = changes(run);
        let marks = changes.iter().filter(|change| matches!(change, Change::Read { .. }));
        let mut cells: Vec<Cells> = marks.filter_map(Cells::of).collect();
        let Some(last) = run.last().filter(|event| event.body.is_membership()) else {
            return self.write_rows(c, None, run, &changes, &cells).await;
        };
        let Begun { shards, row } = self.begun(c, &changes).await?;
        let rows = match row {
            None => HashMap::new(),
            Some(_) => self.member_rows(c, shards, named(&changes)).await?,
        };
        let (effective, more) = effective(&changes, &rows);
        cells.extend(effective.iter().filter_map(Cells::of));
        self.write_rows(c, Some(shards), run, &changes, &cells).await?;
        // last: it says that the rows are whole up to here
        let (members, as_of) = row.map_or((0, Seq(0)), |row| (row.members, row.members_seq));
        if as_of >= last.seq {
            return Ok(());
        }
        let (seq, members) = (bigint(last.seq.0), bigint(members.saturating_add_signed(more)));
        self.write(&self.follow.count, (seq, members, seq, uuid(c.0))).await
    }

    /// All at once: none of these rows waits for another.
    async fn write_rows(
        &self, c: ConversationId, shards: Option<Shards>, run: &[Event], changes: &[Change], cells: &[Cells],
    ) -> Result<(), Error> {
        let mut writes = self.index_writes(c, run);
        writes.extend(self.title_write(c, changes));
        if !cells.is_empty() {
            let shards = match shards {
                Some(shards) => shards,
                None => self.shards(c).await?.ok_or_else(|| has_no_row(c))?,
            };
            writes.extend(self.place_writes(c, cells));
            writes.extend(self.member_writes(c, shards, cells));
        }
        side_by_side(writes).await
    }

    /// Begins the conversation's row, if that is what follows, and reads it if it was there.
    async fn begun(&self, c: ConversationId, changes: &[Change]) -> Result<Begun, Error> {
        let begin = changes.iter().find_map(|change| match change {
            Change::Begin { kind, pair, created_at, .. } => Some((*kind, pair.unzip(), *created_at)),
            _ => None,
        });
        if let Some((kind, (a, b), created_at)) = begin {
            let shards = shards_for(kind, self.members_max);
            let kind = codes::of_kind(kind).cast_signed();
            let [a, b] = [a, b].map(|user| MaybeUnset::from_option(user.map(|user| uuid(user.0))));
            let values = (kind, a, b, time(created_at), i32::from(shards.0), uuid(c.0));
            if self.conditional(&self.follow.begin, values).await?.applied {
                self.places.divided(c, shards);
                return Ok(Begun { shards, row: None });
            }
        }
        let row = self.conversation_row(c).await?.ok_or_else(|| has_no_row(c))?;
        Ok(Begun { shards: row.shards, row: Some(row) })
    }

    fn index_writes<'a>(&'a self, c: ConversationId, events: &'a [Event]) -> Vec<Writing<'a>> {
        let write = |event: &'a Event| -> Option<Writing<'a>> {
            let (cid, seq) = (event.cid.as_ref()?.as_str(), bigint(event.seq.0));
            let (post_no, at, hash) = (bigint(event.post_no), time(event.at), event.request_hash.as_slice());
            let values = (uuid(c.0), uuid(event.by.0), cid, seq, post_no, at, hash, seq);
            Some(Box::pin(self.write(&self.follow.index, values)))
        };
        events.iter().filter_map(write).collect()
    }

    /// Of several titles only the last would be seen.
    fn title_write<'a>(&'a self, c: ConversationId, changes: &'a [Change]) -> Option<Writing<'a>> {
        let (seq, title) = changes.iter().rev().find_map(|change| match change {
            Change::Begin { title, .. } => Some((Seq(1), title.as_deref()?)),
            Change::Title(seq, title) => Some((*seq, title.as_str())),
            _ => None,
        })?;
        Some(Box::pin(self.write(&self.follow.title, (bigint(seq.0), title, uuid(c.0)))))
    }
}

struct Begun {
    shards: Shards,
    /// `None`: there was no such row until now, and so no rows of members.
    row: Option<ConversationRow>,
}

/// The partitions of the members of a conversation made now.
fn shards_for(kind: Kind, members_max: usize) -> Shards {
    match kind {
        Kind::Direct => Shards(1),
        Kind::Group | Kind::Channel => {
            Shards(u16::try_from(members_max.div_ceil(MEMBERS_PER_SHARD).max(1)).unwrap_or(u16::MAX))
        }
    }
}

/// Whose rows the changes may change.
fn named(changes: &[Change]) -> impl Iterator<Item = UserId> {
    changes.iter().filter_map(|change| match *change {
        Change::Enter { user, .. } | Change::Exit { user, .. } | Change::Role { user, .. } => Some(user),
        Change::Read { .. } | Change::Begin { .. } | Change::Title(..) => None,
    })
}

/// Its creation is the first event of every log, and nothing later follows before it.
fn has_no_row(c: ConversationId) -> Error {
    Error::Corrupt(format!("the conversation {c} has a log and no row"))
}
