//! Random calls about tokens: families, revocations, tickets and rates.

use std::collections::HashMap;

use super::{Caller, answers_like_memory};
use crate::common::{ids, session_id, stores, user};
use proptest::prelude::*;
use protocol::{Millis, SessionId};
use storage::{
    Store,
    tokens::{Rate, Rotation, Ticket},
};

const SESSIONS: u8 = 3;
/// Longer than any case: stores forget what has ended whenever they like.
const FAMILY_MS: u64 = 1_000_000_000;
const TICKET_MS: u64 = 400;
const REVOCATION_MS: u64 = 1_500;
const RATES: [Rate; 3] = [
    Rate { count: 7, period_ms: 1000, burst: 3 },
    Rate { count: 1, period_ms: 333, burst: 1 },
    Rate { count: 1000, period_ms: 60_000, burst: 2 },
];

#[derive(Clone, Debug)]
enum Step {
    Pass {
        ms: u64,
    },
    Begin {
        family: u8,
    },
    /// With the hash of another generation if `forged`, and by a clock or a wire that is `late_ms` behind.
    Rotate {
        family: u8,
        presented: u64,
        forged: bool,
        known: u64,
        late_ms: u64,
        grace_ms: u64,
    },
    Revoke {
        session: u8,
    },
    Revoked {
        ago_ms: u64,
    },
    PutTicket {
        ticket: u8,
    },
    TakeTicket {
        ticket: u8,
    },
    Take {
        bucket: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let session = || 0..SESSIONS;
    let rotate = (session(), 1..6_u64, 0..8_u8, 0..4_u64, 0..1_000_u64, 0..300_u64);
    prop_oneof![
        4 => (0..300_u64).prop_map(|ms| Step::Pass { ms }),
        2 => session().prop_map(|family| Step::Begin { family }),
        8 => rotate.prop_map(|(family, presented, forged, known, late_ms, grace_ms)| {
            // most are neither forged nor late
            let (forged, late_ms) = (forged == 0, late_ms.saturating_sub(700));
            Step::Rotate { family, presented, forged, known, late_ms, grace_ms }
        }),
        1 => session().prop_map(|session| Step::Revoke { session }),
        2 => (0..2_000_u64).prop_map(|ago_ms| Step::Revoked { ago_ms }),
        1 => (0..3_u8).prop_map(|ticket| Step::PutTicket { ticket }),
        1 => (0..3_u8).prop_map(|ticket| Step::TakeTicket { ticket }),
        6 => (0..RATES.len() as u8).prop_map(|bucket| Step::Take { bucket }),
    ]
}

/// The hash of the token of a generation, or of anything else.
fn hash(of: u8) -> [u8; 32] {
    let mut hash = [of; 32];
    hash[..16].copy_from_slice(&ids::id(of));
    hash
}

/// A store, the time, and until when the revocations made so far matter.
struct Holder {
    store: Store,
    now: u64,
    until: HashMap<SessionId, u64>,
}

impl Caller for Holder {
    type Step = Step;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(step(), 1..100)
    }

    fn new(store: Store) -> Holder {
        Holder { store, now: 1_800_000_000_000, until: HashMap::new() }
    }

    async fn take(&mut self, step: &Step) -> String {
        let (tokens, now) = (&self.store.tokens, Millis(self.now));
        match *step {
            Step::Pass { ms } => {
                self.now += ms;
                String::new()
            }
            Step::Begin { family } => {
                let expires_at = Millis(self.now + FAMILY_MS);
                format!("{:?}", tokens.begin_family(session_id(family), hash(1), now, expires_at).await)
            }
            Step::Rotate { family, presented, forged, known, late_ms, grace_ms } => {
                let generation = u8::try_from(presented).unwrap();
                let rotation = Rotation {
                    family: session_id(family),
                    presented,
                    presented_hash: hash(if forged { 99 } else { generation }),
                    successor_hash: hash(generation + 1),
                    now: Millis(self.now - late_ms),
                    expires_at: Millis(self.now + FAMILY_MS),
                    known,
                    grace_ms,
                };
                let rotated = tokens.rotate(rotation).await;
                format!("{rotated:?} {:?}", self.store.families.family(session_id(family)).await)
            }
            Step::Revoke { session } => {
                let session = session_id(session);
                let until = *self.until.entry(session).or_insert(self.now + REVOCATION_MS);
                format!("{:?}", tokens.revoke(session, now, Millis(until)).await)
            }
            Step::Revoked { ago_ms } => {
                // those of other cases aside
                let ours: Vec<_> = (0..SESSIONS).map(session_id).collect();
                let revoked = tokens.revoked(Millis(self.now - ago_ms), now).await.unwrap();
                format!("{:?}", revoked.into_iter().filter(|(id, _)| ours.contains(id)).collect::<Vec<_>>())
            }
            Step::PutTicket { ticket } => {
                let expires_at = Millis(self.now + TICKET_MS);
                let put = Ticket { user: user(ticket), session: session_id(0), token_expires_at: now, expires_at };
                format!("{:?}", tokens.put_ticket(hash(ticket), put, now).await)
            }
            Step::TakeTicket { ticket } => format!("{:?}", tokens.take_ticket(hash(ticket), now).await),
            Step::Take { bucket } => {
                let key = ids::name(&format!("bucket {bucket} "));
                format!("{:?}", tokens.take(&key, RATES[usize::from(bucket)], now).await)
            }
        }
    }
}

#[test]
fn random_calls_about_tokens_are_answered_alike_by_sqlite() {
    answers_like_memory::<Holder>(stores::Kind::Sqlite, 60);
}

#[test]
fn random_calls_about_tokens_are_answered_alike_by_redis() {
    answers_like_memory::<Holder>(stores::Kind::Redis, 60);
}
