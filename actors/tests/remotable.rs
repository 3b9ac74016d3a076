//! A node's actors, all of them, in a process of their own: only two can be reached from other nodes. Each one more would be
//! announced to every peer and have a shim there.
#![allow(clippy::unwrap_used)]

extern crate starling_actors as actors;

use std::{sync::Arc, time::Duration};

use actors::{
    Clock, Random, Settings, Starling, World,
    cluster::{
        link::PeerAddress,
        transport::{Dialer, NotReached, PeerStream, Transport},
    },
    settings::{Auth, Limits, Secret},
};
use futures_util::future::BoxFuture;
use protocol::{
    Incarnation, Millis, NodeId,
    peer::{Greeting, VERSIONS},
};
use storage::Store;

struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn wall(&self) -> Millis {
        Millis(1_800_000_000_000)
    }
}

struct Sevens;

impl Random for Sevens {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

struct Alone;

impl Dialer for Alone {
    fn dial<'a>(&'a self, _: &'a PeerAddress) -> BoxFuture<'a, Result<PeerStream, NotReached>> {
        Box::pin(async { Err(NotReached { refused: true, why: "there is nobody".to_owned() }) })
    }

    fn seeds(&self) -> BoxFuture<'_, Vec<PeerAddress>> {
        Box::pin(async { Vec::new() })
    }
}

fn settings() -> Settings {
    Settings {
        node: "n1".into(),
        incarnation: Incarnation([1; 16]),
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

#[tokio::test]
async fn after_boot_two_actors_can_be_reached_from_other_nodes() {
    let world = World { clock: Arc::new(TestClock), random: Arc::new(Sevens), store: Store::memory() };
    let _starling = Starling::start(world, settings()).await.unwrap();
    let ours = Greeting {
        versions: VERSIONS,
        node: NodeId::try_from("n1".to_owned()).unwrap(),
        incarnation: Incarnation([1; 16]),
        equal: Vec::new(),
        alike: Vec::new(),
    };
    let _transport = Transport::start(ours, Arc::new(Alone), Arc::new(Sevens)).await.unwrap();
    let all = ractor::registry::pid_registry::get_all_pids();
    assert!(all.len() > 4, "the supervisors are there as well");
    assert_eq!(all.iter().filter(|actor| actor.supports_remoting()).count(), 2);
}
