//! As much of the native protocol of CQL as a wire must know to pick single frames: where they end and what they are.
//! Versions 3 and 4 without compression and without TLS; anything else ends the connection, so that a test notices.

use std::{
    io::{Error, Result},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Version, flags, stream (2), opcode, length of the body (4).
const HEADER_BYTES: usize = 9;
const COMPRESSED: u8 = 0x01;
const RESULT: u8 = 0x08;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
/// What both servers call the first column of the answer to a conditional statement, with its length before it.
const APPLIED: &[u8] = b"\0\x09[applied]";
/// That name stands before any value: after warnings, keyspace and table.
const APPLIED_WITHIN_BYTES: usize = 2048;

/// How often single frames have bad luck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds {
    /// Of 1,000 replies to conditional statements so many are thrown away, after the server did what it was asked.
    pub swallowed_per_mille: u64,
    /// Of 1,000 batches, conditional or not, so many reach the server late and are overtaken meanwhile.
    pub late_per_mille: u64,
    /// By how much.
    pub late_by: Duration,
}

/// The next frame, header included.
pub(super) async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut header = [0; HEADER_BYTES];
    from.read_exact(&mut header).await?;
    let [version, flags, _, _, _, length @ ..] = header;
    if !(3..=4).contains(&(version & 0x7f)) || flags & COMPRESSED != 0 {
        return Err(Error::other(format!("cannot read frames of version {version:#x} with flags {flags:#x}")));
    }
    let mut frame = header.to_vec();
    let length = u32::from_be_bytes(length);
    frame.resize(HEADER_BYTES + usize::try_from(length).map_err(Error::other)?, 0);
    from.read_exact(&mut frame[HEADER_BYTES..]).await?;
    Ok(frame)
}

/// Whether a frame of the server answers a conditional statement.
pub(super) fn is_conditional_reply(frame: &[u8]) -> bool {
    let beginning = &frame[..frame.len().min(APPLIED_WITHIN_BYTES)];
    opcode(frame) == RESULT && beginning.windows(APPLIED.len()).any(|bytes| bytes == APPLIED)
}

/// Whether a frame of a client is a batch.
pub(super) fn is_batch(frame: &[u8]) -> bool {
    opcode(frame) == BATCH
}

/// Whether a frame of a client asks for something that was prepared before, one statement or several together.
pub(super) fn is_statement(frame: &[u8]) -> bool {
    matches!(opcode(frame), EXECUTE | BATCH)
}

fn opcode(frame: &[u8]) -> u8 {
    frame.get(4).copied().unwrap_or_default()
}
