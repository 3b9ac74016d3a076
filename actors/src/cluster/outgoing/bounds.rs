//! The bounds of what one peer is sent, with their reasons. Tests make them small.

use protocol::limits::{PEER_FRAME_BYTES_MAX, PEER_MAILS_MAX};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Parcels in one frame.
    pub frame_parcels: usize,
    /// Bytes sent and not acknowledged: ample for the time an acknowledgement takes, and all that the transport ever has
    /// to hold.
    pub window_bytes: usize,
    /// Frames sent and not acknowledged.
    pub window_frames: usize,
    /// Bytes that wait, beyond which nothing is taken that can be refused, told as a head or dropped.
    pub queue_bytes: usize,
    /// Bytes that wait, beyond which the peer counts as gone: what may not be shed comes from causes that have bounds,
    /// but no bound in common.
    pub queue_hard_bytes: usize,
    /// Pairs of a conversation and a socket that wait as heads: some MiB, and cheaper to send than the sockets' coming
    /// back.
    pub heads: usize,
    /// Users whose marks wait and sockets that are to be told of them, over all conversations.
    pub receipts: usize,
    /// Bytes of typing and presence: what a second of them may take.
    pub volatile_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            frame_parcels: PEER_MAILS_MAX,
            window_bytes: WINDOW_BYTES_MAX,
            window_frames: 64,
            queue_bytes: 4 << 20,
            queue_hard_bytes: 32 << 20,
            heads: 65_536,
            receipts: 65_536,
            volatile_bytes: 256 << 10,
        }
    }
}

const WINDOW_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(PEER_FRAME_BYTES_MAX <= WINDOW_BYTES_MAX);
