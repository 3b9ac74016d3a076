//! The checker names each promise when it is broken once, passes what is right, and catches random damage.

#![allow(clippy::unwrap_used)]

use loadtest::{
    checker::{Promise, check},
    history::{Entry, History, Log, Record, What, content, digest},
    random::Random,
};
use proptest::prelude::*;
use protocol::{ClientId, Code, ConversationId, Post, UserId};

const C: ConversationId = ConversationId([7; 16]);

/// A run of a right server with one conversation, told step by step.
struct Scene {
    history: History,
    log: Vec<Entry>,
    now_us: u64,
    attempts: u64,
}

fn user(device: u32) -> UserId {
    UserId([u8::try_from(device).unwrap(); 16])
}

fn cid(name: &str) -> ClientId {
    ClientId::try_from(name.to_owned()).unwrap()
}

fn words(text: &str) -> u64 {
    content(&Post { text: Some(text.to_owned()), ..Post::default() })
}

impl Scene {
    /// Devices 0 to 2, each of another user, live in a conversation that was just created.
    fn new() -> Scene {
        let create = Entry {
            seq: 1,
            by: user(0),
            cid: None,
            post: None,
            digest: digest(&"create"),
            joined: vec![user(0), user(1), user(2)],
            gone: None,
        };
        let mut scene = Scene { history: History::default(), log: vec![create], now_us: 0, attempts: 0 };
        for device in 0..3 {
            scene.note(device, What::Connected);
            scene.fetched(device, 1);
            scene.synced(device, 0, 1);
        }
        scene
    }

    fn note(&mut self, device: u32, what: What) {
        self.now_us += 1;
        self.history.records.push(Record { at_us: self.now_us, device, user: user(device), socket: 0, what });
    }

    fn sent(&mut self, device: u32, name: &str) -> u64 {
        self.sent_as(device, name, name)
    }

    fn sent_as(&mut self, device: u32, name: &str, text: &str) -> u64 {
        self.attempts += 1;
        self.note(device, What::Sent { attempt: self.attempts, c: C, cid: cid(name), content: words(text) });
        self.attempts
    }

    /// The log takes a post.
    fn stored(&mut self, device: u32, name: &str) -> u64 {
        let seq = self.log.len() as u64 + 1;
        let number = self.log.iter().filter(|entry| entry.post.is_some()).count() as u64 + 1;
        self.log.push(Entry {
            seq,
            by: user(device),
            cid: Some(cid(name)),
            post: Some((number, words(name))),
            digest: digest(&(seq, name)),
            joined: Vec::new(),
            gone: None,
        });
        seq
    }

    fn acked(&mut self, device: u32, attempt: u64, seq: u64, dup: bool) {
        self.note(device, What::Acked { attempt, seq, dup });
    }

    fn digest_at(&self, seq: u64) -> u64 {
        self.log[usize::try_from(seq).unwrap() - 1].digest
    }

    fn delivered(&mut self, device: u32, seq: u64) {
        self.note(device, What::Delivered { c: C, seq, digest: self.digest_at(seq) });
    }

    fn fetched(&mut self, device: u32, seq: u64) {
        self.note(device, What::Fetched { c: C, seq, digest: self.digest_at(seq) });
    }

    fn synced(&mut self, device: u32, have: u64, head: u64) {
        let posts = self.log.iter().filter(|e| e.seq <= head && e.post.is_some()).count() as u64;
        self.note(
            device,
            What::Synced { c: C, have: Some(have), head, more: false, gap: None, read: 0, unread: posts },
        );
    }

    /// Device 0 posts, devices 1 and 2 are told.
    fn post(&mut self, name: &str) -> u64 {
        let attempt = self.sent(0, name);
        let seq = self.stored(0, name);
        self.acked(0, attempt, seq, false);
        self.delivered(1, seq);
        self.delivered(2, seq);
        seq
    }

    fn end(mut self) -> History {
        let head = self.log.len() as u64;
        for device in 0..3 {
            self.note(device, What::Settled { c: C, head });
        }
        self.read_back()
    }

    fn read_back(mut self) -> History {
        let head = self.log.len() as u64;
        self.history.logs.push(Log { c: C, reader: "reader".into(), head, entries: self.log });
        self.history
    }
}

#[track_caller]
fn names(history: &History, promise: Promise) {
    let verdict = check(history);
    let mut named: Vec<_> = verdict.violations.iter().map(|violation| violation.promise).collect();
    named.dedup();
    assert_eq!(named, [promise], "{:#?}", verdict.violations);
}

#[track_caller]
fn passes(history: &History) {
    let verdict = check(history);
    assert_eq!(verdict.violations, [], "a right history was called wrong");
}

