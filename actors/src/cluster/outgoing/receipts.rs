//! Marks on their way to a peer's sockets: they only grow, so what waits for the same conversation and user is one. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use protocol::{
    ConnId, ConversationId, UserId,
    peer::{Mail, Parcel, ToConnections},
    push::Marks,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Receipts {
    /// Users whose marks wait and sockets that are to be told of them, over all conversations.
    max: usize,
    n: usize,
    waiting: HashMap<ConversationId, Waiting>,
    order: VecDeque<ConversationId>,
}

#[derive(Debug, Default)]
struct Waiting {
    view: u64,
    marks: BTreeMap<UserId, Marks>,
    to: Vec<ConnId>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.marks.len() + self.to.len()
    }
}

impl Receipts {
    /// None; at most this many users and sockets.
    pub(super) fn new(max: usize) -> Receipts {
        Receipts { max, n: 0, waiting: HashMap::new(), order: VecDeque::new() }
    }

    /// Adds to what waits for a conversation. The conversations that have waited longest make room: of how many users'
    /// marks.
    pub(super) fn push(&mut self, parcel: Parcel) -> u64 {
        let Mail::Connections(ToConnections::Receipts { conversation: c, marks, to }) = parcel.mail else { return 0 };
        let mut waiting = self.waiting.remove(&c).unwrap_or_else(|| {
            self.order.push_back(c);
            Waiting::default()
        });
        self.n -= waiting.len();
        for (user, marks) in marks {
            let known = waiting.marks.entry(user).or_default();
            known.read = known.read.max(marks.read);
            known.delivered = known.delivered.max(marks.delivered);
        }
        // the latest audience: who has left since is told nothing more
        (waiting.view, waiting.to) = (parcel.view, to);
        self.n += waiting.len();
        self.waiting.insert(c, waiting);
        let mut dropped = 0;
        while self.n > self.max {
            let Some((_, oldest)) = self.pop() else { break };
            dropped += oldest.marks.len() as u64;
        }
        dropped
    }

    /// What has waited longest, with at most so many users in one parcel; empty: nothing waits.
    pub(super) fn take(&mut self, users_max: usize) -> Vec<Parcel> {
        let Some((conversation, Waiting { view, marks, to })) = self.pop() else { return Vec::new() };
        let marks: Vec<(UserId, Marks)> = marks.into_iter().collect();
        let parcel = |marks: &[(UserId, Marks)]| {
            let mail = ToConnections::Receipts { conversation, marks: marks.to_vec(), to: to.clone() };
            Parcel { view, forwarded: false, mail: Mail::Connections(mail) }
        };
        marks.chunks(users_max).map(parcel).collect()
    }

    fn pop(&mut self) -> Option<(ConversationId, Waiting)> {
        let c = self.order.pop_front()?;
        let waiting = self.waiting.remove(&c)?;
        self.n -= waiting.len();
        Some((c, waiting))
    }
}
