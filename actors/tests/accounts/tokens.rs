//! Access and refresh tokens, tickets, and what time does to them.

use std::sync::atomic::Ordering;

use actors::Caller;
use protocol::{Code, close::CloseCode};

use crate::rig::{HOUR_MS, PASSWORD, SECOND_MS, address, rigs, settings};

#[tokio::test]
async fn g14_a_refresh_token_works_once_and_its_replay_ends_the_session() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let second = rig.refresh(&first.tokens.refresh_token).await.unwrap();
        assert_ne!(second.refresh_token, first.tokens.refresh_token);
        let third = rig.refresh(&second.refresh_token).await.unwrap();

        let replay = rig.refresh(&first.tokens.refresh_token).await.unwrap_err();
        assert_eq!(replay.code, Code::Unauthenticated);
        assert_eq!(rig.refresh(&third.refresh_token).await.unwrap_err(), replay, "the thief's branch ends as well");
        assert_eq!(rig.code(&third.access_token).await, Some(Code::Unauthenticated));
        assert_eq!(rig.ended(), [(first.session, CloseCode::SessionRevoked)]);
    }
}

#[tokio::test]
async fn g14_a_replay_right_after_the_grace_ends_the_session() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let second = rig.refresh(&first.tokens.refresh_token).await.unwrap();
        rig.pass(21 * SECOND_MS);
        assert!(rig.refresh(&first.tokens.refresh_token).await.is_err());
        assert_eq!(rig.ended(), [(first.session, CloseCode::SessionRevoked)]);
        assert_eq!(rig.code(&second.access_token).await, Some(Code::Unauthenticated));
        assert!(rig.refresh(&second.refresh_token).await.is_err());
    }
}

#[tokio::test]
async fn g14_a_lost_answer_can_be_asked_for_again_and_is_the_same() {
    for mut rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let lost = rig.refresh(&first.tokens.refresh_token).await.unwrap();
        rig.pass(19 * SECOND_MS);
        assert_eq!(rig.refresh(&first.tokens.refresh_token).await.unwrap().refresh_token, lost.refresh_token);
        rig.restart().await;
        assert_eq!(rig.refresh(&first.tokens.refresh_token).await.unwrap().refresh_token, lost.refresh_token);
        assert!(rig.refresh(&lost.refresh_token).await.is_ok());
    }
}

#[tokio::test]
async fn g14_two_identical_requests_at_once_get_the_same_successor() {
    for rig in rigs(settings()).await {
        let token = rig.register("grace").await.tokens.refresh_token;
        let (a, b, c) = tokio::join!(rig.refresh(&token), rig.refresh(&token), rig.refresh(&token));
        let (a, b, c) = (a.unwrap().refresh_token, b.unwrap().refresh_token, c.unwrap().refresh_token);
        assert!(a == b && b == c);
        assert!(rig.refresh(&a).await.is_ok());
    }
}

#[tokio::test]
async fn g14_a_rotation_whose_row_was_lost_is_retried_however_late() {
    for mut rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        rig.faults.raise.store(true, Ordering::SeqCst);
        let error = rig.refresh(&first.tokens.refresh_token).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "rotated, but nobody was given the successor");
        rig.faults.raise.store(false, Ordering::SeqCst);
        rig.restart().await;
        rig.pass(HOUR_MS);
        let second = rig.refresh(&first.tokens.refresh_token).await.unwrap();
        assert!(rig.refresh(&second.refresh_token).await.is_ok());
        assert_eq!(rig.ended(), []);
    }
}

#[tokio::test]
async fn a_rotation_of_unknown_outcome_signs_nobody_out() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        rig.faults.lose_rotation.store(true, Ordering::SeqCst);
        let error = rig.refresh(&first.tokens.refresh_token).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        rig.faults.lose_rotation.store(false, Ordering::SeqCst);
        rig.pass(60 * SECOND_MS);
        assert!(rig.refresh(&first.tokens.refresh_token).await.is_ok());
        assert_eq!(rig.ended(), []);
    }
}

