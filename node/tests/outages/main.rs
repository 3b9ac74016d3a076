//! What becomes of a node and its clients when the real stores go away, stall, slow down, keep their answers to
//! themselves, or die. Every story ends with the checker's verdict on what everybody was told.
//! Times are asserted at more than what is promised, for a busy machine, and printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod away;
mod clocks;
mod killed;
mod load;
mod slow;
mod stores;
mod swallowed;
mod tokens;

#[allow(dead_code)]
#[path = "../torture/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../torture/talk.rs"]
mod talk;
