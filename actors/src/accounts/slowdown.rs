//! Limits on guessing and on requests. The buckets are in `limits`; what a caller who failed too often must wait is kept
//! here.
//!
//! Only failed sign-ins count, and an attempt is refused unseen only because of failures *from the same address*:
//! 1. an address that failed more than `login_per_min` waits, whatever accounts it tried;
//! 2. once an *account* was failed more than `login_per_min` times, from wherever, each further failure makes the
//!    address it came from wait for this account, twice as long each time.
//!
//! So any number of strangers who guess at an account cannot keep its owner out: an address that has not failed is
//! never made to wait. Each address of theirs is left with one guess per doubling wait.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use protocol::{Code, Error, Millis};

use super::{
    limits::{Alone, Limits, MINUTE_MS},
    secrets::hash,
};
use crate::{Caller, World, settings};

/// The longest wait, and how long a run of failures is remembered after it.
const WAIT_MS_MAX: u64 = 10 * MINUTE_MS;

/// Who waits.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    /// An address.
    Address(IpAddr),
    /// An address at one account: the hash of its handle.
    Pair([u8; 32], IpAddr),
}

#[derive(Clone, Copy)]
struct Wait {
    until: Millis,
    last_ms: u64,
}

#[derive(Default)]
struct Waits {
    of: HashMap<Who, Wait>,
    swept_at: Millis,
}

/// Rates of sign-ins, registrations and requests.
pub(super) struct Slowdown {
    world: World,
    rates: settings::Limits,
    limits: Limits,
    waits: Mutex<Waits>,
}

/// One attempt to prove who one is.
pub(super) struct Attempt {
    account: [u8; 32],
    from: IpAddr,
}

impl Slowdown {
    pub(super) fn new(world: World, rates: settings::Limits) -> Slowdown {
        Slowdown { limits: Limits::new(world.clone()), world, rates, waits: Mutex::default() }
    }

    /// Refuses the attempt if its address has to wait. `account`: anything that names it, existing or not.
    pub(super) fn attempt(&self, account: &str, from: IpAddr) -> Result<Attempt, Error> {
        let attempt = Attempt { account: hash(account), from: network(from) };
        let now = self.world.clock.wall();
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let until = |who| waits.of.get(&who).map_or(0, |wait| wait.until.0);
        let until = until(Who::Address(attempt.from)).max(until(Who::Pair(attempt.account, attempt.from)));
        match until.checked_sub(now.0) {
            Some(after_ms @ 1..) => Err(limited("login", after_ms)),
            _ => Ok(attempt),
        }
    }

    /// The attempt failed.
    pub(super) async fn failed(&self, attempt: Attempt) {
        let per_min = self.rates.login_per_min;
        if per_min == 0 {
            return;
        }
        let step_ms = MINUTE_MS.div_ceil(u64::from(per_min));
        let now = self.world.clock.wall();
        if let Err(after_ms) = self.limits.take(&format!("login:a:{}", attempt.from), per_min, Alone::Stricter).await {
            // Attempts that ran side by side each pay, so that asking in parallel gains nothing.
            self.wait(Who::Address(attempt.from), now, |wait| {
                (wait.until.0.max(now.0) - now.0) + after_ms.max(step_ms)
            });
        }
        let account = uuid::Uuid::from_slice(&attempt.account[..16]).unwrap_or_default();
        let bucket = format!("login:u:{}", account.simple());
        if self.limits.take(&bucket, per_min, Alone::Stricter).await.is_err() {
            self.wait(Who::Pair(attempt.account, attempt.from), now, |wait| (wait.last_ms * 2).max(step_ms));
        }
    }

    /// The attempt succeeded: its address is trusted with this account again.
    pub(super) fn succeeded(&self, attempt: &Attempt) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.of.remove(&Who::Pair(attempt.account, attempt.from));
    }

    /// One registration from an address.
    pub(super) async fn register(&self, from: IpAddr) -> Result<(), Error> {
        let from = network(from).to_string();
        self.take_or_refuse("register", &from, self.rates.register_per_min, Alone::Stricter).await
    }

    /// One request of a session, or of an address where nobody is signed in.
    pub(super) async fn request(&self, caller: Option<&Caller>, from: IpAddr) -> Result<(), Error> {
        let who = caller.map_or_else(|| network(from).to_string(), |caller| caller.session.to_string());
        self.take_or_refuse("rest", &who, self.rates.rest_per_min, Alone::AsEver).await
    }

    async fn take_or_refuse(&self, scope: &'static str, who: &str, per_min: u32, alone: Alone) -> Result<(), Error> {
        if per_min == 0 {
            return Ok(());
        }
        let taken = self.limits.take(&format!("{scope}:{who}"), per_min, alone).await;
        taken.map_err(|after_ms| limited(scope, after_ms))
    }

    fn wait(&self, who: Who, now: Millis, ms: impl FnOnce(Wait) -> u64) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 >= waits.swept_at.0 + MINUTE_MS {
            waits.swept_at = now;
            waits.of.retain(|_, wait| wait.until.0 + WAIT_MS_MAX > now.0);
        }
        let wait = waits.of.entry(who).or_insert(Wait { until: now, last_ms: 0 });
        let ms = ms(*wait).min(WAIT_MS_MAX);
        *wait = Wait { until: Millis(now.0 + ms), last_ms: ms };
    }
}

fn limited(scope: &'static str, after_ms: u64) -> Error {
    metrics::counter!("starling_rate_limited_total", "scope" => scope).increment(1);
    Error::new(Code::RateLimited, "too many attempts; wait, then try again").after_ms(after_ms)
}

/// What one client can be told apart by: the address, or the network of 2^64 addresses that IPv6 gives to one customer.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_of_ipv6_is_one_address() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
