//! What the real stores alone take: the price of a condition, whether reading stays flat as a conversation grows (P7), and
//! what a token costs. `loadtest/scripts/bench-stores` starts the servers and says where they are.
//! `conditions`, `growth` and `tokens` name one of these. With `alone CONVERSATIONS EVENTS_PER_APPEND` only that, and only
//! its events a second: a baseline for the node.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use protocol::{Event, limits::BATCH_EVENTS_MAX};
use storage::{History, Settings, Store, TokenStore, cql, log::Standing, redis};

use crate::{owner::Owner, servers::plain::Plain};

mod owner;
mod servers;

/// One measurement.
const MEASURE: Duration = Duration::from_secs(1);
/// Interleaved measurements of everything that is compared.
const ROUNDS: usize = 3;
/// Interleaved reads per size.
const READS: usize = 300;
/// Stays: a long conversation is filled once.
const KEYSPACE: &str = "bench";

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let store = Store::connect(&settings()).await.unwrap();
    if let [word, conversations, events] = &arguments[..]
        && word == "alone"
    {
        println!("{:.0}", alone(&store, conversations.parse().unwrap(), events.parse().unwrap()).await);
        return;
    }
    // cargo adds a flag of its own
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let wants = |part| words.is_empty() || words.contains(&part);
    if wants("conditions") {
        conditions(&store).await;
    }
    if wants("growth") {
        growth(&store).await;
    }
    if wants("tokens") {
        servers::tokens::report(&store, &redis_settings().url).await;
    }
}

fn settings() -> Settings {
    let cql = cql::Settings {
        nodes: vec![found("STARLING_TEST_CQL")],
        keyspace: KEYSPACE.to_owned(),
        username: env::var("STARLING_TEST_CQL_USER").ok(),
        password: env::var("STARLING_TEST_CQL_PASSWORD").ok(),
        replication: "1".parse().unwrap(),
        datacenter: None,
        tls_ca: None,
        members_max: 10_000,
    };
    Settings { history: History::Cql(cql), tokens: TokenStore::Redis(redis_settings()) }
}

fn redis_settings() -> redis::Settings {
    redis::Settings { url: found("STARLING_TEST_REDIS"), tls_ca: None, prefix: "bench:".to_owned() }
}

