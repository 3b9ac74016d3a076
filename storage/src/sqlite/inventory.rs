//! Walks over the tables, in the order of their names.

use async_trait::async_trait;
use protocol::{ConversationId, SessionId};
use rusqlite::params;

use super::{
    Sqlite,
    accounts::{SESSION, session, user},
    row::{change, int, row, rows},
    tokens::{FAMILY, family},
};
use crate::{
    Error,
    accounts::Session,
    inventory::{Account, Families, Inventory, PAGE, Page, Place},
    tokens::Family,
};

#[async_trait]
impl Inventory for Sqlite {
    async fn users(&self, from: &Place) -> Result<Page<Account>, Error> {
        let after = String::from_utf8_lossy(&from.0).into_owned();
        let accounts = self.read(move |connection| {
            let sql =
                "SELECT id, username, display_name, email, password_hash, created_at, banned_at, deleted_at, handle
                 FROM user_handles JOIN users ON id = user WHERE handle > ?1 ORDER BY handle LIMIT ?2";
            rows(connection, sql, params![after, int(PAGE as u64)], |row| {
                Ok(Account { user: user(row)?, handle: row.get(8)? })
            })
        });
        Ok(Page::in_order(accounts.await?, |account| account.handle.as_bytes()))
    }

    async fn sessions(&self, from: &Place) -> Result<Page<Session>, Error> {
        let after = from.0.clone();
        let sessions = self.read(move |connection| {
            rows(
                connection,
                &format!("{SESSION} WHERE id > ?1 ORDER BY id LIMIT ?2"),
                params![after, int(PAGE as u64)],
                session,
            )
        });
        Ok(Page::in_order(sessions.await?, |session| &session.id.0))
    }

    async fn conversations(&self, from: &Place) -> Result<Page<ConversationId>, Error> {
        let after = from.0.clone();
        let conversations = self.read(move |connection| {
            let sql = "SELECT id FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2";
            rows(connection, sql, params![after, int(PAGE as u64)], |row| row.get(0).map(ConversationId))
        });
        Ok(Page::in_order(conversations.await?, |id| &id.0))
    }
}

#[async_trait]
impl Families for Sqlite {
    async fn family(&self, id: SessionId) -> Result<Option<Family>, Error> {
        self.read(move |connection| row(connection, FAMILY, [id.0], family)).await
    }

    async fn put_family(&self, id: SessionId, family: &Family) -> Result<(), Error> {
        let family = family.clone();
        self.write(move |connection| {
            let sql = "INSERT OR REPLACE INTO families
                 (session, generation, hash, predecessor_hash, rotated_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (predecessor, rotated_at) = family.predecessor.unzip();
            let (generation, expires_at) = (int(family.generation), int(family.expires_at.0));
            let rotated_at = rotated_at.map(|at| int(at.0));
            change(connection, sql, params![id.0, generation, family.hash, predecessor, rotated_at, expires_at])?;
            Ok(())
        })
        .await
    }
}
