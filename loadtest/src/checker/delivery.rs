//! What each socket was shown, in its order: G2, G7, G9 and G11.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use protocol::{ConversationId, UserId};

use super::{FinalLog, Logs, Promise, Verdict, Violation};
use crate::history::{History, Record, What};

/// Walks through a history, socket by socket.
struct Walk<'a> {
    logs: &'a Logs<'a>,
    members: BTreeMap<ConversationId, Membership>,
    /// Up to where a socket was told everything, or told what it was not told.
    lines: HashMap<(u32, u32, ConversationId), u64>,
    /// Where each attempt went.
    sends: HashMap<(u32, u64), ConversationId>,
    /// Events of the answer that the next record of the socket closes.
    fetched: HashMap<(u32, u32), Vec<(ConversationId, u64)>>,
    /// Read and delivered marks, as a socket was told them last.
    marks: HashMap<(u32, u32, ConversationId, UserId), (u64, u64)>,
    repeated: u64,
}

pub(super) fn check(history: &History, logs: &Logs<'_>, verdict: &mut Verdict) {
    let members = logs.iter().map(|(c, log)| (*c, Membership::of(log))).collect();
    let mut walk = Walk {
        logs,
        members,
        lines: HashMap::new(),
        sends: HashMap::new(),
        fetched: HashMap::new(),
        marks: HashMap::new(),
        repeated: 0,
    };
    for record in &history.records {
        for (c, found) in walk.step(record) {
            let Found { promise, seqs, message } = found;
            let message = format!("device {} socket {} of {}: {message}", record.device, record.socket, record.user);
            verdict.violations.push(Violation { promise, c, seqs, message });
        }
    }
    verdict.counts.repeated = walk.repeated;
}

/// A violation without its place.
struct Found {
    promise: Promise,
    seqs: Vec<u64>,
    message: String,
}

impl Walk<'_> {
    fn step(&mut self, record: &Record) -> Vec<(ConversationId, Found)> {
        let socket = (record.device, record.socket);
        let (c, found) = match &record.what {
            What::Sent { attempt, c, .. } => {
                self.sends.insert((record.device, *attempt), *c);
                return Vec::new();
            }
            What::Acked { attempt, seq, dup } => {
                let Some(c) = self.sends.get(&(record.device, *attempt)).copied() else { return Vec::new() };
                let found = if *dup { self.stored_before(socket, c, *seq) } else { self.pushed(record, c, *seq) };
                (c, vec![found])
            }
            What::Delivered { c, seq, digest } => {
                let order = self.pushed(record, *c, *seq);
                let same = same_event(self.logs.get(c), *seq, *digest);
                let allowed = self.members.get(c).and_then(|members| members.allows(record.user, *seq));
                (*c, vec![order, same, allowed])
            }
            What::Fetched { c, seq, digest } => {
                self.fetched.entry(socket).or_default().push((*c, *seq));
                (*c, vec![same_event(self.logs.get(c), *seq, *digest)])
            }
            What::Paged { c, .. } => {
                self.answered(socket, *c);
                return Vec::new();
            }
            What::Synced { c, head, .. } => {
                let events = self.answered(socket, *c);
                self.told(socket, *c, *head);
                (*c, vec![synced(&record.what, events), unread(&record.what, self.logs.get(c))])
            }
            What::Gap { c, from, to } => {
                let line = *self.lines.entry((socket.0, socket.1, *c)).or_insert(from.saturating_sub(1));
                self.told(socket, *c, *to);
                (*c, vec![self.is_due(record.user, *c, line + 1..*from).then(|| skip(line, *from, "a `gap` began"))])
            }
            What::Head { c, seq } => (*c, vec![self.told(socket, *c, *seq)]),
            What::Marked { c, of, read, delivered } => {
                let last = self.marks.entry((socket.0, socket.1, *c, *of)).or_insert((0, 0));
                (*c, vec![monotone(last, (*read, *delivered), self.logs.get(c))])
            }
            What::Settled { c, head } => {
                let line = self.lines.get(&(socket.0, socket.1, *c));
                (*c, vec![line.and_then(|line| unheard(*line, *head))])
            }
            What::Connected | What::Closed { .. } | What::Refused { .. } | What::Unknown { .. } => return Vec::new(),
        };
        found.into_iter().flatten().map(|found| (c, found)).collect()
    }

    /// An event came on the stream: the next one, or one that was there. What was said while its user was no member is
    /// left out in silence: they are shown that they are back.
    fn pushed(&mut self, record: &Record, c: ConversationId, seq: u64) -> Option<Found> {
        let line = self.lines.entry((record.device, record.socket, c)).or_insert(seq.saturating_sub(1));
        let before = *line;
        if seq <= before {
            self.repeated += 1;
            return None;
        }
        *line = seq;
        self.is_due(record.user, c, before + 1..seq).then(|| skip(before, seq, "came"))
    }

    /// True if some of these were said while this user was a member.
    fn is_due(&self, user: UserId, c: ConversationId, mut seqs: Range<u64>) -> bool {
        seqs.any(|seq| self.members.get(&c).is_none_or(|members| members.allows(user, seq).is_none()))
    }

    /// The socket was told that the log reaches to `seq`: what lies below is its own to fetch.
    fn told(&mut self, socket: (u32, u32), c: ConversationId, seq: u64) -> Option<Found> {
        let line = self.lines.entry((socket.0, socket.1, c)).or_insert(seq);
        *line = seq.max(*line);
        None
    }

    /// A send was stored earlier: the log reaches to `seq` at least. That begins no line: one who was removed meanwhile is
    /// still told what became of their sends, and of nothing after them.
    fn stored_before(&mut self, socket: (u32, u32), c: ConversationId, seq: u64) -> Option<Found> {
        if let Some(line) = self.lines.get_mut(&(socket.0, socket.1, c)) {
            *line = seq.max(*line);
        }
        None
    }

    /// The events of `c` in the answer that is complete now, in order.
    fn answered(&mut self, socket: (u32, u32), c: ConversationId) -> Vec<u64> {
        let fetched = self.fetched.entry(socket).or_default();
        let mut events: Vec<u64> = fetched.extract_if(.., |(of, _)| *of == c).map(|(_, seq)| seq).collect();
        events.sort_unstable();
        events
    }
}

