//! One signed-in socket: requests with their replies by id, pushes in the order they came, everything written down
//! for the checker on its way. It never reconnects and fetches nothing by itself (see [`crate::device`]).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use protocol::{
    Code, ConversationId, Seq,
    push::{PING, Welcome},
    request::{Hello, Verb},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Target,
    history::{Recorder, What, content},
    socket::{Ended, Frame, Socket, Upgrade, WebSocket},
    target::TargetError,
};

mod reader;
pub use reader::Push;

/// How long a reply may take: the server's own deadline and a little.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(12);

/// Frames waiting to be written; who sends more than this waits.
const OUTBOUND_FRAMES_MAX: usize = 1024;

/// A socket that was welcomed. Dropping it cuts the connection; [`Client::close`] ends it politely.
pub struct Client {
    /// What the server said to `hello`.
    pub welcome: Welcome,
    handle: Handle,
    pushes: mpsc::UnboundedReceiver<Push>,
    reader: AbortHandle,
}

/// Makes requests on a client's socket; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    out: mpsc::Sender<Out>,
    pending: Arc<Pending>,
    journal: Option<Journal>,
}

/// Where and as which socket to write things down.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The device's recorder.
    pub recorder: Recorder,
    /// The how-many-th socket of the device.
    pub socket: u32,
    /// Numbers the attempts of the device.
    pub attempts: Arc<AtomicU64>,
}

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failed {
    /// The server says no.
    #[error("{}: {message}", .code.as_str())]
    Refused {
        /// The code.
        code: Code,
        /// For people.
        message: String,
        /// The field that is wrong.
        field: Option<String>,
        /// Not before this many milliseconds.
        after_ms: Option<u64>,
    },
    /// No answer came; whether the request had an effect is unknown.
    #[error("no answer: {0}")]
    Lost(String),
}

impl Failed {
    /// The code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Failed::Refused { code, .. } => Some(*code),
            Failed::Lost(_) => None,
        }
    }

    /// True if the request may have been, or may still be, carried out.
    pub fn is_unknown(&self) -> bool {
        matches!(self.code(), None | Some(Code::Timeout | Code::Internal))
    }
}

/// Why there is no welcome.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// No connection.
    #[error(transparent)]
    Unreachable(#[from] TargetError),
    /// The server refused or closed.
    #[error("no welcome: {0}")]
    Unwelcome(Ended),
    /// The server answered `hello` with an error.
    #[error("hello refused: {0}")]
    Refused(Failed),
}

pub(crate) enum Out {
    Text(String),
    Close,
}

#[derive(Default)]
pub(crate) struct Pending {
    next_id: AtomicU64,
    /// `None` once the socket has ended: nobody would answer any more.
    waiting: Mutex<Option<HashMap<u32, Waiting>>>,
}

pub(crate) struct Waiting {
    reply: oneshot::Sender<Result<String, Failed>>,
    about: About,
}

/// What a reply needs to be written down.
#[derive(Clone, Debug)]
pub(crate) enum About {
    Send { attempt: u64, c: ConversationId },
    Hist { asked_us: u64, c: ConversationId },
    Sync { have: HashMap<ConversationId, Seq> },
    Other,
}

impl Client {
    /// Connects and says `hello`. Pushes come after the first `sync`.
    ///
    /// # Errors
    /// [`ConnectFailed`].
    pub async fn connect(target: &Target, hello: Hello, journal: Option<Journal>) -> Result<Client, ConnectFailed> {
        let socket = Socket::connect(target, &Upgrade::default()).await?;
        Client::over(socket, hello, journal).await
    }

    /// Says `hello` on a socket that stands already.
    ///
    /// # Errors
    /// [`ConnectFailed`].
    pub async fn over(mut socket: Socket, hello: Hello, journal: Option<Journal>) -> Result<Client, ConnectFailed> {
        let lost = ConnectFailed::Unwelcome;
        socket.send_text(Verb::Hello(hello).encode(Some(1))).await.map_err(lost)?;
        let wanted = |frame: &Frame| frame.id == Some(1);
        let frame = socket.expect(REPLY_DEADLINE, wanted).await.map_err(lost)?;
        if !frame.is("ok") {
            return Err(ConnectFailed::Refused(reader::refusal(&frame.d)));
        }
        let welcome = frame.content().map_err(lost)?;
        if let Some(journal) = &journal {
            journal.note(What::Connected);
        }
        Ok(Client::start(welcome, socket.into_stream(), journal))
    }

