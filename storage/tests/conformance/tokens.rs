//! Refresh families, tickets, revocations and limits.

use crate::common::{each_of_tokens, user};
use protocol::{Millis, SessionId};
use storage::{
    Store,
    tokens::{Family, Rate, Rotated, Rotation, Ticket},
};

const FAMILY: SessionId = SessionId([1; 16]);

/// The hash of the token of a generation.
fn hash(generation: u64) -> [u8; 32] {
    [generation as u8; 32]
}

fn rotation(presented: u64, presented_hash: [u8; 32], now: u64) -> Rotation {
    Rotation {
        family: FAMILY,
        presented,
        presented_hash,
        successor_hash: hash(presented + 1),
        now: Millis(now),
        expires_at: Millis(now + 10_000),
        known: 0,
        grace_ms: 100,
    }
}

async fn rotate(store: &Store, presented: u64, presented_hash: [u8; 32], now: u64) -> Rotated {
    store.tokens.rotate(rotation(presented, presented_hash, now)).await.unwrap()
}

#[tokio::test]
async fn g14_a_token_works_once_and_within_the_grace_again() {
    each_of_tokens(async |store| {
        assert_eq!(rotate(&store, 1, hash(1), 0).await, Rotated::Unknown);
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
        assert_eq!(rotate(&store, 1, hash(9), 0).await, Rotated::Unknown, "not the token of this generation");
        assert_eq!(rotate(&store, 2, hash(2), 0).await, Rotated::Unknown, "not made yet");
        assert_eq!(rotate(&store, 1, hash(1), 1000).await, Rotated::Rotated);
        assert_eq!(rotate(&store, 1, hash(1), 1100).await, Rotated::Again);
        assert_eq!(rotate(&store, 1, hash(9), 1100).await, Rotated::Unknown);
        assert_eq!(rotate(&store, 2, hash(2), 1100).await, Rotated::Rotated);
        assert_eq!(rotate(&store, 2, hash(2), 1150).await, Rotated::Again);
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
        assert_eq!(rotate(&store, 3, hash(3), 1200).await, Rotated::Rotated, "beginning again lowers nothing");
    })
    .await;
}

