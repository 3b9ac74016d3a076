//! SIGSTOP: a node stands still for so long that its peers take it out, and wakes as one that believes it still is the
//! owner. It must commit nothing, and come back as another run. And one that hardly gets on: it may stay or go.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    owners::Owners,
    scene::{Scene, is_long},
};

/// Twice `cluster.dead_ms`.
const PAUSE: Duration = Duration::from_secs(6);
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// Ten times what is promised.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(50);
const SLOW_FOR: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_to_g11_hold_when_a_node_is_frozen_and_replaced_and_wakes() {
    let mut scene = Scene::start("frozen").await;
    freeze(&mut scene, 1, PAUSE).await;
    if is_long() {
        freeze(&mut scene, 0, PAUSE).await;
        freeze(&mut scene, 2, LONG_PAUSE).await;
        slow_down(&mut scene).await;
    }
    scene.finish().await;
}

async fn freeze(scene: &mut Scene, victim: usize, pause: Duration) {
    let other = (victim + 1) % 3;
    let before = Owners::read(&scene.cluster, &scene.probes.groups);
    let frozen = Instant::now();
    scene.cluster.node(victim).signal("STOP").unwrap();
    let accepted = scene.write(other, frozen, &format!("n{victim} stands still")).await;
    assert!(accepted < ACCEPTED_WITHIN);
    tokio::time::sleep(pause.saturating_sub(frozen.elapsed())).await;
    let during = Owners::read(&scene.cluster, &scene.probes.groups);
    let taken = during.taken_since(&before);

    let woken = Instant::now();
    scene.cluster.node(victim).signal("CONT").unwrap();
    scene.tell(format_args!("n{victim} wakes after {:.1?}; {taken} of its probes have another owner", woken - frozen));
    scene.heals(woken).await;
    Owners::read(&scene.cluster, &scene.probes.groups).assert_none_returned(&during, &before);
    scene.write(victim, woken, "the woken node").await;
}

/// n1 gets a tenth of its processor's time.
async fn slow_down(scene: &mut Scene) {
    let begun = Instant::now();
    let slowed = Slowed::start(scene.cluster.node(1).pid());
    while begun.elapsed() < SLOW_FOR {
        for through in 0..3 {
            let asked = Instant::now();
            scene.write(through, asked, "n1 is slow").await;
        }
    }
    drop(slowed);
    scene.heals(Instant::now()).await;
}

/// A process that runs a tenth of the time: 20 ms in 200.
struct Slowed {
    by: Child,
    pid: u32,
}

impl Slowed {
    fn start(pid: u32) -> Slowed {
        let script = "while kill -STOP $0; do sleep 0.18; kill -CONT $0; sleep 0.02; done";
        let by = Command::new("bash").args(["-c", script, &pid.to_string()]).stderr(Stdio::null()).spawn().unwrap();
        Slowed { by, pid }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        let _ = (self.by.kill(), self.by.wait());
        let _ = Command::new("kill").args(["-CONT", &self.pid.to_string()]).status();
    }
}
