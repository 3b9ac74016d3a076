//! Users and signing keys. A user's rows are written by conditional statements only, so that the servers' clocks have no say
//! in which of two changes is the later one.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{Millis, UserId};
use scylla::value::{CqlTimestamp, CqlValue, MaybeUnset};
use uuid::Uuid;

use super::{
    Cql,
    call::half_done,
    statements::statements,
    values::{bigint, millis, time, uuid},
};
use crate::{
    Error,
    accounts::{Accounts, SigningKey, User, UserCreated, UserUpdate},
};

/// Reads of one call that run side by side.
pub(super) const SIDE_BY_SIDE: usize = 32;

statements! {
    Read user = "SELECT username, display_name, email, created_at, banned_at, deleted_at FROM ks.users WHERE id = ?";
    Read password = "SELECT password_hash FROM ks.credentials WHERE user_id = ?";
    Read handle = "SELECT user_id FROM ks.user_handles WHERE handle = ?";
    Conditional insert_user = "INSERT INTO ks.users (id, username, display_name, email, created_at, banned_at, deleted_at)
        VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    Conditional insert_password = "INSERT INTO ks.credentials (user_id, password_hash) VALUES (?, ?) IF NOT EXISTS";
    Conditional insert_handle = "INSERT INTO ks.user_handles (handle, user_id) VALUES (?, ?) IF NOT EXISTS";
    Conditional drop_user = "DELETE FROM ks.users WHERE id = ? IF EXISTS";
    Conditional drop_password = "DELETE FROM ks.credentials WHERE user_id = ? IF EXISTS";
    Conditional change_user = "UPDATE ks.users SET display_name = ?, email = ?, banned_at = ?, deleted_at = ?
        WHERE id = ? IF EXISTS";
    Conditional change_password = "UPDATE ks.credentials SET password_hash = ? WHERE user_id = ? IF EXISTS";
    // Keys never change, so when they were made is stamp enough, for their end as well.
    Read keys = "SELECT created_at, kid, sealed, public FROM ks.signing_keys WHERE purpose = 'access'";
    Write insert_key = "INSERT INTO ks.signing_keys (purpose, created_at, kid, sealed, public)
        VALUES ('access', ?, ?, ?, ?) USING TIMESTAMP ?";
    Write drop_key = "DELETE FROM ks.signing_keys USING TIMESTAMP ?
        WHERE purpose = 'access' AND created_at = ? AND kid = ?";
}

/// A user's row without the id and the password.
type Row = (String, String, Option<String>, CqlTimestamp, Option<CqlTimestamp>, Option<CqlTimestamp>);

impl Cql {
    pub(super) async fn read_user(&self, id: UserId) -> Result<Option<User>, Error> {
        let key = (uuid(id.0),);
        let row = self.row::<Row>(&self.accounts.user, key);
        let password = self.row::<(String,)>(&self.accounts.password, key);
        let (row, password) = tokio::try_join!(row, password)?;
        let Some((username, display_name, email, created_at, banned_at, deleted_at)) = row else { return Ok(None) };
        Ok(Some(User {
            id,
            username,
            display_name,
            email,
            password_hash: password.map(|(hash,)| hash).unwrap_or_default(),
            created_at: millis("users.created_at", created_at)?,
            banned_at: banned_at.map(|at| millis("users.banned_at", at)).transpose()?,
            deleted_at: deleted_at.map(|at| millis("users.deleted_at", at)).transpose()?,
        }))
    }

    async fn handle_owner(&self, handle: &str) -> Result<Option<Uuid>, Error> {
        Ok(self.row::<(Uuid,)>(&self.accounts.handle, (handle,)).await?.map(|(owner,)| owner))
    }

