//! SIGKILL at any moment loses nothing that was answered. The writer is a child: this same program, told so by its
//! environment.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use crate::common::{conversation, events, incarnation, user};
use protocol::{Kind, Millis, Seq, SessionId};
use storage::{
    Store,
    log::{Appended, Claimed, Created, Lane, Range},
    tokens::{Rotated, Rotation},
};

const DIR: &str = "STARLING_TEST_DIR";
const CONVERSATIONS: u8 = 4;
const ROUNDS: u64 = 5;

/// The child's half: does nothing unless it is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_killed() {
    let Some(dir) = env::var_os(DIR) else { return };
    let store = Store::open_sqlite(Path::new(&dir)).unwrap();
    let tasks = (1..=CONVERSATIONS).map(|n| tokio::spawn(post_forever(store.clone(), n)));
    let tasks: Vec<_> = tasks.chain([tokio::spawn(rotate_forever(store.clone()))]).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// One line per answer, written after it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

async fn post_forever(store: Store, n: u8) {
    let c = conversation(n);
    let create = [events::create(Kind::Group, &[n, 9])];
    let created = store.log.create(c, incarnation(1), &create).await.unwrap();
    assert!(matches!(created, Created::Created { .. } | Created::Exists));
    let claimed = store.log.claim(c, incarnation(1), None).await.unwrap();
    let Claimed::Claimed(tenancy) = claimed else { panic!("{claimed:?}") };
    let (mut head, mut posts) = (tenancy.head.seq, tenancy.head.post_no);
    loop {
        let room = protocol::limits::BUCKET_EVENTS - (head.0 + 1) % protocol::limits::BUCKET_EVENTS;
        let batch: Vec<_> =
            (1..=room.min(u64::from(n))).map(|i| events::post(head.0 + i, posts + i, n, "hello")).collect();
        let outcome = store.log.append(c, tenancy.epoch, head, head, &batch).await.unwrap();
        assert!(matches!(outcome, Appended::Applied { .. }), "{outcome:?}");
        (head, posts) = (Seq(head.0 + batch.len() as u64), posts + batch.len() as u64);
        say(&format!("log {n} {head}\n"));
    }
}

const FAMILY: SessionId = SessionId([7; 16]);

fn rotation(presented: u64) -> Rotation {
    let hash = |generation: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&generation.to_be_bytes());
        hash
    };
    Rotation {
        family: FAMILY,
        presented,
        presented_hash: hash(presented),
        successor_hash: hash(presented + 1),
        now: Millis(1),
        expires_at: Millis(1000),
        known: 0,
        grace_ms: 0,
    }
}

async fn rotate_forever(store: Store) {
    store.tokens.begin_family(FAMILY, rotation(1).presented_hash, Millis(0), Millis(1000)).await.unwrap();
    let mut generation: u64 = env::var("STARLING_TEST_GENERATION").unwrap().parse().unwrap();
    loop {
        match store.tokens.rotate(rotation(generation)).await.unwrap() {
            // After a kill the last answer may have been lost on its way: then the spent one is within its grace.
            Rotated::Rotated | Rotated::Again => generation += 1,
            other => panic!("generation {generation}: {other:?}"),
        }
        say(&format!("token {generation} 0\n"));
    }
}

#[tokio::test]
async fn g1_g3_g14_a_kill_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered: HashMap<(String, u64), u64> = HashMap::new();
    let mut generation = 1;
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "death::child_writes_until_killed", "--nocapture"])
            .env(DIR, dir.path())
            .env("STARLING_TEST_GENERATION", generation.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            // The test harness may have begun a line of its own.
            let words: Vec<&str> = line.split_whitespace().rev().take(3).collect();
            if let [value, n, kind] = words[..]
                && let (Ok(n), Ok(value), "log" | "token") = (n.parse(), value.parse(), kind)
            {
                let key = if kind == "log" { (kind.to_owned(), n) } else { (kind.to_owned(), 0) };
                let value = if kind == "log" { value } else { n };
                let known = answered.entry(key).or_default();
                *known = value.max(*known);
            }
        };
        for line in lines.by_ref().take(200 + 37 * round as usize) {
            note(&line.unwrap());
        }
        child.kill().unwrap();
        // What it said before it died counts, read or not. A last line that was torn says less than was stored.
        lines.map_while(Result::ok).for_each(|line| note(&line));
        child.wait().unwrap();

        let store = Store::open_sqlite(dir.path()).unwrap();
        for n in 1..=CONVERSATIONS {
            let acknowledged = answered.get(&("log".to_owned(), n.into())).copied().unwrap_or(0);
            let all = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 1 << 20, newest: false };
            let stored = store.log.read(conversation(n), all).await.unwrap();
            let seqs: Vec<u64> = stored.iter().map(|event| event.seq.0).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "G3: gapless");
            assert!(seqs.len() as u64 >= acknowledged, "G1: {acknowledged} answered, {} stored", seqs.len());
            let own = store.directory.membership(conversation(n), user(n)).await.unwrap().unwrap();
            let head = own.conversation.head;
            assert_eq!((own.member.marks.read, own.member.read_post), (head.seq, head.post_no), "all in one commit");
            assert_eq!(head.seq.0, seqs.len() as u64);
        }
        generation = answered.get(&("token".to_owned(), 0)).copied().unwrap_or(1);
        if round + 1 == ROUNDS && generation > 1 {
            let spent = store.tokens.rotate(Rotation { now: Millis(2), ..rotation(generation - 1) }).await.unwrap();
            assert_eq!(spent, Rotated::Reused, "G14: a spent token stays spent");
        }
    }
    assert!(answered.len() > usize::from(CONVERSATIONS), "every writer was heard: {answered:?}");
}
