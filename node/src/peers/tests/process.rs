//! The other node in a process of its own: this test binary once more, told by its environment to be one.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

/// The directory of certificates, for the process that is to be the other node.
const HOUSE: &str = "STARLING_OTHER_NODE_HOUSE";
const NAME: &str = "n2";

/// Killed when dropped.
struct Other {
    child: Child,
    at: String,
}

impl Other {
    fn start(house: &House) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peers::tests::process::the_other_node", "--nocapture"])
            .env(HOUSE, house.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let at = lines.find_map(|line| line.split("at=").nth(1).map(str::to_owned)).unwrap();
        Other { child, at }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends back what it is sent, until it is killed. Nothing, unless it is started as the other node.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn the_other_node() {
    let Some(house) = std::env::var_os(HOUSE).map(PathBuf::from) else { return };
    let file = |name: &str| house.join(name).display().to_string();
    let files = Files { ca: file("ca.pem"), cert: file("n2.pem"), key: file("n2.key") };
    let mut node = Node::start(NAME, Some(Certificates::load(files, Some(NAME)).unwrap())).await;
    println!("at={}", node.at);
    while let Some(event) = node.events.next().await {
        if let LinkEvent::Frame { from, frame } = event {
            node.links.send(from, frame);
        }
    }
}

#[tokio::test]
async fn frames_go_both_ways_in_order_and_the_end_of_a_killed_process_is_heard_at_once() {
    let house = House::new();
    house.issue(NAME);
    let mut a = Node::certified(&house, "n1").await;
    let mut other = Other::start(&house);
    a.dial(&other.at, Some(NAME));
    let first = a.up().await.incarnation;

    // a window of 16 frames of 64 KiB, as who keeps one would send
    let frame = |number: u64| Bytes::from([&number.to_le_bytes()[..], &[5; (64 << 10) - 8]].concat());
    let (frames, window) = (512, 16);
    let started = Instant::now();
    (0..window).for_each(|number| a.links.send(first, frame(number)));
    for number in 0..frames {
        assert_eq!(a.next().await, LinkEvent::Frame { from: first, frame: frame(number) });
        if number + window < frames {
            a.links.send(first, frame(number + window));
        }
    }
    let mib_per_s = frames as f64 / 16.0 / started.elapsed().as_secs_f64();
    assert!(mib_per_s > 1.0, "{mib_per_s} MiB/s each way");

    let killed = Instant::now();
    other.kill();
    assert!(matches!(a.next().await, LinkEvent::Down { peer, .. } if peer == first));
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());

    // and it may come back under its name at once
    let again = Other::start(&house);
    a.dial(&again.at, Some(NAME));
    assert_ne!(a.up().await.incarnation, first);
}

#[tokio::test]
async fn another_run_under_the_same_name_joins_while_the_first_is_frozen() {
    let house = House::new();
    house.issue(NAME);
    let mut a = Node::certified(&house, "n1").await;
    let frozen = Other::start(&house);
    a.dial(&frozen.at, Some(NAME));
    let first = a.up().await.incarnation;
    let stopped = Command::new("kill").args(["-STOP", &frozen.child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let again = Other::start(&house);
    a.dial(&again.at, Some(NAME));
    let second = a.up().await.incarnation;
    assert_ne!(first, second);
    a.links.send(second, Bytes::from_static(b"are you there?"));
    let answer = LinkEvent::Frame { from: second, frame: Bytes::from_static(b"are you there?") };
    assert_eq!(a.next().await, answer);
}
