//! Who may connect: so many at once, so many of one address, so many new ones per second. Decided before anything is
//! allocated for the connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::config::Network;

/// The counts of one listener.
pub(crate) struct Admission {
    connections_max: usize,
    /// 0: no limit.
    address_max: u32,
    /// 0: no limit.
    per_s: u32,
    /// Whose connections are other people's.
    exempt: Vec<Network>,
    counts: Mutex<Counts>,
}

struct Counts {
    open: usize,
    by_address: HashMap<IpAddr, u32>,
    tokens: f64,
    refilled: Instant,
}

/// One connection's place. Its drop gives it back.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// The address it counts for, unless exempt.
    address: Option<IpAddr>,
}

impl Admission {
    pub(crate) fn new(connections_max: usize, address_max: u32, per_s: u32, exempt: Vec<Network>) -> Arc<Admission> {
        let counts =
            Counts { open: 0, by_address: HashMap::new(), tokens: 2.0 * f64::from(per_s), refilled: Instant::now() };
        Arc::new(Admission { connections_max, address_max, per_s, exempt, counts: Mutex::new(counts) })
    }

    /// A permit, or the reason why not (a metric's label).
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, &'static str> {
        self.admit_at(address, Instant::now())
    }

    fn admit_at(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Permit, &'static str> {
        let address = self.counted(address);
        let mut counts = self.lock();
        if counts.open >= self.connections_max {
            return Err("connections");
        }
        if let Some(address) = address
            && counts.by_address.get(&address).is_some_and(|open| *open >= self.address_max)
        {
            return Err("address_connections");
        }
        if self.per_s > 0 {
            let rate = f64::from(self.per_s);
            let refill = now.saturating_duration_since(counts.refilled).as_secs_f64() * rate;
            counts.tokens = (counts.tokens + refill).min(2.0 * rate);
            counts.refilled = now;
            if counts.tokens < 1.0 {
                return Err("handshakes_per_s");
            }
            counts.tokens -= 1.0;
        }
        counts.open += 1;
        if let Some(address) = address {
            *counts.by_address.entry(address).or_insert(0) += 1;
        }
        Ok(Permit { admission: self.clone(), address })
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.lock().open
    }

    /// The address to count: IPv6 by /64, as one household or attacker has all of it. Loopback and proxies carry others.
    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if self.address_max == 0 || address.is_loopback() || self.exempt.iter().any(|n| n.contains(address)) {
            return None;
        }
        Some(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.open -= 1;
        if let Some(address) = self.address
            && let Some(open) = counts.by_address.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_and_given_back() {
        let admission = Admission::new(2, 0, 0, vec![]);
        let (a, b) = (admission.admit(ip("1.1.1.1")), admission.admit(ip("1.1.1.1")));
        assert_eq!(admission.admit(ip("1.1.1.1")).err(), Some("connections"));
        drop((a, b));
        assert!(admission.admit(ip("1.1.1.1")).is_ok());
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn one_address_cannot_take_everything() {
        let admission = Admission::new(100, 1, 0, vec![Network::parse("10.0.0.0/8").unwrap()]);
        let _one = admission.admit(ip("2001:db8::1"));
        assert_eq!(admission.admit(ip("2001:db8::2")).err(), Some("address_connections"), "the same /64");
        let others: Vec<_> = ["2001:db8:0:1::1", "1.1.1.1", "127.0.0.1", "127.0.0.1", "10.0.0.1", "10.0.0.1"]
            .map(|address| admission.admit(ip(address)))
            .into();
        assert!(others.iter().all(Result::is_ok));
    }

    #[test]
    fn new_connections_come_at_a_bounded_rate() {
        let admission = Admission::new(100, 0, 2, vec![]);
        let start = Instant::now();
        let admitted = |at: Duration| admission.admit_at(ip("1.1.1.1"), start + at).is_ok();
        assert_eq!([0; 5].map(|ms| admitted(Duration::from_millis(ms))), [true, true, true, true, false]);
        assert!(admitted(Duration::from_millis(600)));
        assert!(!admitted(Duration::from_millis(700)));
    }
}
