//! The real binary as a process, driven from outside: what clients are promised, and what they must not get away with.
//! Tests share a node where they can; one that needs a configuration or a death of its own starts its own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod accounts;
mod conversations;
mod forge;
mod hostile;
mod house;
mod messages;
mod other_language;
#[path = "../support/mod.rs"]
mod support;
mod wire;
