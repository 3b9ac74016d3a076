//! Far more than the node takes: what it cannot take it refuses at once and for now, its memory stays where it is, and
//! what it can take goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use loadtest::client::{Failed, Handle};
use protocol::{
    ConversationId, push,
    request::{ListWindow, Sync, Verb},
};
use tokio::task::JoinSet;

use crate::{
    rig::{PATIENCE, Part, Rig, judge, memory_kib, post},
    support,
};

/// Groups, and members of each; every member's socket is a sender.
const GROUPS: usize = 4;
const MEMBERS: usize = 4;
/// Unanswered sends of a socket that keep the node busy all the time: a batch and more of each group on the disk here, and
/// one batch of each on servers, which have the same two cores.
fn busy() -> usize {
    if support::are_real() { 16 } else { 80 }
}
/// As many times that are too much.
const OVERRUN: usize = 5;
const LASTS: Duration = Duration::from_secs(3);
/// Ten times what is promised.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
const GROWTH_KIB_MAX: u64 = 64 << 10;

#[derive(Default)]
struct Tally {
    acked: AtomicU64,
    over: AtomicBool,
    slowest: Mutex<BTreeMap<String, (u64, Duration)>>,
}

/// Sends as soon as there is an answer. A refusal is obeyed only as far as it says how long to wait.
async fn sender(handle: Handle, c: ConversationId, name: String, tally: Arc<Tally>) {
    for number in 0.. {
        if tally.over.load(Ordering::Relaxed) {
            return;
        }
        let begun = Instant::now();
        let answer = handle.request::<push::Sent>(Verb::Send(post(c, &format!("{name}-{number}"), "more"))).await;
        let code = match &answer {
            Ok(_) => {
                tally.acked.fetch_add(1, Ordering::Relaxed);
                "ok".to_owned()
            }
            Err(failed @ Failed::Refused { code, .. }) => {
                assert!(code.retry(), "{failed}");
                code.as_str().to_owned()
            }
            Err(Failed::Lost(why)) => panic!("a socket that obeys was ended: {why}"),
        };
        {
            let mut slowest = tally.slowest.lock().unwrap();
            let entry = slowest.entry(code).or_default();
            *entry = (entry.0 + 1, entry.1.max(begun.elapsed()));
        }
        if let Err(Failed::Refused { after_ms, .. }) = answer {
            tokio::time::sleep(Duration::from_millis(after_ms.unwrap_or(10))).await;
        }
    }
}

/// Every socket keeps `outstanding` sends unanswered for a while; answers how many were acknowledged in each second.
async fn press(rig: &Rig, clients: &[(ConversationId, Handle)], name: &str, outstanding: usize) -> (Vec<u64>, u64) {
    let tally = Arc::new(Tally::default());
    let mut senders = JoinSet::new();
    for (number, (c, handle)) in clients.iter().enumerate() {
        for line in 0..outstanding {
            senders.spawn(sender(handle.clone(), *c, format!("{name}-{number}-{line}"), tally.clone()));
        }
    }
    let (mut seconds, mut most) = (Vec::new(), 0);
    let begun = Instant::now();
    while begun.elapsed() < LASTS {
        let before = tally.acked.load(Ordering::Relaxed);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(memory_kib(rig.node.pid()));
        }
        seconds.push(tally.acked.load(Ordering::Relaxed) - before);
    }
    tally.over.store(true, Ordering::Relaxed);
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    let slowest = tally.slowest.lock().unwrap();
    println!(
        "{name}, {outstanding} outstanding: acks per second {seconds:?}; answers, how many and the slowest: {slowest:?}"
    );
    for (code, (_, slowest)) in slowest.iter() {
        let most = if code == "ok" { PATIENCE } else { REFUSED_WITHIN };
        assert!(*slowest < most, "{code} after {slowest:?}");
    }
    (seconds, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g15_five_times_too_much_is_refused_quickly_and_the_rest_goes_on() {
    let mut rig = Rig::start(&[("limits.inflight", "400")]);
    let mut groups = Vec::new();
    for _ in 0..GROUPS {
        let people = rig.people(MEMBERS).await;
        let c = rig.group(&people).await;
        groups.push((c, people));
    }
    let list = Sync { list: ListWindow { limit: 10, cursor: None }, ..Sync::default() };
    let (mut clients, mut handles) = (Vec::new(), Vec::new());
    for (c, people) in &groups {
        for user in people {
            let client = rig.socket(user, list.clone()).await;
            handles.push((*c, client.handle()));
            clients.push(client);
        }
    }
    let (peak, _) = press(&rig, &handles, "busy", busy()).await;
    let memory = memory_kib(rig.node.pid());
    let (under, most) = press(&rig, &handles, "overrun", OVERRUN * busy()).await;
    let grown = most.saturating_sub(memory);
    // once more: the machine may have something else to do by now, and then all of it is slower
    let (again, _) = press(&rig, &handles, "busy again", busy()).await;
    println!("peak {peak:?} and {again:?}, overrun {under:?} acks per second; node grew by {grown} KiB");
    let mean = |seconds: &[u64]| seconds.iter().sum::<u64>() as f64 / seconds.len() as f64;
    let usual = mean(&peak).min(mean(&again));
    assert!(mean(&under) >= usual / 10.0, "goodput went on: {under:?} beside {peak:?} and {again:?}");
    assert!(grown < GROWTH_KIB_MAX, "the node grew by {grown} KiB");
    drop(clients);

    let mut logs = Vec::new();
    for (c, people) in &groups {
        let device = rig.device(&people[0], 0, rig.target()).await;
        logs.append(&mut rig.settle(&[Part { c: *c, devices: vec![(people[0].user.id, &device)] }]).await);
    }
    judge("overload", &rig.history(logs));
}
