//! What an operator does to a running node: commands, restarts, signals, and what is found in the logs afterwards.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Output, Stdio},
};

use loadtest::Node;
use support::{PATIENCE, Place, get, http, node, post, starter};

mod support;

/// A command against a running node: exit code, stdout, stderr.
fn ask(node: &Node, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(arguments)
        .args(["--config", "/dev/null", "--admin", node.admin_address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn login(node: &Node, name: &str) -> support::Answer {
    let body = format!(r#"{{"login":"{name}","password":"correct horse battery staple"}}"#);
    post(node.client_address(), "/v1/auth/login", &body)
}

fn me(node: &Node, token: &str) -> u16 {
    http(node.client_address(), "GET", "/v1/users/me", &[("authorization", &format!("Bearer {token}"))], "").status
}

#[test]
fn accounts_are_made_shown_banned_and_unbanned() {
    let (node, _dir) = node(&[]);
    let (code, id, err) = ask(&node, &["user", "add", "ada"], "correct horse battery staple\n");
    assert_eq!(code, 0, "{err}");
    assert!(id.starts_with("u_"), "{id}");
    let (code, shown, _) = ask(&node, &["user", "show", "ada", "-o", "json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, shown["id"].as_str().unwrap(), shown["username"].as_str().unwrap()), (0, id.trim(), "ada"));
    let (code, _, err) = ask(&node, &["user", "show", "nobody"], "");
    assert_eq!(code, 1);
    assert!(err.contains("404"), "{err}");
    let (code, _, err) = ask(&node, &["user", "add", "bob"], "short\n");
    assert_eq!(code, 1, "{err}");

    let token = login(&node, "ada").json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(me(&node, &token), 200);
    assert_eq!(ask(&node, &["user", "ban", "ada"], "").0, 0);
    assert_ne!(login(&node, "ada").status, 200);
    assert_ne!(me(&node, &token), 200);
    assert_eq!(ask(&node, &["user", "unban", id.trim()], "").0, 0, "by id as well");
    assert_eq!(login(&node, "ada").status, 200);
    let (_, shown, _) = ask(&node, &["user", "show", "ada", "-o", "json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let sign_ins = shown["sign_ins"].as_array().unwrap();
    assert_eq!(sign_ins.len(), 3, "when it was made, and two that were let in: {sign_ins:?}");
    assert!(sign_ins.iter().all(|sign_in| sign_in["address"] == "127.0.0.1"), "{sign_ins:?}");
    let (_, shown, _) = ask(&node, &["user", "show", "ada"], "");
    assert_eq!(shown.lines().filter(|line| line.starts_with("signed in: ")).count(), 3, "{shown}");
}

#[test]
fn rotating_keys_signs_nobody_out() {
    let (node, _dir) = node(&[]);
    ask(&node, &["user", "add", "ada"], "correct horse battery staple\n");
    let token = login(&node, "ada").json()["access_token"].as_str().unwrap().to_owned();
    let (code, out, _) = ask(&node, &["keys", "rotate"], "");
    assert_eq!(code, 0, "{out}");
    let (_, keys, _) = ask(&node, &["keys", "ls", "-o", "json"], "");
    let keys: Vec<serde_json::Value> = serde_json::from_str(&keys).unwrap();
    assert_eq!(keys.iter().map(|key| key["signs"].as_bool().unwrap()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(get(node.client_address(), "/.well-known/jwks.json").json()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(me(&node, &token), 200);
    assert_eq!(login(&node, "ada").status, 200);
}

#[test]
fn status_is_for_people_and_programs_and_drain_ends_the_process() {
    let (mut node, _dir) = node(&[("node.id", "tern-1")]);
    let (code, out, _) = ask(&node, &["status"], "");
    assert_eq!(code, 0);
    assert!(out.starts_with("node tern-1  version ") && out.contains("  ready\n"), "{out}");
    let (_, out, _) = ask(&node, &["status", "-o", "json"], "");
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status["node"].as_str(), status["ready"].as_bool()), (Some("tern-1"), Some(true)));
    assert_eq!(status["nodes"][0]["node"], "tern-1", "the table is in it: {status}");
    let (_, out, _) = ask(&node, &["node", "ls"], "");
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0][0], &rows[1][..2]), (2, "NODE", &["tern-1*", "up"][..]), "{out}");
    assert_eq!(ask(&node, &["node", "undrain"], "").0, 0, "it does not drain, and stays");
    assert_eq!(ask(&node, &["node", "drain"], "").0, 0);
    assert_eq!(node.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn several_nodes_are_asked_for_what_each_knows_of_itself() {
    let (one, _first) = node(&[("node.id", "tern-1")]);
    let (two, _second) = node(&[("node.id", "tern-2")]);
    let (code, out, err) = ask(&one, &["node", "ls", "-o", "json", "--ask", two.admin_address()], "");
    assert_eq!((code, err.as_str()), (0, ""));
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = listed["nodes"].as_array().unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (row["node"].as_str().unwrap(), &row["here"], &row["connections"])).collect();
    let zero = serde_json::json!(0);
    assert_eq!(told, [("tern-1", &true.into(), &zero), ("tern-2", &false.into(), &zero)]);
    let nobody = loadtest::starter::free_address().unwrap().to_string();
    let (code, out, err) = ask(&one, &["node", "ls", "--ask", &nobody], "");
    assert!(code == 0 && out.contains("tern-1*") && err.contains(&nobody), "the rest is shown: {out}{err}");
}

#[test]
fn a_killed_node_comes_back_with_its_name_its_accounts_and_their_tokens() {
    let place = Place::new();
    let mut node = place.starter(&[("storage.backend", "sqlite")]).start().unwrap();
    let name = |node: &Node| ask(node, &["status", "-o", "json"], "").1;
    let name = |node: &Node| serde_json::from_str::<serde_json::Value>(&name(node)).unwrap()["node"].clone();
    let before = name(&node);
    ask(&node, &["user", "add", "ada"], "correct horse battery staple\n");
    let token = login(&node, "ada").json()["access_token"].as_str().unwrap().to_owned();
    node.restart().unwrap();
    assert_eq!(name(&node), before);
    assert_eq!(me(&node, &token), 200);
}

#[test]
fn time_goes_on_when_the_clock_was_set_back_while_the_node_was_down() {
    let (starter, dir) = starter();
    let mut node = starter.start().unwrap();
    let now = |node: &Node| get(node.client_address(), "/v1/x").json()["timestamp"].as_u64().unwrap();
    assert_eq!(node.terminate(PATIENCE).unwrap().code(), Some(0));
    // An hour from now: as if that is what the clock had said before it was put right.
    let mark = dir.path().join("data/clock");
    let last: u64 = std::fs::read_to_string(&mark).unwrap().parse().unwrap();
    std::fs::write(&mark, (last + 3_600_000).to_string()).unwrap();
    let node = starter.start().unwrap();
    assert!(now(&node) >= last + 3_600_000);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let (starter, _dir) = starter();
    let _first = starter.start().unwrap();
    let Output { status, stderr, .. } = starter.command(&["serve"]).output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stderr).contains("another process uses it"));
}

#[test]
fn logs_are_json_and_hold_no_names_passwords_tokens_or_addresses() {
    let (mut node, _dir) = node(&[("log.level", "trace")]);
    let body = r#"{"username":"zaphod","password":"correct horse battery staple"}"#;
    let signed_in = post(node.client_address(), "/v1/auth/register", body).json();
    let token = signed_in["access_token"].as_str().unwrap().to_owned();
    me(&node, &token);
    login(&node, "zaphod");
    assert_eq!(node.terminate(PATIENCE).unwrap().code(), Some(0));
    // of the addresses, those of the stores are the operator's own
    let stores = std::env::var("STARLING_TEST_CQL").unwrap_or_else(|_| "no servers".to_owned());
    let log = node.log().replace(&stores, "the servers");
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string() && line["message"].is_string(), "{line}");
    }
    let refresh = signed_in["refresh_token"].as_str().unwrap();
    for secret in ["zaphod", "correct horse", token.as_str(), refresh, "127.0.0.1:"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn a_hang_up_reads_the_log_level_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[log]\nlevel = \"error\"\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--set", "listen.peer=127.0.0.1:0", "--set", "storage.backend=memory"])
        .args(["--data-dir", dir.path().join("data").to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(line.starts_with("ready client=http://127.0.0.1:"), "{line}");
    std::fs::write(&file, "[log]\nlevel = \"info\"\n").unwrap();
    Command::new("kill").arg("-HUP").arg(child.id().to_string()).status().unwrap();
    let first = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.contains("log level read again"), "nothing was logged before: {first}");
}
