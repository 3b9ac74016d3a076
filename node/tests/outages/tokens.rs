//! Tokens are away, or have forgotten everything. Messages go on, nobody is signed out by a cut, and who was shut out
//! stays out.

use std::time::{Duration, Instant};

use hyper::Method;
use loadtest::{Client, RestFailed, crowd, proxy::Fault, rest::Call, servers::Server};
use protocol::{Code, request::Hello, rest};
use serde::de::IgnoredAny;

use crate::{
    load::{Load, summary},
    rig::{Rig, judge},
    stores::Stores,
};

const PATIENCE: Duration = Duration::from_secs(20);
const A_WHILE: Duration = Duration::from_secs(3);

async fn refresh(rig: &Rig, user: &mut rest::SignedIn) -> Result<(), RestFailed> {
    user.tokens = rig.rest.refresh(&user.tokens.refresh_token).await?;
    Ok(())
}

/// Tries until the tokens are back, and says how long that took.
async fn refreshed(rig: &Rig, user: &mut rest::SignedIn) -> Duration {
    let begun = Instant::now();
    while let Err(failed) = refresh(rig, user).await {
        assert_eq!(failed.code(), Some(Code::Unavailable), "a cut signs nobody out: {failed}");
        assert!(begun.elapsed() < PATIENCE, "{failed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

/// Whether a new socket is welcome with this session's access token.
async fn welcome(rig: &Rig, user: &rest::SignedIn) -> bool {
    let token = Some(user.tokens.access_token.clone());
    let hello = Hello { token, device: Some(crowd::device(9)), ..Hello::default() };
    Client::connect(&rig.target(), hello, None).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_g14_tokens_that_are_away_stop_no_message_and_forgotten_ones_let_nobody_in() {
    let redis = tokio::task::block_in_place(Server::redis);
    let stores = Stores::with(None, Some(&redis), 0).await;
    let mut rig = stores.rig(&[]);
    let mut people = rig.people(2).await.into_iter();
    let (mut ann, mut out) = (people.next().unwrap(), people.next().unwrap());
    let load = Load::start(&rig, 2, 2, 2).await;
    load.acks(50, PATIENCE).await;
    let logout = Call::new(Method::POST, "auth/logout").by(&out.tokens.access_token);
    rig.rest.call::<IgnoredAny>(logout).await.unwrap();

    for fault in [Fault::Cut, Fault::Stalled] {
        stores.redis.set(fault);
        let failed = refresh(&rig, &mut ann).await.unwrap_err();
        assert_eq!(failed.code(), Some(Code::Unavailable), "{failed}");
        let (answers, _) = load.watch(&rig, A_WHILE).await;
        let told = summary(&answers);
        assert_eq!(told.keys().collect::<Vec<_>>(), [&"ok"], "{fault:?}: {told:?}");
        stores.redis.set(Fault::None);
        let took = refreshed(&rig, &mut ann).await;
        println!("{fault:?}: sends {told:?}; refreshed {took:?} after it was back");
    }
    tokio::task::block_in_place(|| {
        redis.kill();
        redis.restart();
    });
    // until the node has found it again
    let begun = Instant::now();
    let failed = loop {
        let failed = refresh(&rig, &mut ann).await.unwrap_err();
        if failed.code() != Some(Code::Unavailable) {
            break failed;
        }
        assert!(begun.elapsed() < PATIENCE, "{failed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(failed.code(), Some(Code::Unauthenticated), "{failed}");
    let failed = refresh(&rig, &mut out).await.unwrap_err();
    assert_eq!(failed.code(), Some(Code::Unauthenticated), "{failed}");
    assert!(!welcome(&rig, &out).await, "G13: signed out, and let in after the tokens were forgotten");
    ann = crowd::another(&rig.rest, &ann, 0).await.unwrap();
    refresh(&rig, &mut ann).await.unwrap();
    assert!(welcome(&rig, &ann).await);

    let history = load.finish(&mut rig).await;
    judge("tokens", &history);
}
