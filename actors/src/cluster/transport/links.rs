//! Every link of this node, from the stream to its end: who greets first, who may speak, which of two links to the same peer
//! stays. Pure: what happened comes in, what is to be done comes out. Never looks into parcels.
//!
//! Of two nodes the one with the smaller incarnation decides, so that both keep the same link when both dialled:
//!
//! ```text
//! decides                         follows
//! greeting ──────────────────────►  compares
//! compares ◄────────────────────── greeting
//! Up, welcome ───────────────────►  Up (a frame that overtakes the welcome counts as one)
//! ```

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    Incarnation,
    limits::PEER_INBOUND_BYTES_MAX,
    peer::{self, Frame, Greeting},
};
use tokio::time::Instant;

use super::{greeting, messages::Token};
use crate::cluster::link::{LinkEvent, PeerAddress};

/// A stream becomes a link within this time or is closed.
pub(super) const OPENING_MAX: Duration = Duration::from_secs(5);
/// A second link that the peer dialled within this time of our first comes from both having dialled; later, it has lost
/// the first.
const SIMULTANEOUS: Duration = OPENING_MAX;
/// Why the second link of two that were dialled at once is refused: the one reason that says nothing against the peer.
const LINKED: &str = "the two are linked already";
/// What one peer may have arrived and not yet been looked at: many times the window that a peer keeps to.
const PENDING_BYTES_MAX: usize = 16 * PEER_INBOUND_BYTES_MAX;
/// Of what a peer says for people.
const WHY_CHARS_MAX: usize = 400;

/// Tells links apart within this process.
pub(super) type LinkId = u64;

/// What happened.
pub(super) enum Input {
    /// A stream is there, ours if it was dialled; what its certificate bears, where there are certificates.
    Opened {
        link: LinkId,
        token: Token,
        dialled: Option<PeerAddress>,
        names: Option<Vec<String>>,
    },
    /// The peer says which run it is. Its actors can be reached.
    Ready {
        link: LinkId,
        peer: Incarnation,
    },
    Greeted {
        token: Token,
        greeting: Bytes,
    },
    Welcomed {
        token: Token,
    },
    Refused {
        token: Token,
        why: String,
    },
    Came {
        token: Token,
        frame: Bytes,
    },
    /// [`OPENING_MAX`] has passed since [`Input::Opened`].
    Late {
        link: LinkId,
    },
    /// The stream is gone, or nothing can be sent on it.
    Ended {
        link: LinkId,
        why: String,
    },
    /// The owner of the links wants no more of this peer.
    Drop {
        peer: Incarnation,
    },
    /// The actors that receive have been started anew; what came meanwhile is lost.
    Restarted,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) enum Action {
    Greet(LinkId),
    Welcome(LinkId),
    Refuse(LinkId, String),
    Close(LinkId),
    Tell(Told),
    /// For people: a link that somebody else asked for came to nothing.
    Note(String),
    /// For people: settings that should be equal.
    Unlike {
        peer: String,
        settings: String,
    },
}

/// An event, and what it counts against until somebody takes it.
#[derive(Debug)]
pub(super) struct Told {
    event: LinkEvent,
    pending: Option<(Arc<AtomicUsize>, usize)>,
}

impl Told {
    pub(super) fn of(event: LinkEvent) -> Told {
        Told { event, pending: None }
    }

    /// Looked at: no longer pending.
    pub(super) fn take(mut self) -> LinkEvent {
        if let Some((pending, bytes)) = self.pending.take() {
            pending.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.event
    }
}

enum Stage {
    /// Until its actors can be reached. Its greeting may be here first: other actors receive it than those who say so.
    Opening(Option<Bytes>),
    /// We decide: our greeting is out. Or we follow: theirs will come.
    Greeting,
    /// We follow, and have agreed: the welcome will come.
    Agreed(Greeting, u16),
    Up(Instant),
}

struct Link {
    token: Token,
    dialled: Option<PeerAddress>,
    names: Option<Vec<String>>,
    /// From [`Input::Ready`] on.
    peer: Option<Incarnation>,
    stage: Stage,
    pending: Arc<AtomicUsize>,
    /// One of the two has refused the other.
    misfit: bool,
}

/// See the module.
pub(super) struct Links {
    ours: Greeting,
    links: HashMap<LinkId, Link>,
    by_token: HashMap<Token, LinkId>,
    up: HashMap<Incarnation, LinkId>,
}

impl Links {
    pub(super) fn new(ours: Greeting) -> Links {
        Links { ours, links: HashMap::new(), by_token: HashMap::new(), up: HashMap::new() }
    }

