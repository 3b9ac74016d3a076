//! Sessions: per device, capped, listed, ended.

use std::sync::atomic::Ordering;

use protocol::{Code, SessionId, close::CloseCode, rest};

use crate::rig::{PASSWORD, SECOND_MS, address, memory_rig, rigs, settings};

#[tokio::test]
async fn g13_after_a_logout_nothing_of_the_session_is_accepted() {
    for rig in rigs(settings()).await {
        let out = rig.register("grace").await;
        let caller = rig.caller(&out.tokens.access_token).await;
        let stays = rig.login("grace", None).await;
        rig.accounts.logout(caller).await.unwrap();

        assert_eq!(rig.ended(), [(out.session, CloseCode::SessionRevoked)]);
        assert_eq!(rig.code(&out.tokens.access_token).await, Some(Code::Unauthenticated));
        assert!(rig.accounts.is_revoked(out.session));
        assert_eq!(rig.accounts.admit(&caller).await, Err(CloseCode::SessionRevoked));
        assert_eq!(rig.refresh(&out.tokens.refresh_token).await.unwrap_err().code, Code::Unauthenticated);
        assert!(rig.accounts.authenticate(&stays.tokens.access_token).await.is_ok());
    }
}

#[tokio::test]
async fn g13_a_session_ended_from_another_device_is_over_at_once() {
    for rig in rigs(settings()).await {
        let phone = rig.register("grace").await;
        let laptop = rig.login("grace", None).await;
        let caller = rig.caller(&laptop.tokens.access_token).await;
        rig.accounts.end_session(caller, phone.session).await.unwrap();
        assert_eq!(rig.code(&phone.tokens.access_token).await, Some(Code::Unauthenticated));
        assert_eq!(rig.ended(), [(phone.session, CloseCode::SessionRevoked)]);
        assert_eq!(rig.accounts.end_session(caller, phone.session).await, Ok(()), "again: the same");

        let list = rig.accounts.sessions(caller).await.unwrap();
        assert_eq!(list.iter().map(|item| (item.id, item.current)).collect::<Vec<_>>(), [(laptop.session, true)]);
    }
}

#[tokio::test]
async fn somebody_elses_session_cannot_be_ended_or_told_from_none() {
    for rig in rigs(settings()).await {
        let grace = rig.register("grace").await;
        let ada = rig.register("ada.l").await;
        let caller = rig.caller(&ada.tokens.access_token).await;
        let theirs = rig.accounts.end_session(caller, grace.session).await.unwrap_err();
        let nobodys = rig.accounts.end_session(caller, SessionId([0; 16])).await.unwrap_err();
        assert_eq!((theirs.code, &theirs), (Code::NotFound, &nobodys));
        assert_eq!(rig.code(&grace.tokens.access_token).await, None);
    }
}

#[tokio::test]
async fn g13_a_node_that_died_after_the_row_finishes_the_revocation_when_the_session_comes() {
    for mut rig in rigs(settings()).await {
        let by_socket = rig.register("grace").await;
        let by_refresh = rig.login("grace", None).await;
        let now = rig.store.sessions.session(by_socket.session).await.unwrap().unwrap().created_at;
        for session in [by_socket.session, by_refresh.session] {
            rig.store.sessions.revoke(session, now).await.unwrap();
        }
        rig.restart().await;
        let caller = rig.caller(&by_socket.tokens.access_token).await;
        assert_eq!(rig.accounts.admit(&caller).await, Err(CloseCode::SessionRevoked));
        assert_eq!(rig.code(&by_socket.tokens.access_token).await, Some(Code::Unauthenticated));
        assert!(rig.refresh(&by_refresh.tokens.refresh_token).await.is_err());
        assert_eq!(rig.code(&by_refresh.tokens.access_token).await, Some(Code::Unauthenticated));
        rig.restart().await;
        assert_eq!(rig.code(&by_socket.tokens.access_token).await, Some(Code::Unauthenticated), "remembered");
    }
}

