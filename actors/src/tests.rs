//! The actors together, on the model store, under a clock that stands still unless everybody waits: what happens when
//! one of them is killed at work, and when the store fails meanwhile.

mod chaos;
mod flood;
mod going;
mod kills;
mod late;
mod links;
mod model;
mod network;
mod nodes;
mod parting;
mod resync;
pub(crate) mod sim;

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use protocol::{
    ConversationId, DeviceId, Incarnation, Kind, Millis, SessionId, UserId,
    push::{self, ServerFrame},
    request::{Hello, Send, Sync, Verb},
};
use serde_json::Value;
use storage::Store;

use crate::{
    Caller, Clock, Connection, Flow, Next, Random, Settings, Starling, World,
    settings::{Auth, Limits, Secret},
};

/// Time as the paused runtime tells it.
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn wall(&self) -> Millis {
        Millis(1_800_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

/// splitmix64: the same numbers for the same seed.
pub(super) struct Dice(Mutex<u64>);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(Mutex::new(seed))
    }

    pub(super) fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

impl Random for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.roll(256) as u8);
    }
}

fn settings(node: u8) -> Settings {
    Settings {
        node: "test".into(),
        incarnation: Incarnation([node; 16]),
        auth: Auth {
            issuer: "starling".into(),
            access_ttl: Duration::from_secs(900),
            refresh_ttl: Duration::from_secs(86_400),
            secret: Secret([7; 32]),
            sessions_per_user_max: 20,
            single_session: false,
            password_memory_kib: 8,
            password_passes: 1,
        },
        limits: Limits {
            frame_bytes: 65_536,
            text_chars: 8_000,
            inflight: 32,
            queue_soft_bytes: 262_144,
            queue_hard_bytes: 1_048_576,
            ping_ms: 25_000,
            send_per_s: 0,
            send_burst: 0,
            rest_per_min: 0,
            login_per_min: 0,
            register_per_min: 0,
            members: 1_000,
        },
    }
}

/// A node's actors over a store.
pub(super) struct Rig {
    pub(super) starling: Starling,
    store: Store,
    clock: TestClock,
}

impl Rig {
    pub(super) async fn start(store: Store, seed: u64) -> Rig {
        Rig::start_node(1, store, seed).await
    }

    /// One of several over the same store.
    pub(super) async fn start_node(node: u8, store: Store, seed: u64) -> Rig {
        let began = tokio::time::Instant::now();
        let clock = std::sync::Arc::new(TestClock(began));
        let world = World { clock, random: std::sync::Arc::new(Dice::new(seed)), store: store.clone() };
        let starling = Starling::start(world, settings(node)).await.unwrap();
        Rig { starling, store, clock: TestClock(began) }
    }

    /// A signed-in user, straight in the store: passwords are another test's subject.
    pub(super) async fn user(&self, n: u8) -> Caller {
        let (user, session) = (UserId([n; 16]), SessionId([n; 16]));
        let at = self.clock.wall();
        let row = storage::accounts::User {
            id: user,
            username: format!("user{n}"),
            display_name: format!("user{n}"),
            email: None,
            password_hash: String::new(),
            created_at: at,
            banned_at: None,
            deleted_at: None,
        };
        self.store.accounts.create_user(&row, &format!("user{n}")).await.unwrap();
        let row = storage::accounts::Session {
            id: session,
            user,
            device: None,
            device_name: None,
            generation: 1,
            created_at: at,
            last_seen_at: at,
            expires_at: Millis(at.0 + 86_400_000),
            revoked_at: None,
        };
        self.store.sessions.create_session(&row).await.unwrap();
        Caller { user, session, expires_at: Millis(at.0 + 86_400_000) }
    }

    /// A conversation of these users, the first its owner.
    pub(super) async fn group(&self, callers: &[Caller]) -> ConversationId {
        let body = protocol::rest::CreateConversation {
            kind: Kind::Group,
            title: Some("test".into()),
            members: callers[1..].iter().map(|caller| caller.user).collect(),
        };
        self.starling.conversations.create(callers[0], body, None).await.unwrap().0.id
    }

    /// A socket that has said hello and synced.
    pub(super) async fn socket(&self, caller: Caller, device: &str) -> TestSocket {
        let device = DeviceId::try_from(device.to_owned()).unwrap();
        let hello = Verb::Hello(Hello { device: Some(device), ..Hello::default() }).encode(Some(1));
        let connection = self.starling.gateway.hello(&hello, Some(caller)).await.unwrap();
        let mut socket = TestSocket { connection, ids: 1, read: Vec::new() };
        let sync = socket.ask(Verb::Sync(Sync::default())).await;
        assert_eq!(sync["t"], "ok", "{sync}");
        socket
    }
}

/// The write loop and the read loop of one socket, by hand.
pub(super) struct TestSocket {
    connection: Connection,
    ids: u32,
    read: Vec<Value>,
}

impl TestSocket {
    /// Says something and waits for its answer; pushes are kept for [`TestSocket::next`].
    pub(super) async fn ask(&mut self, verb: Verb) -> Value {
        let id = self.say(verb);
        self.answer(id).await
    }

    pub(super) fn say(&mut self, verb: Verb) -> u32 {
        self.ids += 1;
        let flow = self.connection.text(&verb.encode(Some(self.ids)));
        assert_eq!(flow, Flow::Continue);
        self.ids
    }

    pub(super) async fn answer(&mut self, id: u32) -> Value {
        loop {
            if let Some(at) = self.read.iter().position(|frame| frame["id"] == id) {
                return self.read.remove(at);
            }
            self.fill().await;
        }
    }

    pub(super) fn post(c: ConversationId, cid: &str, text: &str) -> Verb {
        let post = protocol::Post { text: Some(text.into()), ..protocol::Post::default() };
        Verb::Send(Send { c, cid: cid.to_owned().try_into().unwrap(), base: None, post })
    }

    /// The next push, or `None` if nothing comes for ten seconds.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.read.iter().position(|frame| frame["id"].is_null()) {
                return Some(self.read.remove(at));
            }
            tokio::time::timeout(Duration::from_secs(10), self.fill()).await.ok()?;
        }
    }

    async fn fill(&mut self) {
        let mut frames: Vec<Bytes> = Vec::new();
        let next = self.connection.outbound().next(&mut frames).await;
        if let Next::Close(bye) = next {
            frames.push(push::push("bye", bye));
            // what a closed socket says it says once
            assert!(!self.read.iter().any(|frame| frame["t"] == "bye"), "read on after bye");
        }
        for frame in frames {
            let frame: ServerFrame<'_> = serde_json::from_slice(&frame).unwrap();
            let d: Value = frame.d.map_or(Value::Null, |d| serde_json::from_str(d.get()).unwrap());
            self.read.push(serde_json::json!({ "t": frame.t, "id": frame.id, "d": d }));
        }
    }
}
