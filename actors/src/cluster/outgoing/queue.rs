//! What waits to be sent to one peer: in order, but for what is of no use later and for what is said again. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use protocol::{
    ConnId, ConversationId,
    peer::{PARCELS_BYTES_MAX, Parcel, Slice, WatchId, parcel_bytes},
};

use super::{
    Bounds,
    class::{self, Class, Key, recipients},
    heads::{Fresh, Heads, Told},
    receipts::Receipts,
};

/// Sockets, or users' marks, in one parcel: with a post of the usual size they fit into a frame.
const LIST_MAX: usize = 4_096;

/// In its place in the order.
#[derive(Debug)]
enum Item {
    Parcel(Parcel, usize),
    /// Heads of this conversation, which grow until they are sent.
    Heads(ConversationId),
    /// This watch was dropped.
    WatchAgain(ConversationId, Slice, WatchId),
    /// Sockets that must come back.
    Resync,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    /// Parts of the item that was taken last: next to be sent.
    parts: VecDeque<(Parcel, usize)>,
    ordered: VecDeque<Item>,
    /// How many items were ever taken off the front of `ordered`: places stay valid.
    taken: u64,
    latest: HashMap<Key, u64>,
    heads: Heads,
    dropped: HashSet<(ConversationId, Slice, WatchId)>,
    receipts: Receipts,
    volatile: VecDeque<(&'static str, Parcel, usize)>,
    bytes: usize,
    volatile_bytes: usize,
    /// How many parcels tell of a conversation, from their place in the queue to their acknowledgement.
    telling: HashMap<ConversationId, usize>,
    /// The last view that mail was sent under.
    view: u64,
}

impl Queue {
    /// Nothing waits.
    pub(super) fn new(bounds: Bounds) -> Queue {
        Queue {
            bounds,
            parts: VecDeque::new(),
            ordered: VecDeque::new(),
            taken: 0,
            latest: HashMap::new(),
            heads: Heads::new(bounds.heads),
            dropped: HashSet::new(),
            receipts: Receipts::new(bounds.receipts),
            volatile: VecDeque::new(),
            bytes: 0,
            volatile_bytes: 0,
            telling: HashMap::new(),
            view: 0,
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.volatile_bytes
    }

    /// True if something that can be shed still has room.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.bounds.queue_bytes
    }

    /// True if heads of the conversation that this tells of wait.
    pub(super) fn has_heads(&self, parcel: &Parcel) -> bool {
        Told::where_of(&parcel.mail).is_some_and(|c| self.heads.has(c))
    }

    /// True if something of this conversation is to be told, or was sent and is not acknowledged.
    pub(super) fn is_telling(&self, c: ConversationId) -> bool {
        self.telling.contains_key(&c) || self.heads.has(c)
    }

    /// One piece of what was sent was acknowledged.
    pub(super) fn told(&mut self, c: ConversationId) {
        if let Some(n) = self.telling.get_mut(&c) {
            *n -= 1;
            if *n == 0 {
                self.telling.remove(&c);
            }
        }
    }

    /// Puts a parcel at the end.
    pub(super) fn push(&mut self, parcel: Parcel, bytes: usize) {
        self.begin_telling(&parcel);
        self.view = self.view.max(parcel.view);
        self.bytes += bytes;
        self.ordered.push_back(Item::Parcel(parcel, bytes));
    }

    /// Puts a state in the place of what waits under the same key, or at the end.
    pub(super) fn push_latest(&mut self, key: Key, parcel: Parcel, bytes: usize) {
        let ahead = self.latest.get(&key).and_then(|place| usize::try_from(place - self.taken).ok());
        if let Some(Item::Parcel(waiting, waiting_bytes)) = ahead.and_then(|ahead| self.ordered.get_mut(ahead)) {
            self.bytes = self.bytes - *waiting_bytes + bytes;
            (*waiting, *waiting_bytes) = (parcel, bytes);
            return;
        }
        self.latest.insert(key, self.taken + self.ordered.len() as u64);
        self.push(parcel, bytes);
    }

    /// Tells only the head instead. `answering`: who asked is still to be answered over this link.
    pub(super) fn fold(&mut self, told: Told, answering: bool) {
        self.view = self.view.max(told.view);
        let c = told.conversation;
        let fresh = self.heads.fold(told, answering);
        self.place(c, &fresh);
    }

    /// Sockets that must come back.
    pub(super) fn fold_resync(&mut self, conns: Vec<ConnId>) {
        if self.heads.fold_resync(conns).resync {
            self.ordered.push_back(Item::Resync);
        }
    }

    /// This watch is no more; true unless that was known.
    pub(super) fn drop_watch(&mut self, c: ConversationId, slice: Slice, watch: WatchId) -> bool {
        let fresh = self.dropped.insert((c, slice, watch));
        if fresh {
            self.ordered.push_back(Item::WatchAgain(c, slice, watch));
        }
        fresh
    }

    /// Adds marks to those that wait. Of how many users had no room.
    pub(super) fn push_receipts(&mut self, parcel: Parcel) -> u64 {
        self.receipts.push(parcel)
    }

