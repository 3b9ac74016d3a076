//! Clients that retry, a store that fails in every way it can, and conversations that are killed: whatever was
//! acknowledged is in the log, once, in the order it was acknowledged in. Any failure names its seed.

use std::{collections::HashMap, time::Duration};

use protocol::{ConversationId, Seq};
use storage::{
    log::{Lane, Range},
    memory::{Memory, faults},
};

use super::{Dice, Rig, TestSocket};

const SEEDS: u64 = 40;
const POSTS: u64 = 25;
/// Of a thousand calls that write.
const FAULTS: u64 = 120;

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_whatever_the_store_does() {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(seed));
    }
}

async fn run(seed: u64) {
    let quiet = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let calm = quiet.clone();
    let mut plan = faults::seeded(seed, FAULTS);
    let store = Memory::with_faults(move |operation| {
        let fault = plan(operation);
        fault.filter(|_| !calm.load(std::sync::atomic::Ordering::Relaxed))
    });
    let rig = std::sync::Arc::new(Rig::start(store.clone(), seed).await);
    let callers = [rig.user(1).await, rig.user(2).await, rig.user(3).await];
    let c = rig.group(&callers).await;
    quiet.store(false, std::sync::atomic::Ordering::Relaxed);

    let mut clients = Vec::new();
    for caller in callers {
        let socket = rig.socket(caller, "d").await;
        let name = format!("{}", caller.user.0[0]);
        clients.push(tokio::spawn(client(socket, c, name, Dice::new(seed ^ u64::from(caller.user.0[0])))));
    }
    let dice = Dice::new(seed.wrapping_mul(31));
    let killer = {
        let rig = rig.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200 + dice.roll(3_000))).await;
                rig.starling.kinds.conversations.kill(c);
            }
        })
    };
    let mut acked: Vec<(u64, String)> = Vec::new();
    for client in clients {
        acked.extend(client.await.unwrap_or_else(|e| panic!("seed {seed}: {e}")));
    }
    killer.abort();
    quiet.store(true, std::sync::atomic::Ordering::Relaxed);

    let all = Range { after: Seq(0), before: None, lane: Lane::Both, limit: 100_000, newest: false };
    let log = store.log.read(c, all).await.unwrap();
    let mut by_cid: HashMap<String, u64> = HashMap::new();
    for (nth, event) in log.iter().enumerate() {
        assert_eq!(event.seq.0, nth as u64 + 1, "G3, seed {seed}");
        if let Some(cid) = &event.cid {
            let twice = by_cid.insert(cid.as_str().to_owned(), event.seq.0);
            assert_eq!(twice, None, "G5, seed {seed}: {cid:?} is stored twice");
        }
    }
    for (seq, cid) in &acked {
        assert_eq!(by_cid.get(cid), Some(seq), "G1, seed {seed}: {cid} was acknowledged at {seq}");
    }
    assert_eq!(acked.len() as u64, 3 * POSTS, "seed {seed}: every client got through in the end");
}

/// Posts one after the other, each until it is acknowledged; so its own seqs ascend (G4).
async fn client(mut socket: TestSocket, c: ConversationId, name: String, dice: Dice) -> Vec<(u64, String)> {
    let mut acked: Vec<(u64, String)> = Vec::new();
    for n in 0..POSTS {
        let cid = format!("{name}-{n}");
        let mut attempts = 0;
        let seq = loop {
            attempts += 1;
            assert!(attempts < 1_000, "{cid} does not get through");
            let answer = socket.ask(TestSocket::post(c, &cid, &cid)).await;
            if answer["t"] == "ok" {
                break answer["d"]["seq"].as_u64().unwrap();
            }
            assert_eq!(answer["d"]["retry"], true, "a member's post is never refused for good: {answer}");
            tokio::time::sleep(Duration::from_millis(answer["d"]["after_ms"].as_u64().unwrap_or(100))).await;
        };
        assert!(acked.last().is_none_or(|(last, _)| seq > *last), "G4: {cid} at {seq} after {acked:?}");
        acked.push((seq, cid));
        tokio::time::sleep(Duration::from_millis(dice.roll(200))).await;
    }
    acked
}
