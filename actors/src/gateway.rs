//! Where sockets come in: `hello` makes a connection of a socket, and the connection's end is the farewell, on every
//! path, once.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{
    Code, ConnId, Error,
    close::CloseCode,
    limits::{BAD_FRAMES_MAX, BAD_FRAMES_WINDOW_MS, REQUEST_DEADLINE_MS},
    push::{self, Bye, Welcome},
    request::{self, Bad, Incoming, Verb},
};
use tokio::time::Instant;

pub use crate::outbound::{Next, Outbound};
use crate::{
    Caller,
    entities::{Entities, NotAdmitted},
    meters::METERS,
    outbound::{bounds, line::NotBegun, stated},
    refusals::refused,
    session::{
        Context,
        state::{Input, State},
    },
};

/// Refusals of one socket for too many requests in flight, after which it is closed.
const IGNORED_REFUSALS_MAX: u32 = 256;

/// Opens connections for sockets.
pub struct Gateway {
    context: Arc<Context>,
    sessions: Arc<Entities<State>>,
    node: String,
    doors_closed: AtomicBool,
}

/// One socket's side of its session. Dropping it is the farewell.
pub struct Connection {
    outbound: Arc<Outbound>,
    context: Arc<Context>,
    sessions: Arc<Entities<State>>,
    bad_frames: VecDeque<Instant>,
    ignored_refusals: u32,
}

/// Whether the read loop goes on.
#[derive(Debug, PartialEq)]
pub enum Flow {
    /// Read on.
    Continue,
    /// Say this, then close.
    Close(Bye),
}

fn bye(code: CloseCode, reason: impl Into<String>) -> Bye {
    Bye { reason: reason.into(), ..Bye::of(code) }
}

impl Gateway {
    pub(crate) fn new(context: Arc<Context>, sessions: Arc<Entities<State>>, node: String) -> Gateway {
        Gateway { context, sessions, node, doors_closed: AtomicBool::new(false) }
    }

    /// Handles the first WebSocket message, which must begin with `hello`; later frames of the same message are handled
    /// too. `upgrade`: who the upgrade's header or ticket proved. The caller bounds the time.
    ///
    /// # Errors
    /// The farewell to say before closing.
    pub async fn hello(&self, message: &str, upgrade: Option<Caller>) -> Result<Connection, Bye> {
        let result = self.open(message, upgrade).await;
        let label = match &result {
            Ok(_) => "ok",
            Err(bye) => bye.code.reason(),
        };
        metrics::counter!("starling_hello_total", "result" => label).increment(1);
        result
    }

    async fn open(&self, message: &str, upgrade: Option<Caller>) -> Result<Connection, Bye> {
        if self.doors_closed.load(Ordering::Acquire) {
            return Err(Bye { after_ms: Some(1000), ..Bye::of(CloseCode::Drain) });
        }
        let mut frames = request::split(message);
        let first = frames.next().unwrap_or_default();
        let (id, hello) = match request::decode(first) {
            Ok(Incoming::Request { id, verb: Verb::Hello(hello) }) => {
                hello.check().map_err(|error| bye(CloseCode::ProtocolError, error.message))?;
                (id, hello)
            }
            Ok(_) => return Err(bye(CloseCode::ProtocolError, "the first frame must be `hello`")),
            Err(Bad::Undecodable(error) | Bad::Refused { error, .. }) => {
                return Err(bye(
                    CloseCode::ProtocolError,
                    format!("the first frame must be `hello`: {}", error.message),
                ));
            }
        };
        let caller = match (&hello.token, upgrade) {
            (Some(token), _) => self.context.accounts.authenticate(token).await.map_err(|error| match error.code {
                Code::TokenExpired => Bye::of(CloseCode::TokenExpired),
                Code::Unauthenticated => Bye::of(CloseCode::BadToken),
                // nothing is said against the token
                _ => Bye::of(CloseCode::ServerError),
            })?,
            (None, Some(caller)) => caller,
            (None, None) => return Err(bye(CloseCode::BadToken, "hello carries no token")),
        };
        // into the table first, then the durable row: a revocation in between finds the socket
        let limits = &self.context.limits;
        let outbound = self
            .context
            .connections
            .add_socket(|conn| Outbound::new(conn, caller, hello.device.clone(), bounds(limits)));
        let mut connection = Connection {
            outbound,
            context: self.context.clone(),
            sessions: self.sessions.clone(),
            bad_frames: VecDeque::new(),
            ignored_refusals: 0,
        };
        self.context.accounts.admit(&caller).await.map_err(Bye::of)?;
        if let Some(id) = id {
            let welcome = Welcome {
                user: caller.user,
                session: caller.session,
                node: self.node.clone(),
                ping_ms: limits.ping_ms,
                limits: stated(limits),
            };
            connection.outbound.with(|line| line.push(push::ok(id, welcome)));
        }
        // any event starts the session, and a session that starts registers
        if self.sessions.tell(connection.conn(), Input::Tick).is_err() {
            return Err(Bye::of(CloseCode::ServerError));
        }
        for frame in frames {
            if let Flow::Close(bye) = connection.frame(frame) {
                return Err(bye);
            }
        }
        Ok(connection)
    }

