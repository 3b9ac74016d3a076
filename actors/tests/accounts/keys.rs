//! Signing keys: made once, rotated without signing anybody out, read again when another process rotated.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use protocol::Code;
use tokio::time::Instant;

use crate::rig::{HOUR_MS, SECOND_MS, address, memory_rig, registration, rigs, settings};

#[tokio::test]
async fn rotating_keys_signs_nobody_out() {
    for mut rig in rigs(settings()).await {
        let before = rig.register("grace").await;
        rig.pass(SECOND_MS);
        let kid = rig.accounts.rotate_keys().await.unwrap();
        let after = rig.login("grace", None).await;
        assert_eq!(rig.caller(&before.tokens.access_token).await.session, before.session);
        assert_eq!(rig.caller(&after.tokens.access_token).await.session, after.session);
        assert!(rig.refresh(&before.tokens.refresh_token).await.is_ok());

        let keys = rig.accounts.keys();
        assert_eq!(keys.iter().map(|(_, _, signs)| *signs).collect::<Vec<_>>(), [true, false]);
        assert_eq!(keys[0].0, kid);
        assert_eq!(rig.accounts.jwks().await["keys"].as_array().unwrap().len(), 2);
        rig.restart().await;
        assert_eq!(rig.accounts.keys(), keys);
        assert_eq!(rig.caller(&before.tokens.access_token).await.session, before.session);
    }
}

#[tokio::test]
async fn a_key_is_dropped_only_when_no_token_can_need_it() {
    for rig in rigs(settings()).await {
        let first = rig.accounts.keys()[0].0.clone();
        // The first key is old, but it signed until a moment ago.
        rig.pass(24 * HOUR_MS);
        let late = rig.register("grace").await;
        let second = rig.accounts.rotate_keys().await.unwrap();
        rig.pass(SECOND_MS);
        let third = rig.accounts.rotate_keys().await.unwrap();
        assert!(rig.accounts.authenticate(&late.tokens.access_token).await.is_ok());
        let kids = || rig.accounts.keys().into_iter().map(|(kid, _, _)| kid).collect::<Vec<_>>();
        assert_eq!(kids(), [third.clone(), second, first]);
        rig.pass(HOUR_MS);
        let fourth = rig.accounts.rotate_keys().await.unwrap();
        assert_eq!(kids(), [fourth, third]);
    }
}

#[tokio::test]
async fn the_newest_key_signs_even_if_the_clock_was_set_back() {
    for mut rig in rigs(settings()).await {
        rig.set_clock_back(HOUR_MS);
        rig.restart().await;
        let kid = rig.accounts.rotate_keys().await.unwrap();
        assert_eq!(rig.accounts.keys()[0].0, kid);
        let signed_in = rig.register("grace").await;
        rig.restart().await;
        assert!(rig.accounts.authenticate(&signed_in.tokens.access_token).await.is_ok());
    }
}

#[tokio::test]
async fn a_key_that_another_process_added_is_learned_from_the_first_token_that_names_it() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let other = rig.another().await;
        other.rotate_keys().await.unwrap();
        let body = protocol::rest::Refresh { refresh_token: signed_in.tokens.refresh_token };
        let token = other.refresh(body, address(1)).await.unwrap().access_token;
        assert!(rig.accounts.authenticate(&token).await.is_ok());
    }
}

#[tokio::test]
async fn what_others_rotate_is_learned_although_no_token_names_it() {
    let rig = memory_rig(settings()).await;
    let kid = rig.another().await.rotate_keys().await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(rig.accounts.keys()[0].0, kid, "whoever signs with an older one signs what others will not know");
}

#[tokio::test]
async fn the_public_keys_are_those_of_all_nodes() {
    for rig in rigs(settings()).await {
        rig.another().await.rotate_keys().await.unwrap();
        assert_eq!(rig.accounts.jwks().await["keys"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn g15_tokens_of_unknown_keys_make_the_keys_be_read_four_times_a_second_at_most() {
    let rig = memory_rig(settings()).await;
    let stranger = memory_rig(settings()).await;
    stranger.accounts.rotate_keys().await.unwrap();
    let token = stranger.register("mallory").await.tokens.access_token;
    tokio::time::pause();
    let refused = async || assert_eq!(rig.code(&token).await, Some(Code::Unauthenticated));
    let begun = Instant::now();
    for _ in 0..9 {
        refused().await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let begun = Instant::now();
    join_all((0..100).map(|_| refused())).await;
    assert!(begun.elapsed() <= Duration::from_millis(500), "they are judged by one read");
}

#[tokio::test]
async fn who_gives_up_while_the_keys_are_read_leaves_nobody_waiting() {
    let rig = memory_rig(settings()).await;
    let other = rig.another().await;
    other.rotate_keys().await.unwrap();
    let token = other.register(registration("grace"), address(1)).await.unwrap().tokens.access_token;
    tokio::time::pause();
    let gone = tokio::time::timeout(Duration::from_millis(1), rig.code(&token)).await;
    assert!(gone.is_err(), "it waits for its turn");
    assert_eq!(rig.code(&token).await, None);
}

#[tokio::test]
async fn a_token_is_not_refused_because_the_keys_cannot_be_read() {
    for rig in rigs(settings()).await {
        let other = rig.another().await;
        other.rotate_keys().await.unwrap();
        let token = other.register(registration("grace"), address(1)).await.unwrap().tokens.access_token;
        rig.faults.read_keys.store(true, Ordering::SeqCst);
        assert_eq!(rig.code(&token).await, Some(Code::Unavailable));
        rig.faults.read_keys.store(false, Ordering::SeqCst);
        assert_eq!(rig.code(&token).await, None);
    }
}

#[tokio::test]
async fn another_secret_does_not_open_the_keys_and_the_reason_is_said() {
    for mut rig in rigs(settings()).await {
        rig.settings.auth.secret = actors::settings::Secret([6; 32]);
        let error = rig.try_restart().await.unwrap_err();
        assert!(error.to_string().contains("auth.secret_file"), "{error}");
    }
}

#[tokio::test]
async fn a_private_key_is_never_stored_in_the_clear() {
    for rig in rigs(settings()).await {
        let key = rig.store.accounts.signing_keys().await.unwrap().remove(0);
        // PKCS#8 of Ed25519 begins with this version and algorithm.
        let marker = [0x06, 0x03, 0x2b, 0x65, 0x70];
        assert!(!key.sealed.windows(marker.len()).any(|window| window == marker));
        assert_eq!(key.public.len(), 32);
    }
}
