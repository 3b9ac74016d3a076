//! The outside as decisions see it, made real: time that never goes back and randomness fit for secrets.

mod clock;
mod data_dir;

pub(crate) use clock::{MARK_INTERVAL, SteadyClock};
pub(crate) use data_dir::DataDir;

/// The cryptographic library's generator.
pub(crate) struct SecureRandom;

impl actors::Random for SecureRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness there are no ids and no secrets: nothing can go on.
        aws_lc_rs::rand::fill(bytes).expect("the system has no randomness");
    }
}