#[tokio::test]
async fn a_logout_that_the_store_refuses_is_not_told_as_done() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let caller = rig.caller(&signed_in.tokens.access_token).await;
        rig.faults.revoke_row.store(true, Ordering::SeqCst);
        assert_eq!(rig.accounts.logout(caller).await.unwrap_err().code, Code::Unavailable);
        assert_eq!((rig.ended(), rig.code(&signed_in.tokens.access_token).await), (vec![], None));
        rig.faults.revoke_row.store(false, Ordering::SeqCst);
        assert_eq!(rig.accounts.logout(caller).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn g13_a_revocation_holds_while_the_token_store_is_away_and_reaches_it_later() {
    let rig = memory_rig(settings()).await;
    let signed_in = rig.register("grace").await;
    rig.faults.revoke_tokens.store(true, Ordering::SeqCst);
    rig.accounts.logout(rig.caller(&signed_in.tokens.access_token).await).await.unwrap();
    assert_eq!(rig.code(&signed_in.tokens.access_token).await, Some(Code::Unauthenticated));
    assert!(rig.refresh(&signed_in.tokens.refresh_token).await.is_err(), "the row decides");
    assert!(rig.another().await.authenticate(&signed_in.tokens.access_token).await.is_ok(), "not told yet");

    rig.faults.revoke_tokens.store(false, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await; // of paused time
    assert!(rig.another().await.authenticate(&signed_in.tokens.access_token).await.is_err());
}

#[tokio::test]
async fn signing_in_again_with_the_same_device_replaces_its_session() {
    for rig in rigs(settings()).await {
        rig.register("grace").await;
        let old = rig.login("grace", Some("d_phone")).await;
        let other = rig.login("grace", Some("d_laptop")).await;
        let new = rig.login("grace", Some("d_phone")).await;
        assert_eq!(rig.ended(), [(old.session, CloseCode::Replaced)]);
        assert_eq!(rig.code(&old.tokens.access_token).await, Some(Code::Unauthenticated));
        for live in [other, new] {
            assert_eq!(rig.accounts.admit(&rig.caller(&live.tokens.access_token).await).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn devices_of_one_name_belong_to_their_users() {
    for rig in rigs(settings()).await {
        rig.register("grace").await;
        rig.register("ada.l").await;
        rig.login("grace", Some("d_1")).await;
        rig.login("ada.l", Some("d_1")).await;
        assert_eq!(rig.ended(), []);
    }
}

#[tokio::test]
async fn two_sign_ins_of_one_device_at_once_leave_one_session() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let (a, b) = tokio::join!(rig.login("grace", Some("d_1")), rig.login("grace", Some("d_1")));
        let list = rig.accounts.sessions(rig.caller(&first.tokens.access_token).await).await.unwrap();
        assert_eq!(list.iter().filter(|item| item.device.is_some()).count(), 1);
        let ended = rig.ended();
        assert!(ended == [(a.session, CloseCode::Replaced)] || ended == [(b.session, CloseCode::Replaced)]);
    }
}

#[tokio::test]
async fn g15_over_the_cap_the_oldest_session_ends() {
    let mut settings = settings();
    settings.auth.sessions_per_user_max = 3;
    for rig in rigs(settings).await {
        let mut sessions = vec![rig.register("grace").await.session];
        for _ in 0..4 {
            rig.pass(SECOND_MS);
            sessions.push(rig.login("grace", None).await.session);
        }
        assert_eq!(rig.ended(), [(sessions[0], CloseCode::SessionRevoked), (sessions[1], CloseCode::SessionRevoked)]);
    }
}

#[tokio::test]
async fn with_single_session_a_sign_in_ends_all_others() {
    let mut settings = settings();
    settings.auth.single_session = true;
    for rig in rigs(settings).await {
        let first = rig.register("grace").await.session;
        let second = rig.login("grace", None).await;
        assert_eq!(rig.ended(), [(first, CloseCode::SessionRevoked)]);
        let list = rig.accounts.sessions(rig.caller(&second.tokens.access_token).await).await.unwrap();
        assert_eq!(list.len(), 1);
    }
}

#[tokio::test]
async fn expired_sessions_are_not_listed_and_go_at_the_next_sign_in() {
    for rig in rigs(settings()).await {
        let old = rig.register("grace").await;
        rig.pass(31 * 24 * 3_600_000);
        let new = rig.login("grace", None).await;
        let list = rig.accounts.sessions(rig.caller(&new.tokens.access_token).await).await.unwrap();
        assert_eq!(list.iter().map(|item| item.id).collect::<Vec<_>>(), [new.session]);
        assert_eq!(rig.store.sessions.sessions_of(old.user.id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn signing_the_others_out_leaves_the_one_that_asks() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let second = rig.login("grace", None).await;
        let asks = rig.login("grace", None).await;
        let caller = rig.caller(&asks.tokens.access_token).await;
        rig.accounts.logout_others(caller).await.unwrap();
        let mut ended: Vec<_> = rig.ended().into_iter().map(|(session, _)| session).collect();
        let mut expected = vec![first.session, second.session];
        ended.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ended, expected);
        assert_eq!(rig.accounts.admit(&caller).await, Ok(()));
    }
}

#[tokio::test]
async fn a_list_shows_devices_and_when_they_were_seen() {
    for rig in rigs(settings()).await {
        rig.register("grace").await;
        let body = rest::Login {
            login: "grace".to_owned(),
            password: PASSWORD.to_owned(),
            device: Some("d_7".to_owned().try_into().unwrap()),
            device_name: Some("Grace's phone".to_owned()),
        };
        let signed_in = rig.accounts.login(body, address(1)).await.unwrap();
        let caller = rig.caller(&signed_in.tokens.access_token).await;
        rig.pass(60 * SECOND_MS);
        rig.accounts.admit(&caller).await.unwrap();
        let list = rig.accounts.sessions(caller).await.unwrap();
        let item = list.iter().find(|item| item.current).unwrap();
        assert_eq!(item.device.as_ref().map(protocol::DeviceId::as_str), Some("d_7"));
        assert_eq!(item.device_name.as_deref(), Some("Grace's phone"));
        assert_eq!(item.last_seen_at.0 - item.created_at.0, 60 * SECOND_MS);
    }
}

#[tokio::test]
async fn a_banned_user_is_out_and_cannot_come_back_until_unbanned() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let caller = rig.caller(&signed_in.tokens.access_token).await;
        rig.accounts.ban(signed_in.user.id, true).await.unwrap();
        assert_eq!(rig.ended(), [(signed_in.session, CloseCode::Banned)]);
        assert!(rig.accounts.authenticate(&signed_in.tokens.access_token).await.is_err());
        assert!(rig.refresh(&signed_in.tokens.refresh_token).await.is_err());
        assert!(rig.accounts.admit(&caller).await.is_err());
        let error = rig.try_login("grace", PASSWORD, None, address(1)).await.unwrap_err();
        assert_eq!(error.code, Code::Forbidden);
        let error = rig.try_login("grace", "not the password", None, address(1)).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated, "only who knows the password hears of the ban");

        rig.accounts.ban(signed_in.user.id, false).await.unwrap();
        assert!(rig.try_login("grace", PASSWORD, None, address(1)).await.is_ok());
        assert_eq!(rig.accounts.ban(protocol::UserId([0; 16]), true).await.unwrap_err().code, Code::NotFound);
    }
}

#[tokio::test]
async fn a_ban_by_another_process_is_seen_at_hello_and_at_refresh() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let update = storage::accounts::UserUpdate { banned_at: Some(Some(protocol::Millis(1))), ..Default::default() };
        rig.store.accounts.update_user(signed_in.user.id, &update).await.unwrap();
        let caller = rig.caller(&signed_in.tokens.access_token).await;
        assert_eq!(rig.accounts.admit(&caller).await, Err(CloseCode::Banned));
        assert!(rig.refresh(&signed_in.tokens.refresh_token).await.is_err());
    }
}

