//! Rate limits in memory, for the embedded token store and for whoever cannot reach another one. Bounded: under more busy
//! keys than it holds, the idlest are forgotten. Losing it all resets limits and nothing else, so none of it is durable.

use std::collections::HashMap;

use protocol::Millis;

use crate::tokens::Rate;

/// Keys held at most; about 100 bytes each.
const KEYS_MAX: usize = 65_536;

/// One demand on a bucket, in microseconds.
pub(crate) struct Demand {
    pub(crate) now_us: u64,
    /// One more every so often.
    pub(crate) interval_us: u64,
    /// So far ahead of its time a bucket may be.
    pub(crate) burst_us: u64,
}

impl Demand {
    pub(crate) fn new(rate: Rate, now: Millis) -> Demand {
        let interval_us = (rate.period_ms.saturating_mul(1000) / u64::from(rate.count.max(1))).max(1);
        let burst_us = interval_us.saturating_mul(u64::from(rate.burst.max(1)) - 1);
        Demand { now_us: now.0.saturating_mul(1000), interval_us, burst_us }
    }
}

/// Buckets by key: the time, in microseconds, at which each is full again.
#[derive(Debug, Default)]
pub struct Buckets {
    full_at: HashMap<Box<str>, u64>,
}

impl Buckets {
    /// Takes one. Otherwise: how many milliseconds to wait.
    pub fn take(&mut self, key: &str, rate: Rate, now: Millis) -> Result<(), u64> {
        let Demand { now_us, interval_us, burst_us } = Demand::new(rate, now);
        let stored = self.full_at.get_mut(key);
        let full_at = stored.as_deref().copied().unwrap_or(0).max(now_us);
        if full_at - now_us > burst_us {
            return Err((full_at - now_us - burst_us).div_ceil(1000));
        }
        let after = full_at.saturating_add(interval_us);
        match stored {
            Some(stored) => *stored = after,
            None => {
                if self.full_at.len() >= KEYS_MAX {
                    self.forget(now_us);
                }
                self.full_at.insert(key.into(), after);
            }
        }
        Ok(())
    }

    /// Makes room: first what is full again, which loses nothing, then the idlest quarter.
    fn forget(&mut self, now_us: u64) {
        self.full_at.retain(|_, full_at| *full_at > now_us);
        if self.full_at.len() > KEYS_MAX / 4 * 3 {
            let mut times: Vec<u64> = self.full_at.values().copied().collect();
            let quarter = times.len() / 4;
            let (_, &mut limit, _) = times.select_nth_unstable(quarter);
            self.full_at.retain(|_, full_at| *full_at > limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g15_a_flood_of_keys_stays_within_the_bound() {
        let mut buckets = Buckets::default();
        let rate = Rate { count: 1, period_ms: 60_000, burst: 5 };
        for key in 0..3 * KEYS_MAX {
            assert_eq!(buckets.take(&key.to_string(), rate, Millis(key as u64 / 1000)), Ok(()));
            assert!(buckets.full_at.len() <= KEYS_MAX);
        }
    }

    #[test]
    fn a_busy_key_outlives_a_flood_of_idle_ones() {
        let mut buckets = Buckets::default();
        let rate = Rate { count: 1, period_ms: 60_000, burst: 5 };
        for _ in 0..5 {
            assert_eq!(buckets.take("busy", rate, Millis(0)), Ok(()));
        }
        for key in 0..KEYS_MAX + KEYS_MAX / 4 {
            let _ = buckets.take(&key.to_string(), rate, Millis(0));
        }
        assert!(buckets.take("busy", rate, Millis(0)).is_err());
    }
}