#[tokio::test]
async fn g14_a_spent_token_ends_its_family() {
    each_of_tokens(async |store| {
        for beyond_grace in [false, true] {
            store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
            assert_eq!(rotate(&store, 1, hash(1), 1000).await, Rotated::Rotated);
            if beyond_grace {
                assert_eq!(rotate(&store, 1, hash(1), 1101).await, Rotated::Reused);
            } else {
                assert_eq!(rotate(&store, 2, hash(2), 1001).await, Rotated::Rotated);
                assert_eq!(rotate(&store, 1, hash(1), 1002).await, Rotated::Reused, "older than the predecessor");
            }
            for generation in 1..=3 {
                assert_eq!(rotate(&store, generation, hash(generation), 1200).await, Rotated::Unknown);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn g14_a_family_of_an_old_copy_takes_no_token() {
    each_of_tokens(async |store| {
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
        assert_eq!(rotate(&store, 1, hash(1), 1000).await, Rotated::Rotated);
        // The row knows of the third generation, the store only of the second.
        for presented in 1..=3 {
            let answer = store.tokens.rotate(Rotation { known: 3, ..rotation(presented, hash(presented), 1050) }).await;
            assert_eq!(answer.unwrap(), Rotated::Unknown, "generation {presented}");
        }
        let answer = store.tokens.rotate(Rotation { known: 2, ..rotation(1, hash(1), 1050) }).await;
        assert_eq!(answer.unwrap(), Rotated::Again, "nothing was changed");
    })
    .await;
}

#[tokio::test]
async fn g14_a_rotation_carried_out_late_ends_nothing() {
    each_of_tokens(async |store| {
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
        // The first try, of 900, got stuck on its way; its caller tried again, and refreshed once more.
        assert_eq!(rotate(&store, 1, hash(1), 1000).await, Rotated::Rotated);
        assert_eq!(rotate(&store, 2, hash(2), 2000).await, Rotated::Rotated);
        assert_eq!(rotate(&store, 1, hash(1), 900).await, Rotated::Unknown);
        assert_eq!(rotate(&store, 3, hash(3), 3000).await, Rotated::Rotated);
    })
    .await;
}

#[tokio::test]
async fn a_family_moves_house_as_it_stands() {
    // Far in the future: who moves families tells no time.
    let expires_at = Millis(4_000_000_000_000);
    each_of_tokens(async |store| {
        assert_eq!(store.families.family(FAMILY).await.unwrap(), None);
        let first = Family { generation: 1, hash: hash(1), predecessor: None, expires_at };
        let later = Family { generation: 7, hash: hash(7), predecessor: Some((hash(6), Millis(1000))), expires_at };
        for family in [first, later] {
            store.families.put_family(FAMILY, &family).await.unwrap();
            assert_eq!(store.families.family(FAMILY).await.unwrap(), Some(family));
        }
        assert_eq!(rotate(&store, 6, hash(6), 1100).await, Rotated::Again);
        assert_eq!(rotate(&store, 7, hash(7), 1100).await, Rotated::Rotated);
        let stands = store.families.family(FAMILY).await.unwrap().unwrap();
        assert_eq!((stands.generation, stands.hash, stands.predecessor), (8, hash(8), Some((hash(7), Millis(1100)))));
    })
    .await;
}

#[tokio::test]
async fn a_family_ends_with_its_time() {
    each_of_tokens(async |store| {
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(500)).await.unwrap();
        assert_eq!(rotate(&store, 1, hash(1), 499).await, Rotated::Rotated);
        assert_eq!(rotate(&store, 2, hash(2), 10_499).await, Rotated::Unknown);
    })
    .await;
}

#[tokio::test]
async fn g13_revoking_ends_the_family_and_is_remembered() {
    each_of_tokens(async |store| {
        store.tokens.begin_family(FAMILY, hash(1), Millis(0), Millis(10_000)).await.unwrap();
        store.tokens.revoke(FAMILY, Millis(100), Millis(1000)).await.unwrap();
        assert_eq!(rotate(&store, 1, hash(1), 101).await, Rotated::Unknown);
        let other = SessionId([2; 16]);
        store.tokens.revoke(other, Millis(200), Millis(2000)).await.unwrap();
        let revoked = async |since, now| {
            let revoked = store.tokens.revoked(Millis(since), Millis(now)).await.unwrap();
            revoked.into_iter().map(|(session, _)| session).collect::<Vec<_>>()
        };
        assert_eq!(revoked(0, 200).await, [FAMILY, other]);
        assert_eq!(revoked(100, 200).await, [FAMILY, other]);
        assert_eq!(revoked(101, 200).await, [other]);
        assert_eq!(revoked(0, 1000).await, [other], "no access token is left");
        assert_eq!(revoked(0, 2000).await, []);
        store.tokens.revoke(FAMILY, Millis(300), Millis(3000)).await.unwrap();
        assert_eq!(revoked(0, 2500).await, [FAMILY]);
        assert_eq!(revoked(0, 500).await, [other, FAMILY], "in the order in which they were revoked");
        assert_eq!(revoked(201, 500).await, [FAMILY], "who has read up to there meets it again");
        let ends = store.tokens.revoked(Millis(300), Millis(500)).await.unwrap();
        assert_eq!(ends, [(FAMILY, Millis(3000))]);
    })
    .await;
}

#[tokio::test]
async fn a_ticket_works_once_and_not_too_late() {
    each_of_tokens(async |store| {
        let ticket =
            Ticket { user: user(1), session: FAMILY, token_expires_at: Millis(9000), expires_at: Millis(1000) };
        store.tokens.put_ticket(hash(1), ticket, Millis(0)).await.unwrap();
        store.tokens.put_ticket(hash(2), ticket, Millis(0)).await.unwrap();
        assert_eq!(store.tokens.take_ticket(hash(1), Millis(999)).await.unwrap(), Some(ticket));
        assert_eq!(store.tokens.take_ticket(hash(1), Millis(999)).await.unwrap(), None);
        assert_eq!(store.tokens.take_ticket(hash(2), Millis(1000)).await.unwrap(), None);
        assert_eq!(store.tokens.take_ticket(hash(2), Millis(0)).await.unwrap(), None, "spent, even too late");
        assert_eq!(store.tokens.take_ticket(hash(3), Millis(0)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_rate_lets_through_a_burst_and_then_its_count() {
    each_of_tokens(async |store| {
        let rate = Rate { count: 2, period_ms: 1000, burst: 3 };
        let take = async |key, now| store.tokens.take(key, rate, Millis(now)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(take("a", 10_000).await, Ok(()));
        }
        assert_eq!(take("a", 10_000).await, Err(500));
        assert_eq!(take("a", 10_200).await, Err(300), "asking costs nothing");
        assert_eq!(take("b", 10_200).await, Ok(()), "every key has its own");
        assert_eq!(take("a", 10_500).await, Ok(()));
        assert_eq!(take("a", 10_999).await, Err(1));
        assert_eq!(take("a", 11_000).await, Ok(()));
        for _ in 0..3 {
            assert_eq!(take("a", 60_000).await, Ok(()), "idle time fills it, to the burst and no further");
        }
        assert_eq!(take("a", 60_000).await, Err(500));
    })
    .await;
}
