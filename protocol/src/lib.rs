//! What is said: ids, frames, errors and limits of the client protocol, the log's event envelope, and the frames
//! between nodes. Data and bytes only: no I/O, no clock, no randomness, no async.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
pub mod close;
pub mod cluster;
pub mod error;
pub mod event;
pub mod ids;
pub mod limits;
pub mod peer;
pub mod push;
pub mod request;
pub mod rest;

pub use error::{Code, Error};
pub use event::{Body, Event, Post};
pub use ids::*;
