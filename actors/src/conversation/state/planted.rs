//! Mistakes that the model checker plants in an owner, to see that it finds them. Only a test can plant one: elsewhere
//! the question is answered `false` by the compiler.

use super::State;
#[cfg(test)]
use super::{Action, Index, Job};

/// What an owner may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Believes a refusal that shows its own epoch, and appends again at the head it shows, without a claim.
    AppendAgain,
    /// Appends what was not found in the tail without judging it again.
    NotJudgedAgain,
    /// Keeps the client ids of the tail it read under an earlier claim.
    StaleTail,
    /// Asks the index before it claims, and believes the answer afterwards.
    OldMiss,
}

impl State {
    #[cfg(test)]
    pub(super) fn is_planted(&self, mistake: Mistake) -> bool {
        self.planted == Some(mistake)
    }

    #[cfg(not(test))]
    pub(super) const fn is_planted(&self, _: Mistake) -> bool {
        false
    }

    /// See [`Mistake::OldMiss`].
    #[cfg(test)]
    pub(super) fn ask_early(&mut self, out: &mut Vec<Action>) {
        let planted = self.is_planted(Mistake::OldMiss);
        for wish in self.waiting.iter_mut().filter(|wish| planted && wish.index == Index::NotAsked) {
            wish.index = Index::Asked(self.head.seq);
            out.extend(wish.what.cid.clone().map(|cid| Action::Store(Job::Find(wish.what.by, cid, self.epoch))));
        }
    }

    /// Makes this owner err.
    #[cfg(test)]
    pub(crate) fn plant(&mut self, mistake: Option<Mistake>) {
        self.planted = mistake;
    }
}
