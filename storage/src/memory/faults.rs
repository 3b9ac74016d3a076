//! What may go wrong in the model, and when.

use std::time::Duration;

/// A call to the store, by its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `Log::create`.
    Create,
    /// `Log::claim`.
    Claim,
    /// `Log::append`.
    Append,
    /// `Log::follow`.
    Follow,
    /// `Log::standing`, `find` and `read`.
    ReadLog,
    /// `Directory::mark`.
    Mark,
    /// Every other method of `Directory`.
    ReadDirectory,
    /// Methods of `Accounts` and `Sessions` that write.
    WriteAccounts,
    /// Methods of `Accounts` and `Sessions` that do not.
    ReadAccounts,
    /// Methods of `Tokens` that write.
    WriteTokens,
    /// `Tokens::revoked` and `take`.
    ReadTokens,
    /// `Cluster::change`.
    ChangeView,
    /// `Cluster::beat`.
    Beat,
    /// `Cluster::note`.
    Note,
    /// `Cluster::view` and `decided_view`.
    ReadView,
    /// `Cluster::slots` and `noted`.
    ReadNodes,
    /// `Health::ping`.
    Ping,
}

impl Operation {
    pub(super) fn writes(self) -> bool {
        match self {
            Operation::Create | Operation::Claim | Operation::Append | Operation::Follow | Operation::Mark => true,
            Operation::WriteAccounts | Operation::WriteTokens => true,
            Operation::ChangeView | Operation::Beat | Operation::Note => true,
            Operation::ReadLog | Operation::ReadDirectory | Operation::ReadAccounts => false,
            Operation::ReadTokens | Operation::ReadView | Operation::ReadNodes | Operation::Ping => false,
        }
    }
}

/// What a call does instead of what it should. For calls that do not write, everything but a delay is a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `Refused`, and nothing is done.
    Refuse,
    /// `Unknown`, and it is done.
    UnknownApplied,
    /// `Unknown`, and it is not done.
    UnknownNotApplied,
    /// `Unknown`, and it is tried after this time.
    UnknownAppliesLater(Duration),
    /// Done and answered after this time.
    Delay(Duration),
}

/// A plan that lets `per_mille` of the calls that write go wrong, in every way, the same for the same seed.
pub fn seeded(seed: u64, per_mille: u64) -> impl FnMut(Operation) -> Option<Fault> + Send {
    let mut state = seed;
    let mut next = move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    move |operation| {
        if !operation.writes() || next() % 1000 >= per_mille {
            return None;
        }
        let time = Duration::from_millis(next() % 500);
        Some(match next() % 5 {
            0 => Fault::Refuse,
            1 => Fault::UnknownApplied,
            2 => Fault::UnknownNotApplied,
            3 => Fault::UnknownAppliesLater(time),
            _ => Fault::Delay(time),
        })
    }
}
