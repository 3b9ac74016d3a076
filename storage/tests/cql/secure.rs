//! TLS and passwords.

use std::fs;

use storage::cql::{Cql, Settings};

use crate::{
    keyspace::{secure_settings, with_keyspace},
    refusals::{listener, refusal},
};

#[tokio::test]
async fn a_store_opens_over_tls_with_a_password() {
    with_keyspace(async |own| {
        let settings = Settings { keyspace: own.keyspace, ..secure_settings() };
        Cql::open(&settings).await.map(drop).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good() {
    for (username, password) in [("cassandra", "wrong"), ("nobody", "cassandra")] {
        let (username, password) = (Some(username.to_owned()), Some(password.to_owned()));
        let refused = refusal(&Settings { username, password, ..secure_settings() }).await;
        assert!(!refused.is_transient(), "{refused}");
        assert!(refused.to_string().contains("check storage.cql.username and its password"), "{refused}");
    }
}

#[tokio::test]
async fn a_missing_password_is_asked_for() {
    let refused = refusal(&Settings { username: None, password: None, ..secure_settings() }).await;
    assert!(!refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("the servers ask for a password"), "{refused}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = rcgen::generate_simple_self_signed(["somebody".to_owned()]).unwrap();
    let path = dir.path().join("ca.pem");
    fs::write(&path, other.cert.pem()).unwrap();
    let refused = refusal(&Settings { tls_ca: Some(path), ..secure_settings() }).await;
    assert!(!refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("storage.cql.tls_ca must have issued the certificates"), "{refused}");
}

#[tokio::test]
async fn a_file_without_a_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, missing) = (dir.path().join("empty.pem"), dir.path().join("missing.pem"));
    fs::write(&empty, "nothing\n").unwrap();
    for (path, why) in [(empty, "it holds no certificate"), (missing, "No such file")] {
        let refused = refusal(&Settings { tls_ca: Some(path.clone()), ..secure_settings() }).await.to_string();
        assert!(refused.contains(path.to_str().unwrap()) && refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_refused() {
    let plain = listener("-ERR unknown command\r\n").await;
    let refused = refusal(&Settings { nodes: vec![plain], ..secure_settings() }).await;
    assert!(!refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("does not speak TLS"), "{refused}");
}
