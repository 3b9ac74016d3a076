//! Each mistake, planted where it could be made, and the promise that it breaks.

use super::{
    caught,
    scenes::{Membership, Planted, SMALL, Scene},
};
use crate::conversation::state::planted::Mistake;

#[test]
fn every_planted_mistake_is_caught() {
    let small = Scene { epoch_max: 3, ..SMALL };
    let base = Scene { base: true, ..small };
    let two = Scene { faults: 2, ..small };
    let crash = Scene { crashes: 1, ..small };
    let posts = Scene { attempts: [2, 0, 1], ..small };
    let former = Scene { membership: Membership::AdmitsFormer, ..small };
    // the checker stops at the first promise that a step breaks; of two that break at once it names either
    let table = [
        (Planted::NoEpoch, &small, "G6|one epoch"),
        (Planted::AckOnUnknown, &small, "G1"),
        (Planted::Owner(Mistake::AppendAgain), &small, "G5|G6"),
        (Planted::Owner(Mistake::NotJudgedAgain), &SMALL, "G9"),
        (Planted::Owner(Mistake::StaleTail), &base, "G5"),
        (Planted::Owner(Mistake::OldMiss), &posts, "G5"),
        (Planted::StopAtFull, &two, "one epoch"),
        (Planted::SettledEarly, &crash, "G5"),
        (Planted::Unverified, &former, "G9"),
    ];
    for (planted, scene, breaks) in table {
        let broken = caught(planted, scene.clone());
        assert!(breaks.split('|').any(|promise| broken.starts_with(promise)), "{planted:?} breaks {broken:?}");
    }
}