    /// From now on no socket is taken, or any is again. Those that are there stay.
    pub(crate) fn close_doors(&self, closed: bool) {
        self.doors_closed.store(closed, Ordering::Release);
    }
}

impl Connection {
    /// What to write.
    pub fn outbound(&self) -> Arc<Outbound> {
        self.outbound.clone()
    }

    /// Handles one text message: one or more frames. Never waits; answers come through the outbound queue.
    pub fn text(&mut self, message: &str) -> Flow {
        if self.outbound.is_closing() {
            return Flow::Continue; // the write loop is saying goodbye
        }
        for frame in request::split(message) {
            if let Flow::Close(bye) = self.frame(frame) {
                return Flow::Close(bye);
            }
        }
        Flow::Continue
    }

    /// A binary message: no frame of this protocol.
    pub fn binary(&mut self) -> Flow {
        self.bad_frame(&Error::new(Code::BadFrame, "frames are text; a binary encoding is not spoken here"))
    }

    fn frame(&mut self, frame: &str) -> Flow {
        match request::decode(frame) {
            Ok(Incoming::Pong) => Flow::Continue,
            Ok(Incoming::Request { id, verb }) => self.request(id, verb),
            Err(Bad::Undecodable(error)) => self.bad_frame(&error),
            Err(Bad::Refused { id, error }) => {
                metrics::counter!("starling_frames_total", "dir" => "in", "type" => "refused").increment(1);
                if let Some(id) = id {
                    self.push_error(Some(id), &error);
                }
                Flow::Continue
            }
        }
    }

    fn request(&mut self, id: Option<u32>, verb: Verb) -> Flow {
        METERS.frame_in(verb.name());
        if let Some(id) = id {
            let now = self.context.clock.now();
            let deadline = now + Duration::from_millis(REQUEST_DEADLINE_MS);
            let begun = self.outbound.with(|line| line.begin(id, verb.name(), now, deadline));
            match begun {
                Ok(()) => self.ignored_refusals = 0,
                Err(NotBegun::SameId) => {
                    self.push_error(Some(id), &Error::field("id", "a request of this id is still unanswered"));
                    return Flow::Continue;
                }
                Err(NotBegun::Parting) => {
                    let error = Error::new(Code::Draining, "this node is being stopped; nothing was stored");
                    self.push_error(Some(id), &error.after_ms(1000));
                    return Flow::Continue;
                }
                Err(NotBegun::TooMany) => return self.too_many(id),
            }
        }
        match self.sessions.admit(self.conn(), Input::Request(id, verb)) {
            Ok(()) => Flow::Continue,
            Err(NotAdmitted::Full) => Flow::Close(Bye::of(CloseCode::TooManyRequests)),
            Err(NotAdmitted::Paused(_) | NotAdmitted::Absent) => Flow::Close(Bye::of(CloseCode::ServerError)),
        }
    }

    fn too_many(&mut self, id: u32) -> Flow {
        self.ignored_refusals += 1;
        if self.ignored_refusals > IGNORED_REFUSALS_MAX {
            return Flow::Close(Bye::of(CloseCode::TooManyRequests));
        }
        metrics::counter!("starling_rate_limited_total", "scope" => "inflight").increment(1);
        let error = Error::new(Code::TooManyInflight, "wait for answers before asking more").after_ms(100);
        self.push_error(Some(id), &error);
        Flow::Continue
    }

    fn bad_frame(&mut self, error: &Error) -> Flow {
        metrics::counter!("starling_frames_total", "dir" => "in", "type" => "bad").increment(1);
        let now = self.context.clock.now();
        self.bad_frames.retain(|at| now.duration_since(*at) < Duration::from_millis(BAD_FRAMES_WINDOW_MS));
        self.bad_frames.push_back(now);
        self.push_error(None, error);
        if self.bad_frames.len() < BAD_FRAMES_MAX {
            return Flow::Continue;
        }
        Flow::Close(bye(CloseCode::ProtocolError, "too many frames that are none"))
    }

    fn push_error(&self, id: Option<u32>, error: &Error) {
        let frame = refused(id, error, self.conn());
        self.outbound.with(|line| line.push(frame));
    }

    fn conn(&self) -> ConnId {
        self.outbound.conn
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let conn = self.conn();
        let _ = self.sessions.tell_running(conn, Input::Gone);
        self.context.farewell(&self.outbound);
        let caller = self.outbound.caller;
        let (store, wall) = (self.context.store.clone(), self.context.clock.wall());
        // outside a runtime the process is ending, and the row says what the last hello wrote
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = store.sessions.seen(caller.session, wall).await;
            });
        }
    }
}
