//! What a socket has asked of conversations, as long as it is unanswered: who has it, and what is to be asked again. Posts to
//! one conversation are never asked again out of the order in which they were said. Pure; what it is for is in `CLUSTER.md`
//! ("Who is told", rule 8).

use protocol::{Code, ConversationId, Error, Incarnation, peer::ToConversation};

/// See the module. In the order in which it was said; no more than may be in flight.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    id: u32,
    c: ConversationId,
    mail: ToConversation,
    /// Who was asked last and has not refused; `None`: nobody has it.
    owner: Option<Incarnation>,
    /// An earlier attempt may have been taken: a refusal of this one says nothing of that.
    doubtful: bool,
    /// What whoever was asked last has answered.
    refusal: Option<Error>,
    /// A post that was said after this one is stored.
    overtaken: bool,
}

/// What is to be done about what is unanswered.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Again {
    /// To be asked now.
    pub(crate) asks: Vec<(Incarnation, ConversationId, ToConversation)>,
    /// Not to be asked any more.
    pub(crate) refused: Vec<(u32, Error)>,
    /// Something waits for what was said after it, and is to be looked at again.
    pub(crate) waits: bool,
}

impl Asked {
    /// Keeps what a request asks. False: it is not asked yet, a post that was said before waits.
    pub(super) fn keep(
        &mut self, id: u32, owner: Option<Incarnation>, c: ConversationId, mail: &ToConversation,
    ) -> bool {
        let mut kept = Kept { id, c, mail: mail.clone(), owner, doubtful: false, refusal: None, overtaken: false };
        if self.0.iter().any(|earlier| earlier.waits() && earlier.comes_before(&kept)) {
            kept.owner = None;
        }
        let goes = !kept.waits();
        self.0.push(kept);
        goes
    }

    /// A request is answered, or given up.
    pub(super) fn forget(&mut self, id: u32) {
        self.remove(id);
    }

    /// A request is stored: posts that were said before it, to the same conversation, cannot be any more.
    pub(super) fn stored(&mut self, id: u32) {
        let Some((at, stored)) = self.remove(id) else { return };
        for earlier in self.0.iter_mut().take(at).filter(|earlier| earlier.comes_before(&stored)) {
            earlier.overtaken = true;
        }
    }

    fn remove(&mut self, id: u32) -> Option<(usize, Kept)> {
        let at = self.0.iter().position(|kept| kept.id == id)?;
        let kept = self.0.remove(at);
        // an idle socket keeps no room for what it once asked
        if self.0.is_empty() {
            self.clear();
        }
        Some((at, kept))
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// A request was refused. What to say, if it is not to be asked again in a while.
    pub(super) fn refused(&mut self, id: u32, error: Error) -> Option<Error> {
        let Some(kept) = self.0.iter_mut().find(|kept| kept.id == id) else { return Some(error) };
        if kept.overtaken || !may_pass(error.code, kept.doubtful) {
            return Some(kept.said_of(error));
        }
        (kept.owner, kept.refusal) = (None, Some(error));
        None
    }

    /// Its time is over. What to say, if nobody has it and nobody may have taken it.
    pub(super) fn given_up(&mut self, id: u32) -> Option<Error> {
        let (_, kept) = self.remove(id)?;
        let error =
            || Error::new(Code::Unavailable, "no owner of this conversation could be reached; nothing was stored");
        (kept.waits() && !kept.doubtful).then(|| error().after_ms(500))
    }

    /// What is to be asked (again): its owner is not the one that has it, or that one is `lost`. A post that waits lets
    /// those that were said after it, and have gone before it, be answered first; if one of them is stored, it cannot be.
    pub(super) fn again(
        &mut self, lost: Option<Incarnation>, owner: impl Fn(ConversationId) -> Option<Incarnation>,
    ) -> Again {
        let mut again = Again::default();
        for kept in self.0.extract_if(.., |kept| kept.overtaken && kept.waits()) {
            let error = || Error::new(Code::Moved, "another node owns this conversation now");
            again.refused.push((kept.id, kept.said_of(kept.refusal.clone().unwrap_or_else(error))));
        }
        for at in 0..self.0.len() {
            let (kept, later) = (&self.0[at], &self.0[at + 1..]);
            let now = owner(kept.c);
            if now.is_none() || now == kept.owner && lost != now {
                continue;
            }
            if kept.waits() && later.iter().any(|later| !later.waits() && kept.comes_before(later)) {
                again.waits = true;
                continue;
            }
            let kept = &mut self.0[at];
            kept.doubtful |= kept.owner.is_some();
            kept.owner = now;
            again.asks.extend(now.map(|now| (now, kept.c, kept.mail.clone())));
        }
        again
    }
}

impl Kept {
    fn waits(&self) -> bool {
        self.owner.is_none()
    }

    /// True if both are posts to one conversation: they are stored in the order in which they were said, or not at all.
    fn comes_before(&self, later: &Kept) -> bool {
        let is_post = |kept: &Kept| matches!(kept.mail, ToConversation::Submit(_));
        self.c == later.c && is_post(self) && is_post(later)
    }

    /// A refusal of what was asked more than once speaks for the last time only.
    fn said_of(&self, error: Error) -> Error {
        if self.doubtful && error.code != Code::Internal {
            return Error::new(
                Code::Timeout,
                "it was asked more than once, and an earlier time is open; the same cid is safe",
            )
            .after_ms(500);
        }
        error
    }
}

/// True if what was refused like this is to be asked again: whoever refused it has not taken it, and the next one may. Of
/// what nobody else can have taken it is enough that it was for another node: the rest is the client's to judge.
pub(crate) fn may_pass(code: Code, doubtful: bool) -> bool {
    match code {
        Code::Moved => true,
        Code::Unavailable | Code::Overloaded => doubtful,
        _ => false,
    }
}
