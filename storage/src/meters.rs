//! The stores' metrics, with their handles kept: made once per store, so a recorder must be installed before it opens.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::Error;

pub(crate) struct Meters {
    append_seconds: Histogram,
    append_batch_events: Histogram,
    refused: Counter,
    unknown: Counter,
    corrupt: Counter,
}

impl Meters {
    pub(crate) fn new(store: &'static str) -> Meters {
        let errors = |kind: &'static str| counter!("starling_store_errors_total", "store" => store, "kind" => kind);
        Meters {
            append_seconds: histogram!("starling_append_seconds"),
            append_batch_events: histogram!("starling_append_batch_events"),
            refused: errors("refused"),
            unknown: errors("unknown"),
            corrupt: errors("corrupt"),
        }
    }

    pub(crate) fn appended(&self, events: usize, took: Duration) {
        self.append_seconds.record(took.as_secs_f64());
        self.append_batch_events.record(events as f64);
    }

    /// Counts the error, if it is one.
    pub(crate) fn count<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            match error {
                Error::Refused(_) | Error::Duplicate => self.refused.increment(1),
                Error::Unknown(_) => self.unknown.increment(1),
                Error::Corrupt(_) => self.corrupt.increment(1),
            }
        }
        outcome
    }
}
