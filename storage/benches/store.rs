//! What the embedded store alone takes: durable events a second, and whether the cost of a send and of a page of history
//! stays flat as a conversation and their number grow (P7). Under a minute. `cargo bench -p starling-storage`
//! With `alone CONVERSATIONS EVENTS_PER_APPEND` only that, and only its events a second: a baseline for the node.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use protocol::limits::BATCH_EVENTS_MAX;
use storage::Store;

use crate::owner::Owner;

mod owner;

/// One measurement of throughput.
const MEASURE: Duration = Duration::from_secs(1);
/// Interleaved rounds per size for the growth figures.
const ROUNDS: usize = 400;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Beside the build: a temporary directory may be in memory, where syncing costs nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if let [word, conversations, events] = &arguments[..]
        && word == "alone"
    {
        let (n_conversations, n_events) = (conversations.parse().unwrap(), events.parse().unwrap());
        let store = Store::open_sqlite(dir.path()).unwrap();
        println!("{:.0}", measure(&store, n_conversations, n_events).await.0);
        return;
    }
    println!("fdatasync alone: {:.0}/s", syncs_per_second(dir.path()));
    throughput(dir.path()).await;
    // Growth is about the store's own work, so here syncing is to cost nothing.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    growth(memory.path()).await;
}

fn syncs_per_second(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("sync")).unwrap();
    let begun = Instant::now();
    let mut n_syncs = 0;
    while begun.elapsed() < MEASURE {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        n_syncs += 1;
    }
    f64::from(n_syncs) / begun.elapsed().as_secs_f64()
}

async fn throughput(dir: &Path) {
    println!("\nconversations  events/append   appends/s    events/s   commits/s  µs CPU/event   p50 ms   p99 ms");
    for n_conversations in [1, 8, 32, 256] {
        for n_events in [1, 8, 64] {
            let dir = dir.join(format!("{n_conversations}-{n_events}"));
            let store = Store::open_sqlite(&dir).unwrap();
            let (commits, cpu, begun) = (store.health.snapshot().commits, cpu_seconds(), Instant::now());
            let (_, total, mut times) = measure(&store, n_conversations, n_events).await;
            let seconds = begun.elapsed().as_secs_f64();
            times.sort_unstable();
            let at = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e3;
            println!(
                "{n_conversations:13}  {n_events:13}  {:10.0}  {:10.0}  {:10.0}  {:12.1}  {:7.2}  {:7.2}",
                times.len() as f64 / seconds,
                total as f64 / seconds,
                (store.health.snapshot().commits - commits) as f64 / seconds,
                (cpu_seconds() - cpu) * 1e6 / total as f64,
                at(0.5),
                at(0.99),
            );
            drop(store);
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// Appends from all conversations at once: events a second, events, and how long each append took.
async fn measure(store: &Store, n_conversations: u64, n_events: u64) -> (f64, u64, Vec<Duration>) {
    let mut owners = Vec::new();
    for n in 0..n_conversations {
        owners.push(Owner::create(store, n).await);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = owners.into_iter().map(|owner| tokio::spawn(drive(owner, n_events, begun))).collect();
    let (mut total, mut times) = (0, Vec::new());
    for task in tasks {
        let (appended, mut took) = task.await.unwrap();
        total += appended;
        times.append(&mut took);
    }
    (total as f64 / begun.elapsed().as_secs_f64(), total, times)
}

async fn drive(mut owner: Owner, n_events: u64, begun: Instant) -> (u64, Vec<Duration>) {
    let (posts_before, mut times) = (owner.posts, Vec::new());
    while begun.elapsed() < MEASURE {
        let asked = Instant::now();
        owner.append(n_events).await;
        times.push(asked.elapsed());
    }
    (owner.posts - posts_before, times)
}

#[derive(Clone, Copy)]
enum What {
    Append,
    Newest,
    Middle,
}

impl What {
    const ALL: [What; 3] = [What::Append, What::Newest, What::Middle];

    fn name(self) -> &'static str {
        match self {
            What::Append => "append of one",
            What::Newest => "newest page of 50",
            What::Middle => "page of 50 in the middle",
        }
    }

    async fn take(self, owner: &mut Owner) {
        match self {
            What::Append => owner.append(1).await,
            What::Newest => owner.page(None).await,
            What::Middle => owner.page(Some(owner.head / 2 + 26)).await,
        }
    }
}

/// Medians per owner, in microseconds, of interleaved rounds.
async fn medians(owners: &mut [Owner], what: What) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(ROUNDS); owners.len()];
    for _ in 0..ROUNDS {
        for (owner, times) in owners.iter_mut().zip(&mut times) {
            let asked = Instant::now();
            what.take(owner).await;
            times.push(asked.elapsed());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    };
    times.into_iter().map(median).collect()
}

async fn growth(dir: &Path) {
    let store = Store::open_sqlite(&dir.join("many-posts")).unwrap();
    let mut owners = Vec::new();
    for (n, size) in [100, 10_000, 100_000].into_iter().enumerate() {
        owners.push(filled(&store, n as u64, size).await);
    }
    println!(
        "\nP7, posts in the conversation       10²       10⁴       10⁵   10⁴:10²   10⁵:10²   (median µs, files in memory)"
    );
    for what in What::ALL {
        report(what, &medians(&mut owners, what).await);
    }

    // One conversation of 100 posts in each of three stores that differ in what else is there.
    let (mut stores, mut owners) = (Vec::new(), Vec::new());
    for n_conversations in [100, 10_000, 100_000] {
        let store = Store::open_sqlite(&dir.join(format!("{n_conversations}-conversations"))).unwrap();
        crowd(&store, n_conversations).await;
        owners.push(filled(&store, 0, 100).await);
        stores.push(store);
    }
    println!(
        "\nP7, conversations in the store      10²       10⁴       10⁵   10⁴:10²   10⁵:10²   (median µs, files in memory)"
    );
    for what in What::ALL {
        report(what, &medians(&mut owners, what).await);
    }
}

fn report(what: What, medians: &[f64]) {
    let [small, middle, large] = medians[..] else { unreachable!("three sizes") };
    let ratios = (middle / small, large / small);
    println!("{:28}  {small:8.0}  {middle:8.0}  {large:8.0}  {:8.2}  {:8.2}", what.name(), ratios.0, ratios.1);
}

async fn filled(store: &Store, n: u64, size: u64) -> Owner {
    let mut owner = Owner::create(store, n).await;
    while owner.posts < size {
        owner.append((size - owner.posts).min(BATCH_EVENTS_MAX as u64)).await;
    }
    owner
}

/// Other conversations, with a post each.
async fn crowd(store: &Store, n_conversations: u64) {
    const MAKERS: u64 = 256;
    async fn make(store: Store, numbers: impl Iterator<Item = u64>) {
        for n in numbers {
            Owner::create(&store, 1 + n).await.append(1).await;
        }
    }
    let numbers = |maker| (maker..n_conversations).step_by(MAKERS as usize);
    let makers: Vec<_> = (0..MAKERS).map(|maker| tokio::spawn(make(store.clone(), numbers(maker)))).collect();
    for maker in makers {
        maker.await.unwrap();
    }
}

/// What this process has used so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = |field: &str| field.parse::<f64>().unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (ticks(fields[11]) + ticks(fields[12])) / 100.0
}
