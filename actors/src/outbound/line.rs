//! What one socket is to be sent, and what it waits for: the bounded outbound queue with its classes, the requests in
//! flight, and the line between past and live. Pure: knows no socket and no clock.

mod asked;

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::{
    ConversationId, Error, Incarnation, Seq, UserId,
    close::CloseCode,
    limits::OPEN_MAX,
    peer::ToConversation,
    push::{self, Bye, Gap, Head, Marks, Receipts, Sent},
};
use tokio::time::Instant;

use self::asked::Asked;
pub(crate) use self::asked::{Again, may_pass};
use crate::{
    maps::{HashMap, HashSet},
    meters::METERS,
    sync::Covered,
};

/// Bytes that an item without content of its own is counted with.
const SMALL_ITEM_BYTES: usize = 128;

/// Why a request cannot begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// As many as allowed are unanswered.
    TooMany,
    /// One of the same id is unanswered.
    SameId,
    /// The socket is about to be closed; nothing new begins.
    Parting,
}

/// What a full queue drops first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volatile {
    /// Somebody types.
    Typing,
    /// How somebody appears.
    Presence,
}

impl Volatile {
    fn label(self) -> &'static str {
        match self {
            Volatile::Typing => "typ",
            Volatile::Presence => "pres",
        }
    }
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    Gap(Gap),
    Head(Head),
}

#[derive(Debug)]
struct Pending {
    verb: &'static str,
    since: Instant,
    deadline: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Before the first `sync` was answered: nothing is pushed, only how far each conversation was heard of.
    Opening {
        heard: HashMap<ConversationId, Seq>,
    },
    Live,
}

/// Bounds of a line, bytes and counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Above it, events become gaps and volatile pushes are dropped.
    pub(crate) soft_bytes: usize,
    /// Above it, the socket is closed.
    pub(crate) hard_bytes: usize,
    /// Requests unanswered at once.
    pub(crate) inflight: usize,
}

/// One socket's outbound side.
#[derive(Debug)]
pub(crate) struct Line {
    bounds: Bounds,
    phase: Phase,
    queue: VecDeque<Item>,
    bytes: usize,
    /// Where in the queue the gap of a conversation stands; it grows until the queue is taken.
    gaps: HashMap<ConversationId, usize>,
    heads: HashMap<ConversationId, usize>,
    receipts: HashMap<ConversationId, std::collections::HashMap<UserId, Marks>>,
    pending: HashMap<u32, Pending>,
    /// What of it conversations were asked.
    asked: Asked,
    open: HashSet<ConversationId>,
    /// The client was told to go; until it does, everything goes on.
    announced: bool,
    /// Said once nothing is in flight any more.
    parting: Option<Bye>,
    closing: Option<Bye>,
}

/// A stored event, as a line needs it.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    /// Where.
    pub(crate) conversation: ConversationId,
    /// The request of this socket that became the event.
    pub(crate) answers: Option<u32>,
    /// What that request is answered.
    pub(crate) sent: Sent,
    /// What everybody else is sent.
    pub(crate) frame: &'a Bytes,
}

impl Line {
    pub(crate) fn new(bounds: Bounds) -> Line {
        Line {
            bounds,
            phase: Phase::Opening { heard: HashMap::default() },
            queue: VecDeque::new(),
            bytes: 0,
            gaps: HashMap::default(),
            heads: HashMap::default(),
            receipts: HashMap::default(),
            pending: HashMap::default(),
            asked: Asked::default(),
            open: HashSet::default(),
            announced: false,
            parting: None,
            closing: None,
        }
    }

    /// True once the socket is being closed; nothing is taken any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// The farewell of a socket that must not come back: what is still queued for it is not its to have.
    pub(crate) fn ended(&self) -> Option<Bye> {
        self.closing.clone().filter(|bye| !bye.reconnect)
    }

    /// True if there is something to write.
    pub(crate) fn is_ready(&self) -> bool {
        !self.queue.is_empty() || !self.receipts.is_empty() || self.closing.is_some()
    }

    /// Notes a request that wants an answer.
    pub(crate) fn begin(
        &mut self, id: u32, verb: &'static str, now: Instant, deadline: Instant,
    ) -> Result<(), NotBegun> {
        if self.pending.contains_key(&id) {
            return Err(NotBegun::SameId);
        }
        if self.parting.is_some() {
            return Err(NotBegun::Parting);
        }
        if self.pending.len() >= self.bounds.inflight {
            return Err(NotBegun::TooMany);
        }
        self.pending.insert(id, Pending { verb, since: now, deadline });
        Ok(())
    }

