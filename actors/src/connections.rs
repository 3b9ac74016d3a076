//! The connection table of a node: every socket that said hello and every REST call that waits for an answer, by slot.
//! Here mail for sockets ends: it is put into their lines, bytes encoded once.

mod marked;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use protocol::{
    ConnId, SessionId,
    close::CloseCode,
    peer::{Done, Fanout, Outcome, ToConnections},
    push::{self, Bye, ListChange, ListChangeKind, PresenceStates, Sent, Typing},
};
use tokio::{sync::oneshot, time::Instant};

use self::marked::Marked;
use crate::outbound::{
    Outbound,
    line::{Told, Volatile},
};

enum Target {
    Socket(Arc<Outbound>),
    Call(Mutex<Option<oneshot::Sender<Outcome>>>),
}

#[derive(Default)]
struct Table {
    slots: Vec<(u32, Option<Target>)>,
    free: Vec<u32>,
    by_session: HashMap<SessionId, Vec<ConnId>>,
    sockets: usize,
}

/// What the table cannot do itself.
pub(crate) enum Later {
    /// Tell the session of this socket that its registration stands.
    Registered(ConnId),
    /// Tell the session of this socket that a request of it is to be asked again.
    NotTaken(ConnId),
    /// Tell these sessions to look again whom they may watch.
    LookAgain(Vec<ConnId>),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Connections {
    table: RwLock<Table>,
    /// Sockets that were given events and are woken once all events of a step are there.
    asleep: Mutex<Vec<Arc<Outbound>>>,
    marked: Mutex<Marked>,
}

fn conn_id(slot: u32, generation: u32) -> ConnId {
    ConnId(u64::from(generation) << 32 | u64::from(slot))
}

impl Table {
    fn insert(&mut self, make: impl FnOnce(ConnId) -> Target) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("a process has fewer than 2^32 connections")
        });
        let entry = &mut self.slots[slot as usize];
        let id = conn_id(slot, entry.0);
        entry.1 = Some(make(id));
        id
    }

    fn target(&self, conn: ConnId) -> Option<&Target> {
        let (generation, target) = self.slots.get((conn.0 & u64::from(u32::MAX)) as usize)?;
        target.as_ref().filter(|_| u64::from(*generation) == conn.0 >> 32)
    }

    fn socket(&self, conn: ConnId) -> Option<&Arc<Outbound>> {
        match self.target(conn)? {
            Target::Socket(outbound) => Some(outbound),
            Target::Call(_) => None,
        }
    }

    fn remove(&mut self, conn: ConnId) -> Option<Target> {
        self.target(conn)?;
        let slot = (conn.0 & u64::from(u32::MAX)) as u32;
        let entry = &mut self.slots[slot as usize];
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(slot);
        entry.1.take()
    }
}

impl Connections {
    /// Adds a socket. An older one of the same session and device is closed: a ghost never blocks its successor. One that
    /// was told to go is no ghost: its client opens this one before it leaves that.
    pub(crate) fn add_socket(&self, make: impl FnOnce(ConnId) -> Outbound) -> Arc<Outbound> {
        let mut table = self.write();
        let mut made = None;
        let conn = table.insert(|conn| {
            let outbound = Arc::new(make(conn));
            made = Some(outbound.clone());
            Target::Socket(outbound)
        });
        let outbound = made.expect("insert calls make");
        table.sockets += 1;
        let siblings = table.by_session.entry(outbound.caller.session).or_default();
        siblings.push(conn);
        let siblings = siblings.clone();
        for older in siblings.iter().filter(|id| **id != conn).filter_map(|id| table.socket(*id)) {
            if older.device == outbound.device && !older.with(|line| line.is_announced()) {
                older.close(Bye::of(CloseCode::Replaced));
            }
        }
        outbound
    }

    /// Adds a call that waits for one answer. It is over when the guard is dropped.
    pub(crate) fn add_call(self: &Arc<Self>) -> (Call, oneshot::Receiver<Outcome>) {
        let (answer, waiting) = oneshot::channel();
        let conn = self.write().insert(|_| Target::Call(Mutex::new(Some(answer))));
        (Call { conn, connections: self.clone() }, waiting)
    }

    /// Forgets a socket or a call.
    pub(crate) fn remove(&self, conn: ConnId) {
        let mut table = self.write();
        if let Some(Target::Socket(outbound)) = table.remove(conn) {
            table.sockets -= 1;
            if let Some(siblings) = table.by_session.get_mut(&outbound.caller.session) {
                siblings.retain(|id| *id != conn);
                if siblings.is_empty() {
                    table.by_session.remove(&outbound.caller.session);
                }
            }
        }
    }

    /// The line of a socket.
    pub(crate) fn socket(&self, conn: ConnId) -> Option<Arc<Outbound>> {
        self.read().socket(conn).cloned()
    }

    /// How many sockets.
    pub(crate) fn len(&self) -> usize {
        self.read().sockets
    }

    /// Every socket there is.
    pub(crate) fn sockets(&self) -> Vec<Arc<Outbound>> {
        self.select(|_| true)
    }

    /// Closes the sockets of a session.
    pub(crate) fn end_session(&self, session: SessionId, code: CloseCode) {
        let table = self.read();
        for conn in table.by_session.get(&session).into_iter().flatten() {
            if let Some(outbound) = table.socket(*conn) {
                outbound.close(Bye::of(code));
            }
        }
    }

