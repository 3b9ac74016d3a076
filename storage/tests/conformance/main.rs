//! One suite for every store: each test runs on memory and on SQLite, which must answer alike.
#![allow(clippy::unwrap_used)]

mod accounts;
mod alike;
#[path = "../common/mod.rs"]
mod common;
mod directory;
mod faults;
mod log;
mod tokens;
