//! A running node and the people who use it. Starts processes and makes REST calls; never looks inside a node.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use hyper::Method;
use loadtest::{Node, Rest, Starter, Target, rest::Call, socket::Upgrade};
use serde_json::{Value, json};

use crate::{
    support::{PATIENCE, Place},
    wire::Wire,
};

/// What everybody here signs in with.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A node in a place of its own. Gone when the last test that uses it is.
pub(crate) struct House {
    node: Mutex<Node>,
    /// `http://host:port` of the clients' side.
    pub(crate) url: String,
    place: Place,
}

const NO_RATES: [(&str, &str); 5] = [
    ("limits.send_per_s", "0"),
    ("limits.rest_per_min", "0"),
    ("limits.login_per_min", "0"),
    ("limits.register_per_min", "0"),
    ("limits.handshakes_per_s", "0"),
];

/// A directory that no busy disk slows down: nothing here is about the disk, and what takes two seconds is refused.
fn in_memory() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl House {
    /// Starts a node of one's own: no rates, and these keys.
    pub(crate) fn start(set: &[(&str, &str)]) -> Arc<House> {
        House::with(set, Ok)
    }

    /// As [`House::start`], to be killed: its ports are still there afterwards.
    pub(crate) fn mortal(set: &[(&str, &str)]) -> Arc<House> {
        House::with(set, Starter::keeping_ports)
    }

    fn with(set: &[(&str, &str)], ports: impl Fn(Starter) -> std::io::Result<Starter>) -> Arc<House> {
        let place = Place::of(in_memory());
        let node = ports(place.starter(&[&NO_RATES, set].concat())).unwrap().start().unwrap();
        let url = node.client.clone();
        Arc::new(House { node: Mutex::new(node), url, place })
    }

    /// The node that tests share as long as any of them runs.
    pub(crate) fn shared() -> Arc<House> {
        static SHARED: Mutex<Weak<House>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let house = House::start(&[]);
            *shared = Arc::downgrade(&house);
            house
        })
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(&self.url, None).unwrap()
    }

    /// `host:port` of the clients' side.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.node.lock().unwrap().pid()
    }

    /// What the node has logged so far.
    pub(crate) fn log(&self) -> String {
        self.node.lock().unwrap().log()
    }

    /// SIGKILL, at once, and a new process in the same directory and on the same ports.
    pub(crate) fn crash(&self) {
        self.node.lock().unwrap().restart().unwrap();
    }

    /// SIGKILL, and a new process in the same directory and on the same port, but with these keys.
    pub(crate) fn crash_into(&self, set: &[(&str, &str)]) {
        let mut node = self.node.lock().unwrap();
        node.kill();
        let starter = self.place.starter(&[&NO_RATES, set].concat()).set("listen.client", self.address());
        *node = starter.start().unwrap();
    }

    /// Runs `starling` with these arguments against the running node and answers what it printed.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let admin = format!("listen.admin={}", self.node.lock().unwrap().admin_address());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_starling"));
        let output = command.args(arguments).args(["--config", "/dev/null", "--set", &admin]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A new user, signed in.
    pub(crate) async fn person(self: &Arc<House>) -> Person {
        let name = name();
        let body = json!({"username": name, "password": PASSWORD, "device": "first"});
        let signed_in = self.open(Method::POST, "auth/register", body).await.is(201);
        Person::of(self, name, &signed_in)
    }

    /// A call that nobody signs.
    pub(crate) async fn open(&self, method: Method, path: &str, body: Value) -> Reply {
        self.call(Call::new(method, path).body(&body)).await
    }

    pub(crate) async fn call(&self, call: Call) -> Reply {
        let answer = Rest::new(&self.target()).unwrap().raw(call).await.unwrap();
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        Reply { status: answer.status, headers: answer.headers, body }
    }
}

/// A user name that is like no other: letters only, none of which looks like another.
pub(crate) fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = "tester".to_owned();
    for _ in 0..5 {
        name.push(char::from(b"abdefghk"[(n % 8) as usize]));
        n /= 8;
    }
    name
}

/// An answer of REST.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_str(&self.body).unwrap() }
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The error code.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// True to the catalogue: this status and this code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.body);
        self.json()["error"].clone()
    }

    /// What was said, without what differs between any two answers.
    pub(crate) fn said(&self) -> (u16, Value) {
        let mut body = self.json();
        if let Some(object) = body.as_object_mut() {
            object.remove("request_id");
            object.remove("timestamp");
        }
        (self.status, body)
    }
}

/// Somebody signed in, in one session.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) house: Arc<House>,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Person {
    fn of(house: &Arc<House>, name: String, signed_in: &Value) -> Person {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Person {
            house: house.clone(),
            name,
            id: text(&signed_in["user"]["id"]),
            session: text(&signed_in["session"]),
            access: text(&signed_in["access_token"]),
            refresh: text(&signed_in["refresh_token"]),
        }
    }

    /// Signs in once more, on another device.
    pub(crate) async fn on(&self, device: &str) -> Person {
        let body = json!({"login": self.name, "password": PASSWORD, "device": device});
        let signed_in = self.house.open(Method::POST, "auth/login", body).await.is(200);
        Person::of(&self.house, self.name.clone(), &signed_in)
    }

    /// Reads, and again if a busy store asks for it, as clients do.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        let begun = Instant::now();
        loop {
            let reply = self.house.call(Call::new(Method::GET, path).by(&self.access)).await;
            if reply.status != 503 || begun.elapsed() > PATIENCE {
                return reply;
            }
        }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.house.call(Call::new(Method::POST, path).by(&self.access).body(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.house.call(Call::new(Method::PATCH, path).by(&self.access).body(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.house.call(Call::new(Method::DELETE, path).by(&self.access)).await
    }

    /// The answer to a refresh with any refresh token.
    pub(crate) async fn refresh_with(&self, token: &str) -> Reply {
        self.house.open(Method::POST, "auth/refresh", json!({"refresh_token": token})).await
    }

    /// The id of the direct conversation with somebody.
    pub(crate) async fn direct(&self, other: &Person) -> String {
        let reply = self.post("conversations", json!({"kind": "direct", "members": [other.id]})).await;
        assert!(reply.status == 200 || reply.status == 201, "{}", reply.body);
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// The id of a new group with these others.
    pub(crate) async fn group(&self, others: &[&Person]) -> String {
        let members: Vec<_> = others.iter().map(|other| &other.id).collect();
        let made = self.post("conversations", json!({"kind": "group", "title": "Group", "members": members})).await;
        made.is(201)["id"].as_str().unwrap().to_owned()
    }

    /// Posts over REST and answers the seq.
    pub(crate) async fn says(&self, c: &str, text: &str) -> u64 {
        let body = json!({"cid": cid(), "text": text});
        self.post(&format!("conversations/{c}/messages"), body).await.is(201)["seq"].as_u64().unwrap()
    }

    /// A socket that said hello as this device.
    pub(crate) async fn hello(&self, device: &str) -> Wire {
        let mut wire = Wire::connect(&self.house.target(), &Upgrade::default()).await;
        wire.ask("hello", json!({"token": self.access, "device": device})).await;
        wire
    }

    /// A socket that is live from now on, and has nothing to read.
    pub(crate) async fn live(&self, device: &str) -> Wire {
        let mut wire = self.hello(device).await;
        wire.ask("sync", json!({})).await;
        wire.pushes().await;
        wire
    }
}

/// A client id that was never used.
pub(crate) fn cid() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("cid-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
