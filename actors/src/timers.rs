//! One task that wakes many entities, each at its own time. An idle session would pay more for a sleeping task of its
//! own than for its whole state.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

/// Wakes keys at times.
pub(crate) struct Timers<K> {
    due: Mutex<Due<K>>,
    changed: Notify,
}

struct Due<K> {
    in_order: BTreeSet<(Instant, K)>,
    of_key: HashMap<K, Instant>,
}

impl<K: Copy + Ord + Hash + Send + 'static> Timers<K> {
    /// Starts the task; it calls `wake` for each key at its time and ends with the last `Arc`.
    pub(crate) fn start(wake: impl Fn(K) + Send + 'static) -> Arc<Timers<K>> {
        let timers = Arc::new(Timers {
            due: Mutex::new(Due { in_order: BTreeSet::new(), of_key: HashMap::new() }),
            changed: Notify::new(),
        });
        let weak = Arc::downgrade(&timers);
        tokio::spawn(async move {
            while let Some(timers) = weak.upgrade() {
                let (keys, next) = timers.take_due(Instant::now());
                keys.into_iter().for_each(&wake);
                // looks up now and then even with nothing due, to notice that it is not needed any more
                let next = next.unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(5));
                let _ = tokio::time::timeout_at(next, timers.changed.notified()).await;
            }
        });
        timers
    }

    /// Wakes `key` at `at`, instead of when it asked for before.
    pub(crate) fn at(&self, at: Instant, key: K) {
        let mut due = self.lock();
        let first = due.in_order.first().is_none_or(|(earliest, _)| at < *earliest);
        if let Some(before) = due.of_key.insert(key, at) {
            due.in_order.remove(&(before, key));
        }
        due.in_order.insert((at, key));
        drop(due);
        if first {
            self.changed.notify_one();
        }
    }

    /// Wakes `key` no more.
    pub(crate) fn forget(&self, key: K) {
        let mut due = self.lock();
        if let Some(at) = due.of_key.remove(&key) {
            due.in_order.remove(&(at, key));
        }
    }

    fn take_due(&self, now: Instant) -> (Vec<K>, Option<Instant>) {
        let mut due = self.lock();
        let mut keys = Vec::new();
        while due.in_order.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = due.in_order.pop_first() {
                due.of_key.remove(&key);
                keys.push(key);
            }
        }
        (keys, due.in_order.first().map(|(at, _)| *at))
    }

    fn lock(&self) -> MutexGuard<'_, Due<K>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
