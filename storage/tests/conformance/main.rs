//! One suite for every store (`common/stores.rs`): each test runs on all of them, which must answer alike.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod accounts;
mod alike;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod directory;
mod faults;
mod log;
mod tokens;
