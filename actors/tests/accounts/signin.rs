//! Registering, signing in, passwords, and users as they are seen.

use protocol::{Code, UserId, close::CloseCode, rest};

use crate::rig::{PASSWORD, address, registration, rigs, settings};

#[tokio::test]
async fn who_registers_is_signed_in_and_can_sign_in_again() {
    for rig in rigs(settings()).await {
        let body = rest::Register { email: Some("grace@example.org".to_owned()), ..registration("Grace") };
        let registered = rig.accounts.register(body, address(1)).await.unwrap();
        assert_eq!(registered.user.username, "Grace");
        assert_eq!(registered.user.display_name, "Grace");
        assert_eq!(registered.user.email.as_deref(), Some("grace@example.org"));
        let caller = rig.caller(&registered.tokens.access_token).await;
        assert_eq!((caller.user, caller.session), (registered.user.id, registered.session));
        let again = rig.login("gRACE", None).await;
        assert_eq!(again.user, registered.user);
        assert_ne!(again.session, registered.session);
    }
}

#[tokio::test]
async fn a_username_is_taken_once_however_it_is_written() {
    for rig in rigs(settings()).await {
        rig.register("bob.scope").await;
        for name in ["bob.scope", "BOB.Scope", "b0b.scope", "bob.sc\u{ff4f}pe"] {
            let error = rig.accounts.register(registration(name), address(1)).await.unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (Code::AlreadyExists, Some("username")), "{name}");
        }
    }
}

#[tokio::test]
async fn two_who_want_one_name_at_once_do_not_both_get_it() {
    for rig in rigs(settings()).await {
        let (a, b) = tokio::join!(
            rig.accounts.register(registration("grace"), address(1)),
            rig.accounts.register(registration("GRACE"), address(2)),
        );
        assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1);
    }
}

#[tokio::test]
async fn an_email_blocks_nobody_and_signs_nobody_in() {
    for rig in rigs(settings()).await {
        for name in ["grace", "ada.l"] {
            let body = rest::Register { email: Some("grace@example.org".to_owned()), ..registration(name) };
            assert!(rig.accounts.register(body, address(1)).await.is_ok(), "{name}");
        }
        let error = rig.try_login("grace@example.org", PASSWORD, None, address(1)).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    for rig in rigs(settings()).await {
        let fine = || registration("grace");
        for (field, body) in [
            ("username", rest::Register { username: "g".to_owned(), ..fine() }),
            ("password", rest::Register { password: "password".to_owned(), ..fine() }),
            ("display_name", rest::Register { display_name: Some(String::new()), ..fine() }),
            ("email", rest::Register { email: Some("grace".to_owned()), ..fine() }),
            ("device_name", rest::Register { device_name: Some("\u{7}".to_owned()), ..fine() }),
        ] {
            let error = rig.accounts.register(body, address(1)).await.unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (Code::BadField, Some(field)));
        }
        rig.register("grace").await;
    }
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_sound_the_same() {
    for rig in rigs(settings()).await {
        rig.register("grace").await;
        let wrong = rig.try_login("grace", "violet nimbus 1907", None, address(1)).await.unwrap_err();
        assert_eq!(wrong.code, Code::Unauthenticated);
        for login in ["nobody-here", "", "gr\u{430}ce", &"x".repeat(5000), "admin"] {
            assert_eq!(rig.try_login(login, PASSWORD, None, address(1)).await.unwrap_err(), wrong, "{login:?}");
        }
        assert_eq!(rig.try_login("grace", &"x".repeat(60_000), None, address(1)).await.unwrap_err(), wrong);
    }
}

#[tokio::test]
async fn a_name_that_only_looks_alike_signs_nobody_in() {
    for rig in rigs(settings()).await {
        rig.register("bobby").await;
        assert!(rig.try_login("b0bby", PASSWORD, None, address(1)).await.is_err());
        assert_eq!(rig.accounts.find_user("b0bby").await, Ok(None));
        assert!(rig.accounts.find_user("BOBBY").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_and_the_old_one_no_longer_works() {
    for rig in rigs(settings()).await {
        let other = rig.register("grace").await;
        let mine = rig.login("grace", None).await;
        let caller = rig.caller(&mine.tokens.access_token).await;
        let new = "copper lantern 1815";
        let change = |old: &str, new: &str| {
            let body = rest::ChangePassword { old: old.to_owned(), new: new.to_owned() };
            rig.accounts.change_password(caller, body, address(1))
        };
        for (field, old, new) in [
            ("old", "not this one", new),
            ("new", PASSWORD, "short"),
            ("new", PASSWORD, "grace 123"),
            ("new", PASSWORD, PASSWORD),
        ] {
            let error = change(old, new).await.unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (Code::BadField, Some(field)));
        }
        assert_eq!(rig.ended(), []);

        change(PASSWORD, new).await.unwrap();
        assert_eq!(rig.ended(), [(other.session, CloseCode::SessionRevoked)]);
        assert!(rig.accounts.authenticate(&mine.tokens.access_token).await.is_ok());
        assert!(rig.try_login("grace", PASSWORD, None, address(1)).await.is_err());
        assert!(rig.try_login("grace", new, None, address(1)).await.is_ok());
    }
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_the_parameters_changed() {
    for mut rig in rigs(settings()).await {
        let user = rig.register("grace").await.user.id;
        let hash = async |rig: &crate::rig::Rig| rig.store.accounts.user(user).await.unwrap().unwrap().password_hash;
        assert!(hash(&rig).await.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        rig.settings.auth.password_passes = 2;
        rig.restart().await;
        rig.login("grace", None).await;
        assert!(hash(&rig).await.starts_with("$argon2id$v=19$m=8,t=2,p=1$"));
        rig.login("grace", None).await;
    }
}

#[tokio::test]
async fn others_see_no_email() {
    for rig in rigs(settings()).await {
        let body = rest::Register { email: Some("grace@example.org".to_owned()), ..registration("grace") };
        let grace = rig.accounts.register(body, address(1)).await.unwrap();
        let caller = rig.caller(&grace.tokens.access_token).await;
        assert_eq!(rig.accounts.me(caller).await.unwrap(), grace.user);
        let seen = rig.accounts.user(grace.user.id).await.unwrap();
        assert_eq!(seen, rest::User { email: None, ..grace.user });
        assert_eq!(rig.accounts.find_user("grace").await, Ok(Some(seen)));
        assert_eq!(rig.accounts.user(UserId([0; 16])).await.unwrap_err().code, Code::NotFound);
    }
}

#[tokio::test]
async fn a_display_name_can_be_changed() {
    for rig in rigs(settings()).await {
        let caller = rig.caller(&rig.register("grace").await.tokens.access_token).await;
        let change = |name: &str| rest::UserChange { display_name: Some(name.to_owned()) };
        let changed = rig.accounts.update_me(caller, change("Amazing Grace")).await.unwrap();
        assert_eq!(changed.display_name, "Amazing Grace");
        assert_eq!(rig.accounts.update_me(caller, rest::UserChange::default()).await.unwrap(), changed);
        let error = rig.accounts.update_me(caller, change(" ")).await.unwrap_err();
        assert_eq!(error.field.as_deref(), Some("display_name"));
    }
}
