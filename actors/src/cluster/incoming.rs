//! What a peer sends, on one link: read exactly or not at all, handed over once and in order. Pure.

use protocol::peer::{Batch, Beat, Frame, decode};

/// What a frame holds.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// The next parcels, to be handed over.
    Parcels(Batch),
    /// Parcels that were handed over before.
    Again,
    /// The peer has handed over everything up to this number.
    Acked(u64),
    /// A sign of life.
    Beat(Beat),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The number of the last batch.
    handed_over: u64,
}

impl Incoming {
    /// Reads one frame. An error is the peer's: with the order or the bytes gone, nothing else of it can be trusted.
    pub(super) fn read(&mut self, frame: &[u8]) -> Result<Received, String> {
        match decode(frame).map_err(|e| e.to_string())? {
            Frame::Parcels(batch) if batch.number == self.handed_over + 1 => {
                self.handed_over = batch.number;
                Ok(Received::Parcels(batch))
            }
            Frame::Parcels(batch) if batch.number <= self.handed_over => Ok(Received::Again),
            Frame::Parcels(Batch { number, .. }) => {
                Err(format!("parcels number {number} came after number {}", self.handed_over))
            }
            Frame::Ack(number) => Ok(Received::Acked(number)),
            Frame::Beat(beat) => Ok(Received::Beat(beat)),
            Frame::Greeting(_) => Err("a greeting came a second time".to_owned()),
        }
    }
}
