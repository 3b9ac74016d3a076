//! What operators and users do on one node is so on all: commands about nodes, a drain that is taken back, sessions that
//! end, one session per user.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use hyper::Method;
use loadtest::{Client, Rest, client::Push, crowd, rest::Call, socket::Ended};
use protocol::{
    Code, push,
    request::{Hello, Sync, Verb},
    rest::SignedIn,
};
use serde_json::Value;

use crate::{
    cluster::{Cluster, N_NODES},
    probes::Probes,
    rig::PATIENCE,
    support::{get, post},
};

/// What is promised; a busy machine is slower than that with everything else.
const OVER_WITHIN: Duration = Duration::from_secs(1);

/// A command against a node: what it says, as JSON.
fn ask(cluster: &mut Cluster, n: usize, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.args(arguments).args(["--config", "/dev/null", "--admin", cluster.node(n).admin_address()]);
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Waits until a node says this of another.
async fn until_state(cluster: &mut Cluster, by: usize, of: &str, wanted: &str) {
    let began = Instant::now();
    loop {
        let listed = ask(cluster, by, &["node", "ls", "-o", "json"]);
        let rows = listed["nodes"].as_array().unwrap();
        if rows.iter().any(|row| row["node"] == of && row["state"] == wanted) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "n{by} does not see {of} {wanted}: {listed}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A socket that stays whatever it is told.
async fn stubborn(cluster: &Cluster, n: usize, who: &SignedIn) -> Client {
    let token = Some(who.tokens.access_token.clone());
    let client = Client::connect(&cluster.target(n), Hello { token, ..Hello::default() }, None).await.unwrap();
    client.request::<push::Synced>(Verb::Sync(Sync::default())).await.unwrap();
    client
}

/// How long after `since` the socket was closed with this code.
async fn closed(client: &mut Client, code: u16, since: Instant) -> Duration {
    let ended = client.expect(PATIENCE, |push| if let Push::Ended(ended) = push { Some(ended) } else { None }).await;
    assert!(matches!(&ended, Ok(Ended::Closed { code: by, .. }) if *by == code), "{ended:?}");
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_lists_all_of_them_and_a_drain_is_seen_and_taken_back() {
    let mut cluster = Cluster::start().await;
    let mut probes = Probes::start(&cluster).await;
    let admins: Vec<String> = (0..N_NODES).map(|n| cluster.node(n).admin_address().to_owned()).collect();
    let status = ask(&mut cluster, 0, &["status", "-o", "json", "--ask", &admins[1], "--ask", &admins[2]]);
    assert_eq!(status["ready"], true);
    let rows = status["nodes"].as_array().unwrap();
    assert_eq!(rows.len(), N_NODES, "{status}");
    for row in rows {
        assert_eq!((&row["state"], &row["linked"]), (&"up".into(), &true.into()), "{row}");
        let here = row["here"] == true;
        for key in ["version", "uptime_s", "connections", "conversations"] {
            assert!(!row[key].is_null(), "{key}: {row}");
        }
        for key in ["queue_bytes", "round_trip_ms"] {
            assert_eq!(row[key].is_null(), here, "{key}: {row}");
        }
        assert_eq!(row["connections"], 1, "one device of the probes on each: {row}");
    }
    let owned: u64 = rows.iter().filter_map(|row| row["conversations"].as_u64()).sum();
    assert_eq!(owned, 15, "each of the probes' groups has one owner");

    let people = cluster.rig.people(1).await;
    let mut stays = stubborn(&cluster, 1, &people[0]).await;
    assert_eq!(tokio::task::block_in_place(|| post(&admins[1], "/admin/drain", "")).status, 202);
    until_state(&mut cluster, 0, "n1", "draining").await;
    let bye = stays.expect(PATIENCE, |push| if let Push::Bye(bye) = push { Some(bye) } else { None }).await.unwrap();
    assert_eq!((u16::from(bye.code), bye.to), (4001, None), "it cannot know where clients reach the others");
    assert_eq!(tokio::task::block_in_place(|| get(&admins[1], "/ready")).status, 503);
    stays.request::<push::Synced>(Verb::Sync(Sync::default())).await.expect("it works on until it is closed");
    let undrained = tokio::task::block_in_place(|| post(&admins[1], "/admin/undrain", ""));
    assert_eq!(undrained.status, 200, "{}", undrained.body);
    until_state(&mut cluster, 0, "n1", "up").await;
    assert_eq!(tokio::task::block_in_place(|| get(&admins[1], "/ready")).status, 200);
    stays.request::<push::Synced>(Verb::Sync(Sync::default())).await.expect("and after");
    for n in 0..N_NODES {
        probes.write(n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_a_session_that_ends_on_one_node_is_over_on_every_node_within_a_second() {
    let mut cluster = Cluster::start_with(&[("auth.single_session", "true")]).await;
    let rests: Vec<Rest> = (0..N_NODES).map(|n| Rest::new(&cluster.target(n)).unwrap()).collect();
    let me = |who: &SignedIn| Call::new(Method::GET, "users/me").by(&who.tokens.access_token);

    // signed out on one
    let first = crowd::users(&rests[0], 1).await.unwrap().remove(0);
    let mut sockets = Vec::new();
    for n in 0..N_NODES {
        sockets.push(stubborn(&cluster, n, &first).await);
    }
    let asked = Instant::now();
    let out = rests[0].raw(Call::new(Method::POST, "auth/logout").by(&first.tokens.access_token)).await.unwrap();
    assert_eq!(out.status, 204);
    for (n, socket) in sockets.iter_mut().enumerate() {
        let took = closed(socket, 4502, asked).await;
        println!("signed out on n0: closed on n{n} after {took:.1?}");
        assert!(took < OVER_WITHIN);
        let refused = rests[n].call::<Value>(me(&first)).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Unauthenticated), "on n{n}");
    }

    // one session per user: signing in on another node ends the one before, wherever its sockets are
    let mut now = crowd::another(&rests[0], &first, 0).await.unwrap();
    for n in 0..N_NODES {
        let mut sockets = Vec::new();
        for at in 0..N_NODES {
            sockets.push(stubborn(&cluster, at, &now).await);
        }
        let asked = Instant::now();
        let next = crowd::another(&rests[n], &first, 1 + n).await.unwrap();
        for (at, socket) in sockets.iter_mut().enumerate() {
            let took = closed(socket, 4502, asked).await;
            println!("signed in anew on n{n}: closed on n{at} after {took:.1?}");
            assert!(took < OVER_WITHIN);
            assert!(rests[at].call::<Value>(me(&now)).await.is_err(), "on n{at}");
            rests[at].call::<Value>(me(&next)).await.unwrap();
        }
        now = next;
    }

    // banned by an operator
    let mut socket = stubborn(&cluster, 2, &now).await;
    let asked = Instant::now();
    ask(&mut cluster, 1, &["user", "ban", &first.user.username]);
    let took = closed(&mut socket, 4503, asked).await;
    println!("banned on n1: closed on n2 after {took:.1?}");
    assert!(took < OVER_WITHIN);
}
