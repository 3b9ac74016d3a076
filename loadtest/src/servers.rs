//! Real stores for tests: where `loadtest/servers` put them, statements by hand, keyspaces and prefixes that end with
//! their test, and servers of a test's own.
//! Never used by the commands. Panics where a test would: without its server a test has failed.

use std::{
    io::{Error, Read, Result, Write},
    net::TcpStream,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

mod own;

pub use self::own::Server;

/// Making a keyspace takes a busy server seconds, never this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A CQL server, and who may use it.
#[derive(Clone, Debug)]
pub struct Cql {
    /// `host:port`.
    pub node: String,
    /// None where the server asks nobody.
    pub username: Option<String>,
    /// With the user's name.
    pub password: Option<String>,
}

/// The value of a variable that says where a server is.
///
/// # Panics
/// It is not set.
#[track_caller]
pub fn variable(name: &str) -> String {
    let remedy = "run `make test`, or start servers with `make servers` and say `. target/servers/env`";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: {remedy}"))
}

/// Where Redis is, in plain.
///
/// # Panics
/// As [`variable`].
#[track_caller]
pub fn redis_url() -> String {
    variable("STARLING_TEST_REDIS")
}

impl Cql {
    /// The one that was started for tests.
    ///
    /// # Panics
    /// As [`variable`].
    #[track_caller]
    pub fn started() -> Cql {
        let said = |name| std::env::var(name).ok();
        let (username, password) = (said("STARLING_TEST_CQL_USER"), said("STARLING_TEST_CQL_PASSWORD"));
        Cql { node: variable("STARLING_TEST_CQL"), username, password }
    }

    /// A name for a keyspace that nobody else uses. It is not made; dropping the answer drops it, and what killed test
    /// processes of this machine left behind is dropped before.
    pub fn keyspace(&self) -> Keyspace {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(|| self.sweep());
        let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("test_{pid}_{}_{n}", began(pid).unwrap_or_default());
        Keyspace { server: self.clone(), name }
    }

    fn sweep(&self) {
        for row in self.run("SELECT keyspace_name FROM system_schema.keyspaces").unwrap_or_default() {
            let name = String::from_utf8_lossy(&row[0]).into_owned();
            let mut words = name.strip_prefix("test_").unwrap_or_default().split('_');
            let (Some(pid), Some(start)) = (words.next().and_then(|pid| pid.parse().ok()), words.next()) else {
                continue;
            };
            if began(pid).as_deref() != Some(start) {
                let _ = self.run(&format!("DROP KEYSPACE IF EXISTS {name}"));
            }
        }
    }

    /// Runs one statement on a connection of its own and answers the values of its rows; null is empty.
    ///
    /// # Errors
    /// The server cannot be reached or refuses, with its words.
    pub fn run(&self, statement: &str) -> Result<Vec<Vec<Vec<u8>>>> {
        let mut tcp = TcpStream::connect(&self.node)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let (asks, _) = ask(&mut tcp, STARTUP, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0")?;
        if asks == AUTHENTICATE {
            let (username, password) = (self.username.as_deref(), self.password.as_deref());
            let who = format!("\0{}\0{}", username.unwrap_or_default(), password.unwrap_or_default());
            ask(&mut tcp, AUTH_RESPONSE, &long(who.as_bytes()))?;
        }
        let (_, answer) = ask(&mut tcp, QUERY, &[&long(statement.as_bytes()), QUORUM_WITHOUT_METADATA].concat())?;
        Ok(rows(&answer).unwrap_or_default())
    }
}

/// A keyspace that may be made under this name, and is dropped with this.
#[derive(Debug)]
pub struct Keyspace {
    /// Where.
    pub server: Cql,
    /// Its name.
    pub name: String,
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        // What cannot be dropped now is swept by the next test.
        let _ = self.server.run(&format!("DROP KEYSPACE IF EXISTS {}", self.name));
    }
}

/// A prefix of keys in Redis that nobody else uses; they are dropped with this.
#[derive(Debug)]
pub struct Prefix {
    /// The server.
    pub url: String,
    /// What the keys begin with, or hold.
    pub name: String,
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 'OK'";
        let _ = tell_redis(&self.url, &["EVAL", script, "0", &format!("*{}*", self.name)]);
    }
}

/// One command on a connection of its own; the answer is waited for and not read.
fn tell_redis(url: &str, words: &[&str]) -> Result<()> {
    let node = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
    let mut tcp = TcpStream::connect(node)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let said: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    write!(tcp, "*{}\r\n{said}", words.len())?;
    tcp.read_exact(&mut [0])
}

const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const AUTHENTICATE: u8 = 0x03;
const QUERY: u8 = 0x07;
const AUTH_RESPONSE: u8 = 0x0f;
const QUORUM_WITHOUT_METADATA: &[u8] = &[0, 4, 2];
const ROWS: u32 = 2;

/// One frame of version 4 there, one back: its opcode and body.
fn ask(tcp: &mut TcpStream, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>)> {
    tcp.write_all(&[&[4, 0, 0, 0, opcode], &long(body)[..]].concat())?;
    let mut header = [0; 9];
    tcp.read_exact(&mut header)?;
    let [_, _, _, _, opcode, length @ ..] = header;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    tcp.read_exact(&mut body)?;
    // after the error's number and the length of its text
    if opcode == ERROR { Err(Error::other(String::from_utf8_lossy(&body[6..]))) } else { Ok((opcode, body)) }
}

/// Bytes after their length.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes(), bytes].concat()
}

/// The rows of a result without metadata: kind, flags, columns, rows, then value after value.
fn rows(mut result: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let (kind, _flags, columns, rows) =
        (number(&mut result)?, number(&mut result)?, number(&mut result)?, number(&mut result)?);
    let mut value = || -> Option<Vec<u8>> {
        // null has a negative length
        let length = i32::from_be_bytes(number(&mut result)?.to_be_bytes()).max(0);
        let (value, rest) = result.split_at_checked(usize::try_from(length).ok()?)?;
        result = rest;
        Some(value.to_vec())
    };
    (kind == ROWS).then(|| (0..rows).map(|_| (0..columns).map(|_| value()).collect()).collect())?
}

fn number(from: &mut &[u8]) -> Option<u32> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u32::from_be_bytes(*first))
}

/// When a process began, in ticks since boot; none if it is gone.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in brackets may hold anything
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}
