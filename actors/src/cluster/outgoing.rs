//! What one peer is sent: a bounded queue, batches of it as numbered frames, and never more of them on the way than the
//! peer can have acknowledged soon. When there is no room, or the link breaks, each class of mail has an outcome with a
//! name (`class.rs`); none is lost in silence. Pure.

mod bounds;
mod class;
mod heads;
mod queue;
mod receipts;

use std::collections::VecDeque;

use protocol::{
    Code, ConnId, ConversationId, Error, NodeId,
    limits::PEER_FRAME_BYTES_MAX,
    peer::{
        Batch, Beat, Frame, Mail, Outcome, PARCELS_BYTES_MAX, Parcel, Requester, ToConnections, encode, parcel_bytes,
    },
};
use tokio::time::Instant;

pub use self::bounds::Bounds;
use self::{
    class::Class,
    heads::Told,
    queue::{Queue, split},
};
use super::{acks::Acks, peer::Action};
use crate::meters::METERS;

/// See the module.
pub(super) struct Outgoing {
    bounds: Bounds,
    link: Option<Link>,
    queue: Queue,
    figures: Figures,
}

/// One link while it stands.
#[derive(Debug)]
struct Link {
    version: u16,
    /// Of the last frame sent.
    number: u64,
    unacked: VecDeque<Sent>,
    unacked_bytes: usize,
    /// Frames and bytes since the last frame that asked to be acknowledged at once.
    unasked: (usize, usize),
    acks: Acks,
}

/// A frame on its way, and what is left of it if it never arrives.
#[derive(Debug)]
struct Sent {
    number: u64,
    bytes: usize,
    rest: Vec<Rest>,
}

#[derive(Debug)]
enum Rest {
    Told(Told),
    Request(Parcel),
    Resync(Vec<ConnId>),
}

impl Rest {
    /// What has to be done about a parcel that may be lost; `None`: nothing, its cause says it again.
    fn of(parcel: Parcel) -> Option<Rest> {
        match (class::of(&parcel.mail), parcel.mail) {
            (Class::Request(_), mail) => Some(Rest::Request(Parcel { mail, ..parcel })),
            (_, Mail::Connections(ToConnections::Resync(conns))) => Some(Rest::Resync(conns)),
            (_, Mail::Connections(mail)) => Told::of(parcel.view, mail).map(Rest::Told),
            _ => None,
        }
    }
}

impl Link {
    fn new(version: u16) -> Link {
        let unacked = VecDeque::new();
        Link { version, number: 0, unacked, unacked_bytes: 0, unasked: (0, 0), acks: Acks::default() }
    }

    /// True if the next frame asks to be acknowledged at once: an eighth of the window is on its way unasked.
    fn asks(&self, bounds: &Bounds) -> bool {
        let (frames, bytes) = self.unasked;
        frames + 1 >= bounds.window_frames.div_ceil(8) || bytes >= bounds.window_bytes / 8
    }

    fn has_credit(&self, bounds: &Bounds) -> bool {
        self.unacked.len() < bounds.window_frames && self.unacked_bytes + PEER_FRAME_BYTES_MAX <= bounds.window_bytes
    }
}

impl Outgoing {
    /// No link yet. `name` labels its figures.
    pub(super) fn new(name: &NodeId, bounds: Bounds) -> Outgoing {
        Outgoing { bounds, link: None, queue: Queue::new(bounds), figures: Figures::of(name) }
    }

    /// True if an event or head of this conversation waits or is unacknowledged.
    pub(super) fn is_telling(&self, c: ConversationId) -> bool {
        self.queue.is_telling(c)
    }

    /// What waits, for room or for a link.
    pub(super) fn queue_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// A fresh link: what waits as heads goes first.
    pub(super) fn up(&mut self, version: u16, out: &mut Vec<Action>) -> Result<(), String> {
        self.link = Some(Link::new(version));
        self.queue.resume();
        self.pump(out)
    }

