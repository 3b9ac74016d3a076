//! Conversations and members, as they follow from the logs; marks are raised in `marks`. Where a log ends is read in the log:
//! no summary of it could be true after a crash.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{ConversationId, Kind, Millis, Seq, UserId, push::Marks};
use scylla::value::CqlTimestamp;
use uuid::Uuid;

use super::{
    Cql,
    members::{Row, SIDE_BY_SIDE, conversation_id, member, user_id},
    places::Shards,
    statements::statements,
    values::{millis, number, uuid},
};
use crate::{
    Error, codes,
    directory::{Conversation, Directory, MarkUpdate, Member, Membership},
    fence::Bucket,
};

statements! {
    Read conversation = "SELECT kind, title, pair_a, pair_b, created_at, shards, members, members_seq, bucket
        FROM ks.conversations WHERE conversation_id = ?";
}

type Columns = (
    Option<i8>,
    Option<String>,
    Option<Uuid>,
    Option<Uuid>,
    Option<CqlTimestamp>,
    Option<i32>,
    Option<i64>,
    Option<i64>,
    Option<i32>,
);

/// A conversation's own row.
pub(super) struct ConversationRow {
    kind: Kind,
    title: Option<String>,
    pair: Option<(UserId, UserId)>,
    created_at: Millis,
    pub(super) shards: Shards,
    pub(super) members: u64,
    /// The event up to which `members` counts.
    pub(super) members_seq: Seq,
}

#[async_trait]
impl Directory for Cql {
    async fn conversation(&self, c: ConversationId) -> Result<Option<Conversation>, Error> {
        self.reading(self.read_conversation(c)).await
    }

    async fn member(&self, c: ConversationId, user: UserId) -> Result<Option<Member>, Error> {
        self.reading(self.read_member(c, user)).await
    }

