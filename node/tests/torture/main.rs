//! What bad luck does to a node that runs as it would in production, and what its clients see of it: killed, stopped,
//! full, overrun, with a clock that jumps. Every story ends with the checker's verdict on what everybody was told.
//! Only a broken promise fails a test: times are asserted at ten times what is promised, and printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod clock;
mod disk;
mod kills;
mod large;
mod overload;
mod rig;
mod signals;
mod slow;
mod talk;

#[path = "../support/mod.rs"]
mod support;