    /// True if a request wants an answer still.
    pub(crate) fn waits_for(&self, id: u32) -> bool {
        self.pending.contains_key(&id)
    }

    /// Answers a request, once. An answer to one that is no longer waited for is dropped.
    pub(crate) fn answer(&mut self, id: u32, frame: Bytes, now: Instant) {
        if let Some(pending) = self.pending.remove(&id) {
            observe(&pending, now);
            self.asked.forget(id);
            self.push(frame);
            self.part_if_answered();
        }
    }

    /// A request has become an event, now or an earlier time that it was asked. False: nobody waits for it.
    pub(crate) fn stored(&mut self, id: u32, sent: Sent, now: Instant) -> bool {
        self.asked.stored(id);
        let waited_for = self.waits_for(id);
        self.answer(id, push::ok(id, sent), now);
        waited_for
    }

    /// Keeps what a request asks of a conversation, for as long as it is unanswered. False if it is not to be asked yet:
    /// what was said before it waits.
    pub(crate) fn keep(
        &mut self, id: u32, owner: Option<Incarnation>, c: ConversationId, mail: &ToConversation,
    ) -> bool {
        !self.pending.contains_key(&id) || self.asked.keep(id, owner, c, mail)
    }

    /// A request was refused: what to say, if it is not asked again in a while.
    pub(crate) fn refused(&mut self, id: u32, error: Error) -> Option<Error> {
        self.asked.refused(id, error)
    }

    /// What is unanswered and is to be asked (again): its owner is not the one that has it, or that one is `lost`.
    pub(crate) fn ask_again(
        &mut self, lost: Option<Incarnation>, owner: impl Fn(ConversationId) -> Option<Incarnation>,
    ) -> Again {
        self.asked.again(lost, owner)
    }

    /// A frame that answers no request: `err` to something undecodable, `token`.
    pub(crate) fn push(&mut self, frame: Bytes) {
        if self.closing.is_none() {
            self.enqueue(frame.len(), Item::Frame(frame));
        }
    }

