//! What becomes of three nodes that are one Starling, and of their clients, under every fault that is promised to be
//! survived, and when they are restarted in turn: the table of `node/README.md`, row by row. The processes and their stores are real, everybody talks
//! meanwhile, and every story ends with the checker's verdict on what everybody was told.
//! Only a broken promise fails a test: times are asserted at much more than is promised, and printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cluster;
mod cut;
mod frozen;
mod killed;
mod odd;
mod operators;
mod owners;
mod probes;
mod rolling;
mod scene;
mod stores;
mod typists;

#[allow(dead_code)]
#[path = "../torture/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../torture/talk.rs"]
mod talk;
