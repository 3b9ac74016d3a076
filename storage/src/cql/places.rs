//! What is known for good of conversations used lately: a bucket that their log has reached, and how many partitions their
//! members have. Bounded; what is forgotten is read again. Never holds what could become wrong.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{ConversationId, UserId};

use crate::fence::Bucket;

/// Conversations remembered at once, some 100 bytes each. At one more, all are forgotten: each then costs one read.
const PLACES_MAX: usize = 1 << 16;

/// See [`super::Cql`].
#[derive(Default)]
pub(super) struct Places {
    known: Mutex<HashMap<ConversationId, Place>>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    /// The log has come this far: a later bucket may be the last by now, an earlier one is not.
    bucket: Option<Bucket>,
    shards: Option<Shards>,
}

/// The partitions of a conversation's members: each holds a run of ids, so reading one after the other is reading in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shards(pub(super) u16);

impl Shards {
    /// Where a user is. Ids are random, so the partitions fill alike.
    pub(super) fn of(self, user: UserId) -> i32 {
        let [a, b, c, d, ..] = user.0;
        // the place of the id among all ids, stretched to the number of partitions; below it, so it fits
        ((u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(self.0)) >> 32) as i32
    }
}

impl Places {
    fn known(&self) -> MutexGuard<'_, HashMap<ConversationId, Place>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bucket(&self, c: ConversationId) -> Option<Bucket> {
        self.known().get(&c)?.bucket
    }

    pub(super) fn shards(&self, c: ConversationId) -> Option<Shards> {
        self.known().get(&c)?.shards
    }

    /// The log has this bucket. True if an earlier one was taken for its last.
    pub(super) fn reached(&self, c: ConversationId, bucket: Bucket) -> bool {
        self.note(c, |place| {
            let before = place.bucket;
            place.bucket = before.max(Some(bucket));
            before.is_some_and(|before| before < bucket)
        })
    }

    pub(super) fn divided(&self, c: ConversationId, shards: Shards) {
        self.note(c, |place| place.shards = Some(shards));
    }

    fn note<T>(&self, c: ConversationId, note: impl FnOnce(&mut Place) -> T) -> T {
        let mut known = self.known();
        if known.len() >= PLACES_MAX && !known.contains_key(&c) {
            known.clear();
        }
        note(known.entry(c).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: ConversationId = ConversationId([1; 16]);

    #[test]
    fn a_bucket_once_reached_is_never_forgotten_for_an_earlier_one() {
        let places = Places::default();
        assert_eq!(places.bucket(C), None);
        assert!(!places.reached(C, Bucket(3)), "nothing was taken for the last before");
        assert!(!places.reached(C, Bucket(2)));
        assert_eq!(places.bucket(C), Some(Bucket(3)));
        assert!(places.reached(C, Bucket(4)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let places = Places::default();
        for n in 0..=PLACES_MAX as u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            places.divided(ConversationId(id), Shards(1));
        }
        assert_eq!(places.known().len(), 1);
    }

    #[test]
    fn partitions_follow_one_another_as_ids_do() {
        let user = |first: u8| UserId([first; 16]);
        let shards = |n, first| Shards(n).of(user(first));
        assert_eq!([0, 1, 127, 128, 255].map(|first| shards(1, first)), [0; 5]);
        assert_eq!([0, 63, 64, 127, 128, 255].map(|first| shards(4, first)), [0, 0, 1, 1, 2, 3]);
    }
}