    /// Puts something volatile at the end; the oldest make room, and are named.
    pub(super) fn push_volatile(&mut self, what: &'static str, parcel: Parcel, bytes: usize) -> Vec<&'static str> {
        self.volatile_bytes += bytes;
        self.volatile.push_back((what, parcel, bytes));
        let mut dropped = Vec::new();
        while self.volatile_bytes > self.bounds.volatile_bytes {
            let Some((what, _, bytes)) = self.volatile.pop_front() else { break };
            self.volatile_bytes -= bytes;
            dropped.push(what);
        }
        dropped
    }

    /// As much as one frame holds, in order; empty: nothing waits.
    pub(super) fn take(&mut self) -> Vec<Parcel> {
        let (mut taken, mut left) = (Vec::new(), PARCELS_BYTES_MAX);
        while taken.len() < self.bounds.frame_parcels {
            if self.parts.is_empty() {
                // what is beside the order gets an eighth of a frame, however much is in order
                let beside_first = left <= PARCELS_BYTES_MAX / 8;
                if !(beside_first && self.next_beside() || self.next_ordered() || self.next_beside()) {
                    break;
                }
                continue;
            }
            if self.parts.front().is_some_and(|(_, bytes)| *bytes > left) {
                break;
            }
            if let Some((parcel, bytes)) = self.parts.pop_front() {
                self.bytes -= bytes;
                left -= bytes;
                taken.push(parcel);
            }
        }
        taken
    }

    /// Takes everything that is in order out, and forgets the rest but the heads: the link is no more.
    pub(super) fn drain(&mut self) -> Vec<Parcel> {
        let parts = std::mem::take(&mut self.parts).into_iter().map(|(parcel, _)| parcel);
        let ordered = std::mem::take(&mut self.ordered).into_iter().filter_map(|item| match item {
            Item::Parcel(parcel, _) => Some(parcel),
            _ => None,
        });
        let drained = parts.chain(ordered).collect();
        self.heads.forget_answers();
        let heads = std::mem::replace(&mut self.heads, Heads::new(self.bounds.heads));
        *self = Queue { heads, view: self.view, ..Queue::new(self.bounds) };
        drained
    }

    /// Gives what waits as heads its place again, after [`Queue::drain`].
    pub(super) fn resume(&mut self) {
        self.ordered.clear();
        self.ordered.extend(self.heads.conversations().into_iter().map(Item::Heads));
        if self.heads.has_resync() {
            self.ordered.push_back(Item::Resync);
        }
    }

    fn place(&mut self, c: ConversationId, fresh: &Fresh) {
        if fresh.heads {
            self.ordered.push_back(Item::Heads(c));
        }
        if fresh.resync {
            self.ordered.push_back(Item::Resync);
        }
    }

    fn next_ordered(&mut self) -> bool {
        let Some(item) = self.ordered.pop_front() else { return false };
        self.taken += 1;
        match item {
            Item::Parcel(parcel, bytes) => {
                if let Class::Latest(key) = class::of(&parcel.mail) {
                    self.latest.remove(&key);
                }
                self.parts.push_back((parcel, bytes));
            }
            Item::Heads(c) => {
                for parcel in self.heads.take(c) {
                    self.add_parts(parcel);
                }
            }
            Item::WatchAgain(c, slice, watch) => {
                self.dropped.remove(&(c, slice, watch));
                let mail = class::watch_again(c, slice, watch);
                self.add_parts(Parcel { view: self.view, forwarded: false, mail });
            }
            Item::Resync => {
                for parcel in self.heads.take_resync(self.view) {
                    self.add_parts(parcel);
                }
            }
        }
        true
    }

    fn next_beside(&mut self) -> bool {
        let receipts = self.receipts.take(LIST_MAX);
        if !receipts.is_empty() {
            receipts.into_iter().for_each(|parcel| self.add_parts(parcel));
            return true;
        }
        let Some((_, parcel, bytes)) = self.volatile.pop_front() else { return false };
        self.volatile_bytes -= bytes;
        self.bytes += bytes;
        self.parts.push_back((parcel, bytes));
        true
    }

    fn begin_telling(&mut self, parcel: &Parcel) {
        if let Some(c) = Told::where_of(&parcel.mail) {
            *self.telling.entry(c).or_default() += 1;
        }
    }

    fn add_parts(&mut self, parcel: Parcel) {
        for part in split(parcel) {
            let bytes = parcel_bytes(&part);
            self.begin_telling(&part);
            self.bytes += bytes;
            self.parts.push_back((part, bytes));
        }
    }
}

/// The same to fewer sockets each, if they are too many for one parcel.
pub(super) fn split(mut parcel: Parcel) -> Vec<Parcel> {
    let mut parts = Vec::new();
    while let Some(to) = recipients(&mut parcel.mail).filter(|to| to.len() > LIST_MAX) {
        let rest = to.split_off(LIST_MAX);
        let mut next = parcel.clone();
        if let Some(to) = recipients(&mut next.mail) {
            *to = rest;
        }
        parts.push(std::mem::replace(&mut parcel, next));
    }
    parts.push(parcel);
    parts
}
