//! One raw WebSocket to the server: text in, frames out, with a deadline on everything. It answers nothing by itself
//! except WebSocket control frames: who uses it decides about pings, order and closing.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt, StreamExt};
use protocol::push::{PING, ServerFrame};
use serde::de::DeserializeOwned;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Bytes, ClientRequestBuilder, Message, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{
    Target,
    target::{Stream, TargetError},
};

/// The subprotocol this client speaks.
pub const SUBPROTOCOL: &str = "starling.v1.json";

/// Bytes of each buffer of a client socket: thousands of them live in one process.
const BUFFER_BYTES: usize = 4 << 10;

pub(crate) type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// A connected socket that has not said `hello`.
pub struct Socket {
    stream: WebSocket,
    waiting: VecDeque<Frame>,
}

/// One frame from the server, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// `ok`, `err` or the push; `None` for a ping.
    pub t: Option<String>,
    /// The request it answers.
    pub id: Option<u32>,
    /// The content, as JSON.
    pub d: String,
}

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Ended {
    /// The server closed the socket.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// The close code; 1005 if it sent none.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// Nothing came in time; the socket is still usable.
    #[error("nothing came within {0:?}")]
    Deadline(Duration),
    /// What came is not a frame of the protocol.
    #[error("not a frame: {0}")]
    Malformed(String),
}

/// How to open a socket; the default is what a usual client does.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Sent as `?ticket=`.
    pub ticket: Option<String>,
    /// Sent as `Origin`.
    pub origin: Option<String>,
}

impl Frame {
    /// Reads one frame of a WebSocket message.
    pub(crate) fn read(text: &str) -> Result<Frame, Ended> {
        let frame: ServerFrame<'_> =
            serde_json::from_str(text).map_err(|e| Ended::Malformed(format!("{e} in {text}")))?;
        let d = frame.d.map_or_else(|| "null".to_owned(), |d| d.get().to_owned());
        Ok(Frame { t: frame.t.map(Into::into), id: frame.id, d })
    }

    /// The content as data.
    ///
    /// # Errors
    /// [`Ended::Malformed`] if it is something else.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, Ended> {
        serde_json::from_str(&self.d).map_err(|e| Ended::Malformed(format!("{e} in {}", self.d)))
    }

    /// True if this is `push`.
    pub fn is(&self, push: &str) -> bool {
        self.t.as_deref() == Some(push)
    }
}

impl Socket {
    /// Opens a socket, as [`Upgrade`] says.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if there is no connection or the upgrade is refused.
    pub async fn connect(target: &Target, upgrade: &Upgrade) -> Result<Socket, TargetError> {
        let stream = target.connect().await?;
        Socket::over(stream, target, upgrade).await
    }

    /// Opens a socket over a stream that stands already.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the upgrade is refused.
    pub async fn over(stream: Box<dyn Stream>, target: &Target, upgrade: &Upgrade) -> Result<Socket, TargetError> {
        let scheme = if target.scheme() == "https" { "wss" } else { "ws" };
        let query = upgrade.ticket.as_ref().map(|ticket| format!("?ticket={ticket}")).unwrap_or_default();
        let uri = format!("{scheme}://{}/v1/ws{query}", target.authority());
        let uri = uri.parse().map_err(|_| TargetError::Url(uri))?;
        let mut request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
        if let Some(token) = &upgrade.bearer {
            request = request.with_header("authorization", format!("Bearer {token}"));
        }
        if let Some(origin) = &upgrade.origin {
            request = request.with_header("origin", origin);
        }
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        let (stream, _) = client_async_with_config(request, stream, Some(config)).await.map_err(|e| {
            TargetError::Unreachable { address: target.authority(), source: std::io::Error::other(e.to_string()) }
        })?;
        Ok(Socket { stream, waiting: VecDeque::new() })
    }

    /// Sends text as one WebSocket message, whatever it says.
    ///
    /// # Errors
    /// [`Ended::Lost`].
    pub async fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Ended> {
        self.stream.send(Message::Text(text.into())).await.map_err(lost)
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`Ended::Lost`].
    pub async fn send_binary(&mut self, bytes: impl Into<Bytes>) -> Result<(), Ended> {
        self.stream.send(Message::Binary(bytes.into())).await.map_err(lost)
    }

    /// The next frame, pings included.
    ///
    /// # Errors
    /// [`Ended`]; after [`Ended::Deadline`] one may ask again.
    pub async fn next_frame(&mut self, within: Duration) -> Result<Frame, Ended> {
        match tokio::time::timeout(within, self.read()).await {
            Ok(answer) => answer,
            Err(_) => Err(Ended::Deadline(within)),
        }
    }

    /// The next frame that `wanted` takes; others are dropped and pings answered.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn expect(&mut self, within: Duration, wanted: impl Fn(&Frame) -> bool) -> Result<Frame, Ended> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let frame = self.next_frame(left).await?;
            if frame.t.is_none() {
                self.send_text(PING).await?;
            } else if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// The next WebSocket message as text, unread: for receivers that only count.
    ///
    /// # Errors
    /// [`Ended`], never by deadline.
    pub async fn next_text(&mut self) -> Result<Utf8Bytes, Ended> {
        next_text(&mut self.stream).await
    }

    /// Closes the socket politely and waits for the server's answer, shortly.
    pub async fn close(mut self) {
        let farewell = async {
            self.stream.close(None).await.ok();
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        tokio::time::timeout(Duration::from_secs(1), farewell).await.ok();
    }

    pub(crate) fn into_stream(self) -> WebSocket {
        self.stream
    }

    async fn read(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Ok(frame);
            }
            let text = next_text(&mut self.stream).await?;
            for part in protocol::request::split(&text) {
                self.waiting.push_back(Frame::read(part)?);
            }
        }
    }
}

/// The next text message of a stream; control frames are the library's business.
pub(crate) async fn next_text<S>(stream: &mut S) -> Result<Utf8Bytes, Ended>
where
    S: futures_util::Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
            Some(Ok(Message::Binary(bytes))) => {
                return Err(Ended::Malformed(format!("a binary message of {} bytes", bytes.len())));
            }
            Some(Ok(_)) => {}
            Some(Err(e)) => return Err(lost(e)),
            None => return Err(Ended::Lost("end of stream".into())),
        }
    }
}

pub(crate) fn lost(e: tungstenite::Error) -> Ended {
    Ended::Lost(e.to_string())
}

fn closed(frame: Option<CloseFrame>) -> Ended {
    match frame {
        Some(frame) => Ended::Closed { code: frame.code.into(), reason: frame.reason.to_string() },
        None => Ended::Closed { code: 1005, reason: String::new() },
    }
}
