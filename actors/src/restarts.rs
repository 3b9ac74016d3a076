//! When a crashed entity may run again, and when a kind of entity crashes so often that the node is not fit for
//! traffic. Pure: knows nothing of actors.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// The pause after the first crash; it doubles with each further one.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// An entity that has run this long since its last crash starts afresh.
pub(crate) const QUIET: Duration = Duration::from_secs(60);
/// Crashes of one kind within [`STORM_WINDOW`] that make a storm.
pub(crate) const STORM_CRASHES: usize = 20;
/// See [`STORM_CRASHES`].
pub(crate) const STORM_WINDOW: Duration = Duration::from_secs(10);

/// The crashes of one kind.
#[derive(Debug)]
pub(crate) struct Restarts<K> {
    entities: HashMap<K, Crashes>,
    recent: VecDeque<Instant>,
}

#[derive(Debug)]
struct Crashes {
    in_a_row: u32,
    last: Instant,
    until: Instant,
    /// Nobody has taken its place yet.
    down: bool,
}

impl<K> Default for Restarts<K> {
    fn default() -> Self {
        Restarts { entities: HashMap::new(), recent: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> Restarts<K> {
    /// Notes a crash. Answers when the entity may run again.
    pub(crate) fn crashed(&mut self, key: K, now: Instant) -> Instant {
        self.recent.push_back(now);
        self.forget(now);
        let crashes = self.entities.entry(key).or_insert(Crashes { in_a_row: 0, last: now, until: now, down: true });
        let pause = BACKOFF_MIN.saturating_mul(1 << crashes.in_a_row.min(16)).min(BACKOFF_MAX);
        crashes.in_a_row += 1;
        (crashes.last, crashes.down) = (now, true);
        crashes.until = now + pause;
        crashes.until
    }

    /// `Some`: the entity must not run before then.
    pub(crate) fn paused(&self, key: &K, now: Instant) -> Option<Instant> {
        self.entities.get(key).map(|c| c.until).filter(|until| *until > now)
    }

    /// It begins, whoever starts it; true if its predecessor crashed.
    pub(crate) fn begins(&mut self, key: &K) -> bool {
        self.entities.get_mut(key).is_some_and(|crashes| std::mem::take(&mut crashes.down))
    }

    /// True while the kind crashes in a storm.
    pub(crate) fn storming(&self, now: Instant) -> bool {
        self.recent.iter().filter(|at| now.duration_since(**at) < STORM_WINDOW).count() >= STORM_CRASHES
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= STORM_WINDOW) {
            self.recent.pop_front();
        }
        self.entities.retain(|_, c| now.duration_since(c.last) < QUIET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_begin_after_a_crash_and_only_that_one_has_a_crashed_predecessor() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        assert!(!restarts.begins(&1));
        for _ in 0..2 {
            restarts.crashed(1, start);
            assert!(!restarts.begins(&2), "another one");
            assert!(restarts.begins(&1) && !restarts.begins(&1));
        }
    }

    #[test]
    fn each_crash_in_a_row_doubles_the_pause_up_to_a_bound() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let mut now = start;
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let pause = restarts.crashed(7, now) - now;
            assert!(pause >= (last * 2).min(BACKOFF_MAX) && pause <= BACKOFF_MAX, "{pause:?} after {last:?}");
            assert!(restarts.paused(&7, now).is_some());
            assert!(restarts.paused(&7, now + pause).is_none());
            (now, last) = (now + pause, pause);
        }
        assert_eq!(last, BACKOFF_MAX);
        assert!(restarts.paused(&8, start).is_none(), "others run on");
    }

    #[test]
    fn a_quiet_minute_forgives() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for _ in 0..5 {
            restarts.crashed(7, start);
        }
        let later = start + QUIET;
        assert_eq!(restarts.crashed(7, later) - later, BACKOFF_MIN);
    }

    #[test]
    fn many_crashes_of_a_kind_are_a_storm_until_they_are_over() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for key in 0..STORM_CRASHES - 1 {
            restarts.crashed(key, start);
        }
        assert!(!restarts.storming(start));
        restarts.crashed(99, start);
        assert!(restarts.storming(start));
        assert!(!restarts.storming(start + STORM_WINDOW));
    }
}
