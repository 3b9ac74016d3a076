//! Users, signing keys and sessions.

use crate::common::{each, ids::name, session_id, user};
use protocol::{DeviceId, Millis};
use storage::accounts::{Session, SignIn, SigningKey, User, UserCreated, UserUpdate};

fn account(n: u8) -> User {
    User {
        id: user(n),
        username: format!("User{n}"),
        display_name: format!("The user {n}"),
        email: Some(format!("{n}@example.org")),
        password_hash: format!("$argon2id${n}"),
        created_at: Millis(1000 + u64::from(n)),
        banned_at: None,
        deleted_at: None,
    }
}

fn session(n: u8, of: u8) -> Session {
    Session {
        id: session_id(n),
        user: user(of),
        device: DeviceId::try_from(format!("device {n}")).ok(),
        device_name: None,
        generation: 1,
        created_at: Millis(100 - u64::from(n)),
        last_seen_at: Millis(1000 + u64::from(n)),
        expires_at: Millis(5000),
        revoked_at: None,
    }
}

#[tokio::test]
async fn a_handle_belongs_to_one_user() {
    each(async |store| {
        let accounts = &store.accounts;
        assert_eq!(accounts.create_user(&account(1), &name("user")).await.unwrap(), UserCreated::Created);
        assert_eq!(accounts.create_user(&account(2), &name("user")).await.unwrap(), UserCreated::NameTaken);
        let again = accounts.create_user(&account(1), &name("user")).await.unwrap();
        assert_eq!(again, UserCreated::Created, "repeated after an unknown outcome");
        assert_eq!(accounts.user(user(1)).await.unwrap(), Some(account(1)));
        assert_eq!(accounts.user(user(2)).await.unwrap(), None);
        assert_eq!(accounts.user_by_handle(&name("user")).await.unwrap(), Some(account(1)));
        assert_eq!(accounts.user_by_handle(&name("User")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    each(async |store| {
        let accounts = &store.accounts;
        accounts.create_user(&account(1), &name("one")).await.unwrap();
        accounts.create_user(&account(2), &name("two")).await.unwrap();
        let update = UserUpdate { display_name: Some("new".into()), ..UserUpdate::default() };
        assert!(accounts.update_user(user(1), &update).await.unwrap());
        assert!(!accounts.update_user(user(3), &update).await.unwrap());
        let named = User { display_name: "new".into(), ..account(1) };
        assert_eq!(accounts.user(user(1)).await.unwrap(), Some(named.clone()));
        let ban = |at| UserUpdate { banned_at: Some(at), ..UserUpdate::default() };
        accounts.update_user(user(1), &ban(Some(Millis(5)))).await.unwrap();
        assert_eq!(accounts.user(user(1)).await.unwrap().unwrap().banned_at, Some(Millis(5)));
        accounts.update_user(user(1), &ban(None)).await.unwrap();
        assert_eq!(accounts.user(user(1)).await.unwrap(), Some(named));
        assert_eq!(accounts.user(user(2)).await.unwrap(), Some(account(2)));
    })
    .await;
}

#[tokio::test]
async fn a_deleted_user_is_forgotten_but_for_the_name() {
    each(async |store| {
        let accounts = &store.accounts;
        accounts.create_user(&account(1), &name("one")).await.unwrap();
        accounts.create_user(&account(2), &name("two")).await.unwrap();
        assert_eq!(accounts.existing(&[user(3), user(2), user(1)]).await.unwrap(), [user(2), user(1)]);
        let delete = UserUpdate { deleted_at: Some(Millis(9)), ..UserUpdate::default() };
        assert!(accounts.update_user(user(1), &delete).await.unwrap());
        let gone = accounts.user(user(1)).await.unwrap().unwrap();
        assert_eq!((gone.deleted_at, gone.email), (Some(Millis(9)), None));
        assert_eq!((gone.display_name.as_str(), gone.password_hash.as_str()), ("", ""));
        assert_eq!(accounts.existing(&[user(1), user(2)]).await.unwrap(), [user(2)]);
        assert_eq!(accounts.create_user(&account(3), &name("one")).await.unwrap(), UserCreated::NameTaken);
    })
    .await;
}

#[tokio::test]
async fn the_newest_signing_key_is_never_dropped() {
    each(async |store| {
        let key = |n: u8| SigningKey {
            kid: format!("k{n}"),
            sealed: vec![n; 80],
            public: vec![n; 32],
            created_at: Millis(u64::from(n)),
        };
        for n in [2, 1, 3, 1] {
            store.accounts.add_signing_key(&key(n)).await.unwrap();
        }
        assert_eq!(store.accounts.signing_keys().await.unwrap(), [key(1), key(2), key(3)]);
        assert_eq!(store.accounts.drop_signing_keys(Millis(2)).await.unwrap(), 1);
        assert_eq!(store.accounts.drop_signing_keys(Millis(99)).await.unwrap(), 1);
        assert_eq!(store.accounts.signing_keys().await.unwrap(), [key(3)]);
    })
    .await;
}

#[tokio::test]
async fn sessions_are_listed_until_they_are_revoked() {
    each(async |store| {
        for (n, of) in [(1, 1), (2, 1), (3, 2)] {
            store.sessions.create_session(&session(n, of)).await.unwrap();
        }
        let again = Session { generation: 9, ..session(1, 1) };
        store.sessions.create_session(&again).await.unwrap();
        let id = session_id;
        assert_eq!(store.sessions.session(id(1)).await.unwrap(), Some(session(1, 1)), "repeated: nothing new");
        assert_eq!(store.sessions.session(id(9)).await.unwrap(), None);
        assert_eq!(store.sessions.sessions_of(user(1)).await.unwrap(), [session(2, 1), session(1, 1)]);
        store.sessions.revoke(id(2), Millis(7)).await.unwrap();
        store.sessions.revoke(id(2), Millis(8)).await.unwrap();
        assert_eq!(store.sessions.sessions_of(user(1)).await.unwrap(), [session(1, 1)]);
        assert_eq!(store.sessions.session(id(2)).await.unwrap().unwrap().revoked_at, Some(Millis(7)));
    })
    .await;
}

#[tokio::test]
async fn sign_ins_are_told_newest_first_until_the_user_is_deleted() {
    each(async |store| {
        let sign_in = |n: u8, at| SignIn {
            user: user(1),
            at: Millis(at),
            session: session_id(n),
            address: if n == 1 { "192.0.2.1".parse().unwrap() } else { "2001:db8::1".parse().unwrap() },
            device_name: (n == 2).then(|| "a telephone".to_owned()),
        };
        store.accounts.create_user(&account(1), &name("one")).await.unwrap();
        for (n, at) in [(1, 1000), (3, 3000), (2, 2000), (1, 1000)] {
            store.sessions.note_sign_in(&sign_in(n, at)).await.unwrap();
        }
        let newest_first = [sign_in(3, 3000), sign_in(2, 2000), sign_in(1, 1000)];
        assert_eq!(store.sessions.sign_ins(user(1), 10).await.unwrap(), newest_first);
        assert_eq!(store.sessions.sign_ins(user(1), 2).await.unwrap(), newest_first[..2]);
        assert_eq!(store.sessions.sign_ins(user(1), 0).await.unwrap(), []);
        assert_eq!(store.sessions.sign_ins(user(2), 10).await.unwrap(), []);
        let delete = UserUpdate { deleted_at: Some(Millis(4000)), ..UserUpdate::default() };
        assert!(store.accounts.update_user(user(1), &delete).await.unwrap());
        assert_eq!(store.sessions.sign_ins(user(1), 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_rotation_never_lowers_a_session() {
    each(async |store| {
        store.sessions.create_session(&session(1, 1)).await.unwrap();
        let id = session_id(1);
        store.sessions.rotated(id, 3, Millis(3000), Millis(9000)).await.unwrap();
        store.sessions.rotated(id, 2, Millis(2000), Millis(8000)).await.unwrap();
        store.sessions.seen(id, Millis(1)).await.unwrap();
        let now = store.sessions.session(id).await.unwrap().unwrap();
        assert_eq!((now.generation, now.last_seen_at, now.expires_at), (3, Millis(3000), Millis(9000)));
        store.sessions.seen(id, Millis(4000)).await.unwrap();
        store.sessions.create_session(&session(2, 2)).await.unwrap();
        let seen = store.sessions.last_seen(&[user(1), user(3), user(2)]).await.unwrap();
        assert_eq!(seen, [(user(1), Millis(4000)), (user(2), Millis(1002))]);
        store.sessions.revoke(id, Millis(1)).await.unwrap();
        assert_eq!(store.sessions.last_seen(&[user(1)]).await.unwrap(), [(user(1), Millis(4000))]);
    })
    .await;
}