    /// The link to this run of a peer, if there is one.
    pub(super) fn to(&self, peer: Incarnation) -> Option<LinkId> {
        self.up.get(&peer).copied()
    }

    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Opened { link, token, dialled, names } => {
                let pending = Arc::default();
                self.by_token.insert(token, link);
                let (peer, stage, misfit) = (None, Stage::Opening(None), false);
                self.links.insert(link, Link { token, dialled, names, peer, stage, pending, misfit });
            }
            Input::Ready { link, peer } => self.ready(link, peer, now, &mut out),
            Input::Greeted { token, greeting } => self.greeted(token, greeting, now, &mut out),
            Input::Welcomed { token } => self.welcomed(token, now, &mut out),
            Input::Refused { token, why } => {
                if let Some(link) = self.by_token.get(&token).copied() {
                    if let Some(known) = self.links.get_mut(&link) {
                        known.misfit = why != LINKED;
                    }
                    self.close(link, &format!("refused by the peer: {}", for_people(&why)), &mut out);
                }
            }
            Input::Came { token, frame } => self.came(token, frame, now, &mut out),
            Input::Late { link } => match self.links.get(&link) {
                Some(Link { stage: Stage::Up(_), .. }) => {}
                Some(_) => self.close(link, "it did not greet in time", &mut out),
                // refused: the peer had its time to hear why
                None => out.push(Action::Close(link)),
            },
            Input::Ended { link, why } => self.close(link, &why, &mut out),
            Input::Drop { peer } => {
                if let Some(link) = self.to(peer) {
                    self.close(link, "dropped by this node", &mut out);
                }
            }
            Input::Restarted => {
                let mut all: Vec<LinkId> = self.links.keys().copied().collect();
                all.sort_unstable();
                for link in all {
                    self.close(link, "what receives on this node was started anew", &mut out);
                }
            }
        }
        out
    }

    fn ready(&mut self, link: LinkId, peer: Incarnation, now: Instant, out: &mut Vec<Action>) {
        let Some(known) = self.links.get_mut(&link) else { return };
        if peer == self.ours.incarnation {
            return self.close(link, "this node itself answers there", out);
        }
        let Stage::Opening(early) = &mut known.stage else { return };
        let (early, token) = (early.take(), known.token);
        known.peer = Some(peer);
        known.stage = Stage::Greeting;
        if decides(&self.ours, peer) {
            out.push(Action::Greet(link));
        }
        if let Some(greeting) = early {
            self.greeted(token, greeting, now, out);
        }
    }

    fn greeted(&mut self, token: Token, greeting: Bytes, now: Instant, out: &mut Vec<Action>) {
        let Some(link) = self.by_token.get(&token).copied() else { return };
        let Some(known) = self.links.get_mut(&link) else { return };
        let peer = match (&mut known.stage, known.peer) {
            (Stage::Greeting, Some(peer)) => peer,
            (Stage::Opening(early @ None), _) => return *early = Some(greeting),
            _ => return self.close(link, "it greets twice", out),
        };
        let decides = decides(&self.ours, peer);
        let theirs = match peer::decode(&greeting) {
            Ok(Frame::Greeting(theirs)) => theirs,
            Ok(_) => return self.refuse(link, "that is no greeting", out),
            Err(error) => return self.refuse(link, &format!("cannot read its greeting: {error}"), out),
        };
        if theirs.incarnation != peer {
            return self.refuse(link, "it greets as another run than it began as", out);
        }
        let expected = known.dialled.as_ref().and_then(|address| address.node.clone());
        let expected = expected.as_ref().map(protocol::NodeId::as_str);
        let agreed = match greeting::compare(&self.ours, &theirs, known.names.as_deref(), expected) {
            Ok(agreed) => agreed,
            Err(why) => {
                // where another node answers, nothing is known of the one that was looked for
                known.misfit = expected.is_none_or(|expected| expected == theirs.node.as_str());
                return self.refuse(link, &why, out);
            }
        };
        if !agreed.unlike.is_empty() {
            let settings = for_people(&agreed.unlike.join(", "));
            out.push(Action::Unlike { peer: theirs.node.as_str().to_owned(), settings });
        }
        let ours = known.dialled.is_some();
        if let Some(other) = self.to(peer).and_then(|other| self.links.get(&other))
            && let Stage::Up(since) = other.stage
        {
            let both = other.dialled.is_some() && now.saturating_duration_since(since) < SIMULTANEOUS;
            // our own dial was under way when the first came up: we have not lost that one
            if ours || (decides && both) {
                return self.refuse(link, LINKED, out);
            }
        }
        if !decides {
            if let Some(known) = self.links.get_mut(&link) {
                known.stage = Stage::Agreed(theirs, agreed.version);
            }
            return out.push(Action::Greet(link));
        }
        out.push(Action::Welcome(link));
        self.up(link, theirs, agreed.version, now, out);
    }

    fn welcomed(&mut self, token: Token, now: Instant, out: &mut Vec<Action>) {
        let Some(link) = self.by_token.get(&token).copied() else { return };
        let Some(known) = self.links.get_mut(&link) else { return };
        match std::mem::replace(&mut known.stage, Stage::Greeting) {
            Stage::Agreed(theirs, version) => self.up(link, theirs, version, now, out),
            // its frames may have been first
            Stage::Up(since) => known.stage = Stage::Up(since),
            Stage::Opening(_) | Stage::Greeting => self.close(link, "it welcomes who has not greeted", out),
        }
    }

    fn came(&mut self, token: Token, frame: Bytes, now: Instant, out: &mut Vec<Action>) {
        let Some(link) = self.by_token.get(&token).copied() else { return };
        if matches!(self.links.get(&link), Some(Link { stage: Stage::Agreed(..), .. })) {
            self.welcomed(token, now, out);
        }
        let Some(Link { stage: Stage::Up(_), peer: Some(from), pending, .. }) = self.links.get(&link) else {
            return self.close(link, "it sends before it is welcome", out);
        };
        let bytes = frame.len();
        if bytes > PEER_INBOUND_BYTES_MAX {
            return self.close(link, &format!("it sends a frame of {bytes} bytes"), out);
        }
        if pending.fetch_add(bytes, Ordering::Relaxed) > PENDING_BYTES_MAX {
            return self.close(link, "it sends more than this node can look at", out);
        }
        let event = LinkEvent::Frame { from: *from, frame };
        out.push(Action::Tell(Told { event, pending: Some((pending.clone(), bytes)) }));
    }

    fn up(&mut self, link: LinkId, peer: Greeting, version: u16, now: Instant, out: &mut Vec<Action>) {
        if let Some(old) = self.to(peer.incarnation) {
            self.close(old, "replaced by a newer link", out);
        }
        if let Some(known) = self.links.get_mut(&link) {
            known.stage = Stage::Up(now);
            self.up.insert(peer.incarnation, link);
            out.push(tell(LinkEvent::Up { peer, version }));
        }
    }

    /// Says why, and lets the peer close: what is said just before closing would be lost.
    fn refuse(&mut self, link: LinkId, why: &str, out: &mut Vec<Action>) {
        out.push(Action::Refuse(link, for_people(why)));
        self.forget(link, why, out);
    }

    fn close(&mut self, link: LinkId, why: &str, out: &mut Vec<Action>) {
        self.forget(link, why, out);
        out.push(Action::Close(link));
    }

    /// Whatever stage a link is in, its end is told once: to whom it was up as `Down`, else to who dialled.
    fn forget(&mut self, link: LinkId, why: &str, out: &mut Vec<Action>) {
        let Some(known) = self.links.remove(&link) else { return };
        self.by_token.remove(&known.token);
        let why = for_people(why);
        let misfit = known.misfit;
        out.push(match (known.stage, known.peer, known.dialled) {
            (Stage::Up(_), Some(peer), _) => {
                self.up.remove(&peer);
                tell(LinkEvent::Down { peer, why })
            }
            (_, _, Some(address)) => tell(LinkEvent::NotReached { address, refused: false, misfit, why }),
            _ => Action::Note(why),
        });
    }
}

fn decides(ours: &Greeting, peer: Incarnation) -> bool {
    ours.incarnation.0 < peer.0
}

fn tell(event: LinkEvent) -> Action {
    Action::Tell(Told::of(event))
}

/// A peer's words may end up in a log: short, and in one line.
fn for_people(text: &str) -> String {
    text.chars().take(WHY_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
