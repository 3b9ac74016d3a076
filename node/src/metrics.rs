//! What is counted: the recorder, the buckets of its histograms, figures of the process and the runtime. Never a user,
//! a conversation or an address as a label.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::descriptors;

/// From a cache's hit to the request deadline, seconds.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0, 4096.0];
const BYTES: &[f64] = &[64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

/// Installs the recorder. Once per process.
pub(crate) fn start(node: &str) -> PrometheusHandle {
    let handle = PrometheusBuilder::new()
        .set_buckets(COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES))
        .expect("the buckets are not empty")
        .install_recorder()
        .expect("the recorder is installed once");
    metrics::gauge!("starling_build_info", "version" => env!("CARGO_PKG_VERSION"), "node" => node.to_owned()).set(1.0);
    describe();
    handle
}

/// Moves what histograms have gathered into their buckets now and then; otherwise it waits for a scrape that may never
/// come.
pub(crate) async fn upkeep(handle: PrometheusHandle) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        handle.run_upkeep();
    }
}

/// Everything as Prometheus text.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    process();
    let runtime = tokio::runtime::Handle::current();
    gauge("starling_runtime_alive_tasks", runtime.metrics().num_alive_tasks());
    gauge("starling_runtime_workers", runtime.metrics().num_workers());
    gauge("starling_runtime_global_queue_depth", runtime.metrics().global_queue_depth());
    handle.render()
}

#[allow(clippy::cast_precision_loss)]
fn gauge(name: &'static str, value: usize) {
    metrics::gauge!(name).set(value as f64);
}

/// The customary `process_*` figures, from `/proc`. Where there is none they are absent.
#[allow(clippy::cast_precision_loss)]
fn process() {
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        gauge("process_open_fds", fds.count());
    }
    if let Some(max) = descriptors::max() {
        gauge("process_max_fds", max);
    }
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The second field is the name in parentheses and may hold anything; the fields after it are numbers.
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    let [user, system, threads, start, pages] = [11, 12, 17, 19, 21].map(|at| fields.get(at).copied().unwrap_or(0.0));
    // Linux counts in hundredths of a second and, where this runs, in pages of 4 KiB.
    metrics::gauge!("process_cpu_seconds_total").set((user + system) / 100.0);
    metrics::gauge!("process_threads").set(threads);
    metrics::gauge!("process_resident_memory_bytes").set(pages * 4096.0);
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|s| s.parse::<f64>().ok());
    if let Some(boot) = boot {
        metrics::gauge!("process_start_time_seconds").set(boot + start / 100.0);
    }
}

fn describe() {
    metrics::describe_gauge!("starling_connections", "open WebSockets that said hello");
    metrics::describe_gauge!("starling_sockets", "open connections of clients, of any kind");
    metrics::describe_counter!("starling_connections_opened_total", "WebSockets that said hello");
    metrics::describe_counter!("starling_connections_closed_total", "WebSockets ended, by close code");
    metrics::describe_counter!("starling_connections_refused_total", "connections refused before their first byte");
    metrics::describe_counter!(
        "starling_peers_refused_total",
        "connections to listen.peer that did not become a stream"
    );
    metrics::describe_counter!("starling_hello_total", "first frames, by result");
    metrics::describe_counter!("starling_frames_total", "frames, by direction and type");
    metrics::describe_counter!("starling_frame_bytes_total", "bytes of frames, by direction");
    metrics::describe_histogram!("starling_request_duration_seconds", "from request to answer, by type");
    metrics::describe_counter!("starling_request_errors_total", "refused or failed requests, by type and code");
    metrics::describe_gauge!("starling_clock_ahead_seconds", "how far the node's clock is ahead of the machine's");
    metrics::describe_gauge!("starling_cluster_nodes", "members of the view in force, by state; this node among them");
    metrics::describe_gauge!("starling_peer_rtt_seconds", "to a peer and back, NaN while that is not known");
    metrics::describe_gauge!("starling_peer_queue_bytes", "what waits to be sent to a peer");
    metrics::describe_counter!(
        "starling_peer_frames_total",
        "frames sent to peers, acknowledgements and beats included"
    );
    metrics::describe_counter!("starling_peer_frame_bytes_total", "bytes of them");
    metrics::describe_counter!("starling_peer_parcels_total", "mail in them, by type: an event is one per node");
    metrics::describe_counter!("starling_peer_dropped_total", "mail to peers for which there was no room, by class");
    metrics::describe_gauge!("starling_drain_state", "0 serving, 1 draining, 2 drained and leaving");
    metrics::describe_gauge!("starling_drain_told", "sockets that were told to go in this drain");
}