#[test]
fn a_right_history_passes_with_retries_refusals_gaps_and_reconnects() {
    let mut scene = Scene::new();
    scene.post("a");
    let lost = scene.sent(0, "b");
    scene.note(0, What::Unknown { attempt: lost, why: "connection lost".into() });
    let seq = scene.stored(0, "b");
    scene.delivered(1, seq);
    scene.note(2, What::Gap { c: C, from: seq, to: seq });
    scene.fetched(2, seq);
    scene.note(2, What::Paged { c: C, asked_us: scene.now_us, head: seq });
    let again = scene.sent(0, "b");
    scene.acked(0, again, seq, true);
    let refused = scene.sent(1, "c");
    scene.note(1, What::Refused { attempt: refused, code: Code::RateLimited });
    scene.delivered(1, seq);
    scene.note(1, What::Marked { c: C, of: user(2), read: 1, delivered: seq });
    let verdict = check(&scene.end());
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.counts.sent, verdict.counts.acked, verdict.counts.repeated), (4, 2, 1));
}

#[test]
fn g1_an_acknowledged_event_that_is_not_in_the_log() {
    let mut scene = Scene::new();
    let attempt = scene.sent(0, "a");
    scene.acked(0, attempt, 2, false);
    names(&scene.read_back(), Promise::G1);
}

#[test]
fn g1_an_acknowledged_event_with_other_bytes() {
    let mut scene = Scene::new();
    scene.post("a");
    scene.log[1].post = Some((1, words("b")));
    names(&scene.end(), Promise::G1);
}

#[test]
fn g2_a_device_that_was_shown_another_event_than_the_log_has() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    scene.note(1, What::Delivered { c: C, seq: seq + 1, digest: 1 });
    let attempt = scene.sent(0, "b");
    let seq = scene.stored(0, "b");
    scene.acked(0, attempt, seq, false);
    scene.delivered(2, seq);
    names(&scene.end(), Promise::G2);
}

#[test]
fn g2_two_readings_of_one_log_that_differ() {
    let mut scene = Scene::new();
    scene.post("a");
    let mut history = scene.end();
    let mut other = history.logs[0].clone();
    other.entries[1].digest += 1;
    history.logs.push(other);
    names(&history, Promise::G2);
}

#[test]
fn g3_a_log_with_a_hole() {
    let mut scene = Scene::new();
    for (device, name) in [(0, "a"), (1, "b"), (0, "c")] {
        scene.stored(device, name);
    }
    scene.log.remove(2);
    scene.history.records.clear();
    names(&Scene { now_us: 0, ..scene }.with_head(4), Promise::G3);
}

impl Scene {
    fn with_head(self, head: u64) -> History {
        let mut history = self.read_back();
        history.logs[0].head = head;
        history
    }
}

#[test]
fn g3_a_seq_given_to_two_events() {
    let mut scene = Scene::new();
    scene.post("a");
    let second = scene.sent(1, "b");
    scene.acked(1, second, 2, false);
    let verdict = check(&scene.end());
    assert!(verdict.violations.iter().any(|v| v.promise == Promise::G3 && v.seqs == [2]), "{verdict:?}");
}

#[test]
fn g4_an_event_sent_after_an_acknowledgement_that_stands_before_it() {
    let mut scene = Scene::new();
    let first = scene.stored(1, "late");
    let second = scene.stored(0, "early");
    let early = scene.sent(0, "early");
    scene.note(0, What::Head { c: C, seq: first });
    scene.acked(0, early, second, false);
    scene.note(1, What::Head { c: C, seq: first });
    let late = scene.sent(1, "late");
    scene.acked(1, late, first, false);
    scene.delivered(1, second);
    scene.delivered(2, first);
    scene.delivered(2, second);
    names(&scene.end(), Promise::G4);
}

#[test]
fn g5_a_retry_that_is_stored_again() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    let again = scene.sent(0, "a");
    let twice = scene.stored(0, "a");
    scene.acked(0, again, twice, true);
    scene.delivered(1, twice);
    scene.delivered(2, twice);
    assert_eq!((seq, twice), (2, 3));
    names(&scene.end(), Promise::G5);
}

#[test]
fn g5_another_body_under_the_same_client_id_that_is_acknowledged() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    let other = scene.sent_as(0, "a", "something else");
    scene.acked(0, other, seq, true);
    names(&scene.end(), Promise::G5);
}

#[test]
fn g6_a_refused_send_that_is_stored() {
    let mut scene = Scene::new();
    let attempt = scene.sent(0, "a");
    scene.note(0, What::Refused { attempt, code: Code::Overloaded });
    let seq = scene.stored(0, "a");
    (0..3).for_each(|device| scene.delivered(device, seq));
    names(&scene.end(), Promise::G6);
}

