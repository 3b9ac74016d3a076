//! Walks over whole tables, page by page, in the order of the servers' tokens.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{ConversationId, SessionId, UserId};
use scylla::response::PagingState;
use uuid::Uuid;

use super::{Cql, accounts::SIDE_BY_SIDE, statements::statements};
use crate::{
    Error,
    accounts::Session,
    inventory::{Account, Inventory, Page, Place},
};

statements! {
    Read users = "SELECT handle, user_id FROM ks.user_handles";
    Read sessions = "SELECT id FROM ks.auth_sessions";
    // The logs themselves: one whose owner died at once has nothing else yet.
    Read conversations = "SELECT DISTINCT conversation_id, bucket FROM ks.conversation_log";
}

fn state(from: &Place) -> PagingState {
    if from.0.is_empty() { PagingState::start() } else { PagingState::new_from_raw_bytes(from.0.as_slice()) }
}

fn place(next: Option<PagingState>) -> Option<Place> {
    next.map(|next| Place(next.as_bytes_slice().map(|bytes| bytes.to_vec()).unwrap_or_default()))
}

#[async_trait]
impl Inventory for Cql {
    async fn users(&self, from: &Place) -> Result<Page<Account>, Error> {
        let account = async |(handle, id): (String, Uuid)| {
            let user = self.read_user(UserId(id.into_bytes())).await?;
            Ok::<_, Error>(user.map(|user| Account { user, handle }))
        };
        self.reading(async {
            let (handles, next) = self.rows_from::<(String, Uuid)>(&self.inventory.users, &(), state(from)).await?;
            let found: Vec<_> = stream::iter(handles).map(account).buffered(SIDE_BY_SIDE).try_collect().await?;
            Ok(Page { items: found.into_iter().flatten().collect(), next: place(next) })
        })
        .await
    }

    async fn sessions(&self, from: &Place) -> Result<Page<Session>, Error> {
        let session = async |(id,): (Uuid,)| self.read_session(SessionId(id.into_bytes())).await;
        self.reading(async {
            let (ids, next) = self.rows_from::<(Uuid,)>(&self.inventory.sessions, &(), state(from)).await?;
            let found: Vec<_> = stream::iter(ids).map(session).buffered(SIDE_BY_SIDE).try_collect().await?;
            Ok(Page { items: found.into_iter().flatten().collect(), next: place(next) })
        })
        .await
    }

    async fn conversations(&self, from: &Place) -> Result<Page<ConversationId>, Error> {
        self.reading(async {
            let (buckets, next) =
                self.rows_from::<(Uuid, i32)>(&self.inventory.conversations, &(), state(from)).await?;
            let first = buckets.into_iter().filter(|(_, bucket)| *bucket == 0);
            let items = first.map(|(id, _)| ConversationId(id.into_bytes())).collect();
            Ok(Page { items, next: place(next) })
        })
        .await
    }
}
