//! Servers that are not there, and those that are something else.

use std::time::{Duration, Instant};

use loadtest::starter::free_address;
use storage::{
    OpenError,
    cql::{Cql, Settings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::keyspace::settings;

pub(crate) async fn refusal(settings: &Settings) -> OpenError {
    let Err(error) = Cql::open(settings).await else { panic!("it was opened") };
    error
}

/// A server that says `hello` to whoever speaks first, or nothing.
pub(crate) async fn listener(hello: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if !hello.is_empty() {
                let _ = stream.read(&mut [0; 64]).await;
                let _ = stream.write_all(hello.as_bytes()).await;
            }
            open.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_is_away_may_come_back() {
    let nobody = free_address().unwrap();
    let away = Settings { nodes: vec![nobody.to_string()], ..settings() };
    let refused = refusal(&away).await;
    assert!(refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains(&nobody.to_string()), "{refused}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = Settings { nodes: vec![listener("").await], ..settings() };
    let started = Instant::now();
    let refused = refusal(&silent).await;
    assert!(refused.is_transient(), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_of_another_protocol_is_refused() {
    for hello in ["-ERR unknown command\r\n", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"] {
        let other = Settings { nodes: vec![listener(hello).await], ..settings() };
        let refused = refusal(&other).await;
        assert!(!refused.is_transient(), "{hello}: {refused}");
        assert!(refused.to_string().contains("does not speak CQL"), "{hello}: {refused}");
    }
}

#[tokio::test]
async fn a_datacenter_that_is_not_there_is_refused() {
    let elsewhere = Settings { datacenter: Some("moon".into()), ..settings() };
    let refused = refusal(&elsewhere).await.to_string();
    assert!(refused.contains("no server is in the datacenter moon, they are in datacenter1"), "{refused}");
}

#[tokio::test]
async fn a_name_that_cql_would_change_is_refused() {
    for keyspace in ["", "Starling", "1st", "a-b", "a b", "x; DROP KEYSPACE y"] {
        let named = Settings { keyspace: keyspace.into(), ..settings() };
        let refused = refusal(&named).await.to_string();
        assert!(refused.contains("not a name of a keyspace"), "{refused}");
    }
}
