//! Wall time that never goes back: not within the process, and not over a restart. A machine's clock that is set back
//! has no effect; one that is set forward is followed, and stays followed.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use protocol::Millis;

/// How often the high-water mark is written; a restart after a crash skips as much if the clock was set back meanwhile.
pub(crate) const MARK_INTERVAL: Duration = Duration::from_secs(3);

/// The clock of a node.
pub(crate) struct SteadyClock {
    started: tokio::time::Instant,
    /// The largest (system time − monotonic time) seen, milliseconds.
    offset_ms: AtomicU64,
    mark: PathBuf,
}

impl SteadyClock {
    /// `mark`: the file with the latest time any earlier run has used.
    pub(crate) fn start(mark: &Path) -> SteadyClock {
        let last = std::fs::read_to_string(mark).ok().and_then(|text| text.trim().parse().ok());
        let offset_ms = AtomicU64::new(first(system_ms(), last));
        SteadyClock { started: tokio::time::Instant::now(), offset_ms, mark: mark.to_owned() }
    }

    /// Writes the high-water mark; called every [`MARK_INTERVAL`] and at exit.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let fresh = self.mark.with_extension("new");
        std::fs::write(&fresh, actors::Clock::wall(self).0.to_string())?;
        std::fs::rename(&fresh, &self.mark)
    }

    /// How far this clock is ahead of the machine's.
    pub(crate) fn ahead(&self) -> Duration {
        Duration::from_millis(actors::Clock::wall(self).0.saturating_sub(system_ms()))
    }

    fn wall_at(&self, system_ms: u64, monotonic_ms: u64) -> Millis {
        let seen = system_ms.saturating_sub(monotonic_ms);
        let before = self.offset_ms.fetch_max(seen, Ordering::Relaxed);
        Millis(before.max(seen) + monotonic_ms)
    }
}

impl actors::Clock for SteadyClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn wall(&self) -> Millis {
        let monotonic_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall_at(system_ms(), monotonic_ms)
    }
}

/// Where time begins in this run: never before what an earlier run may have used since it last wrote its mark.
fn first(system_ms: u64, mark_ms: Option<u64>) -> u64 {
    match mark_ms {
        Some(mark) if mark >= system_ms => mark + u64::try_from(MARK_INTERVAL.as_millis()).unwrap_or(0) + 1000,
        _ => system_ms,
    }
}

fn system_ms() -> u64 {
    // The one place that reads the machine's clock.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOON: u64 = 1_795_000_000_000;

    fn clock() -> SteadyClock {
        SteadyClock {
            started: tokio::time::Instant::now(),
            offset_ms: AtomicU64::new(first(NOON, None)),
            mark: PathBuf::new(),
        }
    }

    #[test]
    fn a_clock_set_back_by_an_hour_has_no_effect() {
        let clock = clock();
        assert_eq!(clock.wall_at(NOON + 10, 10), Millis(NOON + 10));
        assert_eq!(clock.wall_at(NOON + 20 - HOUR, 20), Millis(NOON + 20));
        assert_eq!(clock.wall_at(NOON + 30, 30), Millis(NOON + 30), "and none when it is put right again");
    }

    #[test]
    fn a_clock_set_forward_is_followed_and_never_comes_back() {
        let clock = clock();
        assert_eq!(clock.wall_at(NOON + HOUR, 10), Millis(NOON + HOUR));
        assert_eq!(clock.wall_at(NOON + 20, 20), Millis(NOON + HOUR + 10));
    }

    #[test]
    fn time_goes_on_after_a_restart_with_the_clock_set_back() {
        assert_eq!(first(NOON + 5, Some(NOON)), NOON + 5);
        assert!(first(NOON - HOUR, Some(NOON)) > NOON + 3000, "up to three seconds were used after the mark");
    }

    #[test]
    fn the_mark_survives_and_a_damaged_one_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("clock");
        std::fs::write(&mark, (system_ms() + HOUR).to_string()).unwrap();
        let clock = SteadyClock::start(&mark);
        assert!(clock.ahead() >= Duration::from_millis(HOUR));
        clock.save().unwrap();
        let saved: u64 = std::fs::read_to_string(&mark).unwrap().parse().unwrap();
        assert!(saved > system_ms() + HOUR);
        std::fs::write(&mark, "\0\0").unwrap();
        assert!(SteadyClock::start(&mark).ahead() < Duration::from_millis(HOUR));
    }
}
