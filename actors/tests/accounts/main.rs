//! Accounts over the real stores, under a clock and a randomness that the test holds.
#![allow(clippy::unwrap_used)]

extern crate starling_actors as actors;

mod faults;
mod keys;
mod losses;
mod outages;
mod rig;
mod sessions;
mod signin;
mod slowdown;
mod tokens;