    /// The user's own rows first: nobody knows the id until the handle leads to it.
    async fn write_user(&self, new: &User, handle: &str) -> Result<UserCreated, Error> {
        let id = uuid(new.id.0);
        match self.handle_owner(handle).await? {
            Some(owner) if owner == id => return Ok(UserCreated::Created),
            Some(_) => return Ok(UserCreated::NameTaken),
            None => {}
        }
        let row = (
            id,
            &new.username,
            &new.display_name,
            MaybeUnset::from_option(new.email.as_deref()),
            time(new.created_at),
            MaybeUnset::from_option(new.banned_at.map(time)),
            MaybeUnset::from_option(new.deleted_at.map(time)),
        );
        self.conditional(&self.accounts.insert_user, row).await?;
        self.conditional(&self.accounts.insert_password, (id, &new.password_hash)).await.map_err(half_done)?;
        let taken = self.conditional(&self.accounts.insert_handle, (handle, id)).await.map_err(half_done)?;
        if taken.applied || taken.get("user_id") == Some(&CqlValue::Uuid(id)) {
            return Ok(UserCreated::Created);
        }
        // Somebody was quicker. If this fails, two rows stay to which nothing leads.
        self.conditional(&self.accounts.drop_user, (id,)).await.ok();
        self.conditional(&self.accounts.drop_password, (id,)).await.ok();
        Ok(UserCreated::NameTaken)
    }

    async fn change_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error> {
        let key = uuid(id.0);
        let deleted = update.deleted_at.is_some();
        let password = if deleted { Some("") } else { update.password_hash.as_deref() };
        let mut done = false;
        if let Some(hash) = password {
            // First, so that nobody can sign in with what is to go.
            if !self.conditional(&self.accounts.change_password, (hash, key)).await?.applied {
                return Ok(false);
            }
            done = true;
        }
        let display_name = if deleted { Some("") } else { update.display_name.as_deref() };
        let row = (
            MaybeUnset::from_option(display_name),
            if deleted { MaybeUnset::Set(None::<&str>) } else { MaybeUnset::Unset },
            MaybeUnset::from_option(update.banned_at.map(|at| at.map(time))),
            MaybeUnset::from_option(update.deleted_at.map(time)),
            key,
        );
        let changed = self.conditional(&self.accounts.change_user, row).await;
        let changed = changed.map_err(|error| if done { half_done(error) } else { error })?;
        if let Some(at) = update.deleted_at {
            self.forget_sign_ins(id, at).await.map_err(half_done)?;
        }
        Ok(changed.applied)
    }
}

#[async_trait]
impl Accounts for Cql {
    async fn create_user(&self, user: &User, handle: &str) -> Result<UserCreated, Error> {
        self.writing(self.write_user(user, handle)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        self.reading(self.read_user(id)).await
    }

    async fn user_by_handle(&self, handle: &str) -> Result<Option<User>, Error> {
        self.reading(async {
            match self.handle_owner(handle).await? {
                Some(owner) => self.read_user(UserId(owner.into_bytes())).await,
                None => Ok(None),
            }
        })
        .await
    }

    async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Error> {
        let exists = async |id: UserId| {
            let row = self.row::<Row>(&self.accounts.user, (uuid(id.0),)).await?;
            Ok(row.filter(|(.., deleted_at)| deleted_at.is_none()).map(|_| id))
        };
        self.reading(async {
            let rows: Vec<Option<UserId>> =
                stream::iter(ids.iter().copied()).map(exists).buffered(SIDE_BY_SIDE).try_collect().await?;
            Ok(rows.into_iter().flatten().collect())
        })
        .await
    }

    async fn update_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error> {
        self.writing(self.change_user(id, update)).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        self.reading(self.read_keys()).await
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), Error> {
        let row = (time(key.created_at), &key.kid, &key.sealed, &key.public, bigint(key.created_at.0));
        self.writing(self.write(&self.accounts.insert_key, row)).await
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<u64, Error> {
        self.writing(async {
            let mut keys = self.read_keys().await?;
            keys.pop();
            let mut n_dropped = 0;
            for key in keys.iter().filter(|key| key.created_at < before) {
                let row = (bigint(key.created_at.0), time(key.created_at), &key.kid);
                let dropped = self.write(&self.accounts.drop_key, row).await;
                dropped.map_err(|error| if n_dropped > 0 { half_done(error) } else { error })?;
                n_dropped += 1;
            }
            Ok(n_dropped)
        })
        .await
    }
}

impl Cql {
    /// Oldest first, as they are clustered.
    async fn read_keys(&self) -> Result<Vec<SigningKey>, Error> {
        let rows = self.rows::<(CqlTimestamp, String, Vec<u8>, Vec<u8>)>(&self.accounts.keys, ()).await?;
        let key = |(created_at, kid, sealed, public)| {
            Ok(SigningKey { kid, sealed, public, created_at: millis("signing_keys.created_at", created_at)? })
        };
        rows.into_iter().map(key).collect()
    }
}
