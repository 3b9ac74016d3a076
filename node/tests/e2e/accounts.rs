//! Accounts: who is signed in, since when, and until when.

use std::time::{Duration, Instant};

use hyper::Method;
use loadtest::{rest::Call, socket::Upgrade};
use serde_json::{Value, json};

use crate::{
    forge,
    house::{House, PASSWORD, Person, name},
    wire::Wire,
};

/// A revocation is promised to act within a second; it must within ten.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);

async fn assert_signed_in(who: &Person) {
    assert_eq!(who.get("users/me").await.is(200)["id"], who.id.as_str());
}

async fn assert_signed_out(who: &Person) {
    who.get("users/me").await.refused(401, "unauthenticated");
    who.refresh_with(&who.refresh).await.refused(401, "unauthenticated");
    let mut wire = Wire::connect(&who.house.target(), &Upgrade::default()).await;
    wire.say("hello", json!({"token": who.access})).await;
    assert!(matches!(wire.ended().await, 4501 | 4502));
}

#[tokio::test]
async fn registering_signs_in_and_only_the_password_signs_in_again() {
    let house = House::shared();
    let ann = house.person().await;
    assert_signed_in(&ann).await;
    assert_signed_in(&ann.on("second").await).await;

    let login = |login: &str, password: &str| json!({"login": login, "password": password});
    let upper = house.open(Method::POST, "auth/login", login(&ann.name.to_uppercase(), PASSWORD)).await.is(200);
    assert_eq!(upper["user"]["id"], ann.id.as_str(), "names have no case");
    let wrong = house.open(Method::POST, "auth/login", login(&ann.name, "wrong horse battery staple")).await;
    let unknown = house.open(Method::POST, "auth/login", login("nobodyatall", "wrong horse battery staple")).await;
    assert_eq!(wrong.said(), unknown.said(), "nobody learns which names exist from signing in");
    wrong.refused(401, "unauthenticated");

    let again = json!({"username": ann.name.to_uppercase(), "password": PASSWORD});
    let taken = house.open(Method::POST, "auth/register", again).await.refused(409, "already_exists");
    assert_eq!(taken["details"]["field"], "username");
    let weak = json!({"username": name(), "password": "password1"});
    house.open(Method::POST, "auth/register", weak).await.refused(400, "bad_field");
    let by_mail = json!({"username": name(), "password": PASSWORD, "email": "ann@example.org"});
    house.open(Method::POST, "auth/register", by_mail).await.is(201);
    house.open(Method::POST, "auth/login", login("ann@example.org", PASSWORD)).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn g14_a_refresh_token_works_once_and_its_replay_ends_the_session() {
    let ann = House::shared().person().await;
    let mut wire = ann.live("first").await;
    let other = ann.on("other").await;

    let second = ann.refresh_with(&ann.refresh).await.is(200);
    let lost_reply = ann.refresh_with(&ann.refresh).await.is(200);
    assert_eq!(second["refresh_token"], lost_reply["refresh_token"], "a lost reply is repeated");
    let second = second["refresh_token"].as_str().unwrap().to_owned();
    let third = ann.refresh_with(&second).await.is(200);
    assert_ne!(third["refresh_token"], second.as_str());

    // the second was used, so the reply that carried it was not lost: the first is in foreign hands
    ann.refresh_with(&ann.refresh).await.refused(401, "unauthenticated");
    let started = Instant::now();
    assert_eq!(wire.ended().await, 4502);
    println!("socket ended {:?} after the replay was answered", started.elapsed());
    assert!(started.elapsed() < REVOKED_WITHIN);
    for dead in [third["refresh_token"].as_str().unwrap(), &second] {
        ann.refresh_with(dead).await.refused(401, "unauthenticated");
    }
    let newest = Person { access: third["access_token"].as_str().unwrap().to_owned(), ..ann.clone() };
    newest.get("users/me").await.refused(401, "unauthenticated");
    assert_signed_in(&other).await;
}

#[tokio::test]
async fn g14_many_refreshes_at_once_have_one_successor() {
    let ann = House::shared().person().await;
    let asked = (0..8).map(|_| {
        let ann = ann.clone();
        tokio::spawn(async move { ann.refresh_with(&ann.refresh).await.is(200)["refresh_token"].clone() })
    });
    let asked: Vec<_> = asked.collect();
    let mut successors = Vec::new();
    for one in asked {
        successors.push(one.await.unwrap());
    }
    assert!(successors.iter().all(|one| *one == successors[0]), "{successors:?}");
    assert_signed_in(&ann).await;
}

#[tokio::test]
async fn g13_ending_a_session_ends_its_sockets_and_tokens_and_no_other() {
    let house = House::shared();
    let ann = house.person().await;
    let (phone, tablet, desk) = (ann.on("phone").await, ann.on("tablet").await, ann.on("desk").await);
    let stranger = house.person().await;
    let mut survivor = ann.live("first").await;

    let listed = ann.get("auth/sessions").await.is(200);
    let devices: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["device"].clone()).collect();
    assert_eq!(devices.len(), 4, "{devices:?}");
    let current: Vec<_> = listed["items"].as_array().unwrap().iter().filter(|item| item["current"] == true).collect();
    assert_eq!((current.len(), &current[0]["id"]), (1, &json!(ann.session)));

    // by oneself, by another session, and all others at once
    let ways: [(&Person, &Person, Method, String); 3] = [
        (&phone, &phone, Method::POST, "auth/logout".into()),
        (&tablet, &ann, Method::DELETE, format!("auth/sessions/{}", tablet.session)),
        (&desk, &ann, Method::POST, "auth/logout-others".into()),
    ];
    for (victim, by, method, path) in ways {
        let (mut one, mut two) = (victim.live("one").await, victim.live("two").await);
        stranger.delete(&format!("auth/sessions/{}", victim.session)).await.refused(404, "not_found");
        assert_signed_in(victim).await;
        house.call(Call::new(method, &path).by(&by.access)).await.is(204);
        let started = Instant::now();
        assert_eq!((one.ended().await, two.ended().await), (4502, 4502), "{path}");
        println!("{path}: both sockets ended within {:?}", started.elapsed());
        assert!(started.elapsed() < REVOKED_WITHIN);
        assert_signed_out(victim).await;
    }
    assert_signed_in(&ann).await;
    survivor.pushes().await;
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    let house = House::shared();
    let ann = house.person().await;
    let other = ann.on("other").await;
    let mut socket = other.live("x").await;
    let new = "an entirely different lantern";
    ann.post("auth/password", json!({"old": "not the old one", "new": new})).await.refused(400, "bad_field");
    assert_signed_in(&other).await;
    ann.post("auth/password", json!({"old": PASSWORD, "new": new})).await.is(204);
    assert_eq!(socket.ended().await, 4502);
    assert_signed_out(&other).await;
    assert_signed_in(&ann).await;
    let login = |password| json!({"login": ann.name, "password": password});
    house.open(Method::POST, "auth/login", login(PASSWORD)).await.refused(401, "unauthenticated");
    house.open(Method::POST, "auth/login", login(new)).await.is(200);
}

