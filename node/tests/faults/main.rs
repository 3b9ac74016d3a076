//! What becomes of three nodes that are one Starling, and of their clients, when nodes are killed, frozen, left alone,
//! restarted in turn or started all at once. The processes and their stores are real, everybody talks meanwhile, and every story ends with the
//! checker's verdict on what everybody was told.
//! Only a broken promise fails a test: times are asserted at much more than is promised, and printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cluster;
mod frozen;
mod killed;
mod operators;
mod probes;
mod rolling;
mod together;

#[allow(dead_code)]
#[path = "../torture/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../torture/talk.rs"]
mod talk;
