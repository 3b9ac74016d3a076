//! What may go wrong in the model, and when.

use std::time::Duration;

use async_trait::async_trait;

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
    /// True if it may change something, so that its outcome can be unknown.
    pub fn writes(self) -> bool {
        match self {
            Operation::Create | Operation::Claim | Operation::Append | Operation::Follow | Operation::Mark => true,
            Operation::WriteAccounts | Operation::WriteTokens => true,
            Operation::ChangeView | Operation::Beat | Operation::Note => true,
            Operation::ReadLog | Operation::ReadDirectory | Operation::ReadAccounts => false,
            Operation::ReadTokens | Operation::ReadView | Operation::ReadNodes | Operation::Ping => false,
        }
    }
}

/// Says when each call is carried out and answered, and how it goes wrong: for a test with a clock of its own.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Before a call is carried out. Who drops it here was never heard; a delay is none of its answers.
    async fn come(&self, operation: Operation) -> Option<Fault>;

    /// After it was carried out or not, before it is answered. Who drops it here does not hear what became of it.
    async fn leave(&self, operation: Operation);

    /// Carries out what was answered `Unknown`, after this time and whoever has died meanwhile.
    fn later(&self, time: Duration, act: Box<dyn FnOnce() + Send>);
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
