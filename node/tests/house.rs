//! Commands that work on the stores themselves: migrate, backup, export, import. What a node has acknowledged is there in
//! the new house, and nobody is signed out.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Output};

use loadtest::{
    Node, Starter,
    servers::{self, Cql, Prefix},
};
use serde_json::{Value, json};
use support::{Answer, PATIENCE, get, http, post};

mod support;

fn starter(data: &Path) -> Starter {
    Starter::new(env!("CARGO_BIN_EXE_starling"), data)
}

/// A command on its own: exit code, stdout, stderr.
fn run(starter: &Starter, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = starter.command(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[track_caller]
fn done(starter: &Starter, arguments: &[&str]) -> String {
    let (code, out, err) = run(starter, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

#[track_caller]
fn refused(starter: &Starter, arguments: &[&str], reason: &str) {
    let (code, out, err) = run(starter, arguments);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(reason), "{reason:?} is not in {err}");
}

/// What somebody who is signed in asks.
fn ask(node: &Node, who: &Value, method: &str, path: &str, body: &Value) -> Answer {
    let token = format!("Bearer {}", who["access_token"].as_str().unwrap());
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http(node.client_address(), method, path, &headers, &body)
}

fn register(node: &Node, name: &str) -> Value {
    let body = json!({ "username": name, "password": "correct horse battery staple", "device": "phone" });
    let answer = post(node.client_address(), "/v1/auth/register", &body.to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

fn say(node: &Node, who: &Value, c: &str, text: &str) {
    let answer =
        ask(node, who, "POST", &format!("/v1/conversations/{c}/messages"), &json!({ "text": text, "cid": text }));
    assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
}

fn history(node: &Node, who: &Value, c: &str) -> Value {
    let answer = ask(node, who, "GET", &format!("/v1/conversations/{c}/messages"), &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Two people, a conversation, twenty posts.
fn inhabit(node: &Node) -> (Value, Value, String) {
    let (ada, ben) = (register(node, "ada"), register(node, "ben"));
    let group = json!({ "kind": "group", "title": "Move", "members": [ben["user"]["id"]] });
    let made = ask(node, &ada, "POST", "/v1/conversations", &group);
    assert_eq!(made.status, 201, "{}", made.body);
    let c = made.json()["id"].as_str().unwrap().to_owned();
    for n in 0..20 {
        say(node, if n % 2 == 0 { &ada } else { &ben }, &c, &format!("message {n}"));
    }
    let read = ask(node, &ben, "POST", &format!("/v1/conversations/{c}/read"), &json!({ "seq": 7 }));
    assert!(read.status < 300, "{}", read.body);
    (ada, ben, c)
}

fn refresh(node: &Node, who: &Value) -> Value {
    let body = json!({ "refresh_token": who["refresh_token"] });
    let answer = post(node.client_address(), "/v1/auth/refresh", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// What they said and their sign-ins came along, and they talk on. Answers what Ben is signed in with now.
#[track_caller]
fn settle_in(node: &Node, ada: &Value, ben: &Value, c: &str, before: &Value) -> Value {
    assert_eq!(history(node, ada, c), *before, "with the access token of the old house");
    let ben = refresh(node, ben);
    say(node, &ben, c, "message 1");
    assert_eq!(history(node, ada, c), *before, "said again, it is known");
    say(node, &ben, c, "here we are");
    ben
}

#[test]
fn a_house_moves_with_everybody_signed_in() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    let file = dir.path().join("house.jsonl").display().to_string();
    let mut node = starter(&old).start().unwrap();
    let (ada, ben, c) = inhabit(&node);
    let before = history(&node, &ada, &c);
    refused(&starter(&old), &["export", &file], "in use by another process; stop it");
    assert_eq!(node.terminate(PATIENCE).unwrap().code(), Some(0));

    let out = done(&starter(&old), &["export", &file]);
    assert!(
        out.contains("2 users with 2 past sign-ins, 2 sessions (2 can be refreshed), 1 conversations with 21 events"),
        "{out}"
    );
    refused(&starter(&old), &["export", &file], "it is there already");
    refused(&starter(&dir.path().join("neither")), &["export", &file], "is this the configuration of the node?");
    let out = done(&starter(&new), &["import", &file]);
    assert!(out.contains("imported and compared 2 users") && out.contains("auth.secret"), "{out}");
    refused(&starter(&new), &["import", &file], "the store is not empty");
    done(&starter(&new), &["import", "--resume", &file]);

    // another secret: the keys that came along cannot be opened
    let (code, _, err) = run(&starter(&new), &["serve"]);
    assert!(code == 1 && err.contains("auth.secret_file must hold the secret"), "{err}");
    fs::copy(old.join("auth.secret"), new.join("auth.secret")).unwrap();
    let node = starter(&new).start().unwrap();
    settle_in(&node, &ada, &ben, &c, &before);
}

#[test]
fn a_house_moves_to_cql_and_redis_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let keyspace = Cql::started().keyspace();
    let prefix = Prefix { url: servers::redis_url(), name: keyspace.name.clone() };
    let embedded = |name: &str| starter(&dir.path().join(name)).set("auth.secret", "5e".repeat(32));
    let mut real = embedded("real")
        .set("storage.backend", "cql")
        .set("storage.cql.nodes", &keyspace.server.node)
        .set("storage.cql.keyspace", &keyspace.name)
        .set("storage.cql.replication", 1)
        .set("tokens.backend", "redis")
        .set("tokens.redis.url", &prefix.url)
        .set("cluster.name", &prefix.name);
    if let (Some(user), Some(password)) = (&keyspace.server.username, &keyspace.server.password) {
        real = real.set("storage.cql.username", user).set("storage.cql.password", password);
    }
    let mut node = embedded("old").start().unwrap();
    let (ada, ben, c) = inhabit(&node);
    let before = history(&node, &ada, &c);
    assert_eq!(node.terminate(PATIENCE).unwrap().code(), Some(0));
    done(&embedded("old"), &["export", &file("1.jsonl")]);

    let three = real.clone().set("storage.cql.replication", 3);
    for command in [&["migrate"][..], &["migrate", "--plan"], &["import", &file("1.jsonl")]] {
        refused(&three, command, "a single server, for trying out, takes 1");
    }
    let planned = done(&real, &["migrate", "--plan"]);
    assert!(planned.contains("0001_start.cql"), "{planned}");
    let applied = done(&real, &["migrate"]);
    assert!(applied.contains("applied 0001_start.cql"), "{applied}");
    assert_eq!(done(&real, &["migrate", "--plan"]), "nothing to apply\n");
    let (_, checked, _) = run(&real, &["check"]);
    for finding in
        ["storage.cql conditional writes: work, in ", "storage.cql replication: ", "tokens.redis round trip: "]
    {
        assert!(checked.contains(&format!("ok    {finding}")), "{finding:?} is not in {checked}");
    }
    // the servers for tests need not keep what they acknowledge, and then this is all that is wrong with them
    let mut failed = checked.lines().filter(|line| line.starts_with("FAIL"));
    assert!(failed.all(|line| line.contains("commitlog_sync is periodic")), "{checked}");
    done(&real, &["import", &file("1.jsonl")]);
    refused(&real, &["backup", &file("x")], "storage.backend is another");
    let mut node = real.start().unwrap();
    let ben = settle_in(&node, &ada, &ben, &c, &before);
    let before = history(&node, &ada, &c);
    assert_eq!(node.terminate(PATIENCE).unwrap().code(), Some(0));

    done(&real, &["export", &file("2.jsonl")]);
    done(&embedded("new"), &["import", &file("2.jsonl")]);
    let node = embedded("new").start().unwrap();
    assert_eq!(history(&node, &ada, &c), before);
    refresh(&node, &ben);
}

#[test]
fn a_backup_is_taken_from_a_running_node_and_starts_another() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    let node = starter(&old).start().unwrap();
    let (ada, _, c) = inhabit(&node);
    let before = history(&node, &ada, &c);
    fs::create_dir(&new).unwrap();
    let file = new.join("starling.db").display().to_string();
    let out = done(&starter(&old), &["backup", &file]);
    assert!(out.contains("looked through") && out.contains("auth.secret beside it"), "{out}");
    refused(&starter(&old), &["backup", &file], "it is there already");
    refused(&starter(&old).set("storage.backend", "memory"), &["backup", "x"], "storage.backend is another");
    say(&node, &ada, &c, "after the backup");
    assert_eq!(get(node.admin_address(), "/ready").status, 200);
    fs::copy(old.join("auth.secret"), new.join("auth.secret")).unwrap();
    let restored = starter(&new).start().unwrap();
    assert_eq!(history(&restored, &ada, &c), before);
}

#[test]
fn migrations_are_planned_applied_once_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(&dir.path().join("data"));
    assert_eq!(done(&starter, &["migrate", "--plan"]), "would apply 0001_start.sql\nwould apply 0002_sign_ins.sql\n");
    assert!(!dir.path().join("data").exists(), "a plan changes nothing");
    assert_eq!(done(&starter, &["migrate"]), "applied 0001_start.sql\napplied 0002_sign_ins.sql\n");
    for again in [&["migrate", "--plan"][..], &["migrate"]] {
        assert_eq!(done(&starter, again), "nothing to apply\n");
    }
}
