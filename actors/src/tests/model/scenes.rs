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
    /// Refused: never performed.
    Away,
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
const EVERY: &[Luck] = &[Luck::Lost, Luck::Late, Luck::Lies, Luck::Away];
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

/// Scenes that one build and a minute have room for.
mod narrow {
    use super::{super::explore, *};

    const NARROW: Scene = Scene { epoch_max: 3, ..SMALL };

    #[test]
    fn every_promise_holds_where_a_sender_is_removed() {
        explore(SMALL);
    }

    #[test]
    fn every_promise_holds_where_requests_say_what_their_client_knew() {
        explore(Scene { name: "a removal, base", base: true, ..NARROW });
    }

    #[test]
    fn every_promise_holds_where_a_stranger_is_admitted() {
        let membership = Membership::AdmitsStranger;
        explore(Scene { name: "a stranger admitted", membership, lucks: EVERY, impatient: true, ..SMALL });
    }

    #[test]
    fn every_promise_holds_where_a_former_member_is_admitted() {
        explore(Scene { name: "a former member admitted", membership: Membership::AdmitsFormer, ..SMALL });
    }

    #[test]
    fn every_promise_holds_where_a_node_crashes() {
        explore(Scene { name: "a crash", crashes: 1, faults: 0, ..SMALL });
    }

    #[test]
    fn every_promise_holds_where_an_actor_crashes() {
        explore(Scene { name: "an actor's crash", crashes: 1, faults: 0, restarts: true, ..NARROW });
    }
}

/// Scenes for an optimised build: `make model`.
#[cfg(not(debug_assertions))]
mod wide {
    use super::{super::explore, *};

    const WIDE: Scene = Scene { faults: 2, epoch_max: 4, ..SMALL };
    const ALL: [Membership; 3] = [Membership::Removes, Membership::AdmitsStranger, Membership::AdmitsFormer];

    #[test]
    fn with_two_faults() {
        ALL.into_iter().for_each(|membership| explore(Scene { name: "two faults", membership, ..WIDE }));
        explore(Scene { name: "two faults, base", base: true, ..WIDE });
    }

    #[test]
    fn with_a_fault_and_a_crash() {
        for restarts in [false, true] {
            let name = if restarts { "a fault and an actor's crash" } else { "a fault and a crash" };
            ALL.into_iter()
                .for_each(|membership| explore(Scene { name, membership, faults: 1, crashes: 1, restarts, ..WIDE }));
        }
    }

    #[test]
    fn with_stores_away_and_requests_given_up() {
        let away = Scene { name: "away", faults: 1, lucks: EVERY, impatient: true, ..WIDE };
        ALL.into_iter().for_each(|membership| explore(Scene { membership, ..away.clone() }));
    }

    #[test]
    fn with_every_statement_on_its_own() {
        ALL.into_iter().for_each(|membership| {
            explore(Scene { name: "every statement", membership, faults: 1, fine: true, ..WIDE })
        });
    }

    #[test]
    fn with_another_post_and_a_full_bucket_at_once() {
        let attempts = [2, 1, 1];
        explore(Scene { name: "three requests", attempts, faults: 1, epoch_max: 3, ..WIDE });
        explore(Scene { name: "a full bucket", head: NEAR + 1, ..WIDE });
    }
}