    /// Does what mail says. Answers what only a session can do.
    pub(crate) fn deliver(&self, mail: ToConnections, now: Instant) -> Option<Later> {
        match mail {
            ToConnections::Event(fanout) => self.fan_out(&fanout, now),
            ToConnections::Head { conversation, seq, to } => self.each(&to, |o| o.with(|l| l.head(conversation, seq))),
            ToConnections::Receipts { conversation, mut marks, to } => {
                self.marked.lock().unwrap_or_else(PoisonError::into_inner).advance(conversation, &mut marks, now);
                if !marks.is_empty() {
                    self.each(&to, |o| o.with(|l| l.receipts(conversation, &marks)));
                }
            }
            ToConnections::Typing { conversation, user, on, to } => {
                let frame = push::push("typ", Typing { c: conversation, user, on });
                self.each(&to, |o| {
                    if o.caller.user != user {
                        o.with(|l| l.volatile(Volatile::Typing, Some(conversation), &frame));
                    }
                });
            }
            ToConnections::List { conversation: c, joined, seq, to } => {
                let change = if joined { ListChangeKind::Joined } else { ListChangeKind::Left };
                let frame = push::push("conv", ListChange { c, change, seq });
                self.each(&to, |o| o.with(|l| l.list(&frame)));
            }
            ToConnections::OwnRead { conversation: c, seq, to } => {
                let frame = push::push("conv", ListChange { c, change: ListChangeKind::Read, seq });
                self.each(&to, |o| o.with(|l| l.list(&frame)));
            }
            ToConnections::Presence { states, to } => {
                self.each(&to, |o| o.note_presence(&states));
                let frame = push::push("pres", PresenceStates { presence: states.into_iter().collect() });
                self.each(&to, |o| o.with(|l| l.volatile(Volatile::Presence, None, &frame)));
            }
            ToConnections::Registered(conn) => return Some(Later::Registered(conn)),
            ToConnections::Parted { user, to } => {
                let table = self.read();
                let sockets = to.iter().filter_map(|conn| table.socket(*conn));
                let concerned = sockets.filter(|outbound| outbound.watches(user));
                return Some(Later::LookAgain(concerned.map(|outbound| outbound.conn).collect()));
            }
            ToConnections::Resync(to) => self.each(&to, |o| o.close(Bye::of(CloseCode::Slow))),
            ToConnections::Answer(conn, tag, outcome) => return self.answer(conn, tag, outcome, now),
        }
        None
    }

    fn fan_out(&self, fanout: &Fanout, now: Instant) {
        let sent = Sent { seq: fanout.seq, post_no: fanout.post_no, at: fanout.at, dup: false };
        let table = self.read();
        let mut asleep = Vec::new();
        for conn in &fanout.to {
            match table.target(*conn) {
                Some(Target::Socket(outbound)) => {
                    let answers = fanout.requester.filter(|(asked, _)| asked == conn).map(|(_, tag)| tag);
                    let told = Told { conversation: fanout.conversation, answers, sent, frame: &fanout.frame };
                    if let ((), true) = outbound.with_asleep(|line| line.event(&told, now)) {
                        asleep.push(outbound.clone());
                    }
                }
                // a call waits for exactly one event
                Some(Target::Call(waiting)) => resolve(waiting, || {
                    Outcome::Done(Done::Stored { seq: sent.seq, post_no: sent.post_no, at: sent.at, dup: false })
                }),
                None => {}
            }
        }
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner).append(&mut asleep);
    }

    /// Wakes the sockets that were given events: one wake-up, and one write, for all events of a step.
    pub(crate) fn wake(&self) {
        let asleep = std::mem::take(&mut *self.asleep.lock().unwrap_or_else(PoisonError::into_inner));
        asleep.iter().for_each(|outbound| outbound.wake());
    }

    fn answer(&self, conn: ConnId, tag: u32, outcome: Outcome, now: Instant) -> Option<Later> {
        let table = self.read();
        match table.target(conn)? {
            Target::Call(waiting) => resolve(waiting, || outcome),
            Target::Socket(outbound) => {
                let frame = match outcome {
                    Outcome::Done(Done::Stored { seq, post_no, at, dup }) => {
                        outbound.with(|line| line.stored(tag, Sent { seq, post_no, at, dup }, now));
                        return None;
                    }
                    Outcome::Done(Done::Unchanged) => push::ok(tag, serde_json::json!({})),
                    Outcome::Done(Done::Presence(states)) => {
                        push::ok(tag, PresenceStates { presence: states.into_iter().collect() })
                    }
                    Outcome::Refused(refusal) => match outbound.with(|line| line.refused(tag, refusal.into())) {
                        Some(error) => crate::refusals::refused(tag, &error, conn),
                        None => return Some(Later::NotTaken(conn)),
                    },
                };
                outbound.with(|line| line.answer(tag, frame, now));
            }
        }
        None
    }

    fn each(&self, to: &[ConnId], work: impl Fn(&Outbound)) {
        let table = self.read();
        to.iter().filter_map(|conn| table.socket(*conn)).for_each(|outbound| work(outbound));
    }

    fn select(&self, wanted: impl Fn(&Outbound) -> bool) -> Vec<Arc<Outbound>> {
        let table = self.read();
        let sockets = table.slots.iter().filter_map(|(_, target)| match target {
            Some(Target::Socket(outbound)) => Some(outbound),
            _ => None,
        });
        sockets.filter(|outbound| wanted(outbound)).cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resolve(waiting: &Mutex<Option<oneshot::Sender<Outcome>>>, outcome: impl FnOnce() -> Outcome) {
    if let Some(answer) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = answer.send(outcome());
    }
}

/// A call's place in the table.
pub(crate) struct Call {
    pub(crate) conn: ConnId,
    connections: Arc<Connections>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connections.remove(self.conn);
    }
}
