//! All there is in a store, found without knowing any name: for moving house. It walks whole tables, so a serving node
//! never asks for it.

use async_trait::async_trait;
use protocol::{ConversationId, SessionId};

use crate::{
    Error,
    accounts::{Session, User},
    tokens::Family,
};

/// Things on one page of a walk, about.
pub(crate) const PAGE: usize = 500;

/// Where a walk goes on. The default is its beginning; any other means something only to the store that gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(pub(crate) Vec<u8>);

/// A piece of a walk. It may be empty and yet not the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What was found, in the store's own order.
    pub items: Vec<T>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Place>,
}

impl<T> Page<T> {
    /// A page of a walk in the order of `name`: a full one may not be the last.
    pub(crate) fn in_order(items: Vec<T>, name: impl Fn(&T) -> &[u8]) -> Page<T> {
        let next = (items.len() >= PAGE).then(|| items.last().map(|last| Place(name(last).to_vec()))).flatten();
        Page { items, next }
    }
}

/// A user with the name that is theirs alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The row.
    pub user: User,
    /// The unique form of the username.
    pub handle: String,
}

/// Walks over what is kept under names that nobody lists. What changes meanwhile may be met or missed.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Users, banned and deleted ones included.
    async fn users(&self, from: &Place) -> Result<Page<Account>, Error>;

    /// Sessions, revoked and expired ones included.
    async fn sessions(&self, from: &Place) -> Result<Page<Session>, Error>;

    /// Conversations.
    async fn conversations(&self, from: &Place) -> Result<Page<ConversationId>, Error>;
}

/// Families of refresh tokens, taken along as they stand so that moving signs nobody out.
#[async_trait]
pub trait Families: Send + Sync {
    /// The family of a session; `None`: forgotten or ended.
    async fn family(&self, id: SessionId) -> Result<Option<Family>, Error>;

    /// Puts a family there, whatever was there before. One that has ended may be forgotten at once.
    async fn put_family(&self, id: SessionId, family: &Family) -> Result<(), Error>;
}
