//! What a peer's sockets could not be told event by event: how far each is told of each conversation, and beyond a bound
//! only who must come back and look. Pure.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    ConnId, ConversationId, Seq,
    peer::{Done, Fanout, Mail, Outcome, Parcel, ToConnections},
};

/// What a piece of mail would have told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// The view it was sent under.
    pub(super) view: u64,
    /// Where.
    pub(super) conversation: ConversationId,
    /// Up to where.
    pub(super) seq: Seq,
    /// To whom.
    pub(super) to: Vec<ConnId>,
    /// The answer that an event is to who asked for it.
    pub(super) answer: Option<(ConnId, u32, Outcome)>,
}

impl Told {
    /// What is left of mail if only the head is told; `None` if it tells no event.
    pub(super) fn of(view: u64, mail: ToConnections) -> Option<Told> {
        let (conversation, seq, to, answer) = match mail {
            ToConnections::Event(Fanout { conversation, seq, post_no, at, requester, to, .. }) => {
                let stored = Outcome::Done(Done::Stored { seq, post_no, at, dup: false });
                let answer = requester.filter(|(conn, _)| to.contains(conn)).map(|(conn, tag)| (conn, tag, stored));
                (conversation, seq, to, answer)
            }
            // whoever joined or left is told that event too: its head says as much
            ToConnections::Head { conversation, seq, to } | ToConnections::List { conversation, seq, to, .. } => {
                (conversation, seq, to, None)
            }
            _ => return None,
        };
        Some(Told { view, conversation, seq, to, answer })
    }

    /// The conversation of which this tells an event.
    pub(super) fn where_of(mail: &Mail) -> Option<ConversationId> {
        match mail {
            Mail::Connections(ToConnections::Event(fanout)) => Some(fanout.conversation),
            Mail::Connections(ToConnections::Head { conversation, .. } | ToConnections::List { conversation, .. }) => {
                Some(*conversation)
            }
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    view: u64,
    /// How far each socket is told. Not one number for all: who was removed is told of the removal and nothing after.
    to: BTreeMap<ConnId, Seq>,
    answers: Vec<(ConnId, u32, Outcome)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Heads {
    pairs_max: usize,
    by_conversation: BTreeMap<ConversationId, Entry>,
    pairs: usize,
    resync: BTreeSet<ConnId>,
    /// For who asked and is among those that must come back. A socket is closed by then; a call has no other answer.
    behind_resync: Vec<(ConnId, u32, Outcome)>,
}

/// What did not wait before [`Heads::fold`], and needs a place in the queue now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fresh {
    pub(super) heads: bool,
    pub(super) resync: bool,
}

impl Heads {
    /// None; at most this many pairs of a conversation and a socket.
    pub(super) fn new(pairs_max: usize) -> Heads {
        let (by_conversation, resync) = (BTreeMap::new(), BTreeSet::new());
        Heads { pairs_max, by_conversation, pairs: 0, resync, behind_resync: Vec::new() }
    }

    /// True if heads of this conversation wait: nothing later of it may overtake them.
    pub(super) fn has(&self, c: ConversationId) -> bool {
        self.by_conversation.contains_key(&c)
    }

    /// Conversations whose heads wait.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        self.by_conversation.keys().copied().collect()
    }

    /// True if there are sockets that must come back.
    pub(super) fn has_resync(&self) -> bool {
        !self.resync.is_empty()
    }

    /// Remembers the head instead. `answering`: who asked is still to be answered over this link.
    pub(super) fn fold(&mut self, told: Told, answering: bool) -> Fresh {
        let (had, had_resync) = (self.has(told.conversation), self.has_resync());
        let (c, resync) = (told.conversation, &mut self.resync);
        let entry = self.by_conversation.entry(c).or_default();
        entry.view = entry.view.max(told.view);
        for conn in told.to {
            if resync.contains(&conn) {
                continue;
            }
            if let Some(seq) = entry.to.get_mut(&conn) {
                *seq = told.seq.max(*seq);
            } else if self.pairs < self.pairs_max {
                entry.to.insert(conn, told.seq);
                self.pairs += 1;
            } else {
                resync.insert(conn);
            }
        }
        if let Some(answer) = told.answer.filter(|_| answering) {
            // nobody is answered before it was told what came before the answer
            let behind = if resync.contains(&answer.0) { &mut self.behind_resync } else { &mut entry.answers };
            behind.push(answer);
        }
        if entry.to.is_empty() && entry.answers.is_empty() {
            self.by_conversation.remove(&c);
        }
        Fresh { heads: !had && self.has(c), resync: !had_resync && self.has_resync() }
    }

    /// These sockets must come back.
    pub(super) fn fold_resync(&mut self, conns: Vec<ConnId>) -> Fresh {
        let had_resync = self.has_resync();
        self.resync.extend(conns);
        Fresh { heads: false, resync: !had_resync && self.has_resync() }
    }

    /// The heads of a conversation, and after them the answers: what came before an answer must have been announced.
    pub(super) fn take(&mut self, c: ConversationId) -> Vec<Parcel> {
        let Some(Entry { view, to, answers }) = self.by_conversation.remove(&c) else { return Vec::new() };
        self.pairs -= to.len();
        let mut by_seq: BTreeMap<Seq, Vec<ConnId>> = BTreeMap::new();
        for (conn, seq) in to {
            by_seq.entry(seq).or_default().push(conn);
        }
        let heads = by_seq.into_iter().map(|(seq, to)| ToConnections::Head { conversation: c, seq, to });
        let answers = answers.into_iter().map(|(conn, tag, outcome)| ToConnections::Answer(conn, tag, outcome));
        let parcel = |mail| Parcel { view, forwarded: false, mail: Mail::Connections(mail) };
        heads.chain(answers).map(parcel).collect()
    }

    /// Who must come back, and after that the answers to those among them that ask.
    pub(super) fn take_resync(&mut self, view: u64) -> Vec<Parcel> {
        let resync = ToConnections::Resync(std::mem::take(&mut self.resync).into_iter().collect());
        let answers = std::mem::take(&mut self.behind_resync).into_iter();
        let answers = answers.map(|(conn, tag, outcome)| ToConnections::Answer(conn, tag, outcome));
        let parcel = |mail| Parcel { view, forwarded: false, mail: Mail::Connections(mail) };
        std::iter::once(resync).chain(answers).map(parcel).collect()
    }

    /// Answers are for the link they were meant for: who asks again over the next one is answered then.
    pub(super) fn forget_answers(&mut self) {
        self.behind_resync.clear();
        self.by_conversation.values_mut().for_each(|entry| entry.answers.clear());
        self.by_conversation.retain(|_, entry| !entry.to.is_empty());
    }
}
