//! TLS on the clients' side of the real binary: REST and WebSocket over it, silence, and a certificate that changes.
#![allow(clippy::unwrap_used)]

use std::{os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use hyper::Method;
use loadtest::{Rest, Socket, Target, rest::Call, socket::Upgrade};
use support::{PATIENCE, connect, get, starter};

mod support;

/// A self-signed certificate in `dir`, over whatever was there.
fn certify(dir: &Path) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    let mut key = std::fs::OpenOptions::new();
    let mut key = key.write(true).create(true).truncate(true).mode(0o600).open(dir.join("key.pem")).unwrap();
    std::io::Write::write_all(&mut key, signing_key.serialize_pem().as_bytes()).unwrap();
}

#[tokio::test]
async fn rest_and_sockets_work_over_tls_and_a_new_certificate_is_taken_up() {
    let (starter, dir) = starter();
    let cert = dir.path().join("cert.pem");
    certify(dir.path());
    let starter =
        starter.set("listen.tls.cert", cert.display()).set("listen.tls.key_file", dir.path().join("key.pem").display());
    let node = starter.start().unwrap();
    assert!(node.client.starts_with("https://"), "{}", node.client);

    // A client that says nothing holds up nobody.
    let _silent = connect(node.client_address());
    let old = Target::new(&node.client, Some(&cert)).unwrap();
    let answer = Rest::new(&old).unwrap().raw(Call::new(Method::GET, "openapi.json")).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut socket = Socket::connect(&old, &Upgrade::default()).await.unwrap();
    socket.send_text("garbage").await.unwrap();
    assert!(socket.next_frame(PATIENCE).await.unwrap().is("bye"));

    certify(dir.path());
    let new = Target::new(&node.client, Some(&cert)).unwrap();
    node.signal("HUP").unwrap();
    let started = std::time::Instant::now();
    while Socket::connect(&new, &Upgrade::default()).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(Socket::connect(&old, &Upgrade::default()).await.is_err(), "the old certificate is gone");

    // A broken one changes nothing.
    std::fs::write(&cert, "nonsense").unwrap();
    node.signal("HUP").unwrap();
    let started = std::time::Instant::now();
    while !node.log().contains("cannot read new certificates") {
        assert!(started.elapsed() < PATIENCE, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(Socket::connect(&new, &Upgrade::default()).await.is_ok());
    assert_eq!(get(node.admin_address(), "/health").status, 200);
}
