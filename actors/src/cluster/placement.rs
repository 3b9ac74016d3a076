//! Where conversations and presence channels live: weighted rendezvous hashing over the members that are up, by the name
//! of the node, so that a node that comes back gets its own again. Every node, of this release or the next, computes the
//! same from the same view: whole numbers only, and a test that pins what comes out. Knows nothing of who is reachable.

use protocol::{ConversationId, Incarnation, NodeId, cluster::View, limits::PRESENCE_SLICES, peer::Slice};

/// The heaviest node weighs as much as this many of the lightest.
pub const WEIGHT_MAX: u32 = 100;

/// One view's placement. Making it costs what a thousand look-ups cost; it is made once per version.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    version: u64,
    candidates: Vec<Candidate>,
    /// By slice; empty if nobody is up.
    slices: Vec<Incarnation>,
}

#[derive(Clone, Debug)]
struct Candidate {
    incarnation: Incarnation,
    seed: u64,
    weight: u64,
}

impl Placement {
    /// Of the members that are up in `view`.
    #[must_use]
    pub fn of(view: &View) -> Placement {
        let mut up: Vec<_> = view.up().collect();
        // the order in which they joined must not matter, not even between equal scores
        up.sort_by(|a, b| a.node.cmp(&b.node));
        let candidates = up.into_iter().map(|member| Candidate {
            incarnation: member.incarnation,
            seed: seed(&member.node),
            weight: u64::from(member.weight.clamp(1, WEIGHT_MAX)),
        });
        let mut placement = Placement { version: view.version, candidates: candidates.collect(), slices: Vec::new() };
        let slices = (0..PRESENCE_SLICES).filter_map(|slice| placement.owner(key(SLICES, u64::from(slice))));
        placement.slices = slices.collect();
        placement
    }

    /// Of which version of the view it is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who owns a conversation; `None` if nobody is up.
    #[must_use]
    pub fn conversation(&self, c: ConversationId) -> Option<Incarnation> {
        let id = u128::from_be_bytes(c.0);
        self.owner(key((id >> 64) as u64, id as u64))
    }

    /// Who has the presence channel of a slice; `None` if nobody is up.
    #[must_use]
    pub fn slice(&self, slice: Slice) -> Option<Incarnation> {
        self.slices.get(usize::from(slice.0)).copied()
    }

    /// The candidate with the largest `-weight / ln(hash)`, a share of all keys that is proportional to its weight.
    fn owner(&self, key: u64) -> Option<Incarnation> {
        let mut candidates = self.candidates.iter();
        let mut best = candidates.next()?;
        let mut best_hash = mix(key ^ best.seed);
        let mut best_cost = cost(best_hash);
        for candidate in candidates {
            let hash = mix(key ^ candidate.seed);
            let cost = cost(hash);
            // cost / weight < best_cost / best.weight; what the logarithm cannot tell apart the hash can
            let (left, right) = (cost * best.weight, best_cost * candidate.weight);
            if left < right || (left == right && hash > best_hash) {
                (best, best_hash, best_cost) = (candidate, hash, cost);
            }
        }
        Some(best.incarnation)
    }
}

/// Sets the keys of slices apart from those of conversations.
const SLICES: u64 = u64::from_be_bytes(*b"presence");

fn key(high: u64, low: u64) -> u64 {
    mix(mix(high) ^ low)
}

/// FNV-1a, and mixed, because names of nodes differ in their last character only.
fn seed(node: &NodeId) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(node.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Splitmix64's: every bit of the input moves half of those of the output.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `-log2(hash / 2^64)` in units of 2^-32, off by at most 3 in a million: below 2^39, so that a weight still fits.
fn cost(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let normal = hash << zeros;
    let (step, rest) = ((normal >> 55 & 0xff) as usize, normal >> 23 & 0xffff_ffff);
    let (low, high) = (LOG2[step], LOG2[step + 1]);
    let fraction = low + (((high - low) * rest) >> 32);
    (u64::from(zeros + 1) << 32) - fraction
}

/// `log2(1 + i / 256)` in units of 2^-32.
const LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        table[i] = log2((256 + i as u128) << 55);
        i += 1;
    }
    table[256] = 1 << 32;
    table
};

/// Of a number from 1 up to 2, in units of 2^-63; squaring it yields one binary digit after another.
const fn log2(mut x: u128) -> u64 {
    let mut digits = 0;
    let mut n = 0;
    while n < 32 {
        x = (x * x) >> 63;
        digits <<= 1;
        if x >= 1 << 64 {
            x >>= 1;
            digits |= 1;
        }
        n += 1;
    }
    digits
}

#[cfg(test)]
mod tests;