    /// Mail for the peer. An error: it is too slow for what may not be shed.
    pub(super) fn mail(&mut self, parcels: Vec<Parcel>, out: &mut Vec<Action>) -> Result<(), String> {
        for parcel in parcels.into_iter().flat_map(split) {
            self.accept(parcel, out)?;
        }
        self.pump(out)?;
        let bytes = self.queue.bytes();
        if bytes > self.bounds.queue_hard_bytes {
            return Err(format!("{bytes} bytes wait for it that may not be shed"));
        }
        Ok(())
    }

    /// The peer has handed over everything up to this number. An error: nothing of that number was sent.
    pub(super) fn acked(&mut self, number: u64, out: &mut Vec<Action>) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if number > link.number {
            return Err(format!("number {number} was acknowledged, of {} that were sent", link.number));
        }
        while link.unacked.front().is_some_and(|sent| sent.number <= number) {
            let Some(sent) = link.unacked.pop_front() else { break };
            link.unacked_bytes -= sent.bytes;
            for rest in sent.rest {
                if let Rest::Told(told) = rest {
                    self.queue.told(told.conversation);
                }
            }
        }
        self.pump(out)
    }

    /// What the peer sent, up to this number, is where it belongs. Whatever is sent from now on says so.
    pub(super) fn handed_over(&mut self, number: u64) {
        if let Some(link) = &mut self.link {
            link.acks.handed_over(number);
        }
    }

    /// Nothing was sent that would have acknowledged what was handed over: does so if the peer asked for it, or later.
    pub(super) fn acknowledge(&mut self, asked: bool, now: Instant) -> Option<Action> {
        let link = self.link.as_mut().filter(|link| link.acks.owes())?;
        if asked { self.ack() } else { link.acks.wait(now).map(Action::WakeAt) }
    }

    /// Acknowledges what has waited long enough.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Action> {
        let due = self.link.as_ref()?.acks.due()?;
        if due <= now { self.ack() } else { Some(Action::WakeAt(due)) }
    }

    /// Acknowledges everything handed over, again if need be.
    pub(super) fn ack(&mut self) -> Option<Action> {
        let link = self.link.as_mut()?;
        encode(&Frame::Ack(link.acks.say()), link.version).ok().map(Action::Send)
    }

    /// A beat overtakes what waits: it is never behind the window.
    pub(super) fn beat(&self, beat: Beat) -> Option<Action> {
        let version = self.link.as_ref()?.version;
        encode(&Frame::Beat(beat), version).ok().map(Action::Send)
    }

    /// The link is no more: what is unacknowledged may or may not have arrived.
    pub(super) fn down(&mut self, out: &mut Vec<Action>) {
        let Some(link) = self.link.take() else { return };
        let waiting = self.queue.drain();
        for rest in link.unacked.into_iter().flat_map(|sent| sent.rest) {
            self.lost(rest, true, out);
        }
        for rest in waiting.into_iter().filter_map(Rest::of) {
            self.lost(rest, false, out);
        }
        self.figures.queue(self.queue.bytes());
    }

    fn lost(&mut self, rest: Rest, sent: bool, out: &mut Vec<Action>) {
        match rest {
            Rest::Told(_) if crate::planted::is(crate::planted::Mistake::HeadsNotKept) => {}
            Rest::Told(told) => self.queue.fold(told, false),
            Rest::Resync(conns) => self.queue.fold_resync(conns),
            Rest::Request(parcel) => out.push(Action::HandBack { parcel, sent }),
        }
    }

    fn accept(&mut self, parcel: Parcel, out: &mut Vec<Action>) -> Result<(), String> {
        if self.link.is_none() {
            if let Some(rest) = Rest::of(parcel) {
                self.lost(rest, false, out);
            }
            return Ok(());
        }
        let (class, bytes) = (class::of(&parcel.mail), parcel_bytes(&parcel));
        let fits = bytes <= PARCELS_BYTES_MAX;
        if !self.queue.has_room(bytes) {
            // what the window still allows need not wait for the rest of what was given
            self.pump(out)?;
        }
        match class {
            Class::Request(requester) if !fits => self.refuse(requester, too_large(), out),
            Class::Request(requester) if !self.queue.has_room(bytes) => self.refuse(requester, overloaded(), out),
            // nothing overtakes the heads of its conversation
            Class::Told if self.queue.has_heads(&parcel) || !fits || !self.queue.has_room(bytes) => {
                self.figures.dropped("event", 1);
                self.fold(parcel);
            }
            Class::Watch(c, slice, watch) if !fits || !self.queue.has_room(bytes) => {
                self.figures.dropped("watch", 1);
                if self.queue.drop_watch(c, slice, watch) {
                    out.push(Action::Forget(c, slice, watch));
                }
            }
            _ if !fits => self.figures.dropped("large", 1),
            Class::Request(_) | Class::Told | Class::Watch(..) | Class::Kept => self.queue.push(parcel, bytes),
            Class::Latest(key) => self.queue.push_latest(key, parcel, bytes),
            Class::Receipts => self.figures.dropped("receipts", self.queue.push_receipts(parcel)),
            Class::Volatile(what) => {
                let dropped = self.queue.push_volatile(what, parcel, bytes);
                dropped.into_iter().for_each(|what| self.figures.dropped(what, 1));
            }
        }
        Ok(())
    }

    fn fold(&mut self, parcel: Parcel) {
        if let Some(Rest::Told(told)) = Rest::of(parcel) {
            self.queue.fold(told, true);
        }
    }

    fn refuse(&self, requester: Option<Requester>, error: Error, out: &mut Vec<Action>) {
        self.figures.dropped("request", 1);
        out.extend(requester.map(|requester| Action::Answer(requester, Outcome::Refused(error.into()))));
    }

    /// Sends what the window allows.
    fn pump(&mut self, out: &mut Vec<Action>) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Ok(()) };
        while link.has_credit(&self.bounds) {
            let parcels = self.queue.take();
            if parcels.is_empty() {
                break;
            }
            let (number, asks) = (link.number + 1, link.asks(&self.bounds));
            let frame = Frame::Parcels(Batch { number, acked: link.acks.say(), asks, parcels });
            let bytes = encode(&frame, link.version).map_err(|e| e.to_string())?;
            let Frame::Parcels(Batch { parcels, .. }) = frame else { break };
            link.number = number;
            link.unacked_bytes += bytes.len();
            link.unasked = if asks { (0, 0) } else { (link.unasked.0 + 1, link.unasked.1 + bytes.len()) };
            parcels.iter().for_each(|parcel| METERS.peer_parcel(&parcel.mail));
            let rest = parcels.into_iter().filter_map(Rest::of).collect();
            link.unacked.push_back(Sent { number, bytes: bytes.len(), rest });
            out.push(Action::Send(bytes));
        }
        self.figures.queue(self.queue.bytes());
        Ok(())
    }
}

fn overloaded() -> Error {
    Error::new(Code::Overloaded, "too much waits for the node that this is for; nothing was stored").after_ms(200)
}

fn too_large() -> Error {
    Error::new(Code::TooLarge, "too large to be taken to the node that this is for; nothing was stored")
}

struct Figures {
    queue_bytes: metrics::Gauge,
}

impl Figures {
    fn of(peer: &NodeId) -> Figures {
        Figures { queue_bytes: metrics::gauge!("starling_peer_queue_bytes", "peer" => peer.as_str().to_owned()) }
    }

    fn queue(&self, bytes: usize) {
        self.queue_bytes.set(bytes as f64);
    }

    fn dropped(&self, class: &'static str, n: u64) {
        if n > 0 {
            metrics::counter!("starling_peer_dropped_total", "class" => class).increment(n);
        }
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.queue_bytes.set(0.0);
    }
}
