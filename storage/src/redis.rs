//! Tokens and limits on Redis or Valkey: what all nodes share, and what may be forgotten. Each step is one command or one
//! script over one key. Never tells the time (callers do) and never has the last word: the sessions' rows have.

mod families;
mod gate;
mod health;
mod inspect;
mod opening;
mod settings;

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use ::redis::{Script, cmd};
use async_trait::async_trait;
use protocol::{Millis, SessionId, UserId};

use self::gate::Gate;
pub use self::{inspect::inspect, settings::Settings};
use crate::{
    Error, OpenError,
    gcra::Demand,
    meters::Meters,
    tokens::{Rate, Rotated, Rotation, Ticket, Tokens},
};

/// Keys are kept this much longer than the callers' times say: clocks are set back, and those of nodes differ. What has
/// ended by a caller's time is refused all the same.
const SLACK_MS: u64 = 2 * 60 * 60 * 1000;
/// The same for limits, where being wrong costs little.
const LIMIT_SLACK_MS: u64 = 60_000;
/// Revocations read at once.
const PAGE: usize = 5_000;
/// User, session and two times.
const TICKET_BYTES: usize = 16 + 16 + 8 + 8;

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/begin.lua")));
static ROTATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/rotate.lua")));
static REVOKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/revoke.lua")));
static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/take.lua")));

/// Connects, and writes once.
pub(crate) async fn open(settings: &Settings) -> Result<Arc<Redis>, OpenError> {
    let client = settings.client()?;
    let prefix = settings.prefix.clone();
    let gate = Gate::open(client, format!("{prefix}probe")).await.map_err(|error| opening::of(settings, &error))?;
    Ok(Arc::new(Redis { gate, prefix, meters: Meters::new("redis") }))
}

/// All faces of one server.
pub(crate) struct Redis {
    gate: Gate,
    prefix: String,
    meters: Meters,
}

impl Redis {
    fn family_key(&self, id: SessionId) -> String {
        format!("{}rt:{id}", self.prefix)
    }

    fn ticket_key(&self, hash: [u8; 32]) -> String {
        hash.iter().fold(format!("{}ticket:", self.prefix), |key, byte| format!("{key}{byte:02x}"))
    }

    fn revocations_key(&self) -> String {
        format!("{}revoked", self.prefix)
    }
}