#[test]
fn g6_a_post_that_nobody_sent() {
    let mut scene = Scene::new();
    scene.post("a");
    let seq = scene.stored(0, "ghost");
    (0..3).for_each(|device| scene.delivered(device, seq));
    names(&scene.end(), Promise::G6);
}

#[test]
fn g7_an_event_that_is_skipped_in_silence() {
    let mut scene = Scene::new();
    let attempt = scene.sent(0, "a");
    let seq = scene.stored(0, "a");
    scene.acked(0, attempt, seq, false);
    scene.delivered(1, seq);
    scene.post("b");
    names(&scene.end(), Promise::G7);
}

#[test]
fn g7_a_last_event_that_never_comes() {
    let mut scene = Scene::new();
    let attempt = scene.sent(0, "a");
    let seq = scene.stored(0, "a");
    scene.acked(0, attempt, seq, false);
    scene.delivered(1, seq);
    names(&scene.end(), Promise::G7);
}

#[test]
fn g7_an_answer_to_sync_with_a_silent_hole() {
    let mut scene = Scene::new();
    scene.post("a");
    scene.post("b");
    scene.fetched(1, 3);
    scene.synced(1, 1, 3);
    names(&scene.end(), Promise::G7);
}

#[test]
fn g8_a_page_that_lacks_what_was_acknowledged_before() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    scene.note(1, What::Paged { c: C, asked_us: scene.now_us, head: seq - 1 });
    names(&scene.end(), Promise::G8);
}

#[test]
fn g9_a_push_to_somebody_who_was_removed() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    scene.log[1].gone = Some(user(2));
    assert_eq!(seq, 2);
    passes(&Scene { history: scene.history.clone(), log: scene.log.clone(), ..scene }.end());
    scene.post("b");
    names(&scene.end(), Promise::G9);
}

#[test]
fn g7_what_is_said_while_somebody_is_no_member_is_not_owed_to_them() {
    let history = |told: &[u64]| {
        let mut scene = Scene::new();
        for name in ["out", "behind their back", "in again"] {
            let attempt = scene.sent(0, name);
            let seq = scene.stored(0, name);
            scene.acked(0, attempt, seq, false);
            scene.delivered(1, seq);
            if told.contains(&seq) {
                scene.delivered(2, seq);
            }
        }
        scene.log[1].gone = Some(user(2));
        scene.log[3].joined = vec![user(2)];
        scene.end()
    };
    passes(&history(&[2, 4]));
    names(&history(&[4]), Promise::G7);
    names(&history(&[2]), Promise::G7);
    names(&history(&[2, 3, 4]), Promise::G9);
    // to who reads slowly it is a `gap` that shows them they are back
    let with_gap = |from| {
        let mut history = history(&[2]);
        let at = history.records.iter().rposition(|record| matches!(record.what, What::Delivered { .. })).unwrap();
        let user = user(2);
        let told = history.records.iter().find(|record| record.user == user).unwrap().clone();
        history.records.insert(at + 1, Record { what: What::Gap { c: C, from, to: from }, ..told });
        history
    };
    passes(&with_gap(4));
    names(&with_gap(5), Promise::G7);
}

#[test]
fn g7_who_was_removed_hears_what_became_of_a_send_and_is_owed_nothing_more_until_they_are_back() {
    let mut scene = Scene::new();
    let attempt = scene.sent(1, "on its way");
    let seq = scene.stored(1, "on its way");
    let (said, gone, back) = (scene.stored(0, "quickly"), scene.stored(0, "remove"), scene.stored(0, "join"));
    scene.log[usize::try_from(gone).unwrap() - 1].gone = Some(user(1));
    scene.log[usize::try_from(back).unwrap() - 1].joined = vec![user(1)];
    // the socket ended before anything was answered; the next one syncs as that of no member, and sends again
    scene.note(1, What::Unknown { attempt, why: "the socket ended".into() });
    let on_the_next_socket = |scene: &mut Scene, what| {
        scene.note(1, what);
        scene.history.records.last_mut().unwrap().socket = 1;
    };
    on_the_next_socket(&mut scene, What::Connected);
    on_the_next_socket(
        &mut scene,
        What::Sent { attempt: 9, c: C, cid: cid("on its way"), content: words("on its way") },
    );
    on_the_next_socket(&mut scene, What::Acked { attempt: 9, seq, dup: true });
    let digest = scene.digest_at(back);
    on_the_next_socket(&mut scene, What::Delivered { c: C, seq: back, digest });
    assert!(said < gone);
    passes(&scene.read_back());
}

