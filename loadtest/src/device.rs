//! A device that wants to be there: it signs its socket in, comes back as the close codes say, syncs, fetches what it
//! was not shown, and knows its place in every conversation. It drops what it has already, as every client must.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use protocol::{
    Code, ConversationId, DeviceId, Seq,
    event::View,
    push::{HistoryPage, Sent, Synced},
    request::{Auth, Hello, Hist, ListWindow, Page, Send, Sync, Verb},
    rest::{SignedIn, Tokens},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    Rest, Target,
    client::{Client, ConnectFailed, Failed, Handle, Journal, Push},
    history::{Recorder, What},
    random::Random,
    socket::Ended,
    timeline::Timeline,
};

/// The longest wait before another try, as the protocol has it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest first wait; doubles with every failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// A connection that lived this long starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(30);

/// See the module. Dropping it cuts its connection.
pub struct Device {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What a device is made of.
pub struct Setup {
    /// Where to: all of one cluster. It begins with the first, and turns to the next whenever it has to come back.
    pub targets: Vec<Target>,
    /// For fresh tokens.
    pub rest: Rest,
    /// Whose.
    pub signed_in: SignedIn,
    /// Tells it from the user's others.
    pub device: DeviceId,
    /// The longest wait before another try: [`BACKOFF_MAX`], or less where a server is ended many times a minute.
    pub backoff_max: Duration,
    /// Writes down what happens, for the checker.
    pub recorder: Option<Recorder>,
    /// Called with every event the device did not have yet.
    pub on_event: Option<OnEvent>,
}

/// See [`Setup::on_event`].
pub type OnEvent = Box<dyn Fn(&View) + std::marker::Send + std::marker::Sync>;

struct Shared {
    setup: Setup,
    tokens: Mutex<Tokens>,
    attempts: Arc<AtomicU64>,
    state: watch::Sender<State>,
    places: Mutex<BTreeMap<ConversationId, Timeline>>,
    moved: tokio::sync::Notify,
}

#[derive(Clone)]
enum State {
    Away,
    Live(Handle),
    Stopped(String),
}

impl Device {
    /// Starts connecting.
    pub fn start(setup: Setup) -> Device {
        let shared = Arc::new(Shared {
            tokens: Mutex::new(setup.signed_in.tokens.clone()),
            setup,
            attempts: Arc::default(),
            state: watch::Sender::new(State::Away),
            places: Mutex::default(),
            moved: tokio::sync::Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone())).abort_handle();
        Device { shared, task }
    }

    /// The live socket; waits until there is one.
    ///
    /// # Errors
    /// [`Failed::Lost`] if there is none in time, or never will be again.
    pub async fn live(&self, within: Duration) -> Result<Handle, Failed> {
        let mut state = self.shared.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Away));
        match tokio::time::timeout(within, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Live(handle) => Ok(handle.clone()),
                State::Stopped(why) => Err(Failed::Lost(why.clone())),
                State::Away => Err(Failed::Lost("not connected".into())),
            },
            _ => Err(Failed::Lost(format!("not connected within {within:?}"))),
        }
    }

    /// Sends, and sends again under the same client id until the outcome is definite: `ok`, or an error that will not
    /// change. Gives up after `within`; the last failure then says whether the outcome is open.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn send(&self, send: &Send, within: Duration) -> Result<Sent, Failed> {
        let end = Instant::now() + within;
        let mut open = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let failed = match self.live(left).await {
                Ok(handle) => match handle.request(Verb::Send(send.clone())).await {
                    Ok(sent) => return Ok(sent),
                    Err(failed) => failed,
                },
                Err(failed) => return Err(open.unwrap_or(failed)),
            };
            let definite = failed.code().is_some_and(|code| !code.retry());
            if definite || Instant::now() >= end {
                return Err(if definite { failed } else { open.unwrap_or(failed) });
            }
            let wait = if let Failed::Refused { after_ms: Some(ms), .. } = &failed { *ms } else { 50 };
            if failed.is_unknown() {
                open = Some(failed);
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// The end of the contiguous run of events this device has.
    pub fn position(&self, c: ConversationId) -> u64 {
        self.shared.places().get(&c).map_or(0, Timeline::position)
    }

    /// Waits until the device has everything up to `head`, and writes down that it was given the time to.
    /// False if it still lacks something.
    pub async fn settle(&self, c: ConversationId, head: u64, within: Duration) -> bool {
        let arrived = async {
            loop {
                let moved = self.shared.moved.notified();
                if self.position(c) >= head {
                    return;
                }
                moved.await;
            }
        };
        let arrived = tokio::time::timeout(within, arrived).await.is_ok();
        if let State::Live(handle) = &*self.shared.state.borrow() {
            handle.note(What::Settled { c, head });
        }
        arrived
    }

    /// The access token now.
    pub fn access_token(&self) -> String {
        self.shared.tokens().access_token.clone()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConversationId, Timeline>> {
        self.places.lock().expect("nobody panics while holding it")
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, Tokens> {
        self.tokens.lock().expect("nobody panics while holding it")
    }

    fn event(&self, c: ConversationId, view: &View) {
        if self.places().entry(c).or_default().event(view.seq().0)
            && let Some(on_event) = &self.setup.on_event
        {
            on_event(view);
        }
        self.moved.notify_waiters();
    }

    /// Gets fresh tokens; a refusal is final.
    async fn refresh(&self) -> Result<(), Ended> {
        let refresh_token = self.tokens().refresh_token.clone();
        match self.setup.rest.refresh(&refresh_token).await {
            Ok(tokens) => {
                *self.tokens() = tokens;
                Ok(())
            }
            Err(e) if e.code() == Some(Code::Unauthenticated) => {
                Err(Ended::Closed { code: 4501, reason: e.to_string() })
            }
            Err(e) => Err(Ended::Lost(e.to_string())),
        }
    }
}

async fn run(shared: Arc<Shared>) {
    let mut random = Random::unseeded();
    let mut failures = 0;
    for socket in 0.. {
        let started = Instant::now();
        let mut after = Duration::ZERO;
        let target = &shared.setup.targets[socket as usize % shared.setup.targets.len()];
        let ended = match connect(&shared, target, socket).await {
            Ok(client) => live(&shared, client, &mut after).await,
            Err(ended) => ended,
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
async fn connect(shared: &Arc<Shared>, target: &Target, socket: u32) -> Result<Client, Ended> {
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

/// Takes what is pushed until the socket ends; says how long the server asks to stay away.
async fn live(shared: &Shared, mut client: Client, after: &mut Duration) -> Ended {
    let handle = client.handle();
    loop {
        let c = match client.next_push(Duration::MAX).await {
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
                continue;
            }
            Ok(Push::Token(_)) => {
                if shared.refresh().await.is_ok() {
                    let token = shared.tokens().access_token.clone();
                    handle.request::<serde::de::IgnoredAny>(Verb::Auth(Auth { token })).await.ok();
                }
                continue;
            }
            Ok(Push::Ended(ended)) | Err(ended) => return ended,
            Ok(_) => continue,
        };
        if let Err(failed) = fill(shared, &handle, c).await {
            return Ended::Lost(failed.to_string());
        }
    }
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
