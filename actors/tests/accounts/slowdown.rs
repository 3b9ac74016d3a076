//! Guessing is slow; nobody is locked out.

use std::net::IpAddr;

use actors::Settings;
use protocol::{Code, Error};

use crate::rig::{PASSWORD, Rig, SECOND_MS, address, registration, rigs, settings};

fn limited(per_min: u32) -> Settings {
    let mut settings = settings();
    settings.limits.login_per_min = per_min;
    settings
}

async fn guess(rig: &Rig, from: IpAddr) -> Error {
    rig.try_login("grace", "not the password", None, from).await.unwrap_err()
}

#[tokio::test]
async fn an_address_that_fails_too_often_waits_even_with_the_right_password() {
    for rig in rigs(limited(5)).await {
        rig.register("grace").await;
        for _ in 0..6 {
            assert_eq!(guess(&rig, address(66)).await.code, Code::Unauthenticated);
        }
        let error = rig.try_login("grace", PASSWORD, None, address(66)).await.unwrap_err();
        assert_eq!(error.code, Code::RateLimited);
        rig.pass(error.after_ms.unwrap());
        assert!(rig.try_login("grace", PASSWORD, None, address(66)).await.is_ok());
    }
}

#[tokio::test]
async fn an_address_that_tries_many_accounts_waits_for_all_of_them() {
    for rig in rigs(limited(5)).await {
        rig.register("grace").await;
        for n in 0..6 {
            let name = format!("victim-{n}");
            assert!(rig.try_login(&name, PASSWORD, None, address(66)).await.is_err());
        }
        let error = rig.try_login("grace", PASSWORD, None, address(66)).await.unwrap_err();
        assert_eq!(error.code, Code::RateLimited);
    }
}

#[tokio::test]
async fn strangers_who_guess_from_everywhere_do_not_lock_the_owner_out() {
    for rig in rigs(limited(5)).await {
        rig.register("grace").await;
        for round in 0..3 {
            for stranger in 100..200 {
                assert!(matches!(guess(&rig, address(stranger)).await.code, Code::Unauthenticated | Code::RateLimited));
            }
            rig.login("grace", None).await;
            let elsewhere = rig.try_login("grace", PASSWORD, None, address(2 + round)).await;
            assert!(elsewhere.is_ok(), "from an address never seen before");
        }
    }
}

#[tokio::test]
async fn an_account_under_attack_makes_each_stranger_wait_longer_each_time() {
    for rig in rigs(limited(5)).await {
        rig.register("grace").await;
        for stranger in 100..106 {
            guess(&rig, address(stranger)).await;
        }
        let mut waits = Vec::new();
        for _ in 0..4 {
            assert_eq!(guess(&rig, address(66)).await.code, Code::Unauthenticated);
            // The strangers keep the account's own budget spent.
            for stranger in 110..120 {
                guess(&rig, address(stranger)).await;
            }
            let error = guess(&rig, address(66)).await;
            assert_eq!(error.code, Code::RateLimited);
            waits.push(error.after_ms.unwrap());
            rig.pass(error.after_ms.unwrap());
            for stranger in 120..130 {
                guess(&rig, address(stranger)).await;
            }
        }
        assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
    }
}

#[tokio::test]
async fn guesses_side_by_side_gain_nothing() {
    for rig in rigs(limited(5)).await {
        // An account each, so that only the address counts.
        let guess = async |name: &str| rig.try_login(name, PASSWORD, None, address(66)).await.unwrap_err();
        let (a, b, c, d, e, f, g, h) = tokio::join!(
            guess("ann-a"),
            guess("ann-b"),
            guess("ann-c"),
            guess("ann-d"),
            guess("ann-e"),
            guess("ann-f"),
            guess("ann-g"),
            guess("ann-h"),
        );
        let judged = [a, b, c, d, e, f, g, h].iter().filter(|error| error.code == Code::Unauthenticated).count();
        assert!(judged > 5, "the bucket holds five; whoever was under way when it ran dry is judged as well");
        let error = guess("ann-i").await;
        assert_eq!((error.code, error.after_ms), (Code::RateLimited, Some((judged as u64 - 5) * 12 * SECOND_MS)));
    }
}

#[tokio::test]
async fn signing_in_rightly_costs_nothing() {
    for rig in rigs(limited(2)).await {
        rig.register("grace").await;
        for _ in 0..10 {
            rig.login("grace", None).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_account_slows_down_like_a_known_one() {
    for rig in rigs(limited(5)).await {
        rig.register("grace").await;
        for _ in 0..7 {
            let known = rig.try_login("grace", "x", None, address(1)).await.unwrap_err();
            let unknown = rig.try_login("nobody-here", "x", None, address(2)).await.unwrap_err();
            assert_eq!(known, unknown);
        }
    }
}

#[tokio::test]
async fn guessing_the_old_password_is_slow_too() {
    for rig in rigs(limited(5)).await {
        let caller = rig.caller(&rig.register("grace").await.tokens.access_token).await;
        let mut last = None;
        for _ in 0..7 {
            let body =
                protocol::rest::ChangePassword { old: "guess".to_owned(), new: "copper lantern 1815".to_owned() };
            last = rig.accounts.change_password(caller, body, address(66)).await.err();
        }
        assert_eq!(last.unwrap().code, Code::RateLimited);
    }
}

#[tokio::test]
async fn registrations_of_one_address_are_limited() {
    let mut settings = settings();
    settings.limits.register_per_min = 2;
    for rig in rigs(settings).await {
        for name in ["grace", "ada.l"] {
            assert!(rig.accounts.register(registration(name), address(66)).await.is_ok());
        }
        let error = rig.accounts.register(registration("mary"), address(66)).await.unwrap_err();
        assert_eq!((error.code, error.after_ms), (Code::RateLimited, Some(30 * SECOND_MS)));
        assert!(rig.accounts.register(registration("mary"), address(67)).await.is_ok());
    }
}

#[tokio::test]
async fn requests_are_limited_per_session_and_per_address() {
    let mut settings = settings();
    settings.limits.rest_per_min = 3;
    for rig in rigs(settings).await {
        let grace = rig.caller(&rig.register("grace").await.tokens.access_token).await;
        let ada = rig.caller(&rig.register("ada.l").await.tokens.access_token).await;
        for who in [Some(&grace), Some(&ada), None] {
            for _ in 0..3 {
                assert_eq!(rig.accounts.throttle(who, address(1)).await, Ok(()));
            }
            let error = rig.accounts.throttle(who, address(1)).await.unwrap_err();
            assert_eq!((error.code, error.after_ms), (Code::RateLimited, Some(20 * SECOND_MS)));
        }
        assert_eq!(rig.accounts.throttle(None, address(2)).await, Ok(()));
    }
}