#[tokio::test]
async fn g14_a_token_older_than_the_row_is_refused_even_if_the_token_store_went_back_in_time() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let now = rig.store.sessions.session(first.session).await.unwrap().unwrap();
        // The row knows of three rotations; the token store, restored from an old copy, of none.
        rig.store.sessions.rotated(first.session, 4, now.last_seen_at, now.expires_at).await.unwrap();
        assert_eq!(rig.refresh(&first.tokens.refresh_token).await.unwrap_err().code, Code::Unauthenticated);
        assert_eq!(rig.ended(), [(first.session, CloseCode::SessionRevoked)]);
    }
}

#[tokio::test]
async fn g14_a_token_one_older_than_the_row_is_refused_where_the_token_store_still_takes_it() {
    for rig in rigs(settings()).await {
        let first = rig.register("grace").await;
        let row = rig.store.sessions.session(first.session).await.unwrap().unwrap();
        rig.store.sessions.rotated(first.session, 2, row.last_seen_at, row.expires_at).await.unwrap();
        assert_eq!(rig.refresh(&first.tokens.refresh_token).await.unwrap_err().code, Code::Unauthenticated);
        assert_eq!(rig.ended(), [(first.session, CloseCode::SessionRevoked)]);
    }
}

#[tokio::test]
async fn refresh_tokens_that_are_not_ours_are_refused_alike() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let refused = rig.refresh("").await.unwrap_err();
        assert_eq!(refused.code, Code::Unauthenticated);
        for text in ["rt_", "rt_AAAA", &signed_in.tokens.access_token, &"x".repeat(10_000)] {
            assert_eq!(rig.refresh(text).await.unwrap_err(), refused);
        }
        rig.pass(31 * 24 * HOUR_MS);
        assert_eq!(rig.refresh(&signed_in.tokens.refresh_token).await.unwrap_err(), refused, "expired");
    }
}

#[tokio::test]
async fn an_access_token_ends_and_a_refresh_mends_it() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        assert_eq!(signed_in.tokens.expires_in, 900);
        rig.pass(899 * SECOND_MS);
        assert_eq!(rig.caller(&signed_in.tokens.access_token).await.session, signed_in.session);
        rig.pass(6 * SECOND_MS);
        assert_eq!(rig.code(&signed_in.tokens.access_token).await, Some(Code::TokenExpired));
        let tokens = rig.refresh(&signed_in.tokens.refresh_token).await.unwrap();
        assert_eq!(rig.caller(&tokens.access_token).await.user, signed_in.user.id);
    }
}

