//! Users, signing keys and sessions.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use async_trait::async_trait;
use protocol::{Millis, SessionId, UserId};

use super::{Memory, faults::Operation};
use crate::{
    Error,
    accounts::{Accounts, SIGN_INS_KEPT_S, Session, Sessions, SignIn, SigningKey, User, UserCreated, UserUpdate},
};

#[derive(Default)]
pub(super) struct Records {
    pub(super) users: HashMap<UserId, User>,
    pub(super) handles: HashMap<String, UserId>,
    keys: BTreeMap<(Millis, String), SigningKey>,
    pub(super) sessions: HashMap<SessionId, Session>,
    sessions_of: BTreeSet<(UserId, Millis, SessionId)>,
    sign_ins: HashMap<UserId, BTreeMap<(Reverse<Millis>, SessionId), SignIn>>,
}

impl Records {
    fn of(&self, user: UserId) -> impl Iterator<Item = &Session> {
        let first = (user, Millis(0), SessionId([0; 16]));
        let from = self.sessions_of.range((Bound::Included(first), Bound::Unbounded));
        let own = from.take_while(move |(whose, ..)| *whose == user);
        own.filter_map(|(.., id)| self.sessions.get(id))
    }
}

#[async_trait]
impl Accounts for Memory {
    async fn create_user(&self, new: &User, handle: &str) -> Result<UserCreated, Error> {
        let (new, handle) = (new.clone(), handle.to_owned());
        self.call(Operation::WriteAccounts, move |model| {
            let records = &mut model.accounts;
            if let Some(owner) = records.handles.get(&handle) {
                return Ok(if *owner == new.id { UserCreated::Created } else { UserCreated::NameTaken });
            }
            records.handles.insert(handle, new.id);
            records.users.insert(new.id, new);
            Ok(UserCreated::Created)
        })
        .await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        self.call(Operation::ReadAccounts, move |model| Ok(model.accounts.users.get(&id).cloned())).await
    }

    async fn user_by_handle(&self, handle: &str) -> Result<Option<User>, Error> {
        let handle = handle.to_owned();
        self.call(Operation::ReadAccounts, move |model| {
            let records = &model.accounts;
            Ok(records.handles.get(&handle).and_then(|id| records.users.get(id)).cloned())
        })
        .await
    }

    async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Error> {
        let ids = ids.to_vec();
        self.call(Operation::ReadAccounts, move |model| {
            let exists = |id: &UserId| model.accounts.users.get(id).is_some_and(|user| user.deleted_at.is_none());
            Ok(ids.into_iter().filter(exists).collect())
        })
        .await
    }

    async fn update_user(&self, id: UserId, update: &UserUpdate) -> Result<bool, Error> {
        let update = update.clone();
        self.call(Operation::WriteAccounts, move |model| {
            let Some(user) = model.accounts.users.get_mut(&id) else { return Ok(false) };
            user.display_name = update.display_name.unwrap_or_else(|| std::mem::take(&mut user.display_name));
            user.password_hash = update.password_hash.unwrap_or_else(|| std::mem::take(&mut user.password_hash));
            user.banned_at = update.banned_at.unwrap_or(user.banned_at);
            if update.deleted_at.is_some() {
                user.deleted_at = update.deleted_at;
                user.display_name.clear();
                user.password_hash.clear();
                user.email = None;
                model.accounts.sign_ins.remove(&id);
            }
            Ok(true)
        })
        .await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        self.call(Operation::ReadAccounts, |model| Ok(model.accounts.keys.values().cloned().collect())).await
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), Error> {
        let key = key.clone();
        self.call(Operation::WriteAccounts, move |model| {
            let keys = &mut model.accounts.keys;
            if !keys.values().any(|known| known.kid == key.kid) {
                keys.insert((key.created_at, key.kid.clone()), key);
            }
            Ok(())
        })
        .await
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<u64, Error> {
        self.call(Operation::WriteAccounts, move |model| {
            let keys = &mut model.accounts.keys;
            let newest = keys.keys().next_back().cloned();
            let n_before = keys.len();
            keys.retain(|place, key| key.created_at >= before || Some(place) == newest.as_ref());
            Ok((n_before - keys.len()) as u64)
        })
        .await
    }
}

#[async_trait]
impl Sessions for Memory {
    async fn create_session(&self, new: &Session) -> Result<(), Error> {
        let new = new.clone();
        self.call(Operation::WriteAccounts, move |model| {
            let records = &mut model.accounts;
            if !records.sessions.contains_key(&new.id) {
                records.sessions_of.insert((new.user, new.created_at, new.id));
                records.sessions.insert(new.id, new);
            }
            Ok(())
        })
        .await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.call(Operation::ReadAccounts, move |model| Ok(model.accounts.sessions.get(&id).cloned())).await
    }

    async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, Error> {
        self.call(Operation::ReadAccounts, move |model| {
            Ok(model.accounts.of(user).filter(|session| session.revoked_at.is_none()).cloned().collect())
        })
        .await
    }

    async fn rotated(&self, id: SessionId, generation: u64, at: Millis, expires_at: Millis) -> Result<(), Error> {
        self.call(Operation::WriteAccounts, move |model| {
            if let Some(session) = model.accounts.sessions.get_mut(&id) {
                session.generation = session.generation.max(generation);
                session.last_seen_at = session.last_seen_at.max(at);
                session.expires_at = session.expires_at.max(expires_at);
            }
            Ok(())
        })
        .await
    }

    async fn seen(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.call(Operation::WriteAccounts, move |model| {
            if let Some(session) = model.accounts.sessions.get_mut(&id) {
                session.last_seen_at = session.last_seen_at.max(at);
            }
            Ok(())
        })
        .await
    }

    async fn revoke(&self, id: SessionId, at: Millis) -> Result<(), Error> {
        self.call(Operation::WriteAccounts, move |model| {
            if let Some(session) = model.accounts.sessions.get_mut(&id) {
                session.revoked_at.get_or_insert(at);
            }
            Ok(())
        })
        .await
    }

    async fn note_sign_in(&self, new: &SignIn) -> Result<(), Error> {
        let new = new.clone();
        self.call(Operation::WriteAccounts, move |model| {
            let oldest = Millis(new.at.0.saturating_sub(u64::from(SIGN_INS_KEPT_S) * 1000));
            let of_user = model.accounts.sign_ins.entry(new.user).or_default();
            of_user.retain(|(Reverse(at), _), _| *at >= oldest);
            of_user.entry((Reverse(new.at), new.session)).or_insert(new);
            Ok(())
        })
        .await
    }

    async fn sign_ins(&self, user: UserId, limit: usize) -> Result<Vec<SignIn>, Error> {
        self.call(Operation::ReadAccounts, move |model| {
            let of_user = model.accounts.sign_ins.get(&user).into_iter().flat_map(BTreeMap::values);
            Ok(of_user.take(limit).cloned().collect())
        })
        .await
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Millis)>, Error> {
        let users = users.to_vec();
        self.call(Operation::ReadAccounts, move |model| {
            let last = |user| model.accounts.of(user).map(|session| session.last_seen_at).max();
            Ok(users.into_iter().filter_map(|user| last(user).map(|at| (user, at))).collect())
        })
        .await
    }
}
