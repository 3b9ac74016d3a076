//! Frames between nodes as bytes: a fixed header, then the content in bincode's standard configuration, written by
//! wincode. The only file that calls wincode. What arrives is read exactly or refused; it never panics and never makes the
//! reader allocate more than [`PREALLOCATION_BYTES_MAX`] for a length that the bytes do not bear out.

use bytes::Bytes;
use wincode::{
    SchemaRead, SchemaWrite,
    config::{self, Configuration},
    int_encoding::{LittleEndian, VarInt},
    len::BincodeLen,
};

use super::{Batch, Frame, Parcel};
use crate::limits::{PEER_FRAME_BYTES_MAX, PEER_INBOUND_BYTES_MAX, PEER_MAILS_MAX};

/// First bytes of every frame.
pub const MAGIC: [u8; 2] = *b"St";
/// The versions of the frames that this release reads and writes, the lowest and the highest.
pub const VERSIONS: (u16, u16) = (1, 1);
/// The version that a greeting is written in, for good: it is read before a common one is known. What a later release
/// wants to say in it becomes a key of [`super::Greeting::equal`] or [`super::Greeting::alike`].
const GREETING_VERSION: u16 = 1;
/// Magic, version, kind, length of the content; numbers are little-endian.
pub const HEADER_BYTES: usize = 2 + 2 + 1 + 4;
/// What the parcels of one frame may come to, by [`parcel_bytes`]: what stands before them takes 28 bytes at most.
pub const PARCELS_BYTES_MAX: usize = PEER_FRAME_BYTES_MAX - HEADER_BYTES - 28;

/// A number is never used again for something else.
mod kind {
    pub(super) const GREETING: u8 = 1;
    pub(super) const PARCELS: u8 = 2;
    pub(super) const ACK: u8 = 3;
    pub(super) const BEAT: u8 = 4;
}

/// Room for one sequence, taken before it is read: connection ids take 8 bytes in memory and may take 1 in a frame.
const PREALLOCATION_BYTES_MAX: usize = 8 * PEER_FRAME_BYTES_MAX;
const _: () = assert!(PEER_MAILS_MAX * size_of::<Parcel>() <= PREALLOCATION_BYTES_MAX);

type BincodeStandard = Configuration<true, PREALLOCATION_BYTES_MAX, BincodeLen, LittleEndian, VarInt>;

const fn bincode_standard() -> BincodeStandard {
    Configuration::default().with_varint_encoding().with_preallocation_size_limit::<PREALLOCATION_BYTES_MAX>()
}

/// Why a frame cannot be sent, or bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the header has or announces.
    #[error("a frame of {bytes} bytes is cut short")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// Not from a node.
    #[error("the bytes do not begin like a frame")]
    Magic,
    /// A version this release does not speak.
    #[error("version {0} of the frames is not one of {min} to {max}", min = VERSIONS.0, max = VERSIONS.1)]
    Version(u16),
    /// A kind this release does not know.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// Larger than the limit: send less at once.
    #[error("{parcels} parcels in {bytes} bytes are more than one frame holds")]
    TooLarge {
        /// How many parcels, as far as known.
        parcels: usize,
        /// How many bytes, as far as known.
        bytes: usize,
    },
    /// The content is not what the header says.
    #[error("the content of a frame cannot be read: {0}")]
    Content(String),
}

/// The highest version of the frames that this release and a peer have in common; `None`: they cannot speak.
#[must_use]
pub fn common_version(theirs: (u16, u16)) -> Option<u16> {
    highest_common(VERSIONS, theirs)
}