    fn start(welcome: Welcome, stream: WebSocket, journal: Option<Journal>) -> Client {
        let (sink, stream) = stream.split();
        let (out, from_handles) = mpsc::channel(OUTBOUND_FRAMES_MAX);
        let (to_consumer, pushes) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending { next_id: AtomicU64::new(2), waiting: Mutex::new(Some(HashMap::new())) });
        let handle = Handle { out, pending, journal };
        let writer = tokio::spawn(write(sink, from_handles)).abort_handle();
        let reader = tokio::spawn(reader::read(stream, handle.clone(), to_consumer, writer)).abort_handle();
        Client { welcome, handle, pushes, reader }
    }

    /// Makes requests on this socket, from anywhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// See [`Handle::request`].
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn request<T: DeserializeOwned>(&self, verb: Verb) -> Result<T, Failed> {
        self.handle.request(verb).await
    }

    /// The next push. [`Push::Ended`] is the last one.
    ///
    /// # Errors
    /// [`Ended::Deadline`].
    pub async fn next_push(&mut self, within: Duration) -> Result<Push, Ended> {
        match tokio::time::timeout(within, self.pushes.recv()).await {
            Ok(Some(push)) => Ok(push),
            Ok(None) => Ok(Push::Ended(Ended::Lost("ended before".into()))),
            Err(_) => Err(Ended::Deadline(within)),
        }
    }

    /// The next push that `wanted` makes something of; others are dropped.
    ///
    /// # Errors
    /// [`Ended::Deadline`], or why the socket ended.
    pub async fn expect<T>(&mut self, within: Duration, wanted: impl Fn(Push) -> Option<T>) -> Result<T, Ended> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let push = self.next_push(left).await?;
            let ended = if let Push::Ended(ended) = &push { Some(ended.clone()) } else { None };
            if let Some(found) = wanted(push) {
                return Ok(found);
            }
            if let Some(ended) = ended {
                return Err(ended);
            }
        }
    }

    /// Closes the socket politely: waits shortly for the server's answer.
    pub async fn close(mut self) {
        if self.handle.out.send(Out::Close).await.is_ok() {
            self.expect(Duration::from_secs(1), |push| matches!(push, Push::Ended(_)).then_some(())).await.ok();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Handle {
    /// Says `verb` and waits for the reply. Dropping the future forgets the reply, not the request.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn request<T: DeserializeOwned>(&self, verb: Verb) -> Result<T, Failed> {
        let reply = self.start(&verb).await?;
        let json = match tokio::time::timeout(REPLY_DEADLINE, reply).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(Failed::Lost("the socket ended".into())),
            Err(_) => return Err(Failed::Lost(format!("nothing within {REPLY_DEADLINE:?}"))),
        };
        serde_json::from_str(&json).map_err(|e| Failed::Lost(format!("unexpected answer: {e} in {json}")))
    }

    /// True once nothing that was asked waits for its reply.
    pub fn is_idle(&self) -> bool {
        self.pending.lock().as_ref().is_none_or(HashMap::is_empty)
    }

    /// Sends text as it is: for what no client should say.
    ///
    /// # Errors
    /// [`Failed::Lost`].
    pub async fn send_text(&self, text: impl Into<String>) -> Result<(), Failed> {
        let gone = |_| Failed::Lost("the socket ended".into());
        self.out.send(Out::Text(text.into())).await.map_err(gone)
    }

    /// Writes down what only the run knows.
    pub fn note(&self, what: What) {
        if let Some(journal) = &self.journal {
            journal.note(what);
        }
    }

    async fn start(&self, verb: &Verb) -> Result<oneshot::Receiver<Result<String, Failed>>, Failed> {
        let id = self.pending.next_id.fetch_add(1, Ordering::Relaxed) % u64::from(protocol::limits::REQUEST_ID_MAX) + 1;
        let id = u32::try_from(id).expect("bounded by the line above");
        let text = verb.encode(Some(id));
        let place = self.out.reserve().await.map_err(|_| Failed::Lost("the socket ended".into()))?;
        let (reply, answer) = oneshot::channel();
        match &mut *self.pending.lock() {
            Some(waiting) => waiting.insert(id, Waiting { reply, about: self.about(verb) }),
            None => return Err(Failed::Lost("the socket ended".into())),
        };
        place.send(Out::Text(text));
        Ok(answer)
    }

    fn about(&self, verb: &Verb) -> About {
        let Some(journal) = &self.journal else {
            return if let Verb::Send(send) = verb { About::Send { attempt: 0, c: send.c } } else { About::Other };
        };
        match verb {
            Verb::Send(send) => {
                let attempt = journal.attempts.fetch_add(1, Ordering::Relaxed);
                let (c, cid, content) = (send.c, send.cid.clone(), content(&send.post));
                journal.note(What::Sent { attempt, c, cid, content });
                About::Send { attempt, c }
            }
            Verb::Hist(hist) => About::Hist { asked_us: journal.recorder.now_us(), c: hist.c },
            Verb::Sync(sync) => About::Sync { have: sync.have.clone() },
            _ => About::Other,
        }
    }
}

impl Pending {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u32, Waiting>>> {
        self.waiting.lock().expect("nobody panics while holding it")
    }
}

impl Journal {
    /// The journal of a device's `socket`-th socket.
    pub fn new(recorder: Recorder, socket: u32) -> Journal {
        Journal { recorder, socket, attempts: Arc::default() }
    }

    pub(crate) fn note(&self, what: What) {
        self.recorder.note(self.socket, what);
    }
}

/// Writes what waits, all of it with one flush.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<Out>) {
    while let Some(mut next) = frames.recv().await {
        loop {
            let message = match next {
                Out::Text(text) => Message::Text(text.into()),
                Out::Close => Message::Close(None),
            };
            if sink.feed(message).await.is_err() {
                return;
            }
            match frames.try_recv() {
                Ok(more) => next = more,
                Err(_) => break,
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

/// The text of a ping's answer.
pub(crate) fn pong() -> Out {
    Out::Text(PING.to_owned())
}
