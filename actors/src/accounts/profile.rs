//! Users as they see themselves, as others see them, and as an administrator changes them.

use protocol::{Code, Error, UserId, close::CloseCode, rest};
use storage::accounts::{User, UserUpdate};

use super::{Caller, Inner, failed, names};

impl Inner {
    /// The row of who asks.
    pub(super) async fn own_row(&self, caller: Caller) -> Result<User, Error> {
        let user = self.world.store.accounts.user(caller.user).await.map_err(failed)?;
        user.filter(|user| user.deleted_at.is_none()).ok_or_else(no_such_user)
    }

    /// The row of who is called `name`, but for case: looking alike is not enough.
    pub(super) async fn user_named(&self, name: &str) -> Result<Option<User>, Error> {
        let Some(handle) = names::look_up(name) else { return Ok(None) };
        let user = self.world.store.accounts.user_by_handle(&handle).await.map_err(failed)?;
        Ok(user.filter(|user| user.deleted_at.is_none() && names::is_same(&user.username, name)))
    }

    pub(super) async fn change_me(&self, caller: Caller, body: rest::UserChange) -> Result<rest::User, Error> {
        if let Some(name) = &body.display_name {
            names::display_name("display_name", name)?;
            let update = UserUpdate { display_name: body.display_name, ..UserUpdate::default() };
            self.own_row(caller).await?;
            self.world.store.accounts.update_user(caller.user, &update).await.map_err(failed)?;
        }
        self.own_row(caller).await.map(|user| own_view(&user))
    }

    /// The session that asks ends last, so that it can ask again if a write is lost on the way.
    pub(super) async fn remove_me(&self, caller: Caller) -> Result<(), Error> {
        let _door = self.door(caller.user).lock().await;
        self.end_all(caller.user, Some(caller.session), CloseCode::AccountGone).await?;
        let update = UserUpdate { deleted_at: Some(self.world.clock.wall()), ..UserUpdate::default() };
        self.world.store.accounts.update_user(caller.user, &update).await.map_err(failed)?;
        // Those that began at another node meanwhile, and the one that asks.
        self.end_all(caller.user, None, CloseCode::AccountGone).await
    }

    /// The row first: it keeps new sessions from beginning. Then what is connected.
    pub(super) async fn set_banned(&self, user: UserId, banned: bool) -> Result<(), Error> {
        let _door = self.door(user).lock().await;
        let update = UserUpdate { banned_at: Some(banned.then(|| self.world.clock.wall())), ..UserUpdate::default() };
        if !self.world.store.accounts.update_user(user, &update).await.map_err(failed)? {
            return Err(no_such_user());
        }
        if banned {
            self.end_all(user, None, CloseCode::Banned).await?;
        }
        Ok(())
    }
}

/// A user as they see themselves.
pub(super) fn own_view(user: &User) -> rest::User {
    rest::User { email: user.email.clone(), ..view(user) }
}

/// A user as others see them.
pub(super) fn view(user: &User) -> rest::User {
    rest::User {
        id: user.id,
        username: user.username.clone(),
        display_name: user.display_name.clone(),
        email: None,
        created_at: user.created_at,
    }
}

/// Also for who is deleted.
pub(super) fn no_such_user() -> Error {
    Error::new(Code::NotFound, "there is no such user")
}
