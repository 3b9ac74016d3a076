//! What is refused at the start, whether waiting helps, and in which words: passwords, TLS, strangers.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use loadtest::starter;
use storage::{OpenError, redis::Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::server::{Server, begin, connect, rotate, settings};

/// Why it cannot be opened.
async fn refusal(settings: Settings) -> OpenError {
    connect(settings).await.err().expect("it was opened")
}

/// For good, and the line says all of this.
async fn unusable(settings: Settings, says: &[&str]) {
    let error = refusal(settings).await;
    let line = error.to_string();
    assert!(!error.is_transient(), "{line}");
    assert!(says.iter().all(|said| line.contains(said)), "{line}");
    assert!(!line.contains("s3cret") && line.lines().count() == 1, "{line}");
}

/// For now, and the line says all of this.
async fn unreachable(settings: Settings, says: &[&str]) {
    let error = refusal(settings).await;
    let line = error.to_string();
    assert!(error.is_transient() && says.iter().all(|said| line.contains(said)), "{line}");
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn passwords_are_taken_refused_and_missed() {
    let server = Server::start_with(|_, _| words("--requirepass s3cret/@:%")).await;
    let url = |who: &str| settings(&format!("redis://{who}127.0.0.1:{}/3", server.port));
    let store = connect(url(":s3cret%2F%40%3A%25@")).await.unwrap();
    begin(&store).await;
    assert!(rotate(&store, 1, 0).await.is_ok());
    assert!(connect(url("default:s3cret%2F%40%3A%25@")).await.is_ok());
    unusable(url(":s3cret@"), &["127.0.0.1", "does not take this user and password"]).await;
    unusable(url("nobody:s3cret@"), &["does not take this user and password"]).await;
    unusable(url(""), &["asks for a password"]).await;
    let server = Server::start().await;
    unusable(settings(&format!("{}99", server.url())), &["no such database", "out of range"]).await;
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let rights = ["~other:* +@all", "~t:* +@all -@scripting", "~t:* +@read +@connection"];
    for right in rights {
        let server = Server::start_with(|_, _| words(&format!("--user limited on >s3cret {right}"))).await;
        let url = format!("redis://limited:s3cret@127.0.0.1:{}/", server.port);
        unusable(settings(&url), &["~t:*", "+@scripting"]).await;
    }
    let server =
        Server::start_with(|_, _| words("--user limited on >s3cret ~t:* +@read +@write +@scripting +@connection"))
            .await;
    let store = connect(settings(&format!("redis://limited:s3cret@127.0.0.1:{}/", server.port))).await.unwrap();
    begin(&store).await;
    assert!(rotate(&store, 1, 0).await.is_ok(), "the rights it names are enough");
}

/// A certificate for `name`, and arguments that make a Redis speak TLS with it.
fn certify(dir: &Path, name: &str) -> PathBuf {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    dir.join("cert.pem")
}

fn tls(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    words(&format!(
        "--tls-auth-clients no --tls-cert-file {dir}/cert.pem --tls-key-file {dir}/key.pem --tls-ca-cert-file {dir}/cert.pem"
    ))
}

#[tokio::test]
async fn tls_is_spoken_and_certificates_are_checked() {
    let other = tempfile::tempdir().unwrap();
    let not_its_own = certify(other.path(), "127.0.0.1");
    let tls_port = starter::free_address().unwrap().port();
    let mut its_own = PathBuf::new();
    let server = Server::start_with(|_, dir| {
        its_own = certify(dir, "127.0.0.1");
        [words(&format!("--tls-port {tls_port} --requirepass s3cret")), tls(dir)].concat()
    })
    .await;
    let secure = |port: u16, ca: Option<&PathBuf>| Settings {
        tls_ca: ca.cloned(),
        ..settings(&format!("rediss://:s3cret@127.0.0.1:{port}/"))
    };
    let store = connect(secure(tls_port, Some(&its_own))).await.unwrap();
    begin(&store).await;
    assert!(rotate(&store, 1, 0).await.is_ok());
    unusable(secure(tls_port, Some(&not_its_own)), &["certificate", "authority"]).await;
    unusable(secure(tls_port, None), &["certificate", "authority"]).await;
    unreachable(secure(server.port, Some(&its_own)), &["does that port speak TLS"]).await;
    let error = refusal(settings(&format!("redis://:s3cret@127.0.0.1:{tls_port}/"))).await.to_string();
    assert!(!error.contains("s3cret"), "{error}");

    let mut for_another_name = PathBuf::new();
    let tls_port = starter::free_address().unwrap().port();
    let _server = Server::start_with(|_, dir| {
        for_another_name = certify(dir, "redis.example.org");
        [words(&format!("--tls-port {tls_port}")), tls(dir)].concat()
    })
    .await;
    unusable(secure(tls_port, Some(&for_another_name)), &["name the host"]).await;
}

#[tokio::test]
async fn strangers_and_silence_are_told_apart() {
    let port = starter::free_address().unwrap().port();
    unreachable(settings(&format!("redis://127.0.0.1:{port}/")), &["127.0.0.1", "refused"]).await;
    unreachable(settings("redis://nobody.invalid/"), &["nobody.invalid"]).await;

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    unreachable(settings(&format!("redis://{}/", silent.local_addr().unwrap())), &["no answer within 1000 ms"]).await;

    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = web.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = web.accept().await {
            let _ = tcp.read(&mut [0; 1024]).await;
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    unusable(settings(&format!("redis://:s3cret@{address}/")), &["not Redis", "check the address"]).await;
    unusable(settings(&format!("rediss://:s3cret@{address}/")), &["does not speak TLS", "redis://"]).await;
    serving.abort();
}
