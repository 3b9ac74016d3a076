//! What became of what was sent: G1, G3 (a seq given twice), G4, G5, G6, and G8 for pages asked after an
//! acknowledgement.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::{ClientId, ConversationId, UserId};

use super::{Logs, Promise, Violation};
use crate::history::{Entry, History, What};

/// All attempts to send one thing.
type Sends<'a> = BTreeMap<(ConversationId, UserId, &'a ClientId), Vec<Attempt>>;

struct Attempt {
    sent_us: u64,
    content: u64,
    ack: Option<Ack>,
    refused: bool,
}

#[derive(Clone, Copy)]
struct Ack {
    at_us: u64,
    seq: u64,
    dup: bool,
}

/// How a broken promise of one send is told.
type Tell<'a> = dyn FnMut(Promise, Vec<u64>, String) + 'a;

pub(super) fn check(history: &History, logs: &Logs<'_>, violations: &mut Vec<Violation>) {
    let sends = gather(history);
    for ((c, by, cid), attempts) in &sends {
        let mut tell = |promise, seqs: Vec<u64>, message: String| {
            let message = format!("{} of {by}: {message}", cid.as_str());
            violations.push(Violation { promise, c: *c, seqs, message });
        };
        let log = logs.get(c);
        let stored = log.and_then(|log| log.by_name.get(&(*by, *cid))).map_or(&[][..], Vec::as_slice);
        once(attempts, stored, &mut tell);
        for attempt in attempts {
            let Some(ack) = attempt.ack else { continue };
            let Some(log) = log else {
                tell(Promise::G1, vec![ack.seq], "acknowledged, but its log was not read back".into());
                continue;
            };
            match stored.iter().find(|entry| entry.seq == ack.seq) {
                Some(entry) if holds(entry, attempt) => {}
                Some(entry) => {
                    let promise =
                        if attempts.iter().any(|other| holds(entry, other)) { Promise::G5 } else { Promise::G1 };
                    tell(promise, vec![ack.seq], "acknowledged, but something else is stored under its name".into());
                }
                None if !stored.is_empty() => {
                    let seqs = std::iter::once(ack.seq).chain(stored.iter().map(|entry| entry.seq)).collect();
                    tell(Promise::G5, seqs, format!("acknowledged at {}, stored elsewhere", ack.seq));
                }
                None => {
                    let instead = if log.by_seq.contains_key(&ack.seq) { "another event" } else { "nothing" };
                    tell(Promise::G1, vec![ack.seq], format!("acknowledged, but the log has {instead} there"));
                }
            }
        }
    }
    one_seq_one_event(&sends, violations);
    real_time_order(&sends, logs, violations);
    nothing_invented(history, &sends, logs, violations);
    read_your_writes(history, &sends, violations);
}

fn holds(entry: &Entry, attempt: &Attempt) -> bool {
    entry.post.is_some_and(|(_, content)| content == attempt.content)
}

fn gather(history: &History) -> Sends<'_> {
    let mut sends: Sends<'_> = BTreeMap::new();
    let mut places = HashMap::new();
    for record in &history.records {
        if let What::Sent { attempt, c, cid, content } = &record.what {
            let key = (*c, record.user, cid);
            let attempts = sends.entry(key).or_default();
            places.insert((record.device, *attempt), (key, attempts.len()));
            attempts.push(Attempt { sent_us: record.at_us, content: *content, ack: None, refused: false });
        }
    }
    for record in &history.records {
        let (What::Acked { attempt, .. } | What::Refused { attempt, .. }) = &record.what else { continue };
        let Some((key, index)) = places.get(&(record.device, *attempt)) else { continue };
        let Some(attempt) = sends.get_mut(key).and_then(|attempts| attempts.get_mut(*index)) else { continue };
        match &record.what {
            What::Acked { seq, dup, .. } => attempt.ack = Some(Ack { at_us: record.at_us, seq: *seq, dup: *dup }),
            _ => attempt.refused = true,
        }
    }
    sends
}

/// G5, and G6 for what was refused or never sent like this.
fn once(attempts: &[Attempt], stored: &[&Entry], tell: &mut Tell<'_>) {
    if stored.len() > 1 {
        tell(Promise::G5, stored.iter().map(|entry| entry.seq).collect(), "stored more than once".into());
    }
    let acks: Vec<Ack> = attempts.iter().filter_map(|attempt| attempt.ack).collect();
    if let Some(other) = acks.iter().find(|ack| ack.seq != acks[0].seq) {
        tell(Promise::G5, vec![acks[0].seq, other.seq], "acknowledged under two seqs".into());
    }
    let firsts = acks.iter().filter(|ack| !ack.dup).count();
    if firsts > 1 {
        tell(Promise::G5, vec![acks[0].seq], format!("{firsts} attempts were told that they are the first"));
    }
    let Some(entry) = stored.first() else { return };
    if attempts.iter().all(|attempt| attempt.refused) {
        tell(Promise::G6, vec![entry.seq], "every attempt was refused for good, but it is stored".into());
    } else if acks.is_empty() && !attempts.iter().any(|attempt| holds(entry, attempt)) {
        tell(Promise::G6, vec![entry.seq], "stored with a content that nobody sent".into());
    }
}