#[tokio::test]
async fn a_deleted_account_is_gone_everywhere_and_its_name_stays_taken() {
    for rig in rigs(settings()).await {
        let phone = rig.register("grace").await;
        let laptop = rig.login("grace", None).await;
        let caller = rig.caller(&laptop.tokens.access_token).await;
        rig.accounts.delete_me(caller).await.unwrap();
        assert_eq!(rig.ended(), [(phone.session, CloseCode::AccountGone), (laptop.session, CloseCode::AccountGone)]);
        assert!(rig.accounts.authenticate(&laptop.tokens.access_token).await.is_err());
        assert!(rig.refresh(&laptop.tokens.refresh_token).await.is_err());
        assert_eq!(rig.accounts.user(phone.user.id).await.unwrap_err().code, Code::NotFound);
        assert_eq!(rig.accounts.find_user("grace").await, Ok(None));
        let error = rig.try_login("grace", PASSWORD, None, address(1)).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated);
        let again = rig.accounts.register(crate::rig::registration("grace"), address(1)).await;
        assert_eq!(again.unwrap_err().code, Code::AlreadyExists);
    }
}

#[tokio::test]
async fn g13_who_hangs_up_half_way_leaves_no_session_half_ended() {
    for rig in rigs(settings()).await {
        let phone = rig.register("grace").await;
        let laptop = rig.login("grace", None).await;
        let closed = rig.faults.gate.lock().await;
        tokio::select! {
            biased;
            done = rig.accounts.ban(phone.user.id, true) => panic!("done before the token store was told: {done:?}"),
            () = rig.until_ended(1) => {}
        }
        drop(closed);
        rig.until_ended(2).await;
        assert_eq!(rig.ended(), [(phone.session, CloseCode::Banned), (laptop.session, CloseCode::Banned)]);
    }
}

