//! Who may import whom: the manifests of the five crates say no more than the table here. What a manifest cannot show
//! (clocks, environment, sockets) stands in each crate's `.clippy.toml`.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // reads the manifests

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Crate by crate: what it may import, dev-dependencies aside. A new arrow is a decision: it changes this table.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("protocol", &["bytes", "serde", "serde_json", "serde_path_to_error", "thiserror", "uuid", "wincode"]),
    (
        "storage",
        &[
            "async-trait",
            "futures-util",
            "metrics",
            "protocol",
            "redis",
            "rusqlite",
            "rustls",
            "scylla",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
    (
        "actors",
        &[
            "argon2",
            "aws-lc-rs",
            "base64",
            "bytes",
            "futures-util",
            "jsonwebtoken",
            "metrics",
            "protocol",
            "ractor",
            "ractor_cluster",
            "serde",
            "serde_json",
            "storage",
            "thiserror",
            "tokio",
            "tracing",
            "unicode-normalization",
            "unicode-security",
            "uuid",
            "zxcvbn",
        ],
    ),
    (
        "node",
        &[
            "actors",
            "aws-lc-rs",
            "axum",
            "bytes",
            "clap",
            "futures-util",
            "http-body-util",
            "hyper",
            "hyper-util",
            "metrics",
            "metrics-exporter-prometheus",
            "mimalloc",
            "protocol",
            "rcgen",
            "rustix",
            "rustls",
            "rustls-webpki",
            "serde",
            "serde_json",
            "storage",
            "strsim",
            "tokio",
            "tokio-rustls",
            "tokio-tungstenite",
            "toml",
            "tower",
            "tower-http",
            "tracing",
            "tracing-subscriber",
        ],
    ),
    (
        "loadtest",
        &[
            "clap",
            "futures-util",
            "hdrhistogram",
            "http-body-util",
            "hyper",
            "hyper-rustls",
            "hyper-util",
            "protocol",
            "rustls",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-tungstenite",
        ],
    ),
];

fn manifest(of: &str) -> Table {
    let path = format!("{}/../{of}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}")).parse().unwrap()
}

/// Names under `[dependencies]`, `[build-dependencies]` and the same of every target.
fn imports(manifest: &Table) -> BTreeSet<String> {
    let mut tables = vec![manifest];
    tables.extend(
        manifest
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flat_map(Table::values)
            .filter_map(Value::as_table),
    );
    let of = |table: &Table, key: &str| -> Vec<String> {
        table.get(key).and_then(Value::as_table).map_or(vec![], |names| names.keys().cloned().collect())
    };
    tables.into_iter().flat_map(|t| [of(t, "dependencies"), of(t, "build-dependencies")].concat()).collect()
}

#[test]
fn crates_import_what_the_table_allows() {
    for (of, allowed) in ALLOWED {
        let imported = imports(&manifest(of));
        let foreign: Vec<_> = imported.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(foreign.is_empty(), "{of} may not import {foreign:?}");
        let unused: Vec<_> = allowed.iter().filter(|name| !imported.contains(**name)).collect();
        assert!(unused.is_empty(), "the table allows {of} what it does not import: {unused:?}");
    }
}

#[test]
fn versions_and_lints_stand_in_one_place() {
    let workspace = manifest(".");
    let members: Vec<_> =
        workspace["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert_eq!(members, ALLOWED.map(|(name, _)| name));
    for of in members {
        let manifest = manifest(of);
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{of}");
        for key in ["license", "publish", "rust-version"] {
            assert_eq!(manifest["package"][key]["workspace"].as_bool(), Some(true), "{of}: {key}");
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, how) in manifest.get(section).and_then(Value::as_table).into_iter().flatten() {
                let inherited = how.get("workspace").and_then(Value::as_bool);
                assert_eq!(inherited, Some(true), "{of}: {name} takes its version from the workspace");
                assert!(workspace["workspace"]["dependencies"].get(name).is_some(), "{of}: {name}");
            }
        }
    }
}
