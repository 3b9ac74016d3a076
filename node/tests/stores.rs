//! A node and its stores: it waits for those that are away, ends on those that refuse, and goes on without Redis.
#![allow(clippy::unwrap_used)]

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use loadtest::{
    Starter,
    proxy::{Fault, Proxy},
    servers::{self, Prefix},
    starter::free_address,
};
use support::{PATIENCE, Place, get, http, post};

mod support;

const REGISTER: &str = r#"{"username":"ada","password":"correct horse battery staple"}"#;

/// Asks until it is so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A wire to Redis that can be cut, keys of its own there, and a node that keeps its tokens behind it.
struct Rig {
    wire: Proxy,
    starter: Starter,
    client: String,
    admin: String,
    _prefix: Prefix,
    _place: Place,
}

async fn rig() -> Rig {
    let place = Place::new();
    let url = servers::redis_url();
    let server = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let wire = Proxy::start(&server).await.unwrap();
    let [client, admin] = [(); 2].map(|()| free_address().unwrap().to_string());
    let name = format!("stores-{}-{}", std::process::id(), client.rsplit(':').next().unwrap());
    let starter = Starter::new(env!("CARGO_BIN_EXE_starling"), place.data())
        .set("storage.backend", "memory")
        .set("tokens.backend", "redis")
        .set("tokens.redis.url", format!("redis://{}/", wire.address()))
        .set("cluster.name", &name)
        .set("listen.client", &client)
        .set("listen.admin", &admin);
    Rig { wire, starter, client, admin, _prefix: Prefix { url, name }, _place: place }
}

impl Rig {
    fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let command = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(arguments)
            .args(["--config", "/dev/null", "--admin", &self.admin])
            .output();
        let Output { status, stdout, stderr } = command.unwrap();
        (status.code().unwrap(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    }

    fn is_up(&self) -> bool {
        std::net::TcpStream::connect(&self.admin).is_ok() && get(&self.admin, "/health").status == 200
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_store_is_away_says_so_to_everybody_and_serves_as_soon_as_it_is_there() {
    let rig = rig().await;
    rig.wire.set(Fault::Cut);
    let starter = rig.starter.clone();
    let starting = std::thread::spawn(move || starter.start());
    tokio::task::block_in_place(|| {
        eventually("alive", || rig.is_up());
        eventually("a reason", || get(&rig.admin, "/ready").body.contains("cannot reach the Redis on"));
        assert_eq!(get(&rig.admin, "/ready").status, 503);
        assert_eq!(get(&rig.admin, "/metrics").status, 200);
        let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
        for answer in [
            post(&rig.client, "/v1/auth/register", REGISTER),
            get(&rig.client, "/v1/conversations"),
            http(&rig.client, "GET", "/v1/ws", &upgrade, ""),
        ] {
            assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(answer.header("x-request-id").is_some());
        }
        let (code, said) = rig.ask(&["status"]);
        assert!(code == 0 && said.contains("not ready: cannot reach the Redis on"), "{said}");
        let (code, said) = rig.ask(&["keys", "ls"]);
        assert!(code == 1 && said.contains("cannot reach the Redis on"), "{said}");
        assert!(!starting.is_finished());

        let back = Instant::now();
        rig.wire.set(Fault::None);
        let node = starting.join().unwrap().unwrap();
        assert!(back.elapsed() < PATIENCE);
        assert_eq!(get(&rig.admin, "/ready").status, 200);
        assert_eq!(post(&rig.client, "/v1/auth/register", REGISTER).status, 201);
        assert_eq!(node.log().matches("waiting for the stores").count(), 1, "{}", node.log());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_ends_when_it_is_told_to() {
    let rig = rig().await;
    rig.wire.set(Fault::Cut);
    tokio::task::block_in_place(|| {
        for signal in [&["kill", "-TERM"][..], &["kill", "-INT"]] {
            let mut command = rig.starter.command(&["serve"]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            eventually("alive", || rig.is_up());
            let told = Instant::now();
            Command::new(signal[0]).args(&signal[1..]).arg(child.id().to_string()).status().unwrap();
            let Output { status, stdout, .. } = child.wait_with_output().unwrap();
            assert_eq!((status.code(), stdout.as_slice()), (Some(0), &b""[..]), "it never was ready");
            assert!(told.elapsed() < PATIENCE);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stays_ready_without_redis_and_says_what_is_wrong() {
    let rig = rig().await;
    tokio::task::block_in_place(|| {
        let _node = rig.starter.start().unwrap();
        let ready = get(&rig.admin, "/ready").json();
        assert_eq!((ready["ready"].clone(), ready["degraded"].clone()), (true.into(), serde_json::json!([])));
        rig.wire.set(Fault::Cut);
        eventually("degraded", || get(&rig.admin, "/ready").body.contains("tokens: "));
        assert_eq!(get(&rig.admin, "/ready").status, 200);
        let (code, said) = rig.ask(&["status"]);
        assert!(code == 0 && said.contains("  ready\n") && said.contains("degraded: tokens: "), "{said}");
        let metrics = get(&rig.admin, "/metrics").body;
        assert!(metrics.contains("starling_store_up{store=\"tokens\"} 0"), "{metrics}");
        assert!(metrics.contains("starling_store_up{store=\"history\"} 1"), "{metrics}");
        rig.wire.set(Fault::None);
        eventually("whole again", || !get(&rig.admin, "/ready").body.contains("tokens: "));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_ends_the_node_with_its_line() {
    let rig = rig().await;
    tokio::task::block_in_place(|| {
        let wrong = format!("redis://nobody:hush@{}/", rig.wire.address());
        let Output { status, stdout, stderr } =
            rig.starter.clone().set("tokens.redis.url", wrong).command(&["serve"]).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        let line = said.lines().find(|line| line.starts_with("starling: ")).unwrap_or_default();
        assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{said}");
        assert!(line.contains("cannot use the Redis on"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    });
}