/// Neither sees the other's session when it looks what it replaces.
#[tokio::test]
async fn two_sign_ins_at_once_on_two_nodes_leave_one_session() {
    for (single_session, device) in [(true, None), (false, Some("d_1"))] {
        let mut settings = settings();
        settings.auth.single_session = single_session;
        for rig in rigs(settings).await {
            let first = rig.register("grace").await;
            let caller = rig.caller(&first.tokens.access_token).await;
            let another = rig.another().await;
            let device = device.map(|name| protocol::DeviceId::try_from(name.to_owned()).unwrap());
            let login = rest::Login { login: "grace".into(), password: PASSWORD.into(), device, device_name: None };
            let begun = rig.faults.n_begun.load(Ordering::SeqCst);
            let stopped = rig.faults.beginning.lock().await;
            let release = async {
                while rig.faults.n_begun.load(Ordering::SeqCst) < begun + 2 {
                    tokio::task::yield_now().await;
                }
                drop(stopped);
            };
            let (a, b, ()) = tokio::join!(
                rig.accounts.login(login.clone(), address(1)),
                another.login(login.clone(), address(1)),
                release
            );
            let both = [a.unwrap().session, b.unwrap().session];
            let list = rig.accounts.sessions(caller).await.unwrap();
            assert_eq!(list.iter().filter(|item| both.contains(&item.id)).count(), 1, "{list:?}");
        }
    }
}

/// Two nodes, which share stores and nothing else.
#[tokio::test]
async fn g13_a_sign_in_with_the_old_password_at_another_node_does_not_outlive_the_change() {
    for rig in rigs(settings()).await {
        let asks = rig.register("grace").await;
        let caller = rig.caller(&asks.tokens.access_token).await;
        let another = rig.another().await;
        let new = "copper lantern 1815";
        let change = async || {
            let body = rest::ChangePassword { old: PASSWORD.to_owned(), new: new.to_owned() };
            rig.accounts.change_password(caller, body, address(1)).await.unwrap();
        };
        let login = rest::Login { login: "grace".into(), password: PASSWORD.into(), device: None, device_name: None };

        // It looked at the row before the change and writes its own after it.
        let stopped = rig.faults.beginning.lock().await;
        let mut signing_in = Box::pin(another.login(login.clone(), address(1)));
        tokio::select! {
            biased;
            done = &mut signing_in => panic!("not stopped: {done:?}"),
            () = async { change().await } => {}
        }
        drop(stopped);
        let outcome = signing_in.await;
        assert_eq!(outcome.unwrap_err().code, Code::Unauthenticated);
        let list = rig.accounts.sessions(caller).await.unwrap();
        assert_eq!(list.iter().map(|item| item.id).collect::<Vec<_>>(), [asks.session]);
    }
}

#[tokio::test]
async fn g13_a_sign_in_while_others_are_ended_for_a_new_password_is_ended_too() {
    for rig in rigs(settings()).await {
        let asks = rig.register("grace").await;
        let caller = rig.caller(&asks.tokens.access_token).await;
        rig.login("grace", None).await;
        let another = rig.another().await;
        let login = rest::Login { login: "grace".into(), password: PASSWORD.into(), device: None, device_name: None };
        let body = rest::ChangePassword { old: PASSWORD.to_owned(), new: "copper lantern 1815".to_owned() };
        // Those there were are ended; the new password is not written yet.
        let stopped = rig.faults.gate.lock().await;
        let mut changing = Box::pin(rig.accounts.change_password(caller, body, address(1)));
        tokio::select! {
            biased;
            done = &mut changing => panic!("not stopped: {done:?}"),
            () = rig.until_ended(1) => {}
        }
        let slipped_in = another.login(login, address(1)).await.unwrap();
        drop(stopped);
        changing.await.unwrap();
        assert!(rig.ended().iter().any(|(session, _)| *session == slipped_in.session));
        assert!(rig.refresh(&slipped_in.tokens.refresh_token).await.is_err());
    }
}