    /// Requests that waited too long, and what to say of those that nobody can have taken; they are no longer waited for.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(u32, Option<Error>)> {
        let late: Vec<u32> = self.pending.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| *id).collect();
        for id in &late {
            self.pending.remove(id);
        }
        late.into_iter().map(|id| (id, self.asked.given_up(id))).collect()
    }

    /// An event of a conversation: the answer to the request of this socket that became it, else a push.
    pub(crate) fn event(&mut self, told: &Told<'_>, now: Instant) {
        if self.closing.is_some() {
            return;
        }
        if told.answers.is_some_and(|id| self.stored(id, told.sent, now)) {
            return;
        }
        match &mut self.phase {
            Phase::Opening { heard } => raise(heard, told.conversation, told.sent.seq),
            Phase::Live => self.live_event(told.conversation, told.sent.seq, told.frame),
        }
    }

    fn live_event(&mut self, c: ConversationId, seq: Seq, frame: &Bytes) {
        if let Some(Item::Gap(gap)) = self.gaps.get(&c).and_then(|at| self.queue.get_mut(*at)) {
            gap.to = seq;
        } else if self.bytes + frame.len() > self.bounds.soft_bytes {
            if crate::planted::is(crate::planted::Mistake::GapSwallowed) {
                return;
            }
            metrics::counter!("starling_gaps_total").increment(1);
            self.gaps.insert(c, self.queue.len());
            self.enqueue(SMALL_ITEM_BYTES, Item::Gap(Gap { c, from: seq, to: seq }));
        } else {
            self.enqueue(frame.len(), Item::Frame(frame.clone()));
        }
    }

    /// The head of a conversation: who is behind fetches.
    pub(crate) fn head(&mut self, c: ConversationId, seq: Seq) {
        if self.closing.is_some() {
            return;
        }
        if let Phase::Opening { heard } = &mut self.phase {
            raise(heard, c, seq);
        } else if let Some(Item::Head(head)) = self.heads.get(&c).and_then(|at| self.queue.get_mut(*at)) {
            head.seq = head.seq.max(seq);
        } else {
            self.heads.insert(c, self.queue.len());
            self.enqueue(SMALL_ITEM_BYTES, Item::Head(Head { c, seq }));
        }
    }

    /// Marks of others, merged to the latest per user; only for conversations on screen.
    pub(crate) fn receipts(&mut self, c: ConversationId, marks: &[(UserId, Marks)]) {
        if self.is_live() && self.open.contains(&c) {
            self.receipts.entry(c).or_default().extend(marks.iter().copied());
        }
    }

    /// A push that may be dropped. `c`: only if this conversation is on screen.
    pub(crate) fn volatile(&mut self, class: Volatile, c: Option<ConversationId>, frame: &Bytes) {
        if !self.is_live() || c.is_some_and(|c| !self.open.contains(&c)) {
            return;
        }
        if self.bytes + frame.len() > self.bounds.soft_bytes {
            metrics::counter!("starling_outbound_dropped_total", "class" => class.label()).increment(1);
        } else {
            self.enqueue(frame.len(), Item::Frame(frame.clone()));
        }
    }

    /// A push about the user's own list. Before the first `sync` there is no list to change.
    pub(crate) fn list(&mut self, frame: &Bytes) {
        if self.is_live() {
            self.push(frame.clone());
        }
    }

    /// On screen or not: typing and receipts of others come only for what is.
    ///
    /// # Errors
    /// More than a screen can show.
    pub(crate) fn show(&mut self, c: ConversationId, on_screen: bool) -> Result<(), Error> {
        if !on_screen {
            self.open.remove(&c);
        } else if self.open.len() < OPEN_MAX || self.open.contains(&c) {
            self.open.insert(c);
        } else {
            return Err(Error::field("c", format!("at most {OPEN_MAX} conversations are open at once; close some")));
        }
        Ok(())
    }

    /// The answer to a `sync`. From here on everything is pushed; what was heard of meanwhile and lies beyond what the
    /// answer `covered` is announced by `head`.
    pub(crate) fn synced(&mut self, id: Option<u32>, frame: Bytes, covered: &Covered, now: Instant) {
        if let Some(id) = id {
            self.answer(id, frame, now);
        }
        if let Phase::Opening { heard } = std::mem::replace(&mut self.phase, Phase::Live) {
            for (c, seq) in heard {
                if covered.get(&c).is_none_or(|covered| seq > *covered) {
                    self.head(c, seq);
                }
            }
        }
    }

    /// Says `bye` now and closes later: until its client has opened another, the socket works on.
    pub(crate) fn announce(&mut self, bye: &Bye) {
        self.announced = true;
        self.push(push::push("bye", bye));
    }

    /// True once its client was told to go.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Says `bye` once everything in flight is answered: for a socket that has time to go.
    pub(crate) fn part(&mut self, bye: Bye) {
        self.parting.get_or_insert(bye);
        self.part_if_answered();
    }

    fn part_if_answered(&mut self) {
        if self.pending.is_empty()
            && let Some(bye) = self.parting.take()
        {
            self.close(bye);
        }
    }

    /// Says `bye` after what is queued; the first farewell counts.
    pub(crate) fn close(&mut self, bye: Bye) {
        if self.closing.is_none() {
            self.closing = Some(bye);
            self.pending = HashMap::default();
            self.asked.clear();
        }
    }

    /// Moves everything there is to write into `frames`; answers the farewell if there is one.
    pub(crate) fn take(&mut self, frames: &mut Vec<Bytes>) -> Option<Bye> {
        for item in self.queue.drain(..) {
            frames.push(match item {
                Item::Frame(frame) => frame,
                Item::Gap(gap) => push::push("gap", gap),
                Item::Head(head) => push::push("head", head),
            });
        }
        for (c, marks) in self.receipts.drain() {
            frames.push(push::push("rcpt", Receipts { c, marks }));
        }
        self.bytes = 0;
        // an idle socket keeps no room for the queue it once had
        if self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        if !self.gaps.is_empty() || !self.heads.is_empty() {
            (self.gaps, self.heads) = (HashMap::default(), HashMap::default());
        }
        self.closing.clone()
    }

    fn is_live(&self) -> bool {
        self.closing.is_none() && matches!(self.phase, Phase::Live)
    }

    fn enqueue(&mut self, bytes: usize, item: Item) {
        self.bytes += bytes;
        if self.bytes > self.bounds.hard_bytes {
            metrics::counter!("starling_outbound_dropped_total", "class" => "queue").increment(1);
            self.queue.clear();
            (self.gaps, self.heads) = (HashMap::default(), HashMap::default());
            self.receipts = HashMap::default();
            self.bytes = 0;
            self.close(Bye::of(CloseCode::Slow));
        } else {
            self.queue.push_back(item);
        }
    }
}

fn raise(heard: &mut HashMap<ConversationId, Seq>, c: ConversationId, seq: Seq) {
    let known = heard.entry(c).or_default();
    *known = (*known).max(seq);
}

fn observe(pending: &Pending, now: Instant) {
    METERS.answered(pending.verb, now.duration_since(pending.since));
}

#[cfg(test)]
mod tests;
