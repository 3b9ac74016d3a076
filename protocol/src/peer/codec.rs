//! Frames between nodes: a fixed header, then a batch of mail in bincode's standard configuration, written by wincode.
//! The only file that calls wincode. What arrives is read exactly or refused; it never panics and never makes the
//! reader allocate more than [`PREALLOCATION_BYTES_MAX`] for a length that the bytes do not bear out.

use wincode::config::{self, Configuration};

use super::Mail;
use crate::limits::{PEER_FRAME_BYTES_MAX, PEER_INBOUND_BYTES_MAX, PEER_MAILS_MAX};

/// First bytes of every frame.
pub const MAGIC: [u8; 2] = *b"St";
/// The version this release writes; nodes use the lowest common one.
pub const VERSION: u16 = 1;
/// Magic, version, kind, length of the body; numbers are little-endian.
pub const HEADER_BYTES: usize = 2 + 2 + 1 + 4;
/// The one kind of frame so far: a batch of mail.
const KIND_MAIL: u8 = 1;

/// Room for one sequence, taken before it is read: connection ids take 8 bytes in memory and may take 1 in a frame.
const PREALLOCATION_BYTES_MAX: usize = 8 * PEER_FRAME_BYTES_MAX;
const _: () = assert!(PEER_MAILS_MAX * size_of::<Mail>() <= PREALLOCATION_BYTES_MAX);

macro_rules! bincode_standard {
    () => {
        Configuration::default().with_varint_encoding().with_preallocation_size_limit::<PREALLOCATION_BYTES_MAX>()
    };
}

/// Why a batch cannot be sent, or bytes are not a frame.
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
    /// A version this release does not read.
    #[error("version {0} of the frames is not {VERSION}")]
    Version(u16),
    /// A kind this release does not know.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// Larger than the limit: send fewer at once.
    #[error("{mails} pieces of mail in {bytes} bytes are more than one frame holds")]
    TooLarge {
        /// How many pieces, as far as known.
        mails: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// The body is not what the header says.
    #[error("the body of a frame cannot be read: {0}")]
    Body(String),
}

/// One frame that carries `mails`, at most [`PEER_MAILS_MAX`] of them and [`PEER_FRAME_BYTES_MAX`] with the header.
///
/// # Errors
/// [`FrameError::TooLarge`]: send fewer at once.
pub fn encode(mails: &[Mail]) -> Result<Vec<u8>, FrameError> {
    let too_large = |bytes| FrameError::TooLarge { mails: mails.len(), bytes };
    if mails.len() > PEER_MAILS_MAX {
        return Err(too_large(0));
    }
    // fails only where a single sequence is beyond the preallocation, and so beyond a frame
    let body = config::serialize(mails, bincode_standard!()).map_err(|_| too_large(0))?;
    if body.len() > PEER_FRAME_BYTES_MAX - HEADER_BYTES {
        return Err(too_large(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(|_| too_large(body.len()))?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.push(KIND_MAIL);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// How many bytes follow this header, at most [`PEER_INBOUND_BYTES_MAX`] with it.
///
/// # Errors
/// Every [`FrameError`] that a header can show.
pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [m0, m1, v0, v1, kind, l0, l1, l2, l3] = *header;
    if [m0, m1] != MAGIC {
        return Err(FrameError::Magic);
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if kind != KIND_MAIL {
        return Err(FrameError::Kind(kind));
    }
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if bytes > PEER_INBOUND_BYTES_MAX - HEADER_BYTES {
        return Err(FrameError::TooLarge { mails: 0, bytes });
    }
    Ok(bytes)
}

/// Reads exactly one frame.
///
/// # Errors
/// [`FrameError`], for anything but what [`encode`] writes; bytes left over included.
pub fn decode(frame: &[u8]) -> Result<Vec<Mail>, FrameError> {
    let short = FrameError::Short { bytes: frame.len() };
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(short.clone())?;
    let length = body_length(header)?;
    if body.len() < length {
        return Err(short);
    }
    if body.len() > length {
        return Err(FrameError::Body(format!("{} bytes after its end", body.len() - length)));
    }
    let mails: Vec<Mail> =
        config::deserialize_exact(body, bincode_standard!()).map_err(|e| FrameError::Body(e.to_string()))?;
    if mails.len() > PEER_MAILS_MAX {
        return Err(FrameError::TooLarge { mails: mails.len(), bytes: frame.len() });
    }
    Ok(mails)
}

#[cfg(test)]
mod tests;
