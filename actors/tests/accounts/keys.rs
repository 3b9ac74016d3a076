//! Signing keys: made once, rotated without signing anybody out, read again when another process rotated.

use crate::rig::{HOUR_MS, SECOND_MS, rigs, settings};

#[tokio::test]
async fn rotating_keys_signs_nobody_out() {
    for mut rig in rigs(settings()).await {
        let before = rig.register("grace").await;
        rig.pass(SECOND_MS);
        let kid = rig.accounts.rotate_keys().await.unwrap();
        let after = rig.login("grace", None).await;
        assert_eq!(rig.caller(&before.tokens.access_token).session, before.session);
        assert_eq!(rig.caller(&after.tokens.access_token).session, after.session);
        assert!(rig.refresh(&before.tokens.refresh_token).await.is_ok());

        let keys = rig.accounts.keys();
        assert_eq!(keys.iter().map(|(_, _, signs)| *signs).collect::<Vec<_>>(), [true, false]);
        assert_eq!(keys[0].0, kid);
        assert_eq!(rig.accounts.jwks()["keys"].as_array().unwrap().len(), 2);
        rig.restart().await;
        assert_eq!(rig.accounts.keys(), keys);
        assert_eq!(rig.caller(&before.tokens.access_token).session, before.session);
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
        assert!(rig.accounts.authenticate(&late.tokens.access_token).is_ok());
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
        assert!(rig.accounts.authenticate(&signed_in.tokens.access_token).is_ok());
    }
}

#[tokio::test]
async fn a_key_that_another_process_added_is_learned_from_the_first_token_that_names_it() {
    for rig in rigs(settings()).await {
        let signed_in = rig.register("grace").await;
        let other = rig.another().await;
        other.rotate_keys().await.unwrap();
        let body = protocol::rest::Refresh { refresh_token: signed_in.tokens.refresh_token };
        let token = other.refresh(body, crate::rig::address(1)).await.unwrap().access_token;
        assert!(rig.accounts.authenticate(&token).is_err(), "refused while the keys are read again");
        let learned = async {
            while rig.accounts.keys().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), learned).await.unwrap();
        assert!(rig.accounts.authenticate(&token).is_ok());
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
