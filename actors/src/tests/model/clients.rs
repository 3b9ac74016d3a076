//! Those who send, and what they were promised: every answer and every committed event is held against it.

use protocol::{
    Body, ClientId, Code, ConnId, Epoch, Event, Incarnation, Post, Seq, UserId,
    peer::{Address, Change, Done, Fanout, Outcome, Requester, Submission},
};

use super::{
    partitions::Partitions,
    scenes::{Membership, Scene},
};

/// Sends T and Q.
pub(super) const ADMIN: UserId = UserId([1; 16]);
/// Sends P.
pub(super) const SENDER: UserId = UserId([2; 16]);
/// Where their sockets are.
pub(super) const GATE: Incarnation = Incarnation([8; 16]);

/// P, a post that may be refused for good; T, which changes whether; Q, a post that never is.
pub(super) const P: usize = 0;
pub(super) const T: usize = 1;
const NAMES: [&str; 3] = ["P", "T", "Q"];

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Promise {
    Acked,
    Gapless,
    RealTime,
    Once,
    Definite,
    Authorised,
    OneEpoch,
}

impl Promise {
    pub(super) const ALL: [(Promise, &'static str); 7] = [
        (Promise::Acked, "G1 what is acknowledged or told is in the log"),
        (Promise::Gapless, "G3 no gap, no seq twice"),
        (Promise::RealTime, "G4 what is sent after an acknowledgement comes after it"),
        (Promise::Once, "G5 a client id once, and never refused once it is stored"),
        (Promise::Definite, "G6 an attempt that was denied is never stored"),
        (Promise::Authorised, "G9 judged and told by the log before it, after its member rows"),
        (Promise::OneEpoch, "one epoch commits, and has one owner"),
    ];
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Clients {
    /// Attempts left, by request.
    pub(super) left: [u8; 3],
    /// The head that was known when a request was made; 0: not made yet.
    base: [u64; 3],
    /// Where each was acknowledged; 0: not.
    acked: [u64; 3],
    /// Attempts that were told they are not stored.
    denied: u16,
    /// Attempts that were sent when the request was in the log already.
    again: u16,
    /// Attempts that were sent when T was acknowledged.
    after_t: u16,
    /// True once somebody was refused for good.
    pub(super) refused: bool,
    /// The last epoch that was claimed, and all of them, bit by bit.
    claimed: Epoch,
    claims: u16,
    pub(super) broken: Option<Promise>,
}

impl Clients {
    pub(super) fn new(scene: &Scene) -> Clients {
        let (base, acked) = ([0; 3], [0; 3]);
        let (left, claimed) = (scene.attempts, Epoch(1));
        Clients {
            left,
            base,
            acked,
            denied: 0,
            again: 0,
            after_t: 0,
            refused: false,
            claimed,
            claims: 0b11,
            broken: None,
        }
    }

    /// True if nobody has sent anything.
    pub(super) fn are_silent(&self) -> bool {
        self.base == [0; 3]
    }

    pub(super) fn is_everything_acked(&self, scene: &Scene) -> bool {
        (0..3).all(|which| scene.attempts[which] == 0 || self.acked[which] > 0)
    }

    /// The next attempt of a request. Its body says which attempt it is; its hash does not.
    pub(super) fn send(&mut self, which: usize, store: &Partitions, scene: &Scene) -> Submission {
        self.left[which] -= 1;
        let nth = scene.attempts[which] - self.left[which];
        self.again |= u16::from(stored(which, store).is_some()) << bit(which, nth);
        self.after_t |= u16::from(self.acked[T] > 0) << bit(which, nth);
        if self.base[which] == 0 {
            self.base[which] = self.acked.into_iter().max().unwrap_or(0).max(scene.head);
        }
        let post = || Change::Post(Body::Post(Post { text: Some(nth.to_string()), ..Post::default() }).encode().into());
        Submission {
            requester: Some(Requester { at: Address { node: GATE, conn: conn(which, nth) }, tag: 0 }),
            by: if which == P { SENDER } else { ADMIN },
            cid: ClientId::try_from(NAMES[which].to_owned()).ok(),
            base: scene.base.then_some(Seq(self.base[which])),
            request_hash: [which as u8; 16],
            change: match (which, scene.membership) {
                (T, Membership::Removes) => Change::Remove(SENDER),
                (T, _) => Change::Join(vec![SENDER]),
                _ => post(),
            },
        }
    }

    fn expect(&mut self, promise: Promise, kept: bool) {
        if !kept {
            self.broken.get_or_insert(promise);
        }
    }

    /// An attempt is answered.
    pub(super) fn answered(&mut self, conn: ConnId, outcome: &Outcome, store: &Partitions, scene: &Scene) {
        let (which, nth) = (conn.0 as usize / 8, (conn.0 % 8) as u8);
        match outcome {
            Outcome::Done(Done::Stored { seq, .. }) => self.acked(which, *seq, store),
            Outcome::Refused(refusal) if matches!(refusal.code, Code::Timeout | Code::Internal) => {}
            outcome => {
                self.denied |= 1 << bit(which, nth);
                let by_this = stored(which, store).is_some_and(|event| attempt(event) == Some(nth));
                self.expect(Promise::Definite, !by_this);
                let later = [Code::Unavailable, Code::Overloaded, Code::Moved];
                if !matches!(outcome, Outcome::Refused(refusal) if later.contains(&refusal.code)) {
                    self.refused_for_good(which, nth, store, scene);
                }
            }
        }
    }

    /// Right if it was so at some moment since the attempt was sent: an attempt is judged at its own moment.
    fn refused_for_good(&mut self, which: usize, nth: u8, store: &Partitions, scene: &Scene) {
        self.refused = true;
        self.expect(Promise::Once, self.again >> bit(which, nth) & 1 == 0);
        self.expect(Promise::Authorised, which == P);
        let removed = || stored(T, store).is_some();
        let admitted = self.after_t >> bit(which, nth) & 1 == 1;
        let right = if scene.membership == Membership::Removes { removed() } else { !admitted };
        self.expect(Promise::Authorised, right);
    }

    fn acked(&mut self, which: usize, seq: Seq, store: &Partitions) {
        let event = store.event(seq);
        self.expect(Promise::Acked, event.is_some_and(|event| is(event, which)));
        self.expect(Promise::Once, self.acked[which] == 0 || self.acked[which] == seq.0);
        self.expect(Promise::Authorised, which != T || event.is_none() || store.is_followed(seq));
        self.acked[which] = seq.0;
    }

    /// An event is sent to sockets.
    pub(super) fn told(&mut self, fanout: &Fanout, store: &Partitions, scene: &Scene) {
        let Some(event) = store.event(fanout.seq) else { return self.expect(Promise::Acked, false) };
        let member = store.roster_before(event.seq.next(), scene.membership).members.contains_key(&SENDER);
        let removal = matches!(event.body, Body::Remove(_));
        self.expect(Promise::Authorised, !fanout.to.contains(&device(SENDER).conn) || member || removal);
        self.expect(Promise::Authorised, !event.body.is_membership() || store.is_followed(event.seq));
        if let Some((asked, _)) = fanout.requester {
            self.acked(asked.0 as usize / 8, fanout.seq, store);
        }
    }

    /// An owner was told that the log is its own.
    pub(super) fn claimed(&mut self, epoch: Epoch) {
        self.expect(Promise::OneEpoch, self.claims >> epoch.0 & 1 == 0);
        self.claims |= 1 << epoch.0;
        self.claimed = self.claimed.max(epoch);
    }

    /// The events from `from` on were added to the log.
    pub(super) fn committed(&mut self, from: usize, store: &Partitions, scene: &Scene) {
        for at in from..store.log.len() {
            let event = &store.log[at];
            self.expect(Promise::Gapless, event.seq.0 == scene.head + 1 + at as u64);
            let before = &store.log[..at];
            self.expect(Promise::Once, before.iter().all(|other| other.cid != event.cid));
            for which in (0..3).filter(|which| is(event, *which)) {
                self.expect(Promise::RealTime, event.seq.0 > self.base[which]);
                let denied = attempt(event).is_some_and(|nth| self.denied >> bit(which, nth) & 1 == 1);
                self.expect(Promise::Definite, !denied);
            }
            let roster = store.roster_before(event.seq, scene.membership);
            self.expect(Promise::Authorised, roster.members.contains_key(&event.by));
            let written = before.iter().all(|other| !other.body.is_membership() || store.is_followed(other.seq));
            self.expect(Promise::Authorised, written);
            self.expect(Promise::OneEpoch, epoch(event) >= self.claimed);
            let one_owner = before.iter().all(|other| epoch(other) < epoch(event) || owner(other) == owner(event));
            self.expect(Promise::OneEpoch, one_owner);
        }
    }
}

/// The device of a user that has one.
pub(super) fn device(user: UserId) -> Address {
    Address { node: GATE, conn: ConnId(100 + u64::from(user.0[0])) }
}

fn conn(which: usize, nth: u8) -> ConnId {
    ConnId(which as u64 * 8 + u64::from(nth))
}

fn is(event: &Event, which: usize) -> bool {
    event.cid.as_ref().is_some_and(|cid| cid.as_str() == NAMES[which])
}

fn stored(which: usize, store: &Partitions) -> Option<&Event> {
    store.log.iter().find(|event| is(event, which))
}

fn bit(which: usize, nth: u8) -> usize {
    which * 4 + usize::from(nth)
}

/// Which attempt became this event, where its body can say so.
fn attempt(event: &Event) -> Option<u8> {
    let Body::Post(post) = &event.body else { return None };
    post.text.as_ref()?.parse().ok()
}

/// The epoch it was made under: its id says so.
pub(super) fn epoch(event: &Event) -> Epoch {
    Epoch(event.id.0[4..10].iter().fold(0, |epoch, byte| epoch << 8 | u64::from(*byte)))
}

fn owner(event: &Event) -> &[u8] {
    &event.id.0[..4]
}
