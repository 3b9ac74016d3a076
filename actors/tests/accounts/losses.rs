//! Redis that forgets, or comes back as it was a while ago: its keys are copied, put back and deleted by hand. The rows of
//! the sessions decide. In the order of the table in `ACCOUNTS.md`.
#![allow(clippy::disallowed_types)] // speaks to Redis by hand

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::atomic::Ordering,
    time::Duration,
};

use protocol::{Code, Millis, SessionId, close::CloseCode};

use crate::rig::{HOUR_MS, Rig, new_prefix, redis_rig, settings};

/// A rig on Redis whose keys can be turned back.
struct Scene {
    rig: Rig,
    prefix: String,
}

impl Scene {
    async fn new() -> Scene {
        let prefix = new_prefix();
        Scene { rig: redis_rig(settings(), &loadtest::servers::redis_url(), &prefix).await, prefix }
    }

    fn family(&self, session: SessionId) -> String {
        format!("{}rt:{session}", self.prefix)
    }

    /// Keeps a copy of a key as it is now.
    fn snapshot(&self, key: &str) {
        assert_eq!(redis(&format!("COPY {key} {key}:copy REPLACE")), ":1", "{key}");
    }

    /// Puts the copy in the key's place.
    fn roll_back(&self, key: &str) {
        assert_eq!(redis(&format!("COPY {key}:copy {key} REPLACE")), ":1", "{key}");
    }

    async fn refused(&self, token: &str) {
        assert_eq!(self.rig.refresh(token).await.unwrap_err().code, Code::Unauthenticated);
    }
}

