//! What the tests of the real binary share: starting it, and HTTP so plain that what is wrong with it is on purpose.
#![allow(dead_code, unused_imports)] // each test file is a crate of its own and uses its part

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use loadtest::{Node, Starter};
use serde_json::Value;

mod place;

pub(crate) use place::{Place, are_real};

/// Ten times what is promised, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node's starter and the place it keeps things in.
pub(crate) fn starter() -> (Starter, Place) {
    let place = Place::new();
    (place.starter(&[("storage.backend", "memory")]), place)
}

/// A running node with these keys.
pub(crate) fn node(set: &[(&str, &str)]) -> (Node, Place) {
    let (starter, place) = starter();
    let starter = set.iter().fold(starter, |starter, (key, value)| starter.set(key, value));
    (starter.start().unwrap(), place)
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("").to_owned()
    }

    pub(crate) fn field(&self) -> String {
        self.json()["error"]["details"]["field"].as_str().unwrap_or("").to_owned()
    }
}

/// A connection that waits for nobody forever.
pub(crate) fn connect(address: &str) -> TcpStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

/// Sends bytes as they are and reads the answer to its end.
pub(crate) fn raw(address: &str, request: &[u8]) -> Answer {
    let mut tcp = connect(address);
    tcp.write_all(request).unwrap();
    answer(&mut tcp)
}

/// One request; the connection is closed after it.
pub(crate) fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    raw(address, request.as_bytes())
}

pub(crate) fn get(address: &str, path: &str) -> Answer {
    http(address, "GET", path, &[], "")
}

/// JSON to a route that wants it.
pub(crate) fn post(address: &str, path: &str, body: &str) -> Answer {
    http(address, "POST", path, &[("content-type", "application/json")], body)
}

/// Reads one answer; the body by its length.
pub(crate) fn answer(from: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match from.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            other => panic!("the answer ended early ({other:?}): {}", String::from_utf8_lossy(&bytes)),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut body = String::new();
    if let Some(length) = find("content-length") {
        let mut bytes = vec![0; length.parse().unwrap()];
        from.read_exact(&mut bytes).unwrap();
        body = String::from_utf8(bytes).unwrap();
    } else if find("transfer-encoding").is_some() {
        from.read_to_string(&mut body).unwrap();
    }
    Answer { status, headers, body }
}
