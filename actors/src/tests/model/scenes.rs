//! Who does what in a scene, how often, and what may go wrong.

use crate::conversation::state::planted::Mistake;

/// What T does to the sender of P.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// Removes them: what was allowed is refused after it.
    Removes,
    /// Admits somebody who never was a member: what was refused, by the member row alone, is allowed after it.
    AdmitsStranger,
    /// Admits somebody who was a member once: refusing needs a claim.
    AdmitsFormer,
}

/// How the answer to a conditional write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    /// As it is.
    Fine,
    /// Performed as it is, and the answer is lost: unknown.
    Lost,
    /// Unknown; performed at any later time at which its condition holds, or never.
    Late,
    /// Performed, and answered as not applied, with what stands there now.
    Lies,
}

/// A mistake, and where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// By the owner.
    Owner(Mistake),
    /// The condition of an append leaves the epoch out.
    NoEpoch,
    /// An append whose outcome is unknown is taken for applied.
    AckOnUnknown,
    /// A claim is content with a full bucket.
    StopAtFull,
    /// An append says that everything before it is settled.
    SettledEarly,
    /// A refusal is given without reading whose the log is.
    Unverified,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Where the log ends at first.
    pub(super) head: u64,
    /// How often the clients send P, T and Q.
    pub(super) attempts: [u8; 3],
    pub(super) membership: Membership,
    /// Whether requests say what their client knew.
    pub(super) base: bool,
    pub(super) faults: u8,
    pub(super) lucks: &'static [Luck],
    pub(super) crashes: u8,
    /// A crash is that of an actor: its node lives on, and what it asked of the store goes on.
    pub(super) restarts: bool,
    /// Whether requests are given up when their time is over.
    pub(super) impatient: bool,
    /// Whether reads that only find a place take a step of their own.
    pub(super) fine: bool,
    /// Claims end here: without time, two owners would claim from each other for ever.
    pub(super) epoch_max: u64,
    pub(super) planted: Option<Planted>,
}

const UNKNOWN: &[Luck] = &[Luck::Lost, Luck::Late, Luck::Lies];
/// The last seq of the first bucket but one.
const NEAR: u64 = protocol::limits::BUCKET_EVENTS - 2;

pub(super) const SMALL: Scene = Scene {
    name: "a removal, the index",
    head: NEAR,
    attempts: [2, 1, 0],
    membership: Membership::Removes,
    base: false,
    faults: 1,
    lucks: UNKNOWN,
    crashes: 0,
    restarts: false,
    impatient: false,
    fine: false,
    epoch_max: 4,
    planted: None,
};

#[test]
fn every_promise_holds_where_a_sender_is_removed() {
    super::explore(SMALL);
}

#[test]
fn every_promise_holds_where_requests_say_what_their_client_knew() {
    super::explore(Scene { name: "a removal, base", base: true, ..SMALL });
}

#[test]
fn every_promise_holds_where_a_stranger_is_admitted() {
    let membership = Membership::AdmitsStranger;
    super::explore(Scene { name: "a stranger admitted", membership, ..SMALL });
}

#[test]
fn every_promise_holds_where_a_former_member_is_admitted() {
    let membership = Membership::AdmitsFormer;
    super::explore(Scene { name: "a former member admitted", membership, ..SMALL });
}

#[test]
fn every_promise_holds_where_a_node_crashes() {
    super::explore(Scene { name: "a crash", crashes: 1, faults: 0, ..SMALL });
}

#[test]
fn every_promise_holds_where_an_actor_crashes() {
    super::explore(Scene { name: "an actor's crash", crashes: 1, faults: 0, restarts: true, epoch_max: 3, ..SMALL });
}