    async fn members(&self, c: ConversationId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>, Error> {
        self.reading(self.read_members(c, after, limit)).await
    }

    async fn list(&self, user: UserId) -> Result<Vec<Membership>, Error> {
        self.reading(async {
            let rows = self.rows::<Row<Uuid>>(&self.members.all, (uuid(user.0),)).await?;
            let mine = rows.into_iter().map(|row| Ok((conversation_id(row.0), member(user, row)?)));
            let mine: Vec<(ConversationId, Option<Member>)> = mine.collect::<Result<_, Error>>()?;
            let now = mine
                .into_iter()
                .filter_map(|(c, member)| member.filter(|member| member.left_seq.is_none()).map(|member| (c, member)));
            let memberships = now.map(|(c, member)| async move {
                let conversation = self.read_conversation(c).await?;
                Ok(conversation.map(|conversation| Membership { conversation, member }))
            });
            stream::iter(memberships)
                .buffer_unordered(SIDE_BY_SIDE)
                .try_filter_map(|membership| async { Ok(membership) })
                .try_collect()
                .await
        })
        .await
    }

    async fn places(&self, user: UserId) -> Result<HashSet<ConversationId>, Error> {
        self.reading(self.places_of(user)).await
    }

    async fn membership(&self, c: ConversationId, user: UserId) -> Result<Option<Membership>, Error> {
        self.reading(async {
            let both = tokio::try_join!(self.read_conversation(c), self.read_member(c, user))?;
            let (Some(conversation), Some(member)) = both else { return Ok(None) };
            Ok(Some(Membership { conversation, member }))
        })
        .await
    }

    async fn mark(&self, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Error> {
        self.writing(self.raise_marks(c, updates)).await
    }

    async fn fellows(&self, user: UserId, candidates: &[UserId]) -> Result<Vec<UserId>, Error> {
        self.reading(async {
            let own = &self.places_of(user).await?;
            let shares = |candidate: UserId| async move {
                let shared = match candidate == user {
                    true => !own.is_empty(),
                    false => !own.is_empty() && !self.places_of(candidate).await?.is_disjoint(own),
                };
                Ok(shared.then_some(candidate))
            };
            let fellows = stream::iter(candidates.iter().copied().map(shares)).buffered(SIDE_BY_SIDE);
            fellows.try_filter_map(|fellow| async move { Ok(fellow) }).try_collect().await
        })
        .await
    }
}

impl Cql {
    /// `None`: there is none, or nothing has followed from its log yet.
    pub(super) async fn conversation_row(&self, c: ConversationId) -> Result<Option<ConversationRow>, Error> {
        let row = self.row::<Columns>(&self.directory.conversation, (uuid(c.0),)).await?;
        let Some((Some(kind), title, a, b, Some(created_at), Some(shards), members, seq, bucket)) = row else {
            return Ok(None);
        };
        let damaged = |column: &str, cell: i64| Error::Corrupt(format!("conversations.{column} of {c} is {cell}"));
        let shards = Shards(u16::try_from(shards).map_err(|_| damaged("shards", shards.into()))?);
        self.places.divided(c, shards);
        self.places.reached(c, Bucket(number("conversations.bucket", bucket.unwrap_or(0).into())?));
        Ok(Some(ConversationRow {
            kind: codes::kind(kind.into()).ok_or_else(|| damaged("kind", kind.into()))?,
            title,
            pair: a.zip(b).map(|(a, b)| (UserId(a.into_bytes()), UserId(b.into_bytes()))),
            created_at: millis("conversations.created_at", created_at)?,
            shards,
            members: number("conversations.members", members.unwrap_or(0))?,
            members_seq: Seq(number("conversations.members_seq", seq.unwrap_or(0))?),
        }))
    }

    /// The partitions of the members; `None` as for the row.
    pub(super) async fn shards(&self, c: ConversationId) -> Result<Option<Shards>, Error> {
        match self.places.shards(c) {
            Some(shards) => Ok(Some(shards)),
            None => Ok(self.conversation_row(c).await?.map(|row| row.shards)),
        }
    }

    async fn read_conversation(&self, c: ConversationId) -> Result<Option<Conversation>, Error> {
        // where the log ends is known well enough to look there at the same time
        let (row, standing) = match self.places.bucket(c) {
            Some(hint) => tokio::try_join!(self.conversation_row(c), self.stand(c, hint))?,
            None => {
                let Some(row) = self.conversation_row(c).await? else { return Ok(None) };
                (Some(row), self.stand(c, self.places.bucket(c).unwrap_or_default()).await?)
            }
        };
        let Some(row) = row else { return Ok(None) };
        let standing = standing.ok_or_else(|| Error::Corrupt(format!("the conversation {c} has a row and no log")))?;
        let ConversationRow { kind, title, pair, members, created_at, .. } = row;
        Ok(Some(Conversation { id: c, kind, title, pair, members, created_at, head: standing.head }))
    }

    async fn read_member(&self, c: ConversationId, user: UserId) -> Result<Option<Member>, Error> {
        let row = self.row::<Row<Uuid>>(&self.members.one, (uuid(user.0), uuid(c.0))).await?;
        row.map_or(Ok(None), |row| member(user, row))
    }

    async fn read_members(&self, c: ConversationId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>, Error> {
        let Some(shards) = self.shards(c).await? else { return Ok(Vec::new()) };
        let mut found: Vec<Member> = Vec::new();
        // no bytes at all sort before any id
        let mut above: Vec<u8> = after.map_or_else(Vec::new, |user| user.0.to_vec());
        let mut shard = after.map_or(0, |user| shards.of(user));
        while found.len() < limit && shard < i32::from(shards.0) {
            let wanted = limit - found.len();
            let key = (uuid(c.0), shard, above.as_slice(), i32::try_from(wanted).unwrap_or(i32::MAX));
            let rows = self.rows::<Row<Vec<u8>>>(&self.members.page, key).await?;
            if rows.len() < wanted {
                shard += 1;
            }
            for row in rows {
                above.clone_from(&row.0);
                let member = member(user_id(&row.0)?, row)?;
                // those who left are among the rows, and do not count
                found.extend(member.filter(|member| member.left_seq.is_none()));
            }
        }
        Ok(found)
    }

    /// What a user is a member of now.
    async fn places_of(&self, user: UserId) -> Result<HashSet<ConversationId>, Error> {
        let rows = self.rows::<(Uuid, Option<i64>, Option<i64>)>(&self.members.places, (uuid(user.0),)).await?;
        let now = rows.into_iter().filter(|(_, joined, left)| joined.is_some() && left.is_none_or(|_| left < joined));
        Ok(now.map(|(conversation, ..)| conversation_id(conversation)).collect())
    }
}
