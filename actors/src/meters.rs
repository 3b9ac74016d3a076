//! Meters of what happens per frame or per message. Looked up once: finding one by name costs more than counting.
//! The recorder is installed before the first of them is used.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram};
use protocol::{peer::Mail, request::Verb};

/// See the module.
pub(crate) struct Meters {
    frames_in: Vec<(&'static str, Counter)>,
    request_seconds: Vec<(&'static str, Histogram)>,
    /// From the moment a submission is taken to the moment its event is durable.
    pub(crate) send_commit_seconds: Histogram,
    /// From the moment an event is judged, by the clock of its owner, to the moment it is in the queues of the node's
    /// sockets: of logs owned here, and elsewhere.
    delivery_seconds: [Histogram; 2],
    /// Logs this node may append to.
    pub(crate) conversations_owned: Gauge,
    /// To peers, acknowledgements and beats included.
    peer_frames: Counter,
    peer_frame_bytes: Counter,
    peer_parcels: Vec<(&'static str, Counter)>,
}

pub(crate) static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    frames_in: Verb::NAMES
        .iter()
        .map(|verb| (*verb, metrics::counter!("starling_frames_total", "dir" => "in", "type" => *verb)))
        .collect(),
    request_seconds: Verb::NAMES
        .iter()
        .map(|verb| (*verb, metrics::histogram!("starling_request_duration_seconds", "type" => *verb)))
        .collect(),
    send_commit_seconds: metrics::histogram!("starling_send_commit_seconds"),
    delivery_seconds: ["local", "remote"].map(|hop| metrics::histogram!("starling_delivery_seconds", "hop" => hop)),
    conversations_owned: metrics::gauge!("starling_conversations_owned"),
    peer_frames: metrics::counter!("starling_peer_frames_total"),
    peer_frame_bytes: metrics::counter!("starling_peer_frame_bytes_total"),
    peer_parcels: mail::NAMES
        .iter()
        .map(|mail| (*mail, metrics::counter!("starling_peer_parcels_total", "type" => *mail)))
        .collect(),
});

impl Meters {
    /// Counts a frame of a client.
    pub(crate) fn frame_in(&self, verb: &'static str) {
        if let Some((_, counter)) = self.frames_in.iter().find(|(name, _)| *name == verb) {
            counter.increment(1);
        }
    }

    /// Records how long an event took to the queues of the node's sockets.
    pub(crate) fn delivered(&self, remote: bool, took: std::time::Duration) {
        self.delivery_seconds[usize::from(remote)].record(took.as_secs_f64());
    }

    /// Counts a frame to a peer.
    pub(crate) fn peer_frame(&self, bytes: usize) {
        self.peer_frames.increment(1);
        self.peer_frame_bytes.increment(bytes as u64);
    }

    /// Counts a parcel that such a frame carries.
    pub(crate) fn peer_parcel(&self, mail: &Mail) {
        let name = mail::name(mail);
        if let Some((_, counter)) = self.peer_parcels.iter().find(|(other, _)| *other == name) {
            counter.increment(1);
        }
    }

    /// Records how long a request waited for its answer.
    pub(crate) fn answered(&self, verb: &'static str, took: std::time::Duration) {
        if let Some((_, histogram)) = self.request_seconds.iter().find(|(name, _)| *name == verb) {
            histogram.record(took.as_secs_f64());
        }
    }
}

/// Counts one log as owned for as long as it exists.
#[derive(Debug)]
pub(crate) struct Owned(());

impl Owned {
    pub(crate) fn begin() -> Owned {
        METERS.conversations_owned.increment(1.0);
        Owned(())
    }
}

/// A second copy of an owner, in tests, counts like the first.
#[cfg(test)]
impl Clone for Owned {
    fn clone(&self) -> Owned {
        Owned::begin()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        METERS.conversations_owned.decrement(1.0);
    }
}

/// What mail to peers is called where it is counted.
mod mail {
    use protocol::peer::{Mail, ToConnections, ToConversation, ToPresence};

    pub(super) const NAMES: [&str; 8] = ["answer", "digest", "event", "head", "register", "request", "watch", "other"];

    pub(super) fn name(mail: &Mail) -> &'static str {
        match mail {
            Mail::Connections(ToConnections::Event(_)) => "event",
            Mail::Connections(ToConnections::Head { .. }) => "head",
            Mail::Connections(ToConnections::Answer(..)) => "answer",
            Mail::Conversation(_, ToConversation::Submit(_) | ToConversation::Mark(_)) => "request",
            Mail::Presence(_, ToPresence::Register(..) | ToPresence::Unregister(..))
            | Mail::Connections(ToConnections::Registered(_)) => "register",
            Mail::Conversation(_, ToConversation::Typing { .. }) => "other",
            Mail::Conversation(..) | Mail::Presence(_, ToPresence::WatchMembers { .. } | ToPresence::Unwatch(..)) => {
                "watch"
            }
            Mail::Node(_) => "digest",
            Mail::Presence(..) | Mail::Connections(_) => "other",
        }
    }
}
