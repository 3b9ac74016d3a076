//! How a node empties itself before it goes, and how it is taken back before it has. What it does next is decided in
//! `drain/state.rs`; this looks, and does it. Never ends a process: that is who asked for it.

mod state;

use std::{future::Future, pin::pin, time::Duration};

use protocol::{close::CloseCode, cluster::MemberState};
use tokio::sync::watch;

use self::state::{Action, Input, Sight, State};
use crate::Starling;

/// How often it looks: often enough to tell sockets at an even pace.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long who goes waits for the view to say so.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// On what terms a node empties itself.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What its sockets are closed with.
    pub why: CloseCode,
    /// Clients are told to come back after a random time up to this. `None`: as suits the node. Where another one is up
    /// they are spread over five seconds, in which their sockets work on; where none is, waiting helps nobody.
    pub notice: Option<Duration>,
    /// Sockets told per second.
    pub rate: u32,
    /// When this is over who is left is closed at once.
    pub deadline: Duration,
}

/// How far a node has emptied itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not at all: it serves.
    #[default]
    Serving,
    /// It waits until the view places nothing here.
    Unplacing,
    /// Its sockets are told, and go.
    Telling,
    /// They are gone; what they did has yet to arrive elsewhere.
    Settling,
    /// Nothing is left, or the deadline has passed: there is no way back.
    Leaving,
}

/// A plain copy of a drain's numbers, for `status`, metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// See [`Phase`].
    pub phase: Phase,
    /// Sockets that were told so far.
    pub told: usize,
    /// Sockets that are still there.
    pub left: usize,
    /// Since it began.
    pub elapsed: Duration,
}

impl Starling {
    /// Has nothing placed here any more, stops taking sockets, tells those that are there to go, at the pace of `terms`,
    /// lets what is in flight finish. True: nobody is left, or the deadline has passed. False: `taken_back` came first,
    /// and the node serves again; a drain later begins from the beginning.
    pub async fn drain(&self, terms: Terms, taken_back: impl Future<Output = ()>) -> bool {
        let mut seed = [0; 8];
        self.world.random.fill(&mut seed);
        let mut state = State::new(terms, u64::from_le_bytes(seed), self.world.clock.now());
        let mut taken_back = pin!(taken_back);
        let mut every = tokio::time::interval(LOOK_EVERY);
        self.step(&mut state, Input::Begin);
        loop {
            let input = tokio::select! {
                biased;
                () = &mut taken_back => Input::TakeBack,
                _ = every.tick() => Input::Look(self.sight()),
            };
            match self.step(&mut state, input).phase {
                Phase::Serving => return false,
                Phase::Leaving => break,
                Phase::Unplacing | Phase::Telling | Phase::Settling => {}
            }
        }
        let left = self.connections.len();
        if left > 0 {
            tracing::warn!(connections = left, "the drain's deadline passed; closing what is left");
        }
        true
    }

    /// How far it has emptied itself, whenever that changes.
    #[must_use]
    pub fn draining(&self) -> watch::Receiver<Progress> {
        self.draining.subscribe()
    }

    /// Is no member any more, so that the others need not find it silent. Last, once it has nothing more to say.
    pub async fn leave(&self) {
        if let Some(membership) = self.membership.get() {
            membership.leave();
            let _ = tokio::time::timeout(LEAVE_PATIENCE, membership.ended()).await;
        }
    }

    fn step(&self, state: &mut State, input: Input) -> Progress {
        let now = self.world.clock.now();
        for action in state.on(input, now) {
            self.perform(action);
        }
        let progress = state.progress(self.connections.len(), now);
        self.draining.send_replace(progress);
        progress
    }

    fn sight(&self) -> Sight {
        let known = self.membership.get().map(|membership| membership.snapshot());
        let mut peers = known.iter().flat_map(|known| &known.peers);
        let elsewhere = peers.any(|peer| peer.state == MemberState::Up && peer.two_way);
        let conversations = &self.kinds.conversations;
        Sight {
            placed: known.as_ref().is_some_and(|known| known.state == Some(MemberState::Up)),
            elsewhere,
            sockets: self.connections.sockets().iter().map(|outbound| outbound.conn).collect(),
            // placed elsewhere they end here once all they told has arrived
            at_work: if elsewhere { conversations.len() > 0 } else { conversations.is_busy() },
        }
    }

    fn perform(&self, action: Action) {
        match action {
            Action::Withdraw => self.withdraw(true),
            Action::Return => self.withdraw(false),
            Action::Announce(conn, bye) => {
                if let Some(outbound) = self.connections.socket(conn) {
                    outbound.with(|line| line.announce(&bye));
                }
            }
            Action::Part(conn, bye) => {
                if let Some(outbound) = self.connections.socket(conn) {
                    outbound.with(|line| line.part(bye));
                }
            }
            Action::Close(conn, bye) => {
                if let Some(outbound) = self.connections.socket(conn) {
                    outbound.close(bye);
                }
            }
        }
    }

    fn withdraw(&self, on: bool) {
        self.gateway.close_doors(on);
        if let Some(membership) = self.membership.get() {
            membership.drain(on);
        }
    }
}
