//! From socket to socket: a device comes back as the close codes say, and opens the next socket before it leaves one that
//! was told to go. Each syncs first and fetches what it was not shown.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use protocol::{
    Code, ConversationId, Seq,
    close::CloseCode,
    event::View,
    push::{HistoryPage, Synced},
    request::{Auth, Hello, Hist, ListWindow, Page, Sync, Verb},
};

use super::{BACKOFF_MAX, Shared, State};
use crate::{
    client::{Client, ConnectFailed, Failed, Handle, Journal, Push},
    random::Random,
    socket::Ended,
    timeline::Timeline,
};

/// The longest first wait; doubles with every failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// How long a socket that has a successor is kept for answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// A connection that lived this long starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(30);

/// Why a socket is not the one any more.
enum Left {
    Ended(Ended),
    /// It was told to go, and its successor is live.
    For(Client),
}

/// Until the device is told to stop.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut random = Random::unseeded();
    let mut failures = 0;
    let mut successor = None;
    loop {
        let started = Instant::now();
        let mut after = Duration::ZERO;
        let connected = match successor.take() {
            Some(client) => Ok(client),
            None => connect(&shared).await,
        };
        let left = match connected {
            Ok(client) => live(&shared, client, &mut after).await,
            Err(ended) => Left::Ended(ended),
        };
        let ended = match left {
            Left::For(client) => {
                (successor, failures) = (Some(client), 0);
                continue;
            }
            Left::Ended(ended) => ended,
        };
        let stop = match &ended {
            Ended::Closed { code: 4006, .. } => shared.refresh().await.err(),
            Ended::Closed { code: 4500..=4999, .. } => Some(ended),
            _ => None,
        };
        if let Some(Ended::Closed { code, reason }) = stop {
            shared.state.send_replace(State::Stopped(format!("stopped by {code} {reason}")));
            return;
        }
        shared.state.send_replace(State::Away);
        failures = if started.elapsed() > HEALTHY { 0 } else { failures };
        tokio::time::sleep(pause(failures, &mut random).min(shared.setup.backoff_max).max(after)).await;
        failures = failures.saturating_add(1);
    }
}

/// Full jitter: anything up to a bound that doubles with each failure in a row.
fn pause(failures: u32, random: &mut Random) -> Duration {
    let longest = BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    Duration::from_millis(random.below(u64::try_from(longest.as_millis()).unwrap_or(0)))
}

/// Connects and syncs; only then the device counts as live.
async fn connect(shared: &Shared) -> Result<Client, Ended> {
    let socket = shared.sockets.fetch_add(1, Ordering::Relaxed);
    let target = &shared.setup.targets[socket as usize % shared.setup.targets.len()];
    let journal = shared.setup.recorder.clone();
    let journal = journal.map(|recorder| Journal { recorder, socket, attempts: shared.attempts.clone() });
    let hello = Hello {
        token: Some(shared.tokens().access_token.clone()),
        device: Some(shared.setup.device.clone()),
        app: Some(concat!("starling-load/", env!("CARGO_PKG_VERSION")).into()),
        ..Hello::default()
    };
    let client = match Client::connect(target, hello, journal).await {
        Ok(client) => client,
        Err(ConnectFailed::Unwelcome(ended)) => return Err(ended),
        Err(ConnectFailed::Refused(failed)) => {
            if matches!(failed.code(), Some(Code::TokenExpired | Code::Unauthenticated)) {
                shared.refresh().await?;
            }
            return Err(Ended::Lost(failed.to_string()));
        }
        Err(ConnectFailed::Unreachable(e)) => return Err(Ended::Lost(e.to_string())),
    };
    let handle = client.handle();
    sync(shared, &handle).await.map_err(|failed| Ended::Lost(failed.to_string()))?;
    shared.state.send_replace(State::Live(handle));
    Ok(client)
}

/// Asks for everything missed, page by page.
async fn sync(shared: &Shared, handle: &Handle) -> Result<(), Failed> {
    let mut list = ListWindow { limit: protocol::limits::SYNC_LIST_MAX, cursor: None };
    let mut have = shared.places().iter().map(|(c, place)| (*c, Seq(place.position()))).collect();
    loop {
        let synced: Synced = handle.request(Verb::Sync(Sync { list: list.clone(), have })).await?;
        have = std::collections::HashMap::new();
        for item in synced.conversations {
            for view in &item.events {
                shared.event(item.id, view);
            }
            shared.places().entry(item.id).or_default().heard_of(item.head.0);
            fill(shared, handle, item.id).await?;
        }
        for left in synced.left {
            shared.places().remove(&left);
        }
        match synced.next {
            Some(cursor) => list.cursor = Some(cursor),
            None => return Ok(()),
        }
    }
}