#[tokio::test]
async fn a_deleted_or_banned_account_is_gone_everywhere() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let mut socket = ann.live("x").await;
    ann.delete("users/me").await.is(204);
    assert!(matches!(socket.ended().await, 4502 | 4510));
    assert_signed_out(&ann).await;
    let login = |who: &Person| json!({"login": who.name, "password": PASSWORD});
    house.open(Method::POST, "auth/login", login(&ann)).await.refused(401, "unauthenticated");
    bob.get(&format!("users/{}", ann.id)).await.refused(404, "not_found");
    let taken = json!({"username": ann.name, "password": PASSWORD});
    house.open(Method::POST, "auth/register", taken).await.refused(409, "already_exists");

    let mut socket = bob.live("x").await;
    house.command(&["user", "ban", &bob.name]);
    assert_eq!(socket.ended().await, 4503);
    bob.get("users/me").await.refused(401, "unauthenticated");
    house.open(Method::POST, "auth/login", login(&bob)).await.refused(403, "forbidden");
    house.command(&["user", "unban", &bob.name]);
    house.open(Method::POST, "auth/login", login(&bob)).await.is(200);
}

#[tokio::test]
async fn a_ticket_opens_one_socket_once() {
    let house = House::shared();
    let ann = house.person().await;
    let ticket =
        |reply: Value| Upgrade { ticket: Some(reply["ticket"].as_str().unwrap().to_owned()), ..Upgrade::default() };
    let good = ticket(ann.post("auth/ticket", json!({})).await.is(201));
    let mut wire = Wire::connect(&house.target(), &good).await;
    assert_eq!(wire.ask("hello", json!({})).await["user"], ann.id.as_str());
    assert_eq!(Wire::connect(&house.target(), &good).await.ended().await, 4501, "twice");
    let bad = Upgrade { ticket: Some("tk_00".to_owned()), ..Upgrade::default() };
    assert_eq!(Wire::connect(&house.target(), &bad).await.ended().await, 4501, "made up");

    let late = ticket(ann.post("auth/ticket", json!({})).await.is(201));
    ann.post("auth/logout", json!({})).await.is(204);
    assert_eq!(wire.ended().await, 4502);
    assert_eq!(Wire::connect(&house.target(), &late).await.ended().await, 4501, "of a session that ended");
}

