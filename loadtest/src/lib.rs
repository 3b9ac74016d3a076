//! What a crowd does: clients that meet a Starling server as strangers do, recorders of what each of them saw, and the
//! checker that decides from such recordings whether the promises were kept. Knows only the protocol, never a server's
//! inside. Used by `starling-load` and by the tests of the other crates.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod checker;
pub mod client;
pub mod crowd;
pub mod device;
pub mod history;
pub mod proxy;
pub mod random;
pub mod readback;
pub mod rest;
pub mod servers;
pub mod socket;
pub mod starter;
pub mod target;
pub mod timeline;

pub use client::{Client, Failed};
pub use device::Device;
pub use history::{History, Recorder};
pub use rest::{Rest, RestFailed};
pub use socket::Socket;
pub use starter::{Node, Starter};
pub use target::Target;