#[tokio::test]
async fn tokens_of_another_issuer_or_secret_are_refused() {
    let [here, ..] = rigs(settings()).await;
    let mut elsewhere = settings();
    elsewhere.auth.issuer = "elsewhere".to_owned();
    let [other_issuer, ..] = rigs(elsewhere).await;
    // The same seed makes the same keys, so only the issuer differs.
    let token = other_issuer.register("grace").await.tokens.access_token;
    assert_eq!(here.accounts.keys(), other_issuer.accounts.keys());
    assert_eq!(here.code(&token).await, Some(Code::Unauthenticated));

    let mut elsewhere = settings();
    elsewhere.auth.secret = actors::settings::Secret([6; 32]);
    let [other_secret, ..] = rigs(elsewhere).await;
    let token = other_secret.register("grace").await.tokens.refresh_token;
    assert_eq!(here.refresh(&token).await.unwrap_err().code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_clock_set_back_an_hour_and_forward_again_signs_nobody_out() {
    for mut rig in rigs(settings()).await {
        let before = rig.register("grace").await;
        let other = rig.login("grace", None).await;
        rig.accounts.logout(rig.caller(&other.tokens.access_token).await).await.unwrap();

        rig.set_clock_back(HOUR_MS);
        rig.restart().await;
        assert_eq!(rig.code(&before.tokens.access_token).await, Some(Code::TokenExpired), "so clients refresh");
        let during = rig.refresh(&before.tokens.refresh_token).await.unwrap();
        let ticket = rig.accounts.ticket(rig.caller(&during.access_token).await).await.unwrap();
        assert!(rig.accounts.redeem(&ticket.ticket).await.is_ok());
        assert_eq!(rig.accounts.sessions(rig.caller(&during.access_token).await).await.unwrap().len(), 1);
        assert!(rig.refresh(&other.tokens.refresh_token).await.is_err());

        rig.pass(HOUR_MS);
        rig.restart().await;
        assert_eq!(
            rig.code(&other.tokens.access_token).await,
            Some(Code::Unauthenticated),
            "signed out stays signed out"
        );
        let after = rig.refresh(&during.refresh_token).await.unwrap();
        assert_eq!(rig.accounts.admit(&rig.caller(&after.access_token).await).await, Ok(()));
    }
}

#[tokio::test]
async fn g13_a_clock_that_ran_ahead_and_is_set_right_revives_no_revoked_token() {
    for mut rig in rigs(settings()).await {
        let out = rig.register("grace").await;
        rig.accounts.logout(rig.caller(&out.tokens.access_token).await).await.unwrap();
        rig.pass(HOUR_MS);
        rig.restart().await;
        // Something else is revoked while the clock is wrong, which is when old revocations are swept.
        let other = rig.login("grace", None).await;
        rig.accounts.logout(rig.caller(&other.tokens.access_token).await).await.unwrap();
        rig.set_clock_back(HOUR_MS);
        rig.restart().await;
        assert_eq!(rig.code(&out.tokens.access_token).await, Some(Code::Unauthenticated));
    }
}

#[tokio::test]
async fn a_ticket_works_once_and_for_thirty_seconds() {
    for rig in rigs(settings()).await {
        let caller = rig.caller(&rig.register("grace").await.tokens.access_token).await;
        let ticket = rig.accounts.ticket(caller).await.unwrap();
        assert_eq!(ticket.expires_in, 30);
        assert_eq!(rig.accounts.redeem(&ticket.ticket).await, Ok::<Caller, _>(caller));
        assert_eq!(rig.accounts.redeem(&ticket.ticket).await.unwrap_err().code, Code::Unauthenticated);

        let late = rig.accounts.ticket(caller).await.unwrap();
        assert_ne!(late.ticket, ticket.ticket);
        rig.pass(31 * SECOND_MS);
        assert_eq!(rig.accounts.redeem(&late.ticket).await.unwrap_err().code, Code::Unauthenticated);
        assert_eq!(rig.accounts.redeem("tk_nonsense").await.unwrap_err().code, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn g13_a_ticket_of_a_session_that_ended_lets_nobody_in() {
    for rig in rigs(settings()).await {
        let caller = rig.caller(&rig.register("grace").await.tokens.access_token).await;
        let ticket = rig.accounts.ticket(caller).await.unwrap();
        rig.accounts.logout(caller).await.unwrap();
        assert_eq!(rig.accounts.redeem(&ticket.ticket).await.unwrap_err().code, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_restart_signs_nobody_out_and_nobody_in() {
    for mut rig in rigs(settings()).await {
        let here = rig.register("grace").await;
        let gone = rig.login("grace", None).await;
        rig.accounts.logout(rig.caller(&gone.tokens.access_token).await).await.unwrap();
        rig.reopen().await;
        assert_eq!(rig.caller(&here.tokens.access_token).await.user, here.user.id);
        assert_eq!(rig.code(&gone.tokens.access_token).await, Some(Code::Unauthenticated));
        assert!(rig.refresh(&gone.tokens.refresh_token).await.is_err());
        let tokens = rig.refresh(&here.tokens.refresh_token).await.unwrap();
        assert_eq!(rig.accounts.admit(&rig.caller(&tokens.access_token).await).await, Ok(()));
        assert!(rig.try_login("grace", PASSWORD, None, address(1)).await.is_ok());
    }
}
