//! Readers that stop reading in a busy group. Others must not notice, the node must not grow, and the slow ones get
//! everything once they read on: on the same socket after a `gap`, or on the next one.

use std::time::{Duration, Instant};

use loadtest::{
    Device, Socket, Target, crowd,
    history::What,
    proxy::{Fault, Proxy},
    socket::Upgrade,
};
use protocol::{
    ConversationId,
    request::{Hello, Hist, Page, Verb},
};

use crate::rig::{PATIENCE, Part, Rig, judge, memory_kib, post};

/// How much one slow reader may cost, and how much all of them.
const GROWTH_KIB_MAX: u64 = 32 << 10;
/// Bytes of a post: the largest there is, so that queues fill soon.
const POST_BYTES: usize = 8000;
/// No kernel keeps more for one socket.
const POSTS_MAX: usize = 5000;

/// Posts `n` times or a few more: all talk at once, each as soon as what it said before is stored. Answers how long each
/// post took.
async fn chatter(talkers: &[Device], c: ConversationId, said: &mut usize, n: usize) -> Vec<Duration> {
    let each = n.div_ceil(talkers.len());
    let begin = *said;
    *said += each * talkers.len();
    let talking = talkers.iter().enumerate().map(async |(number, talker)| {
        let mut took = Vec::new();
        for cid in (0..each).map(|turn| format!("n{}", begin + number * each + turn)) {
            let begun = Instant::now();
            talker.send(&post(c, &cid, &"x".repeat(POST_BYTES)), PATIENCE).await.unwrap();
            took.push(begun.elapsed());
        }
        took
    });
    let mut took = futures_util::future::join_all(talking).await.concat();
    took.sort_unstable();
    took
}

/// A group of talkers and `n_slow` readers behind one wire, which is blocked until the node feels it. `wait`: and
/// until it has given all of them up.
async fn block(name: &str, n_slow: usize, wait: bool) {
    let mut rig = Rig::start(&[]);
    let people = rig.people(3 + n_slow).await;
    let c = rig.group(&people).await;
    let wire = Proxy::start(rig.node.client_address()).await.unwrap();
    let (mut talkers, mut slow) = (Vec::new(), Vec::new());
    for user in &people[..3] {
        talkers.push(rig.device(user, 0, rig.target()).await);
    }
    for user in &people[3..] {
        slow.push(rig.device(user, 0, Target::new(&wire.url(), None).unwrap()).await);
    }
    let mut said = 0;
    // what everybody costs is there before anything is measured
    let before = chatter(&talkers, c, &mut said, 100).await;
    settle(&talkers, c, said).await;
    settle(&slow, c, said).await;
    rig.news();
    let memory = memory_kib(rig.node.pid());

    wire.set(Fault::Deaf);
    let blocked = Instant::now();
    // kernels take different amounts before anybody feels it
    let mut during = Vec::new();
    while rig.metric("starling_gaps_total") < n_slow as f64 {
        assert!(said < POSTS_MAX, "the block is not felt");
        during.append(&mut chatter(&talkers, c, &mut said, 50).await);
    }
    during.append(&mut chatter(&talkers, c, &mut said, 100).await);
    during.sort_unstable();
    settle(&talkers, c, said).await;
    let grown = memory_kib(rig.node.pid()).saturating_sub(memory);
    println!(
        "{name}: with {n_slow} blocked: ack median {:?} (before {:?}), 99 % {:?} (before {:?}); node grew by {grown} KiB",
        during[during.len() / 2],
        before[before.len() / 2],
        during[during.len() * 99 / 100],
        before[before.len() * 99 / 100],
    );
    assert!(grown <= GROWTH_KIB_MAX, "the node grew by {grown} KiB");
    assert!(during[during.len() - 1] < PATIENCE);
    if wait {
        let gone = r#"starling_connections_closed_total{code="4003"}"#;
        while rig.metric(gone) < n_slow as f64 {
            assert!(blocked.elapsed() < 3 * PATIENCE, "they are not given up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("{name}: given up after {:?}", blocked.elapsed());
    }
    wire.set(Fault::None);
    let unblocked = Instant::now();
    settle(&slow, c, said).await;
    println!("{name}: everything caught up within {:?}", unblocked.elapsed());

    let news = rig.news();
    let count = |wanted: fn(&What) -> bool| news.iter().filter(|record| wanted(&record.what)).count();
    let (gaps, closed) = (count(|w| matches!(w, What::Gap { .. })), count(|w| matches!(w, What::Closed { .. })));
    println!("{name}: gaps told {gaps}, sockets ended {closed}");
    assert!(gaps + closed >= n_slow, "the block was felt");
    assert!(wait == (closed > 0), "only who does not come back is given up");
    let devices = people.iter().zip(talkers.iter().chain(&slow)).map(|(user, device)| (user.user.id, device)).collect();
    let logs = rig.settle(&[Part { c, devices }]).await;
    judge(name, &rig.history(logs));
}

/// Until all have what was said: one event made the group.
async fn settle(devices: &[Device], c: ConversationId, said: usize) {
    for device in devices {
        assert!(device.settle(c, said as u64 + 1, 3 * PATIENCE).await, "{} of {said}", device.position(c));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_g16_a_reader_that_stops_for_a_while_is_told_of_a_gap_and_fetches_it() {
    block("slow", 1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_g16_many_readers_that_never_read_again_are_given_up_and_resume() {
    block("slow-many", 8, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_clients_that_ask_for_pages_and_never_read_them_cost_a_queue_each() {
    const SOCKETS: usize = 40;
    // `limits.queue_hard_bytes` twice: what waits, and what the writer took and cannot get rid of; a page in its buffer
    const QUEUE_KIB: u64 = 2 * 1024 + 512;
    let mut rig = Rig::start(&[]);
    let people = rig.people(2).await;
    let c = rig.group(&people).await;
    let talkers = [rig.device(&people[0], 0, rig.target()).await, rig.device(&people[1], 0, rig.target()).await];
    let mut said = 0;
    chatter(&talkers, c, &mut said, 100).await;
    let memory = memory_kib(rig.node.pid());
    let mut greedy = Vec::new();
    for number in 0..SOCKETS {
        let token = Some(people[0].tokens.access_token.clone());
        let mut socket = Socket::connect(&rig.target(), &Upgrade::default()).await.unwrap();
        let hello = Verb::Hello(Hello { token, device: Some(crowd::device(100 + number)), ..Hello::default() });
        let page = Page { limit: Some(200), ..Page::default() };
        let pages = (2..=33).map(|id| Verb::Hist(Hist { c, page }).encode(Some(id)));
        let frames: Vec<String> = std::iter::once(hello.encode(Some(1))).chain(pages).collect();
        socket.send_text(frames.join("\n")).await.unwrap();
        greedy.push(socket);
    }
    let mut most = 0;
    // all of it has been read from the log by then; nothing that the node keeps for them grows any more
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE / 4 {
        most = most.max(memory_kib(rig.node.pid()).saturating_sub(memory));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{SOCKETS} that do not read: node grew by {most} KiB");
    assert!(most < GROWTH_KIB_MAX + SOCKETS as u64 * QUEUE_KIB, "the node grew by {most} KiB");
    let took = chatter(&talkers, c, &mut said, 20).await;
    assert!(took[took.len() - 1] < PATIENCE);
    let devices = people.iter().zip(&talkers).map(|(user, device)| (user.user.id, device)).collect();
    let logs = rig.settle(&[Part { c, devices }]).await;
    judge("greedy", &rig.history(logs));
}
