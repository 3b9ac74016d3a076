//! The history is away: refused, held, or deaf. Nothing is acknowledged, every send has its answer soon, the node says
//! why it is not ready and stays as large as it was, and what needs no store goes on. Then it is back.

use std::time::{Duration, Instant};

use loadtest::{client::Push, proxy::Fault};
use protocol::{
    Presence,
    request::{Pres, Typ, Verb},
};
use serde::de::IgnoredAny;

use crate::{
    load::{Group, Load, summary},
    rig::{Rig, judge, memory_kib},
    stores::Stores,
    support,
};

/// How long the history is away.
const AWAY: Duration = Duration::from_secs(8);
/// Promised are 2 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);
/// As promised.
const BACK_WITHIN: Duration = Duration::from_secs(10);
const GROWTH_KIB_MAX: u64 = 32 << 10;
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g15_while_the_history_is_away_nothing_is_acknowledged_and_the_rest_goes_on() {
    let stores = Stores::shared(0).await;
    let mut rig = stores.rig(&[]);
    let mut load = Load::start(&rig, 6, 3, 4).await;
    load.acks(500, PATIENCE).await;
    for fault in [Fault::Cut, Fault::Stalled, Fault::Swallowing] {
        let memory = memory_kib(rig.node.pid());
        stores.cql.set(fault);
        // what was under way may still be acknowledged
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        let unready_after = ready(&rig, false).await;
        volatile(load.group()).await;
        let (_, most) = load.watch(&rig, AWAY.saturating_sub(begun.elapsed())).await;
        let answers = load.since(begun);

        stores.cql.set(Fault::None);
        let stored_after = load.acks(100, BACK_WITHIN).await;
        let ready_after = ready(&rig, true).await;
        let grown = most.saturating_sub(memory);
        println!(
            "{fault:?}: answers {:?}; unready after {unready_after:?}; node grew by {grown} KiB; back: 100 sends after \
             {stored_after:?}, ready after {ready_after:?}",
            summary(&answers)
        );
        for (code, (_, slowest)) in summary(&answers) {
            // what is known to be stored may still be said
            assert!(["unavailable", "timeout", "dup"].contains(&code), "{fault:?}: a send was told {code}");
            assert!(slowest < ANSWERED_WITHIN, "{fault:?}: {code} after {slowest:?}");
        }
        assert!(answers.len() > 50, "{fault:?}: only {} answers in {AWAY:?}", answers.len());
        assert!(grown < GROWTH_KIB_MAX, "{fault:?}: the node grew by {grown} KiB");
    }
    let history = load.finish(&mut rig).await;
    judge("away", &history);
}

/// Typing and presence reach the others.
async fn volatile(group: &mut Group) {
    let (c, typist) = (group.c, group.people[0].user.id);
    let [ann, bob, ..] = &mut group.clients[..] else { panic!("two members at least") };
    let begun = Instant::now();
    for on in [true, false] {
        ann.request::<IgnoredAny>(Verb::Typ(Typ { c, on })).await.unwrap();
        let typed =
            |push| matches!(push, Push::Typing(typing) if typing.user == typist && typing.on == on).then_some(());
        bob.expect(PATIENCE, typed).await.unwrap();
    }
    for state in [Presence::Away, Presence::Online] {
        ann.request::<IgnoredAny>(Verb::Pres(Pres { state })).await.unwrap();
        let turned = |push| match push {
            Push::Presence(states) if states.presence.get(&typist).is_some_and(|now| now.state == state) => Some(()),
            _ => None,
        };
        bob.expect(PATIENCE, turned).await.unwrap();
    }
    println!("typing and presence, four times in {:?}", begun.elapsed());
}

/// Waits until the node says that it is ready, or that it is not and why; answers how long that took.
async fn ready(rig: &Rig, wanted: bool) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = tokio::task::block_in_place(|| support::get(rig.node.admin_address(), "/ready"));
        if (answer.status == 200) == wanted {
            let reasons = answer.json()["reasons"].to_string();
            assert_eq!(reasons.contains("history"), !wanted, "{reasons}");
            println!("{} {reasons}", answer.status);
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{} {}", answer.status, answer.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