/// Takes what is pushed until the socket ends, or another has taken its place; says how long the server asks to stay away.
async fn live(shared: &Shared, mut client: Client, after: &mut Duration) -> Left {
    let handle = client.handle();
    let mut going: Option<Pin<Box<dyn Future<Output = Client> + std::marker::Send + '_>>> = None;
    loop {
        let push = tokio::select! {
            biased;
            push = client.next_push(Duration::MAX) => push,
            Some(next) = async { Some(going.as_mut()?.await) } => {
                tokio::spawn(leave(client));
                return Left::For(next);
            }
        };
        let c = match push {
            Ok(Push::Event(view)) => {
                let c = match &view {
                    View::Post(post) => post.c,
                    View::Event(event) => event.c,
                };
                shared.event(c, &view);
                c
            }
            Ok(Push::Own { c, seq, dup: false }) => {
                shared.places().entry(c).or_default().event(seq);
                shared.moved.notify_waiters();
                c
            }
            Ok(Push::Own { c, seq, dup: true }) => hear(shared, c, seq),
            Ok(Push::Gap(gap)) => hear(shared, gap.c, gap.to.0),
            Ok(Push::Head(head)) => hear(shared, head.c, head.seq.0),
            Ok(Push::Bye(bye)) => {
                *after = Duration::from_millis(bye.after_ms.unwrap_or(0));
                if bye.code == CloseCode::Drain && going.is_none() {
                    going = Some(Box::pin(go(shared, *after)));
                }
                continue;
            }
            Ok(Push::Token(_)) => {
                if shared.refresh().await.is_ok() {
                    let token = shared.tokens().access_token.clone();
                    handle.request::<serde::de::IgnoredAny>(Verb::Auth(Auth { token })).await.ok();
                }
                continue;
            }
            Ok(Push::Ended(ended)) | Err(ended) => return Left::Ended(ended),
            Ok(_) => continue,
        };
        if let Err(failed) = fill(shared, &handle, c).await {
            return Left::Ended(Ended::Lost(failed.to_string()));
        }
    }
}

/// Opens the next socket, which is live then; the one that was told to go works on meanwhile.
async fn go(shared: &Shared, after: Duration) -> Client {
    tokio::time::sleep(after).await;
    loop {
        match connect(shared).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(BACKOFF_FIRST.min(shared.setup.backoff_max)).await,
        }
    }
}

/// Closes a socket that has a successor, once it is answered.
async fn leave(client: Client) {
    let handle = client.handle();
    let answered = async {
        while !handle.is_idle() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(ANSWERS_WITHIN, answered).await;
    client.close().await;
}

fn hear(shared: &Shared, c: ConversationId, seq: u64) -> ConversationId {
    shared.places().entry(c).or_default().heard_of(seq);
    c
}

/// Fetches what is missing in `c`, until nothing is.
async fn fill(shared: &Shared, handle: &Handle, c: ConversationId) -> Result<(), Failed> {
    loop {
        let missing = shared.places().get(&c).and_then(Timeline::missing);
        let Some((from, _)) = missing else { return Ok(()) };
        let limit = Some(protocol::limits::PAGE_POSTS_MAX);
        let page = Page { after: Some(Seq(from - 1)), limit, ..Page::default() };
        match handle.request::<HistoryPage>(Verb::Hist(Hist { c, page })).await {
            Ok(page) => {
                let posts = page.messages.into_iter().map(View::Post);
                for view in posts.chain(page.events.into_iter().map(View::Event)) {
                    shared.event(c, &view);
                }
                if shared.places().get(&c).and_then(Timeline::missing).is_some_and(|(next, _)| next == from) {
                    return Err(Failed::Lost(format!("{from} of {c} is not in history")));
                }
            }
            Err(Failed::Refused { code: Code::NotFound, .. }) => {
                shared.places().remove(&c);
                return Ok(());
            }
            Err(Failed::Refused { after_ms, code, .. }) if code.retry() => {
                tokio::time::sleep(Duration::from_millis(after_ms.unwrap_or(100))).await;
            }
            Err(failed) => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_jittered_up_to_a_bound_that_doubles_to_thirty_seconds() {
        let mut random = Random::seeded(1);
        for (failures, bound) in [(0, 500), (1, 1000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)] {
            let pauses: Vec<u128> = (0..200).map(|_| pause(failures, &mut random).as_millis()).collect();
            assert!(pauses.iter().all(|ms| *ms < bound), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|ms| *ms > bound / 2) && pauses.iter().any(|ms| *ms < bound / 2));
        }
    }
}
