//! Ids that differ from test to test, so that tests can share a server. Within a test they are ordered by their number,
//! and its first byte is that number.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

thread_local! {
    /// Of the test that this thread runs.
    static SALT: Cell<u64> = const { Cell::new(0) };
}

/// From now on, this thread's ids are new.
pub fn refresh() {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    SALT.set(NEXT.fetch_add(1, Ordering::Relaxed));
}

pub fn id(n: u8) -> [u8; 16] {
    let mut id = [n; 16];
    id[8..].copy_from_slice(&SALT.get().to_be_bytes());
    id
}

/// A name that nobody else has.
pub fn name(name: &str) -> String {
    format!("{name}{}", SALT.get())
}
