//! One node's way to the store: how long a call takes, and how it goes wrong.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use protocol::limits::STORE_DEADLINE_MS;
use storage::memory::faults::{Fault, Gate, Operation};
use tokio::time::Instant;

use super::clockwork::{Clockwork, Due};

/// What it is like now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Of a hundred calls so many go wrong.
    pub(super) wrong: u64,
    /// Of a hundred calls so many are slow.
    pub(super) slow: u64,
    /// Nothing gets through before then.
    pub(super) away_until: Instant,
    /// Its node dies so long after the next append was carried out.
    pub(super) dies: Option<Duration>,
}

/// See the module.
pub(super) struct Way {
    works: Arc<Clockwork>,
    run: usize,
    weather: Mutex<Weather>,
}

impl Way {
    pub(super) fn new(works: &Arc<Clockwork>, run: usize, weather: Weather) -> Arc<Way> {
        Arc::new(Way { works: works.clone(), run, weather: Mutex::new(weather) })
    }

    pub(super) fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap()
    }

    fn time(&self) -> Duration {
        let slow = self.weather().slow;
        if self.works.happens(slow) {
            self.works.up_to_ms(900)
        } else {
            Duration::from_micros(100 + self.works.below(1_500))
        }
    }

    fn fault(&self, writes: bool) -> Option<Fault> {
        let wrong = self.weather().wrong;
        if !self.works.happens(wrong) {
            return None;
        }
        Some(match self.works.below(5) {
            0 => Fault::Refuse,
            _ if !writes => Fault::Refuse,
            1 => Fault::UnknownNotApplied,
            2 => Fault::UnknownAppliesLater(self.works.up_to_ms(3_000)),
            _ => Fault::UnknownApplied,
        })
    }
}

#[async_trait]
impl Gate for Way {
    async fn come(&self, operation: Operation) -> Option<Fault> {
        if self.weather().away_until > self.works.now() {
            self.works.sleep(Duration::from_millis(STORE_DEADLINE_MS)).await;
            return Some(if self.works.happens(50) { Fault::UnknownNotApplied } else { Fault::Refuse });
        }
        self.works.sleep(self.time()).await;
        self.fault(operation.writes())
    }

    async fn leave(&self, operation: Operation) {
        let dies = if operation == Operation::Append { self.weather().dies.take() } else { None };
        if let Some(after) = dies {
            self.works.after(after, Some(self.run), Due::End);
        }
        self.works.sleep(self.time()).await;
    }

    fn later(&self, time: Duration, act: Box<dyn FnOnce() + Send>) {
        self.works.after(time, None, Due::Late(act));
    }
}