fn skip(line: u64, seq: u64, came: &str) -> Found {
    let message = format!("after {line}, {came} at {seq}: what lies between was neither shown nor announced");
    Found { promise: Promise::G7, seqs: vec![line, seq], message }
}

fn unheard(line: u64, head: u64) -> Option<Found> {
    let message = || format!("heard of nothing after {line}, though the log ends at {head}");
    (line < head).then(|| Found { promise: Promise::G7, seqs: vec![line, head], message: message() })
}

/// G7: an answer to `sync` holds everything above `have`, except what it says it leaves out.
fn synced(what: &What, events: Vec<u64>) -> Option<Found> {
    let What::Synced { have: Some(have), head, more, gap, .. } = what else { return None };
    let mut line = *have;
    if let Some((from, to)) = gap
        && *from <= line + 1
    {
        line = line.max(*to);
    }
    for seq in events {
        if seq > line + 1 {
            return Some(skip(line, seq, "an answer to `sync` went on"));
        }
        line = line.max(seq);
    }
    if *more { None } else { unheard(line, *head) }
}

/// G2: what was shown is what is stored.
fn same_event(log: Option<&FinalLog<'_>>, seq: u64, digest: u64) -> Option<Found> {
    let message = match log?.by_seq.get(&seq) {
        Some(entry) if entry.digest == digest => return None,
        Some(_) => format!("was shown another event at {seq} than the log has"),
        None => format!("was shown an event at {seq}, the log has none"),
    };
    Some(Found { promise: Promise::G2, seqs: vec![seq], message })
}

/// G11: `read` ≤ `delivered` ≤ the end of the log, and neither ever goes back.
fn monotone(last: &mut (u64, u64), (read, delivered): (u64, u64), log: Option<&FinalLog<'_>>) -> Option<Found> {
    let (read_before, delivered_before) = std::mem::replace(last, (read, delivered));
    let end = log.and_then(|log| log.by_seq.last_key_value()).map_or(u64::MAX, |(seq, _)| *seq);
    let message = if read < read_before || delivered < delivered_before {
        format!("marks went back from {read_before}/{delivered_before} to {read}/{delivered}")
    } else if read > delivered || delivered > end {
        format!("marks {read}/{delivered} in a log that ends at {end}")
    } else {
        return None;
    };
    Some(Found { promise: Promise::G11, seqs: vec![read, delivered], message })
}

/// G11: unread is the number of posts above the read mark.
fn unread(what: &What, log: Option<&FinalLog<'_>>) -> Option<Found> {
    let What::Synced { head, read, unread, .. } = what else { return None };
    let above = log?.by_seq.range(read + 1..=*head.max(&(read + 1)));
    let posts = above.filter(|(seq, entry)| **seq <= *head && entry.post.is_some()).count() as u64;
    let message = || format!("unread is {unread}, but {posts} posts lie above {read} up to {head}");
    (posts != *unread).then(|| Found { promise: Promise::G11, seqs: vec![*read, *head], message: message() })
}

/// Who was a member from which seq to which, both included.
struct Membership(HashMap<UserId, Vec<(u64, u64)>>);

impl Membership {
    fn of(log: &FinalLog<'_>) -> Membership {
        let mut spans: HashMap<UserId, Vec<(u64, u64)>> = HashMap::new();
        for (seq, entry) in &log.by_seq {
            for user in &entry.joined {
                spans.entry(*user).or_default().push((*seq, u64::MAX));
            }
            if let Some(last) = entry.gone.and_then(|user| spans.get_mut(&user)?.last_mut()) {
                last.1 = *seq;
            }
        }
        Membership(spans)
    }

    /// G9: a push to somebody who was no member at that place.
    fn allows(&self, user: UserId, seq: u64) -> Option<Found> {
        let inside = self.0.get(&user).is_some_and(|spans| spans.iter().any(|(from, to)| (*from..=*to).contains(&seq)));
        let message = || format!("was pushed {seq} without being a member there");
        (!inside).then(|| Found { promise: Promise::G9, seqs: vec![seq], message: message() })
    }
}