#[test]
fn g11_a_mark_that_goes_back_and_an_unread_count_that_is_wrong() {
    let mut scene = Scene::new();
    let seq = scene.post("a");
    scene.note(0, What::Marked { c: C, of: user(1), read: seq, delivered: seq });
    scene.note(0, What::Marked { c: C, of: user(1), read: 1, delivered: seq });
    names(&scene.end(), Promise::G11);

    let mut scene = Scene::new();
    let head = scene.post("a");
    scene.note(1, What::Synced { c: C, have: None, head, more: false, gap: None, read: 0, unread: 2 });
    names(&scene.end(), Promise::G11);
}

/// A run of a right server that nobody planned: concurrent senders, retries, refusals, gaps.
fn random_scene(seed: u64, steps: usize) -> Scene {
    let mut random = Random::seeded(seed);
    let mut scene = Scene::new();
    for step in 0..steps {
        let sender = u32::try_from(random.below(3)).unwrap();
        let name = format!("{step}");
        let attempt = scene.sent(sender, &name);
        if random.below(8) == 0 {
            scene.note(sender, What::Refused { attempt, code: Code::Overloaded });
            continue;
        }
        let seq = scene.stored(sender, &name);
        if random.below(4) == 0 {
            scene.note(sender, What::Unknown { attempt, why: "lost".into() });
            let again = scene.sent(sender, &name);
            scene.acked(sender, again, seq, true);
        } else {
            scene.acked(sender, attempt, seq, false);
        }
        for device in (0..3).filter(|device| *device != sender) {
            if random.below(6) == 0 {
                scene.note(device, What::Gap { c: C, from: seq, to: seq });
            } else {
                scene.delivered(device, seq);
            }
        }
    }
    scene
}

/// Whether the next thing on the stream would show that something before it is missing.
fn shows(what: &What) -> Option<bool> {
    match what {
        What::Acked { dup, .. } => Some(!dup),
        What::Delivered { .. } | What::Gap { .. } | What::Settled { .. } => Some(true),
        _ => None,
    }
}

/// Damages a history so that a promise is broken; which one is left to chance.
fn damage(history: &mut History, kind: u8, random: &mut Random) -> bool {
    let mut pick = |n: usize| usize::try_from(random.below(n as u64)).unwrap();
    let entries = history.logs[0].entries.len();
    let delivered: Vec<usize> = (0..history.records.len())
        .filter(|index| matches!(history.records[*index].what, What::Delivered { .. }))
        .collect();
    match kind {
        0 if entries > 1 => {
            history.logs[0].entries.remove(1 + pick(entries - 1));
        }
        1 if entries > 1 => {
            let twice = history.logs[0].entries[1 + pick(entries - 1)].clone();
            history.logs[0].entries.push(twice);
        }
        2 if entries > 2 => {
            let at = 1 + pick(entries - 2);
            history.logs[0].entries.swap(at, at + 1);
        }
        3 if entries > 1 => {
            let (number, content) = history.logs[0].entries[entries - 1].post.unwrap();
            history.logs[0].entries[entries - 1].post = Some((number, content ^ 1));
        }
        4 if !delivered.is_empty() => {
            let at = delivered[pick(delivered.len())];
            let device = history.records[at].device;
            // `ok` with `dup` tells the head: after it nothing is silent
            let mut later = history.records[at + 1..].iter().filter(|record| record.device == device);
            if later.find_map(|record| shows(&record.what)) == Some(false) {
                return false;
            }
            history.records.remove(at);
        }
        5 if !delivered.is_empty() => {
            if let What::Delivered { digest, .. } = &mut history.records[delivered[pick(delivered.len())]].what {
                *digest ^= 1;
            }
        }
        6 => {
            let acks = history.records.iter_mut().filter_map(|record| match &mut record.what {
                What::Acked { seq, .. } => Some(seq),
                _ => None,
            });
            let Some(seq) = acks.last() else { return false };
            *seq += 1;
        }
        _ => return false,
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_right_histories_pass(seed: u64, steps in 0..40_usize) {
        let verdict = check(&random_scene(seed, steps).end());
        prop_assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    }

    #[test]
    fn random_single_damage_is_caught(seed: u64, steps in 1..40_usize, kind in 0..7_u8) {
        let mut history = random_scene(seed, steps).end();
        if damage(&mut history, kind, &mut Random::seeded(seed ^ 1)) {
            prop_assert!(!check(&history).violations.is_empty(), "damage {kind} went unnoticed");
        }
    }

    #[test]
    fn a_history_survives_being_written_and_read(seed: u64) {
        let history = random_scene(seed, 20).end();
        let mut file = Vec::new();
        history.write(&mut file).unwrap();
        let mut again = History::default();
        again.read(file.as_slice()).unwrap();
        prop_assert_eq!(again, history);
    }
}
