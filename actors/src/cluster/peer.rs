//! One run of one peer, as this node sees it: what it is sent, what it sends, and what becomes of both when the link
//! breaks. Knows no socket (see `link`) and nothing of who is a member (see `placement`). Pure.

use bytes::Bytes;
use protocol::{
    ConversationId, NodeId,
    peer::{Batch, Beat, Outcome, Parcel, Requester, Slice, WatchId},
};
use tokio::time::Instant;

pub use super::outgoing::Bounds;
use super::{
    incoming::{Incoming, Received},
    outgoing::Outgoing,
};

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// A link stands, with this version of the frames.
    Up(u16),
    /// Mail for it, in order. What is given at once travels together.
    Mail(Vec<Parcel>),
    /// A sign of life for it.
    Beat(Beat),
    /// Bytes from it.
    Frame(Bytes),
    /// The time of an [`Action::WakeAt`] has come.
    Tick,
    /// The link is no more.
    Down,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Hand this frame to the link.
    Send(Bytes),
    /// End the link: the peer broke the rules, or is too slow. It counts as down already.
    Cut(String),
    /// Take these to whom they are for, before anything that follows.
    Deliver(Vec<Parcel>),
    /// The peer lives.
    Heard(Beat),
    /// There was no room for a request: nothing of it was or will be done.
    Answer(Requester, Outcome),
    /// A request of a client whose link broke: somebody may send it again, with the same client id.
    HandBack {
        /// The request.
        parcel: Parcel,
        /// True if it may have arrived nevertheless.
        sent: bool,
    },
    /// There was no room to tell a conversation on the peer of a device: the channel forgets that it watches. The
    /// conversation is told to watch again.
    Forget(ConversationId, Slice, WatchId),
    /// Send [`Input::Tick`] then.
    WakeAt(Instant),
}

/// See the module. Kept as long as that run may come back: what it was not told waits here as heads.
pub struct Peer {
    outgoing: Outgoing,
    incoming: Option<Incoming>,
}

impl Peer {
    /// No link yet. `name` labels its figures.
    #[must_use]
    pub fn new(name: &NodeId, bounds: Bounds) -> Peer {
        Peer { outgoing: Outgoing::new(name, bounds), incoming: None }
    }

    /// True if an event or head of this conversation is on its way to it, or waits to be: not all is told.
    #[must_use]
    pub fn is_telling(&self, c: ConversationId) -> bool {
        self.outgoing.is_telling(c)
    }

    /// What waits to be sent to it.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.outgoing.queue_bytes()
    }

    /// Decides.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Up(version) => {
                // of a link that was replaced, `Down` came before
                self.incoming = Some(Incoming::default());
                if let Err(why) = self.outgoing.up(version, &mut out) {
                    self.cut(why, &mut out);
                }
            }
            Input::Mail(parcels) => {
                if let Err(why) = self.outgoing.mail(parcels, &mut out) {
                    self.cut(why, &mut out);
                }
            }
            Input::Beat(beat) => out.extend(self.outgoing.beat(beat)),
            Input::Frame(frame) => {
                if let Err(why) = self.frame(&frame, now, &mut out) {
                    self.cut(why, &mut out);
                }
            }
            Input::Tick => out.extend(self.outgoing.tick(now)),
            Input::Down => self.down(&mut out),
        }
        out
    }

    fn frame(&mut self, frame: &[u8], now: Instant, out: &mut Vec<Action>) -> Result<(), String> {
        // what was under way when the link was cut here is nobody's any more
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        match incoming.read(frame)? {
            Received::Parcels(Batch { number, acked, asks, parcels }) => {
                out.push(Action::Deliver(parcels));
                self.outgoing.handed_over(number);
                self.outgoing.acked(acked, out)?;
                out.extend(self.outgoing.acknowledge(asks, now));
            }
            Received::Again => out.extend(self.outgoing.ack()),
            Received::Acked(number) => self.outgoing.acked(number, out)?,
            Received::Beat(beat) => out.push(Action::Heard(beat)),
        }
        Ok(())
    }

    fn cut(&mut self, why: String, out: &mut Vec<Action>) {
        out.push(Action::Cut(why));
        self.down(out);
    }

    fn down(&mut self, out: &mut Vec<Action>) {
        self.incoming = None;
        self.outgoing.down(out);
    }
}

#[cfg(test)]
mod tests;