/// One command, as people type it. Answers the first line.
fn redis(command: &str) -> String {
    let url = loadtest::servers::redis_url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(tcp).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[tokio::test]
async fn a_forgotten_family_means_signing_in_again() {
    let scene = Scene::new().await;
    let first = scene.rig.register("grace").await;
    let second = scene.rig.refresh(&first.tokens.refresh_token).await.unwrap();
    assert_eq!(redis(&format!("DEL {}", scene.family(first.session))), ":1");
    scene.refused(&second.refresh_token).await;
    assert_eq!(scene.rig.ended(), [], "nobody did anything wrong");
    scene.refused(&first.tokens.refresh_token).await;
    assert_eq!(scene.rig.ended(), [(first.session, CloseCode::SessionRevoked)], "spent, by the row");
}

#[tokio::test]
async fn a_first_token_stands_on_the_row_alone() {
    let scene = Scene::new().await;
    let first = scene.rig.register("grace").await;
    assert_eq!(redis(&format!("DEL {}", scene.family(first.session))), ":1");
    let second = scene.rig.refresh(&first.tokens.refresh_token).await.unwrap();
    let third = scene.rig.refresh(&second.refresh_token).await.unwrap();
    scene.refused(&first.tokens.refresh_token).await;
    scene.refused(&third.refresh_token).await;
}

#[tokio::test]
async fn g14_after_a_roll_back_no_spent_token_is_taken_again() {
    for rotations in 1..=3 {
        let scene = Scene::new().await;
        let signed_in = scene.rig.register("grace").await;
        let family = scene.family(signed_in.session);
        scene.snapshot(&family);
        let mut tokens = vec![signed_in.tokens.refresh_token.clone()];
        for _ in 0..rotations {
            tokens.push(scene.rig.refresh(tokens.last().unwrap()).await.unwrap().refresh_token);
        }
        scene.roll_back(&family);
        // what Redis would take now, though it is spent
        scene.refused(&tokens[0]).await;
        assert_eq!(scene.rig.ended(), [(signed_in.session, CloseCode::SessionRevoked)], "{rotations} rotations");
        scene.refused(tokens.last().unwrap()).await;
        scene.roll_back(&family);
        scene.refused(&tokens[0]).await;
    }
}

#[tokio::test]
async fn after_a_roll_back_the_live_token_is_forgotten_and_nothing_worse() {
    let scene = Scene::new().await;
    let signed_in = scene.rig.register("grace").await;
    let family = scene.family(signed_in.session);
    let second = scene.rig.refresh(&signed_in.tokens.refresh_token).await.unwrap();
    scene.snapshot(&family);
    let third = scene.rig.refresh(&second.refresh_token).await.unwrap();
    scene.roll_back(&family);
    scene.refused(&third.refresh_token).await;
    assert_eq!(scene.rig.ended(), []);
    assert_eq!(
        scene.rig.accounts.admit(&scene.rig.caller(&third.access_token).await).await,
        Ok(()),
        "it lives to its end"
    );
}

#[tokio::test]
async fn a_roll_back_of_a_rotation_that_the_row_never_heard_of_costs_nothing() {
    let scene = Scene::new().await;
    let first = scene.rig.register("grace").await;
    let second = scene.rig.refresh(&first.tokens.refresh_token).await.unwrap();
    let family = scene.family(first.session);
    scene.snapshot(&family);
    scene.rig.faults.raise.store(true, Ordering::SeqCst);
    assert_eq!(scene.rig.refresh(&second.refresh_token).await.unwrap_err().code, Code::Unavailable);
    scene.rig.faults.raise.store(false, Ordering::SeqCst);
    scene.roll_back(&family);
    let third = scene.rig.refresh(&second.refresh_token).await.unwrap();
    assert!(scene.rig.refresh(&third.refresh_token).await.is_ok());
}

#[tokio::test]
async fn g13_after_a_roll_back_nothing_of_a_revoked_session_is_let_in() {
    let scene = Scene::new().await;
    let out = scene.rig.register("grace").await;
    let caller = scene.rig.caller(&out.tokens.access_token).await;
    let family = scene.family(out.session);
    scene.snapshot(&family);
    let ticket = scene.rig.accounts.ticket(caller).await.unwrap().ticket;
    let replayed = scene.rig.accounts.ticket(caller).await.unwrap().ticket;
    scene.rig.accounts.logout(caller).await.unwrap();
    scene.roll_back(&family);
    assert_eq!(redis(&format!("DEL {}revoked", scene.prefix)), ":1");
    scene.refused(&out.tokens.refresh_token).await;

    // A node that started while Redis knew nothing of it: the row is asked at hello, and everybody hears of it.
    let another = scene.rig.another().await;
    assert_eq!(scene.rig.accounts.redeem(&ticket).await.unwrap_err().code, Code::Unauthenticated);
    let caller = another.redeem(&replayed).await.unwrap_or(caller);
    assert_eq!(another.admit(&caller).await, Err(CloseCode::SessionRevoked));
    assert!(another.authenticate(&out.tokens.access_token).await.is_err());
}

#[tokio::test]
async fn g13_a_revocation_that_redis_forgot_is_said_again() {
    let scene = Scene::new().await;
    let out = scene.rig.register("grace").await;
    scene.rig.accounts.logout(scene.rig.caller(&out.tokens.access_token).await).await.unwrap();
    assert_eq!(redis(&format!("DEL {}revoked", scene.prefix)), ":1");
    // The first look of a node is a review, and so is one a minute.
    let knows = scene.rig;
    let told = async {
        while knows.another().await.authenticate(&out.tokens.access_token).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
}

#[tokio::test]
async fn g15_a_revocation_said_again_ends_when_it_would_have() {
    let scene = Scene::new().await;
    let mut rig = scene.rig;
    let out = rig.register("grace").await;
    rig.accounts.logout(rig.caller(&out.tokens.access_token).await).await.unwrap();
    let tokens = rig.store.tokens.clone();
    let said = async || tokens.revoked(Millis(0), Millis(0)).await.unwrap();
    let first = said().await;
    assert_eq!(first.iter().map(|(session, _)| *session).collect::<Vec<_>>(), [out.session]);
    // Only a node knows it that has learnt it later.
    rig.pass(HOUR_MS);
    rig.restart().await;
    assert_eq!(redis(&format!("DEL {}revoked", scene.prefix)), ":1");
    let again = async {
        loop {
            match said().await {
                again if !again.is_empty() => return again,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(10), again).await.unwrap(),
        first,
        "or it would go round for ever"
    );
}

#[tokio::test]
async fn g13_what_another_node_revokes_ends_sockets_here_within_a_second() {
    let mut scene = Scene::new().await;
    let out = scene.rig.register("grace").await;
    let banned = scene.rig.register("ada.l").await;
    let another = scene.rig.another().await;
    let begun = tokio::time::Instant::now();
    scene.rig.accounts.logout(scene.rig.caller(&out.tokens.access_token).await).await.unwrap();
    scene.rig.accounts.ban(banned.user.id, true).await.unwrap();
    while another.authenticate(&out.tokens.access_token).await.is_ok()
        || another.authenticate(&banned.tokens.access_token).await.is_ok()
    {
        assert!(begun.elapsed() < Duration::from_secs(5), "never");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "a second, and a busy machine");
    let ended = scene.rig.ended();
    for session in [out.session, banned.session] {
        assert_eq!(ended.iter().filter(|(ended, _)| *ended == session).count(), 2, "here and there: {ended:?}");
    }
    scene.rig.restart().await;
    assert!(scene.rig.accounts.authenticate(&out.tokens.access_token).await.is_err());
}
