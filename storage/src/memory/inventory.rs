//! Walks over the maps: everything on one page, sorted so that two walks are alike.

use async_trait::async_trait;
use protocol::{ConversationId, SessionId};

use super::{Memory, faults::Operation};
use crate::{
    Error,
    accounts::Session,
    inventory::{Account, Families, Inventory, Page, Place},
    tokens::Family,
};

fn whole<T, K: Ord>(mut items: Vec<T>, name: impl Fn(&T) -> K) -> Page<T> {
    items.sort_unstable_by_key(|item| name(item));
    Page { items, next: None }
}

#[async_trait]
impl Inventory for Memory {
    async fn users(&self, _: &Place) -> Result<Page<Account>, Error> {
        self.call(Operation::ReadAccounts, |model| {
            let records = &model.accounts;
            let account = |(handle, id): (&String, _)| {
                Some(Account { user: records.users.get(id)?.clone(), handle: handle.clone() })
            };
            Ok(whole(records.handles.iter().filter_map(account).collect(), |account| account.user.id))
        })
        .await
    }

    async fn sessions(&self, _: &Place) -> Result<Page<Session>, Error> {
        self.call(Operation::ReadAccounts, |model| {
            Ok(whole(model.accounts.sessions.values().cloned().collect(), |session| session.id))
        })
        .await
    }

    async fn conversations(&self, _: &Place) -> Result<Page<ConversationId>, Error> {
        self.call(Operation::ReadLog, |model| Ok(whole(model.logs.of.keys().copied().collect(), |id| *id))).await
    }
}

#[async_trait]
impl Families for Memory {
    async fn family(&self, id: SessionId) -> Result<Option<Family>, Error> {
        self.call(Operation::ReadTokens, move |model| Ok(model.tokens.families.get(&id).cloned())).await
    }

    async fn put_family(&self, id: SessionId, family: &Family) -> Result<(), Error> {
        let family = family.clone();
        self.call(Operation::WriteTokens, move |model| {
            model.tokens.families.insert(id, family);
            Ok(())
        })
        .await
    }
}
