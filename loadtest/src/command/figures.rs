//! Numbers: latencies, what a server process costs, and what a node says of itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Mutex,
    time::Duration,
};

use hdrhistogram::Histogram;
use loadtest::Node;
use serde::Serialize;

use super::CommandError;

/// Longer ones count as this: two minutes are a failure, however long they are.
const LATENCY_US_MAX: u64 = 120_000_000;

/// Latencies from a microsecond on, to three digits.
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Mutex::new(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds that fit three digits")))
    }

    pub(crate) fn record(&self, latency: Duration) {
        self.record_us(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_us(&self, us: u64) {
        self.0.lock().expect("nobody panics while holding it").saturating_record(us);
    }

    /// Those since the last time.
    pub(crate) fn take(&self) -> Percentiles {
        let percentiles = self.percentiles();
        self.0.lock().expect("nobody panics while holding it").reset();
        percentiles
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().expect("nobody panics while holding it");
        let ms = |us: u64| us as f64 / 1000.0;
        Percentiles {
            count: histogram.len(),
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

/// `numerator / denominator`, rounded to two digits for reading.
pub(crate) fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { (numerator / denominator * 100.0).round() / 100.0 }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// Length of the kernel's clock tick; 100 per second on every Linux that matters here.
const TICK_US: u64 = 10_000;

impl Process {
    /// CPU time it has used so far, user and kernel, microseconds.
    pub(crate) fn cpu_us(self) -> Result<u64, CommandError> {
        let stat = self.read("stat")?;
        // the second field is a name in brackets that may hold anything
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Ok((ticks(11) + ticks(12)) * TICK_US)
    }

    /// Resident memory now, bytes.
    pub(crate) fn rss_bytes(self) -> Result<u64, CommandError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024)
    }

    fn read(self, file: &str) -> Result<String, CommandError> {
        let path = std::path::PathBuf::from(format!("/proc/{}/{file}", self.0));
        std::fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })
    }
}

/// CPU time that processes have used together so far, microseconds.
pub(crate) fn cpu_us(pids: &[u32]) -> Result<u64, CommandError> {
    pids.iter().map(|pid| Process(*pid).cpu_us()).sum()
}

/// What a node says on `/metrics`.
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn of(node: &Node) -> Result<Metrics, CommandError> {
        let mut page = String::new();
        let mut admin = TcpStream::connect(node.admin_address()).map_err(CommandError::Start)?;
        admin.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").map_err(CommandError::Start)?;
        admin.read_to_string(&mut page).map_err(CommandError::Start)?;
        Ok(Metrics(page))
    }

    /// The first number whose name, with its labels, begins so.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let line = self.0.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}
