//! What a peer sends, on one link: read exactly or not at all, handed over once and in order, acknowledged in batches.
//! Pure.

use std::time::Duration;

use protocol::peer::{Beat, Frame, Parcel, decode, encode};
use tokio::time::Instant;

use super::peer::Action;

/// Frames, their bytes, and the time after which what was handed over is acknowledged: well within the sender's window,
/// and seldom enough that acknowledgements cost little.
const ACK_FRAMES: u64 = 8;
const ACK_BYTES: usize = 256 << 10;
const ACK_AFTER: Duration = Duration::from_millis(5);

/// What a frame holds.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// The next parcels, to be handed over.
    Parcels(Vec<Parcel>),
    /// Parcels that were handed over before.
    Again,
    /// The peer has handed over everything up to this number.
    Acked(u64),
    /// A sign of life.
    Beat(Beat),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incoming {
    version: u16,
    handed_over: u64,
    acked: u64,
    /// Handed over since the last acknowledgement.
    bytes: usize,
    /// When an acknowledgement is due; `None`: nothing is unacknowledged.
    due: Option<Instant>,
}

impl Incoming {
    /// A fresh link.
    pub(super) fn new(version: u16) -> Incoming {
        Incoming { version, handed_over: 0, acked: 0, bytes: 0, due: None }
    }

    /// The version of the frames on this link.
    pub(super) fn version(&self) -> u16 {
        self.version
    }

    /// Reads one frame. An error is the peer's: with the order or the bytes gone, nothing else of it can be trusted.
    pub(super) fn read(&mut self, frame: &[u8]) -> Result<Received, String> {
        match decode(frame).map_err(|e| e.to_string())? {
            Frame::Parcels { number, parcels } if number == self.handed_over + 1 => {
                self.handed_over = number;
                Ok(Received::Parcels(parcels))
            }
            Frame::Parcels { number, .. } if number <= self.handed_over => Ok(Received::Again),
            Frame::Parcels { number, .. } => {
                Err(format!("parcels number {number} came after number {}", self.handed_over))
            }
            Frame::Ack(number) => Ok(Received::Acked(number)),
            Frame::Beat(beat) => Ok(Received::Beat(beat)),
            Frame::Greeting(_) => Err("a greeting came a second time".to_owned()),
        }
    }

    /// The parcels of a frame of this many bytes are where they belong: acknowledges if it is time, else asks to be woken.
    pub(super) fn handed_over(&mut self, bytes: usize, now: Instant) -> Option<Action> {
        self.bytes += bytes;
        if self.handed_over - self.acked >= ACK_FRAMES || self.bytes >= ACK_BYTES {
            return self.ack();
        }
        if self.due.is_some() {
            return None;
        }
        self.due = Some(now + ACK_AFTER);
        self.due.map(Action::WakeAt)
    }

    /// Acknowledges what has waited long enough. A tick that was meant for an earlier acknowledgement asks for another.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Action> {
        let due = self.due?;
        if due <= now { self.ack() } else { Some(Action::WakeAt(due)) }
    }

    /// Acknowledges everything handed over, again if need be.
    pub(super) fn ack(&mut self) -> Option<Action> {
        (self.acked, self.bytes, self.due) = (self.handed_over, 0, None);
        encode(&Frame::Ack(self.acked), self.version).ok().map(Action::Send)
    }
}
