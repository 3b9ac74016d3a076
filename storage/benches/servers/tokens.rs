//! What rotating a token and taking from a bucket cost, beside a PING over one connection, set as the store's own is.

use std::{future::Future, sync::Arc, time::Instant};

use protocol::{Millis, SessionId};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, aio::MultiplexedConnection, io::tcp::TcpSettings};
use storage::{
    Store,
    tokens::{Rate, Rotated, Rotation},
};

use crate::{MEASURE, ROUNDS, fresh, median};

/// What the store's own connection has room for.
const PIPELINE: usize = 1024;
/// Nobody meets this limit.
const RATE: Rate = Rate { count: u32::MAX, period_ms: 1000, burst: u32::MAX };
const NOW: Millis = Millis(1_800_000_000_000);
const END: Millis = Millis(1_800_000_600_000);

/// Prints calls a second and the median of how long one took, for one caller and for 64.
pub(crate) async fn report(store: &Store, url: &str) {
    let info = url.into_connection_info().unwrap().set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE);
    let client = Client::open(info).unwrap();
    let connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    println!("\nRedis         at once    calls/s   p50 µs   of PING");
    for n_callers in [1, 64] {
        let mut figures = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let pings = (0..n_callers).map(|_| ping(connection.clone()));
            figures[0].push(throughput(pings.collect()).await);
            let takes = (0..n_callers).map(|n| take(store.clone(), format!("bench:{n}")));
            figures[1].push(throughput(takes.collect()).await);
            let mut rotations = Vec::new();
            for n in 0..n_callers {
                rotations.push(rotate(store.clone(), family(store, fresh() + n).await));
            }
            figures[2].push(throughput(rotations).await);
        }
        let mut pings_per_s = f64::NAN;
        for (name, figures) in ["PING", "take", "rotate"].into_iter().zip(figures) {
            let rate = median(figures.iter().map(|figure| figure.0).collect());
            let took = median(figures.iter().map(|figure| figure.1).collect());
            pings_per_s = if name == "PING" { rate } else { pings_per_s };
            println!("{name:12}  {n_callers:7}  {rate:9.0}  {took:7.0}  {:8.2}", rate / pings_per_s);
        }
    }
}

/// A caller: a call after the other, for as long as one measurement lasts; how long each took, µs.
type Caller = std::pin::Pin<Box<dyn Future<Output = Vec<f64>> + Send>>;

async fn calls<F: Future<Output = ()>>(mut call: impl FnMut(u64) -> F) -> Vec<f64> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    for number in 1.. {
        let asked = Instant::now();
        if asked - begun > MEASURE {
            break;
        }
        call(number).await;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    times
}

fn ping(connection: MultiplexedConnection) -> Caller {
    Box::pin(calls(move |_| {
        let mut connection = connection.clone();
        async move { redis::cmd("PING").query_async::<()>(&mut connection).await.unwrap() }
    }))
}

fn take(store: Store, key: String) -> Caller {
    let key = Arc::new(key);
    Box::pin(calls(move |_| {
        let (tokens, key) = (store.tokens.clone(), key.clone());
        async move { assert_eq!(tokens.take(&key, RATE, NOW).await.unwrap(), Ok(())) }
    }))
}

async fn family(store: &Store, n: u64) -> SessionId {
    let family = SessionId(u128::from(n).to_be_bytes());
    store.tokens.begin_family(family, hash(1), NOW, END).await.unwrap();
    family
}

fn rotate(store: Store, family: SessionId) -> Caller {
    Box::pin(calls(move |presented| {
        let tokens = store.tokens.clone();
        let (presented_hash, successor_hash) = (hash(presented), hash(presented + 1));
        let known = presented;
        let rotation = Rotation {
            family,
            presented,
            presented_hash,
            successor_hash,
            now: NOW,
            expires_at: END,
            known,
            grace_ms: 0,
        };
        async move { assert_eq!(tokens.rotate(rotation).await.unwrap(), Rotated::Rotated) }
    }))
}

fn hash(generation: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&generation.to_be_bytes());
    hash
}

async fn throughput(callers: Vec<Caller>) -> (f64, f64) {
    let (begun, mut tasks) = (Instant::now(), tokio::task::JoinSet::from_iter(callers));
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.append(&mut task.unwrap());
    }
    (times.len() as f64 / begun.elapsed().as_secs_f64(), median(times))
}