#[tokio::test]
async fn the_same_device_replaces_its_predecessor_and_nothing_else() {
    let ann = House::shared().person().await;
    let phone = ann.on("phone").await;
    let (mut tab, mut other_tab) = (phone.live("tab-1").await, phone.live("tab-2").await);
    let mut elsewhere = ann.live("tab-1").await;

    // the same (session, device) says hello again: the ghost goes
    let mut successor = phone.live("tab-1").await;
    assert_eq!(tab.ended().await, 4505);
    other_tab.pushes().await;
    elsewhere.pushes().await;

    // the same device signs in again: its whole session is replaced
    let again = ann.on("phone").await;
    assert_ne!(again.session, phone.session);
    assert_eq!((successor.ended().await, other_tab.ended().await), (4505, 4505));
    assert_signed_out(&phone).await;
    elsewhere.pushes().await;
    assert_signed_in(&again).await;
    assert_eq!(ann.get("auth/sessions").await.is(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn over_the_cap_the_oldest_session_ends() {
    let house = House::start(&[("auth.sessions_per_user_max", "2"), ("storage.backend", "memory")]);
    let ann = house.person().await;
    let mut oldest = ann.live("x").await;
    let second = ann.on("second").await;
    oldest.pushes().await;
    let third = ann.on("third").await;
    assert_eq!(oldest.ended().await, 4502);
    assert_signed_out(&ann).await;
    assert_signed_in(&second).await;
    assert_signed_in(&third).await;
}

#[tokio::test]
async fn with_single_session_the_last_sign_in_is_the_only_one() {
    let house = House::start(&[("auth.single_session", "true"), ("storage.backend", "memory")]);
    let ann = house.person().await;
    let mut first = ann.live("x").await;
    let second = ann.on("second").await;
    assert_eq!(first.ended().await, 4502);
    assert_signed_out(&ann).await;
    assert_signed_in(&second).await;
}

#[tokio::test]
async fn a_crash_signs_nobody_out_and_nobody_back_in() {
    let house = House::mortal(&[]);
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let phone = ann.on("phone").await;

    // killed right after the answer, each time
    phone.post("auth/logout", json!({})).await.is(204);
    house.crash();
    assert_signed_out(&phone).await;
    assert_signed_in(&ann).await;

    let rotated = bob.refresh_with(&bob.refresh).await.is(200);
    house.crash();
    let lost_reply = bob.refresh_with(&bob.refresh).await.is(200);
    assert_eq!(lost_reply["refresh_token"], rotated["refresh_token"], "the grace outlives the process");
    let next = bob.refresh_with(rotated["refresh_token"].as_str().unwrap()).await.is(200);
    house.crash();
    bob.refresh_with(&bob.refresh).await.refused(401, "unauthenticated");
    house.crash();
    bob.refresh_with(next["refresh_token"].as_str().unwrap()).await.refused(401, "unauthenticated");
    bob.get("users/me").await.refused(401, "unauthenticated");

    let ticket = eve.post("auth/ticket", json!({})).await.is(201)["ticket"].as_str().unwrap().to_owned();
    let upgrade = Upgrade { ticket: Some(ticket), ..Upgrade::default() };
    Wire::connect(&house.target(), &upgrade).await.ask("hello", json!({})).await;
    house.crash();
    assert_eq!(Wire::connect(&house.target(), &upgrade).await.ended().await, 4501, "spent before the crash");
    assert_signed_in(&eve).await;
    assert_signed_out(&phone).await;
}

#[tokio::test]
async fn rotating_keys_signs_nobody_out() {
    let house = House::mortal(&[]);
    let ann = house.person().await;
    let mut wire = ann.live("x").await;
    assert_eq!(forge::public_keys(&house).len(), 1);
    let printed = house.command(&["keys", "rotate"]);
    let listed = house.command(&["keys", "ls"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.lines().next().unwrap().contains("signs"), "{listed}");
    assert_eq!(forge::public_keys(&house).len(), 2, "{printed}");

    assert_signed_in(&ann).await;
    wire.ask("sync", json!({})).await;
    let fresh = ann.refresh_with(&ann.refresh).await.is(200);
    let fresh = fresh["access_token"].as_str().unwrap();
    assert_ne!(forge::parts(fresh).0["kid"], forge::parts(&ann.access).0["kid"]);
    wire.ask("auth", json!({"token": fresh})).await;
    house.crash();
    assert_signed_in(&ann).await;
    assert_signed_in(&Person { access: fresh.to_owned(), ..ann.clone() }).await;
}

#[tokio::test]
async fn nothing_that_people_say_or_know_reaches_the_log() {
    let house = House::start(&[("log.level", "trace"), ("storage.backend", "memory")]);
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let mut wire = ann.live("ann's telephone").await;
    wire.ask("send", json!({"c": c, "cid": "x", "text": "the body of a post"})).await;
    wire.raw("the body of a frame that is none").await;
    wire.push("err").await;
    ann.says(&c, "the body of another").await;
    ann.patch("users/me", json!({"display_name": "Ann of the Lanterns"})).await.is(200);
    let ticket = ann.post("auth/ticket", json!({})).await.is(201)["ticket"].as_str().unwrap().to_owned();
    let upgrade = Upgrade { ticket: Some(ticket.clone()), ..Upgrade::default() };
    Wire::connect(&house.target(), &upgrade).await.ask("hello", json!({})).await;
    let wrong = json!({"login": ann.name, "password": "the wrong password"});
    house.open(Method::POST, "auth/login", wrong).await.refused(401, "unauthenticated");
    ann.refresh_with(&ann.refresh).await.is(200);
    ann.get(&format!("users?username={}", bob.name)).await.is(200);
    let log = house.log();
    assert!(log.lines().count() > 1, "nothing is logged at all: {log}");
    let secrets = [
        PASSWORD,
        "the wrong password",
        &ann.access,
        &ann.refresh,
        &ticket,
        &ann.name,
        &bob.name,
        "the body of",
        "Lanterns",
        "telephone",
    ];
    for secret in secrets {
        let found = log.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
}
