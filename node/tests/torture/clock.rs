//! A machine whose clock is set back by an hour, and put right again, while the node runs and while it is down. Nobody
//! is signed out, nothing lasts an hour longer than it should, and no time that was told goes back.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper::Method;
use loadtest::{Device, Rest, client::Failed, crowd, rest::Call};
use protocol::{Code, ConversationId, push, request::Verb, rest};
use serde::de::IgnoredAny;

use crate::rig::{PATIENCE, Part, Rig, judge, post, starter};

const HOUR: i64 = 3600;

/// The clock of a node, which tests set.
struct Clock(PathBuf);

impl Clock {
    /// By so many seconds beside the right time.
    fn set(&self, seconds: i64) {
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(fresh, &self.0).unwrap();
    }

    /// What makes a program look at this clock.
    fn wear(&self) -> Option<Vec<String>> {
        let library = "faketime/libfaketimeMT.so.1";
        let mut found = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path().join(library));
        let Some(library) = found.find(|path| path.exists()) else {
            println!("NOT TESTED: setting a clock needs libfaketime; install with apt-get install faketime");
            assert!(std::env::var_os("CI").is_none(), "CI must have faketime");
            return None;
        };
        let set = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut words = vec!["env".to_owned(), set("LD_PRELOAD", &library), set("FAKETIME_TIMESTAMP_FILE", &self.0)];
        // the time that only goes forward is the kernel's own, as on a real machine
        words.extend(
            ["FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned),
        );
        Some(words)
    }
}

/// Sends one post and answers the time it was given.
async fn say(device: &Device, c: ConversationId, said: &mut u64) -> u64 {
    *said += 1;
    device.send(&post(c, &format!("n{said}"), "what time is it?"), PATIENCE).await.unwrap().at.0
}

async fn may(rest: &Rest, token: &str) -> Result<(), loadtest::RestFailed> {
    rest.call::<IgnoredAny>(Call::new(Method::GET, "users/me").by(token)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_by_an_hour_and_put_right_again_moves_nothing() {
    let limits = [("limits.send_per_s", "5"), ("limits.send_burst", "10"), ("auth.access_ttl_s", "900")];
    let (starter, place) = starter(&limits);
    let clock = Clock(place.path().join("faketime"));
    clock.set(0);
    let Some(through) = clock.wear() else { return };
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    let mut rig = Rig::of(starter.through(&through), place);
    let people = rig.people(2).await;
    let c = rig.group(&people).await;
    let devices = [rig.device(&people[0], 0, rig.target()).await, rig.device(&people[1], 0, rig.target()).await];
    let mut said = 0;
    let mut times = vec![say(&devices[0], c, &mut said).await];
    let begun = Instant::now();
    let mut spares = Vec::new();
    for number in 1..=5 {
        spares.push(crowd::another(&rig.rest, &people[0], number).await.unwrap());
    }

    let stages = [(-HOUR, false), (-HOUR, true), (0, false), (-HOUR, true), (-HOUR, false), (0, true)];
    for (number, (offset, restart)) in stages.into_iter().enumerate() {
        clock.set(offset);
        let fake = machine_ms(&rig, offset);
        if restart {
            rig.restart();
        }
        let stage = format!("stage {number}: clock {offset:+} s, restarted {restart}");
        times.push(say(&devices[number % 2], c, &mut said).await);
        let ahead = times[times.len() - 1].cast_signed() - fake;
        println!("{stage}: the node is {ahead} ms from its machine's clock");
        // the node itself says so: the clock was really moved
        let expected = if offset < 0 { HOUR as f64 - 60.0 } else { 0.0 };
        let asked = Instant::now();
        while rig.metric("starling_clock_ahead_seconds") < expected {
            assert!(asked.elapsed() < PATIENCE, "{stage}: the node does not notice");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // tokens of before the change, and of now
        for token in people.iter().map(|user| &user.tokens.access_token) {
            may(&rig.rest, token).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        }
        let fresh = crowd::another(&rig.rest, &people[1], 1).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        assert_eq!(fresh.tokens.expires_in, 900, "{stage}");
        may(&rig.rest, &fresh.tokens.access_token).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        let refreshed = rig.rest.refresh(&fresh.tokens.refresh_token).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        may(&rig.rest, &refreshed.access_token).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        ticket(&rig, &refreshed.access_token).await.unwrap_or_else(|e| panic!("{stage}: {e}"));
        // a bucket that is empty fills at its rate, neither at once nor in an hour
        let refusal = exhaust(&devices[0], c, &mut said).await;
        let after_ms = if let Failed::Refused { after_ms, .. } = refusal { after_ms.unwrap() } else { 0 };
        assert!((1..=2000).contains(&after_ms), "{stage}: come back after {after_ms} ms");
        let waited = Instant::now();
        times.push(say(&devices[0], c, &mut said).await);
        assert!(waited.elapsed() < PATIENCE, "{stage}: waited {:?}", waited.elapsed());
        // who signs out is out, whatever the clock says
        let spare = spares.pop();
        if let Some(spare) = spare {
            let token = &spare.tokens.access_token;
            rig.rest.call::<IgnoredAny>(Call::new(Method::POST, "auth/logout").by(token)).await.unwrap();
            assert_eq!(
                may(&rig.rest, token).await.err().and_then(|e| e.code()),
                Some(Code::Unauthenticated),
                "{stage}"
            );
        }
    }
    assert!(times.is_sorted(), "times of one log never go back: {times:?}");
    let span = times[times.len() - 1] - times[0];
    // a restart may skip a few seconds, never an hour
    let most = u64::try_from(begun.elapsed().as_millis()).unwrap() + 30_000;
    println!("{} ms were told in {:?}", span, begun.elapsed());
    assert!(span < most, "{span} ms were told in {:?}", begun.elapsed());

    let devices = people.iter().zip(&devices).map(|(user, device)| (user.user.id, device)).collect();
    let logs = rig.settle(&[Part { c, devices }]).await;
    judge("clock", &rig.history(logs));
}

async fn ticket(rig: &Rig, token: &str) -> Result<(), loadtest::RestFailed> {
    let call = Call::new(Method::POST, "auth/ticket").by(token);
    rig.rest.call::<rest::Ticket>(call).await.map(|(_, ticket)| assert_eq!(ticket.expires_in, 30))
}

/// Sends until it is too much.
async fn exhaust(device: &Device, c: ConversationId, said: &mut u64) -> Failed {
    let handle = device.live(PATIENCE).await.unwrap();
    for _ in 0..100 {
        *said += 1;
        let send = Verb::Send(post(c, &format!("n{said}"), "again"));
        match handle.request::<push::Sent>(send).await {
            Ok(_) => {}
            Err(failed) => {
                assert_eq!(failed.code(), Some(Code::RateLimited), "{failed}");
                return failed;
            }
        }
    }
    panic!("a hundred sends at once are not too many");
}

/// What the node's machine says the time is.
fn machine_ms(rig: &Rig, offset: i64) -> i64 {
    i64::try_from(rig.clock.now_us() / 1000).unwrap() + offset * 1000
}
