//! Decides from a [`History`] which promises were broken. No network, no clock: the same history always gets the same
//! verdict. What each promise means, and what a recording cannot show, stands in the README of this crate.

use std::collections::{BTreeMap, HashMap};

use protocol::{ClientId, ConversationId, UserId};
use serde::Serialize;

use crate::history::{Entry, History, Log, What};

mod delivery;
mod sends;

/// A promise of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Promise {
    /// An acknowledged event is never lost.
    G1,
    /// One order, seen by everybody.
    G2,
    /// Seqs are 1..n, none used twice.
    G3,
    /// What was sent after an acknowledgement stands after it.
    G4,
    /// One client id, one event.
    G5,
    /// Nothing invented; a definite failure is not stored.
    G6,
    /// Delivery is complete and in order; what is skipped is announced.
    G7,
    /// After an acknowledgement, history has it.
    G8,
    /// Nobody is pushed what was said while they were no member.
    G9,
    /// Marks never go back, unread counts are right.
    G11,
}

/// One broken promise, with the events that show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// Where.
    pub c: ConversationId,
    /// The seqs involved.
    pub seqs: Vec<u64>,
    /// What happened.
    pub message: String,
}

/// The verdict on a history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Empty: every promise that the history can show was kept.
    pub violations: Vec<Violation>,
    /// What the verdict rests on.
    pub counts: Counts,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Attempts to send.
    pub sent: u64,
    /// Attempts that were acknowledged.
    pub acked: u64,
    /// Attempts that were definitely refused.
    pub refused: u64,
    /// Attempts without a definite answer.
    pub unknown: u64,
    /// Events pushed.
    pub delivered: u64,
    /// Events pushed to a socket that had them: allowed, clients drop them.
    pub repeated: u64,
    /// Events in answers to `sync` and `hist`.
    pub fetched: u64,
    /// Events in the final logs.
    pub logged: u64,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {:?}: {}", self.promise, self.c, self.seqs, self.message)
    }
}

/// Decides.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    count(history, &mut verdict.counts);
    let logs = compare_logs(history, &mut verdict.violations);
    sends::check(history, &logs, &mut verdict.violations);
    delivery::check(history, &logs, &mut verdict);
    verdict.violations.sort_by(|a, b| (a.promise, a.c, &a.seqs).cmp(&(b.promise, b.c, &b.seqs)));
    verdict
}

/// The one log of each conversation against which everything else is held.
type Logs<'a> = BTreeMap<ConversationId, FinalLog<'a>>;

struct FinalLog<'a> {
    by_seq: BTreeMap<u64, &'a Entry>,
    by_name: HashMap<(UserId, &'a ClientId), Vec<&'a Entry>>,
}

impl<'a> FinalLog<'a> {
    fn of(log: &'a Log) -> FinalLog<'a> {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for entry in &log.entries {
            if let Some(cid) = &entry.cid {
                by_name.entry((entry.by, cid)).or_default().push(entry);
            }
        }
        FinalLog { by_seq: log.entries.iter().map(|entry| (entry.seq, entry)).collect(), by_name }
    }
}

/// G2 and G3 of the logs as read back; the longest reading of each becomes the final one.
fn compare_logs<'a>(history: &'a History, violations: &mut Vec<Violation>) -> Logs<'a> {
    let mut longest: BTreeMap<ConversationId, &Log> = BTreeMap::new();
    for log in &history.logs {
        let best = longest.entry(log.c).or_insert(log);
        if log.entries.len() > best.entries.len() {
            *best = log;
        }
    }
    for log in &history.logs {
        gapless(log, violations);
        let best = longest[&log.c];
        for (mine, theirs) in log.entries.iter().zip(&best.entries) {
            if mine.seq == theirs.seq && mine.digest != theirs.digest {
                violations.push(Violation {
                    promise: Promise::G2,
                    c: log.c,
                    seqs: vec![mine.seq],
                    message: format!("{} and {} read different events at {}", log.reader, best.reader, mine.seq),
                });
            }
        }
        if log.entries.len() < best.entries.len() && log.head <= log.entries.last().map_or(0, |last| last.seq) {
            violations.push(Violation {
                promise: Promise::G2,
                c: log.c,
                seqs: vec![log.head, best.head],
                message: format!("{} read up to {}, {} up to {}", log.reader, log.head, best.reader, best.head),
            });
        }
    }
    longest.into_iter().map(|(c, log)| (c, FinalLog::of(log))).collect()
}

fn gapless(log: &Log, violations: &mut Vec<Violation>) {
    let mut broken = |seqs: Vec<u64>, message: String| {
        violations.push(Violation { promise: Promise::G3, c: log.c, seqs, message });
    };
    let mut expected = 1;
    let mut whole = true;
    for entry in &log.entries {
        if entry.seq != expected {
            whole = false;
            broken(vec![expected, entry.seq], format!("{} read {} where {expected} stands", log.reader, entry.seq));
        }
        expected = entry.seq + 1;
    }
    if log.head + 1 != expected {
        whole = false;
        broken(
            vec![log.head],
            format!("{} was told the head is {}, read up to {}", log.reader, log.head, expected - 1),
        );
    }
    if !whole {
        return;
    }
    let posts = log.entries.iter().filter_map(|entry| entry.post.map(|(number, _)| (entry.seq, number)));
    for ((seq, number), expected) in posts.zip(1..) {
        if number != expected {
            broken(vec![seq], format!("the {expected}. post has number {number}"));
            return;
        }
    }
}

fn count(history: &History, counts: &mut Counts) {
    let mut acked = std::collections::HashSet::new();
    for record in &history.records {
        match &record.what {
            What::Sent { .. } => counts.sent += 1,
            What::Acked { attempt, .. } => {
                acked.insert((record.device, *attempt));
            }
            What::Refused { .. } => counts.refused += 1,
            What::Delivered { .. } => counts.delivered += 1,
            What::Fetched { .. } => counts.fetched += 1,
            _ => {}
        }
    }
    counts.acked = acked.len() as u64;
    counts.unknown = counts.sent.saturating_sub(counts.acked + counts.refused);
    counts.logged = history.logs.iter().map(|log| log.entries.len() as u64).sum();
}
