//! Conversations, members and marks.

use std::collections::HashSet;

use async_trait::async_trait;
use protocol::{ConversationId, UserId, push::Marks};

use super::{
    Memory, Model,
    faults::Operation,
    log::{self, Logs},
};
use crate::{
    Error,
    directory::{Conversation, Directory, MarkUpdate, Member, Membership},
};

fn conversation(id: ConversationId, log: &log::Conversation) -> Option<Conversation> {
    let row = log.row.as_ref()?;
    Some(Conversation {
        id,
        kind: row.kind,
        title: row.title.clone(),
        pair: row.pair,
        members: log.members_now,
        created_at: row.created_at,
        head: log.head,
    })
}

impl Logs {
    fn member(&self, c: ConversationId, user: UserId) -> Option<Member> {
        Some(self.of.get(&c)?.members.get(&user)?.member)
    }

    fn membership(&self, c: ConversationId, user: UserId) -> Option<Membership> {
        Some(Membership { conversation: conversation(c, self.of.get(&c)?)?, member: self.member(c, user)? })
    }
}

#[async_trait]
impl Directory for Memory {
    async fn conversation(&self, c: ConversationId) -> Result<Option<Conversation>, Error> {
        let read = move |model: &mut Model| Ok(model.logs.of.get(&c).and_then(|log| conversation(c, log)));
        self.call(Operation::ReadDirectory, read).await
    }

    async fn member(&self, c: ConversationId, user: UserId) -> Result<Option<Member>, Error> {
        self.call(Operation::ReadDirectory, move |model| Ok(model.logs.member(c, user))).await
    }

    async fn members(&self, c: ConversationId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>, Error> {
        self.call(Operation::ReadDirectory, move |model| {
            use std::ops::Bound::{Excluded, Unbounded};
            let Some(log) = model.logs.of.get(&c) else { return Ok(Vec::new()) };
            let above = log.members.range((after.map_or(Unbounded, Excluded), Unbounded));
            let now = above.map(|(_, standee)| standee.member).filter(|member| member.left_seq.is_none());
            Ok(now.take(limit).collect())
        })
        .await
    }

    async fn list(&self, user: UserId) -> Result<Vec<Membership>, Error> {
        self.call(Operation::ReadDirectory, move |model| {
            let places = model.logs.places.get(&user).into_iter().flatten();
            Ok(places.filter_map(|&c| model.logs.membership(c, user)).collect())
        })
        .await
    }

    async fn places(&self, user: UserId) -> Result<HashSet<ConversationId>, Error> {
        let read = move |model: &mut Model| Ok(model.logs.places.get(&user).into_iter().flatten().copied().collect());
        self.call(Operation::ReadDirectory, read).await
    }

    async fn membership(&self, c: ConversationId, user: UserId) -> Result<Option<Membership>, Error> {
        self.call(Operation::ReadDirectory, move |model| Ok(model.logs.membership(c, user))).await
    }

    async fn mark(&self, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Error> {
        let updates = updates.to_vec();
        self.call(Operation::Mark, move |model| {
            let Some(log) = model.logs.of.get_mut(&c) else { return Ok(vec![Marks::default(); updates.len()]) };
            let mut raise = |update: &MarkUpdate| {
                let read = update.marks.read.min(log.head.seq);
                let delivered = update.marks.delivered.min(log.head.seq).max(read);
                let read_post = log.post_no(read);
                let Some(standee) = log.members.get_mut(&update.user) else { return Marks::default() };
                standee.member.raise(Marks { read, delivered }, read_post);
                standee.member.marks
            };
            Ok(updates.iter().map(&mut raise).collect())
        })
        .await
    }

    async fn fellows(&self, user: UserId, candidates: &[UserId]) -> Result<Vec<UserId>, Error> {
        let candidates = candidates.to_vec();
        self.call(Operation::ReadDirectory, move |model| {
            let places = &model.logs.places;
            let Some(own) = places.get(&user) else { return Ok(Vec::new()) };
            let shares = |other: &UserId| places.get(other).is_some_and(|theirs| !own.is_disjoint(theirs));
            Ok(candidates.into_iter().filter(shares).collect())
        })
        .await
    }
}
