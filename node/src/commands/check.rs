//! `starling check`: could a node run here? Leaves nothing behind but the data directory.

use std::{fs::File, io::Write, net::TcpListener, time::Instant};

use crate::{
    commands::house::blocking,
    config::Config,
    descriptors,
    net::tls::Tls,
    report::{Failure, say},
    stores,
    world::DataDir,
};

/// Synced writes to time the disk with.
const WRITES: u32 = 50;
/// Above this a group commit takes longer than people wait gladly.
const SYNC_MS_SLOW: f64 = 20.0;

/// Checks everything and reports all of it.
pub(super) fn preflight(config: &Config) -> Result<(), Failure> {
    let mut failed = 0;
    let mut report = |name: &str, result: Result<String, String>| match result {
        Ok(detail) => say(&format!("ok    {name}: {detail}")),
        Err(reason) => {
            failed += 1;
            say(&format!("FAIL  {name}: {reason}"));
        }
    };
    report("configuration", Ok("no mistakes".to_owned()));
    for (key, address) in [
        ("listen.client", config.listen_client),
        ("listen.admin", config.listen_admin),
        ("listen.peer", config.listen_peer),
    ] {
        report(key, TcpListener::bind(address).map(|_| address.to_string()).map_err(|e| format!("{address}: {e}")));
    }
    if let (Some(cert), Some(key)) = (&config.listen_tls_cert, &config.listen_tls_key_file) {
        report("listen.tls", Tls::load(cert, key).map(|_| cert.clone()));
    }
    report("descriptors", descriptors(config.limits_connections));
    match DataDir::open(&config.node_data_dir) {
        Ok(data) => {
            report("node.data_dir", Ok(data.path().display().to_string()));
            report("disk", disk(&data));
        }
        Err(reason) => report("node.data_dir", Err(reason)),
    }
    for (store, finding) in blocking(storage::inspect(&stores::settings(config)))? {
        report(&format!("{store} {}", finding.name), finding.outcome);
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} of the checks failed"))),
    }
}

fn descriptors(connections: usize) -> Result<String, String> {
    let Some(max) = descriptors::max() else { return Ok("unknown on this system".to_owned()) };
    let room = max.saturating_sub(descriptors::RESERVED);
    match room {
        0 => Err(format!("{max} are not enough to run at all; raise `ulimit -n`")),
        room if room < connections => {
            Ok(format!("{max}: {room} connections at most, below limits.connections {connections}; raise `ulimit -n`"))
        }
        _ => Ok(max.to_string()),
    }
}

/// Times small synced writes, what every commit waits for.
fn disk(data: &DataDir) -> Result<String, String> {
    let path = data.path().join("check.tmp");
    let timed = || -> std::io::Result<f64> {
        let mut file = File::create(&path)?;
        let started = Instant::now();
        for _ in 0..WRITES {
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
        }
        Ok(started.elapsed().as_secs_f64() * 1000.0 / f64::from(WRITES))
    };
    let result = timed();
    let _ = std::fs::remove_file(&path);
    match result {
        Ok(ms) if ms > SYNC_MS_SLOW => Err(format!("a synced write takes {ms:.2} ms; sends will wait for it")),
        Ok(ms) => Ok(format!("a synced write takes {ms:.2} ms")),
        Err(error) => Err(error.to_string()),
    }
}
