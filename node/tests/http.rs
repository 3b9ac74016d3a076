//! The HTTP edge of the real binary: every answer in one form, limits, headers, what pages and proxies may do.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use support::{answer, connect, get, http, node, post, raw};

mod support;

#[test]
fn health_ready_metrics_and_the_documents() {
    let (node, _dir) = node(&[]);
    let (client, admin) = (node.client_address(), node.admin_address());
    assert_eq!(get(admin, "/health").status, 200);
    let ready = get(admin, "/ready");
    assert_eq!((ready.status, ready.json()["ready"].clone()), (200, true.into()), "{}", ready.body);
    assert_eq!(get(client, "/v1/openapi.json").json()["openapi"], "3.1.0");
    assert!(get(client, "/.well-known/jwks.json").json()["keys"].as_array().unwrap().len() == 1);
    post(client, "/v1/auth/login", "{}");
    let metrics = get(admin, "/metrics").body;
    for name in [
        "starling_build_info{",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "starling_runtime_alive_tasks",
        "starling_request_duration_seconds_bucket{type=\"POST /v1/auth/login\"",
        "starling_request_errors_total{type=\"POST /v1/auth/login\",code=\"bad_field\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert!(!metrics.contains("quantile="), "no summaries");
    assert_eq!(get(client, "/metrics").status, 404, "not for clients");
}

#[test]
fn every_refusal_has_the_one_form() {
    let (node, _dir) = node(&[]);
    let client = node.client_address();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json; charset=utf-8")];
    let large = format!("{{\"login\":\"{}\"}}", "x".repeat(70_000));
    let login = |headers: &[(&str, &str)], body: &str| http(client, "POST", "/v1/auth/login", headers, body);
    for (answer, status, code, field) in [
        (get(client, "/v1/nothing"), 404, "not_found", ""),
        (get(client, "/v1/auth/login"), 405, "unknown_type", ""),
        (login(&form, "login=ada"), 415, "bad_field", "content-type"),
        (login(&[], "{}"), 415, "bad_field", "content-type"),
        (login(&json, "{"), 400, "bad_frame", ""),
        (login(&json, r#"{"login":"ada"}"#), 400, "bad_field", "password"),
        (login(&json, r#"{"login":"ada","password":7}"#), 400, "bad_field", "password"),
        (login(&json, &large), 413, "too_large", ""),
        (get(client, "/v1/users/me"), 401, "unauthenticated", ""),
        (http(client, "GET", "/v1/users/me", &[("authorization", "Bearer nonsense")], ""), 401, "unauthenticated", ""),
        (get(client, "/v1/ws"), 426, "bad_frame", ""),
    ] {
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.field().as_str()),
            (status, code, field),
            "{}",
            answer.body
        );
        let body = answer.json();
        assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
        assert!(body["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        assert!(body["error"]["message"].is_string() && body["error"]["details"]["retry"].is_boolean());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    assert_eq!(get(client, "/v1/auth/login").header("allow"), Some("POST"));
    let ids = [get(client, "/v1/x"), get(client, "/v1/x")].map(|a| a.header("x-request-id").unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn garbage_gets_400_and_a_large_head_431() {
    let (node, _dir) = node(&[]);
    assert_eq!(raw(node.client_address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").status, 400);
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(20 << 10));
    assert_eq!(raw(node.client_address(), large.as_bytes()).status, 431);
    assert_eq!(get(node.admin_address(), "/health").status, 200);
}

#[test]
fn pages_of_allowed_origins_only() {
    let (node, _dir) = node(&[("auth.allowed_origins", "https://app.example")]);
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,idempotency-key"),
        ];
        http(node.client_address(), "OPTIONS", "/v1/auth/login", &headers, "")
    };
    let good = preflight("https://app.example");
    assert_eq!((good.status, good.header("access-control-allow-origin")), (200, Some("https://app.example")));
    assert!(good.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    // An error can be read by the page as well.
    let headers = [("origin", "https://app.example")];
    let refused = http(node.client_address(), "GET", "/v1/users/me", &headers, "");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://app.example")));
}

#[test]
fn one_connection_too_many_is_told_to_come_back() {
    let (node, _dir) = node(&[("limits.connections", "2")]);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut tcp = connect(node.client_address());
            write!(tcp, "GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            assert_eq!(answer(&mut tcp).status, 404);
            tcp
        })
        .collect();
    let busy = answer(&mut connect(node.client_address()));
    assert_eq!((busy.status, busy.code().as_str(), busy.header("retry-after")), (503, "overloaded", Some("1")));
    drop(held);
    let started = std::time::Instant::now();
    while get(node.client_address(), "/v1/x").status != 404 {
        assert!(started.elapsed() < support::PATIENCE);
    }
    assert!(get(node.admin_address(), "/metrics").body.contains("refused_total{reason=\"connections\"}"));
}

#[test]
fn too_many_new_connections_per_second_are_turned_away() {
    let (node, _dir) = node(&[("limits.handshakes_per_s", "1")]);
    let statuses: Vec<u16> = (0..6).map(|_| get(node.client_address(), "/v1/x").status).collect();
    assert!(statuses.starts_with(&[404, 404]) && statuses.contains(&503), "{statuses:?}");
}

#[test]
fn the_admin_side_wants_its_token_and_no_pages() {
    let token = "0123456789abcdef0123";
    let (node, _dir) = node(&[("admin.token", token)]);
    let admin = node.admin_address();
    let status = |headers: &[(&str, &str)]| http(admin, "GET", "/admin/status", headers, "").status;
    let bearer = format!("Bearer {token}");
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("authorization", "Bearer 0123456789abcdef0124")]), 401);
    assert_eq!(status(&[("authorization", &bearer)]), 200);
    assert_eq!(status(&[("authorization", &bearer), ("origin", "http://evil.example")]), 403);
    assert_eq!(get(admin, "/ready").status, 200, "probes carry no token");
}
