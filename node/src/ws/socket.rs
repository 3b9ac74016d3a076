//! One socket's task: the hello, then reading and writing until either side ends it. Everything waits with a bound, and
//! whatever happens the client is told why before the server closes. Understands no frame.

use std::{pin::Pin, time::Duration};

use actors::{Connection, Flow, Next, Outbound};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use protocol::{
    close::CloseCode,
    limits::REQUEST_DEADLINE_MS,
    push::{self, Bye},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, Sleep, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode as WsCode},
    },
};

use super::{
    Verdict,
    liveness::{Due, Liveness},
    meters::{End, Meters},
    settings::Settings,
};
use crate::{app::App, net::Stream};

/// Allocated per socket at once, and zeroed at every read: small. Larger messages grow it while they are read.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Frames gathered before they are written; the rest of a batch goes out with the flush.
const WRITE_BUFFER_BYTES: usize = 4 << 10;
/// Several small frames share a message up to this size; larger ones travel alone.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// Above this much unwritten the library refuses; more than any single frame the server makes.
const WRITE_BUFFER_BYTES_MAX: usize = 2 << 20;
/// A client that takes nothing for this long is too slow (4003).
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// For `bye`, the close frame and the client's answer to it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(WRITE_BUFFER_BYTES + 2 * protocol::limits::PAGE_BYTES_MAX <= WRITE_BUFFER_BYTES_MAX);

/// Serves one socket to its end.
pub(super) async fn run(app: App, stream: Stream, already_read: Vec<u8>, verdict: Verdict) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(app.sockets.frame_bytes))
        .max_frame_size(Some(app.sockets.frame_bytes));
    let ws = WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config)).await;
    let mut socket = Socket { ws };
    // On the heap and gone afterwards: hello needs a lot of room once, the socket lives for days.
    let end = match Box::pin(socket.hello(&app, verdict)).await {
        Ok(connection) => {
            let _open = app.sockets.meters.open();
            socket.live(&app, connection).await
        }
        Err(end) => end,
    };
    if let Stop::Bye(bye) = &end {
        let _ = timeout(FAREWELL_TIMEOUT, Box::pin(socket.farewell(&app.sockets, bye))).await;
    }
    app.sockets.meters.closed(end.into());
}

/// Why a socket stops.
enum Stop {
    /// The server says so.
    Bye(Bye),
    /// The client closed.
    Client,
    /// The connection broke.
    Lost,
}

impl From<CloseCode> for Stop {
    fn from(code: CloseCode) -> Stop {
        Stop::Bye(Bye::of(code))
    }
}

impl From<WsError> for Stop {
    fn from(error: WsError) -> Stop {
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::TooLarge.into(),
            WsError::WriteBufferFull(_) => CloseCode::Slow.into(),
            WsError::ConnectionClosed | WsError::AlreadyClosed => Stop::Client,
            WsError::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Stop::Lost
            }
            WsError::Protocol(_) | WsError::Utf8(_) => CloseCode::ProtocolError.into(),
            _ => Stop::Lost,
        }
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> End {
        match stop {
            Stop::Bye(bye) => End::Server(bye.code),
            Stop::Client => End::Client,
            Stop::Lost => End::Lost,
        }
    }
}

struct Socket {
    ws: WebSocketStream<Stream>,
}

impl Socket {
    /// Waits for the first frame and lets `actors` decide on it.
    async fn hello(&mut self, app: &App, verdict: Verdict) -> Result<Connection, Stop> {
        let refuse = |code: CloseCode| {
            Meters::refused(code);
            Stop::from(code)
        };
        let caller = match verdict {
            Verdict::Unknown => None,
            Verdict::Proved(caller) => Some(caller),
            Verdict::Close(code) => return Err(refuse(code)),
        };
        let deadline = Instant::now() + app.sockets.hello;
        let first = loop {
            match timeout_at(deadline, self.ws.next()).await {
                Err(_) => return Err(refuse(CloseCode::HelloTimeout)),
                Ok(None) => return Err(Stop::Client),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(Some(Ok(Message::Text(text)))) => break text,
                Ok(Some(Ok(Message::Binary(_)))) => return Err(refuse(CloseCode::ProtocolError)),
                Ok(Some(Ok(_))) => {}
            }
        };
        app.sockets.meters.received(&first);
        let patience = Duration::from_millis(REQUEST_DEADLINE_MS);
        match timeout(patience, app.starling.gateway.hello(&first, caller)).await {
            Ok(answer) => answer.map_err(Stop::Bye),
            Err(_) => Err(refuse(CloseCode::Overloaded)),
        }
    }

    /// Reads and writes until somebody ends it.
    async fn live(&mut self, app: &App, mut connection: Connection) -> Stop {
        let settings = &app.sockets;
        let outbound = connection.outbound();
        let mut alive = Liveness::new(settings.ping, settings.pong, Instant::now(), jitter(app));
        let mut timer = Box::pin(tokio::time::sleep_until(alive.deadline()));
        let mut frames = Vec::new();
        loop {
            let turn = self.turn(settings, &outbound, &mut frames, timer.as_mut(), &mut alive, &mut connection).await;
            if let Err(stop) = turn {
                return stop;
            }
        }
    }

