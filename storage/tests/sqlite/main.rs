//! What only a store on a disk can get wrong: grouping, refusals among neighbours, full disks, damage, sudden death.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "a child learns from its environment that it is one")]

mod backup;
#[path = "../common/mod.rs"]
mod common;
mod death;
mod full;
mod group;
mod open;