fn found(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make bench-stores`"))
}

/// Numbers of conversations that no run before has used.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap() << 8
}

/// Events a second from several owners at once, each of which writes what follows from a batch while the next is appended.
async fn alone(store: &Store, n_conversations: u64, n_events: u64) -> f64 {
    let (first, mut tasks) = (fresh(), tokio::task::JoinSet::new());
    let mut owners = Vec::new();
    for n in 0..n_conversations {
        owners.push(Owner::create(store, first + n).await);
    }
    let begun = Instant::now();
    for mut owner in owners {
        tasks.spawn(async move {
            let mut followed = (1, Vec::<Event>::new());
            while begun.elapsed() < 3 * MEASURE {
                let batch = owner.batch(n_events);
                let (log, c, (settled, before)) = (owner.log.clone(), owner.c, &followed);
                let follow = async {
                    if !before.is_empty() {
                        log.follow(c, before).await.unwrap();
                    }
                };
                tokio::join!(owner.append_batch(&batch, *settled), follow);
                followed = (before.last().map_or(*settled, |event| event.seq.0), batch);
            }
            owner.posts
        });
    }
    let mut posts = 0;
    while let Some(task) = tasks.join_next().await {
        posts += task.unwrap();
    }
    posts as f64 / begun.elapsed().as_secs_f64()
}

/// Appends with a condition, or without.
struct Writer {
    plain: Option<Arc<Plain>>,
    owner: Owner,
}

impl Writer {
    async fn append(&mut self, n_events: u64) {
        let owner = &mut self.owner;
        let Some(plain) = &self.plain else { return owner.append(n_events).await };
        let batch = owner.batch(n_events);
        plain.append(owner.c, &batch).await;
        owner.head += batch.len() as u64;
        owner.posts += batch.len() as u64;
    }
}

/// The price of the fence: the same rows with a condition and without.
async fn conditions(store: &Store) {
    let plain = Arc::new(Plain::connect(&settings(), KEYSPACE).await);
    println!("                              conditional                      plain");
    println!("conversations  events/batch   batches/s  events/s   p50 ms    batches/s  events/s   p50 ms   ratio");
    for n_conversations in [1, 8, 32] {
        for n_events in [1, 8, 64] {
            let mut figures = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (is_plain, figures) in [false, true].into_iter().zip(&mut figures) {
                    let first = fresh();
                    let mut writers = Vec::new();
                    for n in 0..n_conversations {
                        let (log, c) = (store.log.clone(), owner::conversation(first + n));
                        writers.push(if is_plain {
                            Writer { plain: Some(plain.clone()), owner: Owner { log, c, head: 1, posts: 0 } }
                        } else {
                            Writer { plain: None, owner: Owner::create(store, first + n).await }
                        });
                    }
                    figures.push(throughput(writers, n_events).await);
                }
            }
            let [conditional, plain] = figures.map(|figures| {
                let of = |pick: fn(&(f64, f64)) -> f64| median(figures.iter().map(pick).collect());
                (of(|figure| figure.0), of(|figure| figure.1))
            });
            let events = n_events as f64;
            println!(
                "{n_conversations:13}  {n_events:12}   {:9.0}  {:8.0}  {:7.2}    {:9.0}  {:8.0}  {:7.2}  {:6.2}",
                conditional.0,
                conditional.0 * events,
                conditional.1,
                plain.0,
                plain.0 * events,
                plain.1,
                conditional.0 / plain.0,
            );
        }
    }
}

/// Batches a second, and the median of how long one took, milliseconds.
async fn throughput(writers: Vec<Writer>, n_events: u64) -> (f64, f64) {
    let (begun, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for mut writer in writers {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < MEASURE {
                let asked = Instant::now();
                writer.append(n_events).await;
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.append(&mut task.unwrap());
    }
    (times.len() as f64 / begun.elapsed().as_secs_f64(), median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Clone, Copy)]
enum What {
    Append,
    Newest,
    Middle,
    SyncOfSome,
    SyncOfAll,
}

impl What {
    const ALL: [(What, &str); 5] = [
        (What::Append, "append of one"),
        (What::Newest, "newest page of 50"),
        (What::Middle, "page of 50 in the middle"),
        (What::SyncOfSome, "sync, 50 events behind"),
        (What::SyncOfAll, "sync, all events behind"),
    ];

    async fn take(self, store: &Store, owner: &mut Owner) {
        match self {
            What::Append => owner.append(1).await,
            What::Newest => owner.page(None).await,
            What::Middle => owner.page(Some(owner.head / 2 + 26)).await,
            What::SyncOfSome => owner.sync(&*store.directory, owner.head - 50).await,
            What::SyncOfAll => owner.sync(&*store.directory, 0).await,
        }
    }
}

async fn growth(store: &Store) {
    let mut owners = Vec::new();
    for (n, size) in [100, 10_000, 1_000_000].into_iter().enumerate() {
        let begun = Instant::now();
        owners.push(filled(store, n as u64, size).await);
        println!("\n{size} posts are there after {:.1} s", begun.elapsed().as_secs_f64());
    }
    println!("P7, posts in the conversation       10²       10⁴       10⁶   10⁴:10²   10⁶:10²   (median µs)");
    for (what, name) in What::ALL {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..READS {
            for (owner, times) in owners.iter_mut().zip(&mut times) {
                let asked = Instant::now();
                what.take(store, owner).await;
                times.push(asked.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [small, middle, large] = times.map(median);
        println!("{name:28}  {small:8.0}  {middle:8.0}  {large:8.0}  {:8.2}  {:8.2}", middle / small, large / small);
    }
}

/// A conversation of that many posts: the one of an earlier run, if it is there.
async fn filled(store: &Store, n: u64, size: u64) -> Owner {
    let c = owner::conversation(n);
    let mut owner = match store.log.standing(c).await.unwrap() {
        Some(Standing { head, .. }) => Owner { log: store.log.clone(), c, head: head.seq.0, posts: head.post_no },
        None => Owner::create(store, n).await,
    };
    while owner.posts < size {
        let batch = owner.batch((size - owner.posts).min(BATCH_EVENTS_MAX as u64));
        owner.append_batch(&batch, owner.head).await;
        // readers find the end by what follows
        owner.log.follow(c, &batch[batch.len() - 1..]).await.unwrap();
    }
    owner
}
