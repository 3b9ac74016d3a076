//! A device that wants to be there: it signs its socket in, comes back as the close codes say, syncs, fetches what it
//! was not shown, and knows its place in every conversation. It drops what it has already, as every client must.

mod life;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64},
    },
    time::{Duration, Instant},
};

use protocol::{
    Code, ConversationId, DeviceId,
    event::View,
    push::Sent,
    request::{Send, Verb},
    rest::{SignedIn, Tokens},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    Rest, Target,
    client::{Failed, Handle},
    history::{Recorder, What},
    socket::Ended,
    timeline::Timeline,
};

/// The longest wait before another try, as the protocol has it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

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
    /// Sockets so far.
    sockets: AtomicU32,
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
            sockets: AtomicU32::default(),
            state: watch::Sender::new(State::Away),
            places: Mutex::default(),
            moved: tokio::sync::Notify::new(),
        });
        let task = tokio::spawn(life::run(shared.clone())).abort_handle();
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
