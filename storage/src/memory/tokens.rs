//! Refresh families, tickets, revocations and limits.

use std::collections::HashMap;

use async_trait::async_trait;
use protocol::{Millis, SessionId};

use super::{Memory, faults::Operation};
use crate::{
    Error,
    tokens::{Family, Rate, Rotated, Rotation, SWEEP_AFTER_MS, Ticket, Tokens},
};

/// What has ended is forgotten when a map has doubled since the last time: constant work per call.
const SWEEP_MIN: usize = 1024;

#[derive(Default)]
pub(super) struct Secrets {
    pub(super) families: HashMap<SessionId, Family>,
    tickets: HashMap<[u8; 32], Ticket>,
    revocations: HashMap<SessionId, Revocation>,
}

struct Revocation {
    at: Millis,
    until: Millis,
}

fn sweep<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, keep: impl Fn(&V) -> bool) {
    if map.len() >= SWEEP_MIN && map.len() == map.capacity() {
        map.retain(|_, value| keep(value));
    }
}

#[async_trait]
impl Tokens for Memory {
    async fn begin_family(
        &self, family: SessionId, hash: [u8; 32], _now: Millis, expires_at: Millis,
    ) -> Result<(), Error> {
        self.call(Operation::WriteTokens, move |model| {
            let fresh = Family { generation: 1, hash, predecessor: None, expires_at };
            model.tokens.families.entry(family).or_insert(fresh);
            Ok(())
        })
        .await
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, Error> {
        self.call(Operation::WriteTokens, move |model| {
            let families = &mut model.tokens.families;
            sweep(families, |family| family.expires_at > rotation.now);
            let Some(family) = families.get_mut(&rotation.family) else { return Ok(Rotated::Unknown) };
            let verdict = family.rotate(&rotation);
            if verdict == Rotated::Reused {
                families.remove(&rotation.family);
            }
            Ok(verdict)
        })
        .await
    }

    async fn revoke(&self, family: SessionId, at: Millis, until: Millis) -> Result<(), Error> {
        self.call(Operation::WriteTokens, move |model| {
            model.tokens.families.remove(&family);
            let revocations = &mut model.tokens.revocations;
            sweep(revocations, |revocation| revocation.until > at);
            let revocation = revocations.entry(family).or_insert(Revocation { at, until });
            *revocation = Revocation { at: revocation.at.max(at), until: revocation.until.max(until) };
            Ok(())
        })
        .await
    }

    async fn revoked(&self, since: Millis, now: Millis) -> Result<Vec<(SessionId, Millis)>, Error> {
        self.call(Operation::ReadTokens, move |model| {
            let lasting = |(_, r): &(&SessionId, &Revocation)| r.at >= since && r.until > now;
            let mut revoked: Vec<_> =
                model.tokens.revocations.iter().filter(lasting).map(|(id, r)| (r.at, *id, r.until)).collect();
            revoked.sort_unstable();
            Ok(revoked.into_iter().map(|(_, id, until)| (id, until)).collect())
        })
        .await
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, now: Millis) -> Result<(), Error> {
        self.call(Operation::WriteTokens, move |model| {
            let tickets = &mut model.tokens.tickets;
            sweep(tickets, |known| known.expires_at.0 + SWEEP_AFTER_MS > now.0);
            tickets.entry(hash).or_insert(ticket);
            Ok(())
        })
        .await
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, Error> {
        self.call(Operation::WriteTokens, move |model| {
            Ok(model.tokens.tickets.remove(&hash).filter(|ticket| ticket.expires_at > now))
        })
        .await
    }

    async fn take(&self, key: &str, rate: Rate, now: Millis) -> Result<Result<(), u64>, Error> {
        let key = key.to_owned();
        self.call(Operation::ReadTokens, move |model| Ok(model.buckets.take(&key, rate, now))).await
    }

    fn is_shared(&self) -> bool {
        false
    }
}