#[async_trait]
impl Tokens for Redis {
    async fn begin_family(
        &self, family: SessionId, hash: [u8; 32], now: Millis, expires_at: Millis,
    ) -> Result<(), Error> {
        let mut begin = BEGIN.key(self.family_key(family));
        begin.arg(&hash[..]).arg(expires_at.0).arg(kept_ms(now, expires_at));
        let begun = self.gate.write(async |mut line| begin.invoke_async::<()>(&mut line).await);
        self.meters.count(begun.await)
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, Error> {
        let Rotation { family, presented, presented_hash, successor_hash, now, expires_at, known, grace_ms } = rotation;
        let mut rotate = ROTATE.key(self.family_key(family));
        rotate.arg(presented).arg(&presented_hash[..]).arg(&successor_hash[..]).arg(now.0).arg(expires_at.0);
        rotate.arg(known).arg(grace_ms).arg(kept_ms(now, expires_at));
        let answer: Result<u8, Error> = self.gate.write(async |mut line| rotate.invoke_async(&mut line).await).await;
        self.meters.count(answer.and_then(|answer| match answer {
            0 => Ok(Rotated::Unknown),
            1 => Ok(Rotated::Rotated),
            2 => Ok(Rotated::Again),
            3 => Ok(Rotated::Reused),
            other => Err(Error::Corrupt(format!("Redis answers {other} to a rotation"))),
        }))
    }

    async fn revoke(&self, family: SessionId, at: Millis, until: Millis) -> Result<(), Error> {
        let mut revoke = REVOKE.key(self.revocations_key());
        revoke.arg(format!("{family}:{}", until.0)).arg(at.0).arg(kept_ms(at, until));
        let family = self.family_key(family);
        // Others must learn of it; that the family goes as well is tidiness, since the row is revoked.
        let revoked = self.gate.write(async |mut line| {
            revoke.invoke_async::<()>(&mut line).await?;
            cmd("UNLINK").arg(family).exec_async(&mut line).await
        });
        self.meters.count(revoked.await)
    }

    async fn revoked(&self, since: Millis, now: Millis) -> Result<Vec<(SessionId, Millis)>, Error> {
        let key = self.revocations_key();
        let (mut from, mut n_seen) = (since.0, 0);
        let mut found = Vec::new();
        loop {
            let page = self.gate.read(async |mut line| {
                let mut range = cmd("ZRANGE");
                range.arg(&key).arg(from).arg("+inf").arg("BYSCORE");
                range.arg("LIMIT").arg(n_seen).arg(PAGE).arg("WITHSCORES");
                range.query_async::<Vec<(String, u64)>>(&mut line).await
            });
            let page = self.meters.count(page.await)?;
            for (member, at) in &page {
                // Of one millisecond there may be more than fit on a page.
                (from, n_seen) = (*at, if *at == from { n_seen + 1 } else { 1 });
                found.extend(revocation(member).filter(|(_, until)| *until > now));
            }
            if page.len() < PAGE {
                break;
            }
        }
        Ok(without_repeats(found))
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, now: Millis) -> Result<(), Error> {
        let mut set = cmd("SET");
        set.arg(self.ticket_key(hash)).arg(&packed(&ticket)[..]).arg("NX");
        set.arg("PX").arg(kept_ms(now, ticket.expires_at));
        let put = self.gate.write(async |mut line| set.exec_async(&mut line).await);
        self.meters.count(put.await)
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, Error> {
        let mut take = cmd("GETDEL");
        take.arg(self.ticket_key(hash));
        let taken = self.gate.write(async |mut line| take.query_async::<Option<Vec<u8>>>(&mut line).await);
        let ticket = taken.await.and_then(|taken| taken.as_deref().map(unpacked).transpose());
        Ok(self.meters.count(ticket)?.filter(|ticket| ticket.expires_at > now))
    }

    async fn take(&self, key: &str, rate: Rate, now: Millis) -> Result<Result<(), u64>, Error> {
        let demand = Demand::new(rate, now);
        let mut take = TAKE.key(format!("{}rl:{key}", self.prefix));
        take.arg(demand.now_us).arg(demand.interval_us).arg(demand.burst_us).arg(LIMIT_SLACK_MS);
        let taken = self.gate.read(async |mut line| take.invoke_async::<u64>(&mut line).await);
        let wait_us = self.meters.count(taken.await)?;
        Ok(if wait_us == 0 { Ok(()) } else { Err(wait_us.div_ceil(1000)) })
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// For how long the server keeps what ends at `expires_at`.
fn kept_ms(now: Millis, expires_at: Millis) -> u64 {
    expires_at.0.saturating_sub(now.0).saturating_add(SLACK_MS)
}

/// A revocation's session, and until when it matters. What a newer version may have put there says nothing here.
fn revocation(member: &str) -> Option<(SessionId, Millis)> {
    let (session, until) = member.split_once(':')?;
    Some((session.parse().ok()?, Millis(until.parse().ok()?)))
}

/// Each once, where it stood last.
fn without_repeats(mut revocations: Vec<(SessionId, Millis)>) -> Vec<(SessionId, Millis)> {
    let mut met = HashSet::with_capacity(revocations.len());
    revocations.reverse();
    revocations.retain(|(session, _)| met.insert(*session));
    revocations.reverse();
    revocations
}

fn packed(ticket: &Ticket) -> Vec<u8> {
    let Ticket { user, session, token_expires_at, expires_at } = ticket;
    [&user.0[..], &session.0, &token_expires_at.0.to_be_bytes(), &expires_at.0.to_be_bytes()].concat()
}

fn unpacked(bytes: &[u8]) -> Result<Ticket, Error> {
    let corrupt = || Error::Corrupt(format!("a ticket in Redis has {} bytes, not {TICKET_BYTES}", bytes.len()));
    let bytes: &[u8; TICKET_BYTES] = bytes.try_into().map_err(|_| corrupt())?;
    let id = |at: usize| std::array::from_fn(|i| bytes[at + i]);
    let time = |at: usize| Millis(u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i])));
    Ok(Ticket { user: UserId(id(0)), session: SessionId(id(16)), token_expires_at: time(32), expires_at: time(40) })
}