fn highest_common(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

/// How many bytes a parcel takes in a frame.
#[must_use]
pub fn parcel_bytes(parcel: &Parcel) -> usize {
    // fails only for what no frame holds
    config::serialized_size(parcel, bincode_standard()).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// The bytes of one frame in this version, at most [`PEER_FRAME_BYTES_MAX`] and [`PEER_MAILS_MAX`] parcels. A greeting
/// is the same in every version.
///
/// # Errors
/// [`FrameError::TooLarge`]: send less at once. [`FrameError::Version`]: not one of [`VERSIONS`].
pub fn encode(frame: &Frame, version: u16) -> Result<Bytes, FrameError> {
    if !(VERSIONS.0..=VERSIONS.1).contains(&version) {
        return Err(FrameError::Version(version));
    }
    match frame {
        Frame::Greeting(greeting) => finish(write(begin(GREETING_VERSION, kind::GREETING), greeting)?, 0),
        Frame::Parcels(batch) => {
            let parcels = batch.parcels.len();
            let too_large = FrameError::TooLarge { parcels, bytes: 0 };
            if parcels > PEER_MAILS_MAX {
                return Err(too_large);
            }
            // fails only where a single sequence is beyond the preallocation, and so beyond a frame
            finish(write(begin(version, kind::PARCELS), batch).map_err(|_| too_large)?, parcels)
        }
        Frame::Ack(number) => finish(write(begin(version, kind::ACK), number)?, 0),
        Frame::Beat(beat) => finish(write(begin(version, kind::BEAT), beat)?, 0),
    }
}

/// The header, with room for the length of what follows.
fn begin(version: u16, kind: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&version.to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(&[0; 4]);
    frame
}

fn write<T: SchemaWrite<BincodeStandard, Src = T> + ?Sized>(
    mut frame: Vec<u8>, content: &T,
) -> Result<Vec<u8>, FrameError> {
    config::serialize_into(&mut frame, content, bincode_standard()).map_err(|e| FrameError::Content(e.to_string()))?;
    Ok(frame)
}

fn finish(mut frame: Vec<u8>, parcels: usize) -> Result<Bytes, FrameError> {
    let too_large = FrameError::TooLarge { parcels, bytes: frame.len() };
    if frame.len() > PEER_FRAME_BYTES_MAX {
        return Err(too_large);
    }
    let length = u32::try_from(frame.len() - HEADER_BYTES).map_err(|_| too_large)?;
    frame[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(frame.into())
}

/// How many bytes follow this header, at most [`PEER_INBOUND_BYTES_MAX`] with it.
///
/// # Errors
/// Every [`FrameError`] that a header can show.
pub fn content_length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [m0, m1, v0, v1, kind, l0, l1, l2, l3] = *header;
    if [m0, m1] != MAGIC {
        return Err(FrameError::Magic);
    }
    let version = u16::from_le_bytes([v0, v1]);
    let known = if kind == kind::GREETING { (GREETING_VERSION, GREETING_VERSION) } else { VERSIONS };
    if !(known.0..=known.1).contains(&version) {
        return Err(FrameError::Version(version));
    }
    if !(kind::GREETING..=kind::BEAT).contains(&kind) {
        return Err(FrameError::Kind(kind));
    }
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if bytes > PEER_INBOUND_BYTES_MAX - HEADER_BYTES {
        return Err(FrameError::TooLarge { parcels: 0, bytes });
    }
    Ok(bytes)
}

/// Whether a frame is a beat, which must not wait behind others; says nothing about what stands in it.
#[must_use]
pub fn is_beat(frame: &[u8]) -> bool {
    frame.get(4) == Some(&kind::BEAT)
}

/// Reads exactly one frame.
///
/// # Errors
/// [`FrameError`], for anything but what [`encode`] writes; bytes left over included.
pub fn decode(frame: &[u8]) -> Result<Frame, FrameError> {
    let short = FrameError::Short { bytes: frame.len() };
    let (header, content) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(short.clone())?;
    let length = content_length(header)?;
    if content.len() < length {
        return Err(short);
    }
    if content.len() > length {
        return Err(FrameError::Content(format!("{} bytes after its end", content.len() - length)));
    }
    match header[4] {
        kind::GREETING => Ok(Frame::Greeting(read(content)?)),
        kind::PARCELS => {
            let batch: Batch = read(content)?;
            if batch.parcels.len() > PEER_MAILS_MAX {
                return Err(FrameError::TooLarge { parcels: batch.parcels.len(), bytes: frame.len() });
            }
            Ok(Frame::Parcels(batch))
        }
        kind::ACK => Ok(Frame::Ack(read(content)?)),
        kind::BEAT => Ok(Frame::Beat(read(content)?)),
        unknown => Err(FrameError::Kind(unknown)),
    }
}

fn read<'a, T: SchemaRead<'a, BincodeStandard, Dst = T>>(content: &'a [u8]) -> Result<T, FrameError> {
    config::deserialize_exact(content, bincode_standard()).map_err(|e| FrameError::Content(e.to_string()))
}

#[cfg(test)]
mod tests;
