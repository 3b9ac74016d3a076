//! `starling-load check`: the verdict on recorded histories.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::PathBuf};

use clap::Args;
use loadtest::{History, checker};

use super::{CommandError, Outcome, Output};

/// Violations printed one by one; more are only counted.
const SHOWN_MAX: usize = 50;

#[derive(Args)]
pub(crate) struct Check {
    /// Histories as `chat --history` wrote them; several files are judged as one run
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How to print the verdict
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Check {
    pub(crate) fn run(self) -> Result<Outcome, CommandError> {
        let mut history = History::default();
        for path in &self.files {
            let failed = |source| CommandError::File { path: path.clone(), source };
            history.read(BufReader::new(File::open(path).map_err(failed)?)).map_err(failed)?;
        }
        let verdict = checker::check(&history);
        if self.output == Output::Json {
            println!("{}", serde_json::to_string(&verdict).expect("plain data always serialises"));
        } else {
            print(&verdict);
        }
        Ok(if verdict.violations.is_empty() { Outcome::Pass } else { Outcome::Failed })
    }
}

/// The verdict for people.
pub(crate) fn print(verdict: &checker::Verdict) {
    for violation in verdict.violations.iter().take(SHOWN_MAX) {
        println!("violated {violation}");
    }
    let counts = verdict.counts;
    println!(
        "checked: {} sent, {} acked, {} refused, {} unknown, {} delivered ({} repeated), {} fetched, {} in logs",
        counts.sent,
        counts.acked,
        counts.refused,
        counts.unknown,
        counts.delivered,
        counts.repeated,
        counts.fetched,
        counts.logged
    );
    let mut by_promise = BTreeMap::new();
    for violation in &verdict.violations {
        *by_promise.entry(violation.promise).or_insert(0_u64) += 1;
    }
    let broken: Vec<String> = by_promise.iter().map(|(promise, n)| format!("{promise:?} {n} times")).collect();
    println!("{}", if broken.is_empty() { "every promise kept".to_owned() } else { broken.join(", ") });
}
