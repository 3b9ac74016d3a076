//! What sockets count, with handles made once. Only known words become labels. Frames from clients are counted by
//! `actors`, which reads them.

use metrics::{Counter, Gauge};
use protocol::close::CloseCode;

/// Types of frames from the server, as `protocol.md` lists them in its order of frequency.
const SERVER_TYPES: &[&str] =
    &["msg", "ok", "rcpt", "evt", "err", "typ", "pres", "head", "gap", "conv", "token", "bye", "ping", "other"];

/// The handles.
pub(super) struct Meters {
    connections: Gauge,
    opened: Counter,
    closed: Vec<(CloseCode, Counter)>,
    closed_by_client: Counter,
    lost: Counter,
    frames_out: Vec<(&'static str, Counter)>,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// The server said this.
    Server(CloseCode),
    /// The client said goodbye.
    Client,
    /// The connection was gone.
    Lost,
}

impl Meters {
    pub(super) fn new() -> Meters {
        let frames_out =
            |kind: &&'static str| (*kind, metrics::counter!("starling_frames_total", "dir" => "out", "type" => *kind));
        let closed = |code: String| metrics::counter!("starling_connections_closed_total", "code" => code);
        Meters {
            connections: metrics::gauge!("starling_connections"),
            opened: metrics::counter!("starling_connections_opened_total"),
            closed: CloseCode::ALL.iter().map(|code| (*code, closed(u16::from(*code).to_string()))).collect(),
            closed_by_client: closed("client".to_owned()),
            lost: closed("lost".to_owned()),
            frames_out: SERVER_TYPES.iter().map(frames_out).collect(),
            bytes_in: metrics::counter!("starling_frame_bytes_total", "dir" => "in"),
            bytes_out: metrics::counter!("starling_frame_bytes_total", "dir" => "out"),
        }
    }

    /// Counts a socket as long as the answer lives.
    pub(super) fn open(self: &std::sync::Arc<Self>) -> OpenSocket {
        self.opened.increment(1);
        self.connections.increment(1.0);
        OpenSocket(self.clone())
    }

    /// A socket that is refused before `actors` hear of it.
    pub(super) fn refused(code: CloseCode) {
        metrics::counter!("starling_hello_total", "result" => code.reason()).increment(1);
    }

    pub(super) fn closed(&self, end: End) {
        match end {
            End::Client => self.closed_by_client.increment(1),
            End::Lost => self.lost.increment(1),
            End::Server(code) => {
                if let Some((_, counter)) = self.closed.iter().find(|(known, _)| *known == code) {
                    counter.increment(1);
                }
            }
        }
    }

    pub(super) fn received(&self, message: &str) {
        self.bytes_in.increment(message.len() as u64);
    }

    pub(super) fn sent(&self, frame: &[u8]) {
        self.bytes_out.increment(frame.len() as u64);
        // Our own frames begin with their type.
        let head = std::str::from_utf8(&frame[..frame.len().min(16)]).unwrap_or("");
        count(&self.frames_out, if head == protocol::push::PING { "ping" } else { kind(head) });
    }
}

/// One counted socket; its drop is the farewell, on every path.
pub(super) struct OpenSocket(std::sync::Arc<Meters>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.connections.decrement(1.0);
    }
}

fn count(counters: &[(&'static str, Counter)], kind: &str) {
    let known = counters.iter().find(|(name, _)| *name == kind);
    if let Some((_, counter)) = known.or(counters.last()) {
        counter.increment(1);
    }
}

/// The type where every client writes it: at the start. Others are counted as `other`; this is a figure, not a parser.
fn kind(frame: &str) -> &str {
    frame.strip_prefix(r#"{"t":""#).and_then(|rest| rest.split('"').next()).unwrap_or("other")
}
