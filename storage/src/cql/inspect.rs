//! What can be said of the servers before a node relies on them. Writes nothing but rows that end by themselves.

use tokio::time::Instant;

use super::{Settings, clocks, commitlog, migrations::Migrations, product::Product, servers::Servers};
use crate::{OpenError, inspect::Finding};

/// Conditional writes of which the middle one is told.
const PROBES: u32 = 20;

/// Looks at everything that can be looked at; what cannot be reached ends it early.
pub async fn inspect(settings: &Settings) -> Vec<Finding> {
    let servers = match Servers::connect(settings).await {
        Ok(servers) => servers,
        Err(error) => return vec![finding("reachable", Err(error))],
    };
    let migrations = Migrations::new(&servers);
    let plan = migrations.plan().await;
    let can_write = matches!(&plan, Ok(steps) if steps.is_empty());
    let mut findings = vec![
        finding("reachable", reachable(&servers).await),
        finding("replication", replication(&migrations, settings).await),
        finding("schema", plan.map(schema)),
    ];
    if can_write {
        findings.push(finding("conditional writes", conditional_writes(&servers).await));
    }
    findings.extend(commitlog::look(&servers).await.map(|outcome| Finding { name: "commit log", outcome }));
    findings.push(Finding { name: "clocks", outcome: clocks(&servers).await });
    findings
}

fn finding(name: &'static str, outcome: Result<String, OpenError>) -> Finding {
    Finding { name, outcome: outcome.map_err(|error| error.to_string()) }
}

async fn reachable(servers: &Servers) -> Result<String, OpenError> {
    let product = Product::of(servers).await?;
    let state = servers.session().get_cluster_state();
    let nodes = state.get_nodes_info();
    let n_connected = nodes.iter().filter(|node| node.is_connected()).count();
    Ok(format!("{product}, {n_connected} of {} servers connected", nodes.len()))
}

async fn replication(migrations: &Migrations<'_>, settings: &Settings) -> Result<String, OpenError> {
    match migrations.replication().await? {
        None => Ok(format!("the keyspace {} is not there yet", settings.keyspace)),
        Some(found) => {
            migrations.check_replication(&found)?;
            Ok(format!("{}, as configured", settings.replication))
        }
    }
}

fn schema(steps: Vec<String>) -> String {
    match steps.as_slice() {
        [] => "up to date".into(),
        steps => format!("to be applied at the first start, or by `starling migrate`: {}", steps.join("; ")),
    }
}

async fn conditional_writes(servers: &Servers) -> Result<String, OpenError> {
    let mut took = Vec::new();
    for no in 0..PROBES {
        let started = Instant::now();
        servers.prove(no).await?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok(format!("work, in {:.1} ms (median of {PROBES})", middle.as_secs_f64() * 1000.0))
}

async fn clocks(servers: &Servers) -> Result<String, String> {
    let gaps = clocks::gaps(servers).await.map_err(|error| error.to_string())?;
    let wrong = clocks::wrong(&gaps);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let widest = gaps.iter().map(|(_, gap)| gap.unsigned_abs()).max().unwrap_or(0);
    Ok(format!("within {widest} ms of this machine's"))
}
