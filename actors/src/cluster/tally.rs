//! How many registrations and watches, and which, in two numbers that two nodes can compare. Every release computes the
//! same.

use protocol::{
    ConnId, ConversationId, UserId,
    peer::{Slice, WatchId},
};

/// A count, and the XOR of the hashes of what was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

/// One registration or watch, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// A socket of a user, registered with the user's channel.
    pub(crate) fn registration(user: UserId, conn: ConnId) -> Mark {
        Mark(hash([1, halves(user.0)[0], halves(user.0)[1], conn.0]))
    }

    /// A conversation's watch in a channel.
    pub(crate) fn watch(c: ConversationId, slice: Slice, watch: WatchId) -> Mark {
        Mark(hash([2 + u64::from(slice.0), halves(c.0)[0], halves(c.0)[1], watch.0]))
    }
}

impl Tally {
    pub(crate) fn add(&mut self, mark: Mark) {
        self.count += 1;
        self.sum ^= mark.0;
    }

    pub(crate) fn remove(&mut self, mark: Mark) {
        self.count = self.count.saturating_sub(1);
        self.sum ^= mark.0;
    }

    /// Both together.
    pub(crate) fn join(&mut self, other: Tally) {
        self.count += other.count;
        self.sum ^= other.sum;
    }
}

fn halves(id: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_be_bytes(id);
    [(whole >> 64) as u64, whole as u64]
}

fn hash(parts: [u64; 4]) -> u64 {
    parts.into_iter().fold(0, |hash, part| mix(hash ^ part))
}

/// splitmix64's last step.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
