//! Bad luck of other kinds: two processes with one name, clocks apart by ten minutes, a link so slow that what
//! waits for it has no room.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use loadtest::starter::free_address;

use crate::{
    rig::PATIENCE,
    scene::{Scene, is_long},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_two_processes_have_one_name_and_when_clocks_are_apart() {
    let mut scene = Scene::start("bad luck").await;
    take_the_name(&mut scene).await;
    if is_long() {
        put_the_clock_off(&mut scene).await;
    }
    scene.finish().await;
}

/// A hundred texts of this size are about what may wait for a peer.
const LARGE: usize = 48_000;
/// Beats wait behind the rest: until then nobody must be taken for dead.
const UNTIL_DEAD: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_more_waits_for_a_peer_than_there_is_room() {
    let dead_ms = UNTIL_DEAD.as_millis().to_string();
    let keys =
        [("cluster.dead_ms", dead_ms.as_str()), ("limits.text_chars", "48000"), ("limits.frame_bytes", "200000")];
    let mut scene = Scene::start_with("full", &keys).await;
    let begun = Instant::now();
    scene.cluster.links.slow(0, 1);
    let Scene { cluster, probes, .. } = &mut scene;
    let enough = AtomicBool::new(false);
    let look = async {
        while cluster.metric(0, "starling_peer_dropped_total{class=\"event\"}") == 0.0 {
            assert!(begun.elapsed() < UNTIL_DEAD, "there is room for everything");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        enough.store(true, Ordering::Relaxed);
        cluster.links.mend();
    };
    let (accepted, ()) = tokio::join!(probes.flood(0, LARGE, &enough), look);
    scene.tell(format_args!("{accepted} large posts accepted until the link was fast again"));
    scene.write(1, begun, "there was no room, and there is").await;
    scene.heals(begun).await;
    scene.finish().await;
}

/// Another process comes as n1; the first one ends, and later comes back.
async fn take_the_name(scene: &mut Scene) {
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let mut twin = scene.cluster.starter(1);
    for key in ["listen.client", "listen.admin"] {
        twin = twin.set(key, free_address().unwrap());
    }
    let at = free_address().unwrap();
    let twin = twin.set("listen.peer", at).set("cluster.advertise", at).set("node.data_dir", dir.path().display());
    let mut twin = tokio::task::block_in_place(|| twin.start()).unwrap();
    let ended = tokio::task::block_in_place(|| scene.cluster.node(1).wait(PATIENCE)).unwrap();
    scene.tell(format_args!("another n1 ready after {:.1?}; the first one ended: {ended}", begun.elapsed()));
    assert!(!ended.success());
    scene.write(0, begun, "two processes called themselves n1").await;
    let killed = Instant::now();
    tokio::task::block_in_place(|| twin.kill());
    scene.write(0, killed, "the second n1 is killed").await;
    scene.cluster.restart(&[1]);
    scene.heals(killed).await;
}

/// The clock of n1 is behind by ten minutes, then ahead, then right.
async fn put_the_clock_off(scene: &mut Scene) {
    for (seconds, went_back) in [("-600", true), ("+600", false), ("+0", true)] {
        let begun = Instant::now();
        scene.cluster.restart_through(1, &clock_off_by(seconds).each_ref().map(String::as_str));
        scene.heals(begun).await;
        for n in 0..3 {
            scene.write(n, begun, &format!("the clock of n1 is off by {seconds} s")).await;
        }
        // the node says itself whether its machine's clock went back since it ran last
        let ahead = scene.cluster.metric(1, "starling_clock_ahead_seconds");
        scene.tell(format_args!("n1 is ahead of its clock by {ahead:.0} s"));
        assert_eq!(ahead > 300.0, went_back, "the clock was not put off: {ahead} s");
    }
}

/// What makes a program's clock differ from its machine's, all the time by so much.
fn clock_off_by(seconds: &str) -> [String; 4] {
    let library = "faketime/libfaketimeMT.so.1";
    let mut found = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path().join(library));
    let library = found.find(|path| path.exists());
    let library = library.expect("putting a clock off needs libfaketime; install it with apt-get install faketime");
    [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={seconds}"),
        // what only goes forward is the kernel's own
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}
