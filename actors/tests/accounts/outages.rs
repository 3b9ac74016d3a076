//! Redis cut off or stalled while it is needed, on a wire that the test breaks and mends. Nobody is signed out, nobody is
//! let in, nobody waits; and it goes on by itself.

use std::time::Duration;

use loadtest::proxy::{Fault, Proxy};
use protocol::{Code, Error};
use tokio::time::Instant;

use crate::rig::{Rig, address, new_prefix, redis_rig, registration, settings};

/// Once it is noticed nobody waits: this is for a busy machine, and twenty waits would take ten seconds.
const AT_ONCE: Duration = Duration::from_secs(3);

async fn scene(settings: actors::Settings) -> (Rig, Proxy) {
    let url = loadtest::servers::redis_url();
    let wire = Proxy::start(url.trim_start_matches("redis://").trim_end_matches('/')).await.unwrap();
    let rig = redis_rig(settings, &format!("redis://{}/", wire.address()), &new_prefix()).await;
    (rig, wire)
}

/// Breaks the wire and waits until that was noticed.
async fn away(rig: &Rig, wire: &Proxy, fault: Fault) {
    wire.set(fault);
    while rig.store.tokens.take_ticket([0; 32], protocol::Millis(0)).await.is_ok() {}
}

/// Mends the wire and waits until that was noticed.
async fn back(rig: &Rig, wire: &Proxy) {
    wire.set(Fault::None);
    let mended = Instant::now();
    while rig.store.tokens.take_ticket([0; 32], protocol::Millis(0)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(mended.elapsed() < Duration::from_secs(10));
    }
    assert!(mended.elapsed() < Duration::from_secs(5), "back after {:?}", mended.elapsed());
}

#[tokio::test]
async fn refreshing_waits_and_signs_nobody_out() {
    for fault in [Fault::Cut, Fault::Stalled, Fault::Deaf] {
        let (rig, wire) = scene(settings()).await;
        let first = rig.register("grace").await;
        let second = rig.refresh(&first.tokens.refresh_token).await.unwrap();
        away(&rig, &wire, fault).await;
        let asked = Instant::now();
        for _ in 0..20 {
            let error = rig.refresh(&second.refresh_token).await.unwrap_err();
            assert_eq!((error.code, error.code.retry()), (Code::Unavailable, true));
        }
        assert!(asked.elapsed() < AT_ONCE, "{fault:?}: {:?}", asked.elapsed());
        let caller = rig.caller(&second.access_token).await;
        assert_eq!(rig.accounts.ticket(caller).await.unwrap_err().code, Code::Unavailable);
        assert_eq!(rig.accounts.redeem("tk_any").await.unwrap_err().code, Code::Unavailable);
        assert_eq!(rig.accounts.admit(&caller).await, Ok(()), "who is signed in connects");
        back(&rig, &wire).await;
        assert!(rig.refresh(&second.refresh_token).await.is_ok());
        assert_eq!(rig.ended(), []);
    }
}

#[tokio::test]
async fn a_reply_that_never_came_signs_nobody_out() {
    let (rig, wire) = scene(settings()).await;
    let first = rig.register("grace").await;
    wire.set(Fault::Swallowing);
    assert_eq!(rig.refresh(&first.tokens.refresh_token).await.unwrap_err().code, Code::Unavailable);
    back(&rig, &wire).await;
    rig.pass(60_000);
    let second = rig.refresh(&first.tokens.refresh_token).await.unwrap();
    assert!(rig.refresh(&second.refresh_token).await.is_ok());
    assert_eq!(rig.ended(), []);
}

#[tokio::test]
async fn signing_in_goes_on_and_lasts() {
    let (rig, wire) = scene(settings()).await;
    rig.register("grace").await;
    away(&rig, &wire, Fault::Cut).await;
    let signed_in = rig.login("grace", None).await;
    let ada = rig.register("ada.l").await;
    back(&rig, &wire).await;
    for token in [signed_in.tokens.refresh_token, ada.tokens.refresh_token] {
        let second = rig.refresh(&token).await.unwrap();
        assert!(rig.refresh(&second.refresh_token).await.is_ok());
        assert_eq!(rig.refresh(&token).await.unwrap_err().code, Code::Unauthenticated, "G14");
    }
}

#[tokio::test]
async fn limits_are_counted_here_and_stricter_for_who_signs_in() {
    let mut settings = settings();
    (settings.limits.login_per_min, settings.limits.register_per_min, settings.limits.rest_per_min) = (8, 8, 8);
    let (rig, wire) = scene(settings).await;
    away(&rig, &wire, Fault::Cut).await;
    let register = async |n| rig.accounts.register(registration(&format!("user-{n}")), address(66)).await.map(drop);
    assert_eq!(n_until_limited(register).await, 2, "a quarter of eight");
    // The third failure is judged as well, and from then on its address waits.
    let guess = async |_| rig.try_login("nobody", "a guess", None, address(67)).await.map(drop);
    assert_eq!(n_until_limited(guess).await, 3);
    let request = async |_| rig.accounts.throttle(None, address(68)).await;
    assert_eq!(n_until_limited(request).await, 8, "as ever");
    back(&rig, &wire).await;
    assert_eq!(n_until_limited(request).await, 8, "counted for all nodes again");
}

async fn n_until_limited(ask: impl AsyncFn(u32) -> Result<(), Error>) -> u32 {
    for n in 0..100 {
        if ask(n).await.is_err_and(|error| error.code == Code::RateLimited) {
            return n;
        }
    }
    panic!("there is no limit");
}

#[tokio::test]
async fn g13_what_was_revoked_meanwhile_is_told_when_redis_is_back() {
    let (rig, wire) = scene(settings()).await;
    let out = rig.register("grace").await;
    let another = rig.another().await;
    away(&rig, &wire, Fault::Cut).await;
    rig.accounts.logout(rig.caller(&out.tokens.access_token).await).await.unwrap();
    assert!(rig.accounts.authenticate(&out.tokens.access_token).await.is_err());
    assert!(another.authenticate(&out.tokens.access_token).await.is_ok(), "cannot know");
    wire.set(Fault::None);
    let mended = Instant::now();
    while another.authenticate(&out.tokens.access_token).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(mended.elapsed() < Duration::from_secs(10));
    }
    assert!(mended.elapsed() < Duration::from_secs(5), "G13: five seconds after a partition");
}
