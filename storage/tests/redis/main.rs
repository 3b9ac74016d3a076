//! What only a Redis of one's own can show: one that is killed, restarted empty, stopped, short of memory, a replica, behind
//! a password, behind TLS. Each test starts its own.
#![allow(clippy::unwrap_used)]

mod away;
mod keys;
mod opening;
mod server;