    /// One wake-up: writes what waits, or reads one message, or minds the clock.
    async fn turn(
        &mut self, settings: &Settings, outbound: &Outbound, frames: &mut Vec<Bytes>, mut timer: Pin<&mut Sleep>,
        alive: &mut Liveness, connection: &mut Connection,
    ) -> Result<(), Stop> {
        tokio::select! {
            biased;
            next = outbound.next(frames) => {
                self.write(settings, outbound, frames).await?;
                if let Next::Close(bye) = next {
                    return Err(Stop::Bye(bye));
                }
                // A busy writer must not keep the reader from its turn.
                match self.ws.next().now_or_never() {
                    Some(message) => self.read(settings, message, alive, connection),
                    None => Ok(()),
                }
            }
            message = self.ws.next() => self.read(settings, message, alive, connection),
            () = timer.as_mut() => {
                let due = alive.due(Instant::now());
                timer.as_mut().reset(alive.deadline());
                match due {
                    Due::Nothing => Ok(()),
                    Due::Ping => {
                        self.write(settings, outbound, &mut vec![Bytes::from_static(push::PING.as_bytes())]).await
                    }
                    Due::GiveUp => Err(CloseCode::PingTimeout.into()),
                }
            }
        }
    }

    fn read(
        &mut self, settings: &Settings, message: Option<Result<Message, WsError>>, alive: &mut Liveness,
        connection: &mut Connection,
    ) -> Result<(), Stop> {
        let message = message.ok_or(Stop::Client)??;
        alive.heard(Instant::now());
        let flow = match message {
            Message::Text(text) => {
                settings.meters.received(&text);
                connection.text(&text)
            }
            Message::Binary(_) => connection.binary(),
            // Pings are answered by the library, the close frame too, by reading on until there is nothing more.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Flow::Continue,
        };
        match flow {
            Flow::Continue => Ok(()),
            Flow::Close(bye) => Err(Stop::Bye(bye)),
        }
    }

    /// Writes all of `frames` with one flush, within the deadline, and empties it.
    async fn write(&mut self, settings: &Settings, outbound: &Outbound, frames: &mut Vec<Bytes>) -> Result<(), Stop> {
        frames.iter().for_each(|frame| settings.meters.sent(frame));
        {
            let mut sending = std::pin::pin!(async {
                for message in messages(frames) {
                    self.ws.feed(message).await?;
                }
                self.ws.flush().await
            });
            // Nearly always the socket takes everything at once; only one that does not costs a timer.
            match sending.as_mut().now_or_never() {
                Some(result) => result?,
                None => tokio::select! {
                    biased;
                    result = sending => result?,
                    bye = outbound.ended() => return Err(Stop::Bye(bye)),
                    () = tokio::time::sleep(WRITE_TIMEOUT) => return Err(CloseCode::Slow.into()),
                },
            }
        }
        // A burst leaves a large list behind; an idle socket keeps none.
        frames.clear();
        if frames.capacity() > 16 {
            *frames = Vec::new();
        }
        Ok(())
    }

    /// `bye`, the close frame with the same code, then what the client still says, unread. The caller bounds the time.
    async fn farewell(&mut self, settings: &Settings, bye: &Bye) {
        let frame = push::push("bye", bye);
        settings.meters.sent(&frame);
        let close =
            CloseFrame { code: WsCode::from(u16::from(bye.code)), reason: Utf8Bytes::from(bye.reason.as_str()) };
        if self.ws.feed(text(frame)).await.is_err() || self.ws.close(Some(close)).await.is_err() {
            return;
        }
        // Until the client's close frame has come. What it says meanwhile is not heard.
        let failed = loop {
            match self.ws.next().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        if !failed {
            return;
        }
        // It broke the framing, so its close frame cannot be found. Closing with unread bytes would reset the
        // connection, and the client would never see why.
        let stream = self.ws.get_mut();
        let _ = stream.shutdown().await;
        let mut unread = [0; 512];
        while stream.read(&mut unread).await.is_ok_and(|n| n > 0) {}
    }
}

/// The messages that carry `frames`: a lone frame as it is, several joined by line feeds, which costs both sides less
/// than a message each.
fn messages(frames: &[Bytes]) -> impl Iterator<Item = Message> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        let (first, more) = rest.split_first()?;
        rest = more;
        if more.first().is_none_or(|next| first.len() + next.len() > JOINED_BYTES_MAX) {
            return Some(text(first.clone()));
        }
        let mut joined = Vec::with_capacity(JOINED_BYTES_MAX.min(frames.iter().map(|frame| frame.len() + 1).sum()));
        joined.extend_from_slice(first);
        while let Some((next, more)) = rest.split_first()
            && joined.len() + next.len() < JOINED_BYTES_MAX
        {
            joined.push(b'\n');
            joined.extend_from_slice(next);
            rest = more;
        }
        Some(text(joined.into()))
    })
}

/// A frame as a text message. Every frame the server makes is JSON, so UTF-8.
fn text(frame: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(frame).expect("frames are JSON"))
}

/// 0..=1, to spread first pings.
fn jitter(app: &App) -> f64 {
    let mut byte = [0];
    app.world.random.fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