/// G3: a seq acknowledged to two different sends.
fn one_seq_one_event(sends: &Sends<'_>, violations: &mut Vec<Violation>) {
    let mut taken: HashMap<(ConversationId, u64), (UserId, &ClientId)> = HashMap::new();
    for ((c, by, cid), attempts) in sends {
        for ack in attempts.iter().filter_map(|attempt| attempt.ack) {
            let first = *taken.entry((*c, ack.seq)).or_insert((*by, *cid));
            if first != (*by, *cid) {
                let message = format!("given to {} and to {}", first.1.as_str(), cid.as_str());
                violations.push(Violation { promise: Promise::G3, c: *c, seqs: vec![ack.seq], message });
            }
        }
    }
}

/// `(when, seq)` of every acknowledgement, by conversation.
fn acks_by_conversation(sends: &Sends<'_>) -> BTreeMap<ConversationId, Vec<(u64, u64)>> {
    let mut acks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((c, ..), attempts) in sends {
        let acked = attempts.iter().filter_map(|attempt| attempt.ack);
        acks.entry(*c).or_default().extend(acked.map(|ack| (ack.at_us, ack.seq)));
    }
    for acks in acks.values_mut() {
        acks.sort_unstable();
    }
    acks
}

/// G4: acknowledgements by time, and first attempts by time, walked side by side.
fn real_time_order(sends: &Sends<'_>, logs: &Logs<'_>, violations: &mut Vec<Violation>) {
    let acks = acks_by_conversation(sends);
    let mut firsts: BTreeMap<ConversationId, Vec<(u64, u64)>> = BTreeMap::new();
    for ((c, by, cid), attempts) in sends {
        let acked = attempts.iter().find_map(|attempt| attempt.ack).map(|ack| ack.seq);
        let stored = || logs.get(c)?.by_name.get(&(*by, *cid))?.first().map(|entry| entry.seq);
        let Some(seq) = acked.or_else(stored) else { continue };
        let sent_us = attempts.iter().map(|attempt| attempt.sent_us).min().unwrap_or(0);
        firsts.entry(*c).or_default().push((sent_us, seq));
    }
    for (c, mut firsts) in firsts {
        firsts.sort_unstable();
        let mut acks = acks.get(&c).into_iter().flatten().peekable();
        let mut highest = 0;
        for (sent_us, seq) in firsts {
            while let Some((_, acked)) = acks.next_if(|(at_us, _)| *at_us < sent_us) {
                highest = highest.max(*acked);
            }
            if seq < highest {
                let message = format!("{highest} was acknowledged before {seq} was sent");
                violations.push(Violation { promise: Promise::G4, c, seqs: vec![highest, seq], message });
            }
        }
    }
}

/// G6: a post of a recorded user that none of their devices sent.
fn nothing_invented(history: &History, sends: &Sends<'_>, logs: &Logs<'_>, violations: &mut Vec<Violation>) {
    let recorded: HashSet<UserId> =
        history.records.iter().filter(|r| matches!(r.what, What::Sent { .. })).map(|r| r.user).collect();
    for (c, log) in logs {
        let posts = log.by_seq.values().filter(|entry| entry.post.is_some() && recorded.contains(&entry.by));
        for entry in posts {
            if !entry.cid.as_ref().is_some_and(|cid| sends.contains_key(&(*c, entry.by, cid))) {
                let message = format!("stored for {}, who never sent it", entry.by);
                violations.push(Violation { promise: Promise::G6, c: *c, seqs: vec![entry.seq], message });
            }
        }
    }
}

/// G8: a page asked after an acknowledgement knows a head that is at least as far.
fn read_your_writes(history: &History, sends: &Sends<'_>, violations: &mut Vec<Violation>) {
    let mut acks = acks_by_conversation(sends);
    for acks in acks.values_mut() {
        let mut highest = 0;
        for (_, seq) in acks {
            highest = highest.max(*seq);
            *seq = highest;
        }
    }
    for record in &history.records {
        let What::Paged { c, asked_us, head } = &record.what else { continue };
        let Some(acks) = acks.get(c) else { continue };
        let before = acks.partition_point(|(at_us, _)| at_us < asked_us);
        let Some((_, acked)) = before.checked_sub(1).map(|last| acks[last]) else { continue };
        if acked > *head {
            let message = format!("{acked} was acknowledged before a page was asked that ends the log at {head}");
            violations.push(Violation { promise: Promise::G8, c: *c, seqs: vec![acked, *head], message });
        }
    }
}
