//! One request of REST to a conversation's owner, wherever that is: sent again when its owner changes or what was sent may
//! have been lost, as a socket's session does it. Only what cannot happen twice is sent again while an attempt is open.

use std::{sync::Arc, time::Duration};

use protocol::{
    Code, ConversationId, Error, Incarnation,
    peer::{Done, Mail, Outcome, ToConversation},
};
use tokio::sync::oneshot;

use crate::{
    connections::{Call, Connections},
    outbound::line::may_pass,
    router::Router,
    tasks,
};

/// How long after it was not taken a request is sent again: long enough for views to agree.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Asking<'a> {
    pub(super) router: &'a Router,
    pub(super) connections: &'a Arc<Connections>,
    pub(super) c: ConversationId,
    pub(super) mail: ToConversation,
}

impl Asking<'_> {
    /// Asks until there is an answer; the caller bounds the time.
    pub(super) async fn until_answered(
        mut self, call: Call, answer: oneshot::Receiver<Outcome>,
    ) -> Result<Done, Error> {
        let (mut call, mut answer) = (call, answer);
        let mut news = self.router.news();
        let mut asked: Option<Incarnation> = None;
        let mut doubtful = false;
        loop {
            let (owner, losses) = {
                let news = news.borrow_and_update();
                (news.places.conversation(self.c), news.losses)
            };
            if let Some(owner) = owner.filter(|owner| asked != Some(*owner))
                && (asked.is_none() || self.is_repeatable())
            {
                doubtful |= asked.is_some();
                asked = Some(owner);
                self.router.post(owner, Mail::Conversation(self.c, self.mail.clone()));
            }
            tokio::select! {
                biased;
                outcome = &mut answer => match outcome {
                    Ok(Outcome::Done(done)) => return Ok(done),
                    Ok(Outcome::Refused(refusal)) if may_pass(refusal.code, doubtful) => {
                        (call, answer) = self.anew(call);
                        asked = None;
                        // whoever goes by a new view knows more
                        let _ = tasks::within(ASK_AGAIN, news.changed()).await;
                    }
                    Ok(Outcome::Refused(refusal)) if !doubtful => return Err(refusal.into()),
                    Ok(Outcome::Refused(_)) | Err(_) => return Err(open()),
                },
                changed = news.changed() => {
                    changed.map_err(|_| open())?;
                    if news.borrow().losses != losses && self.is_repeatable() && asked.is_some() {
                        (asked, doubtful) = (None, true);
                    }
                }
            }
        }
    }

    /// A call answers once: for another attempt there is another one.
    fn anew(&mut self, done: Call) -> (Call, oneshot::Receiver<Outcome>) {
        drop(done);
        let (call, answer) = self.connections.add_call();
        match &mut self.mail {
            ToConversation::Submit(submission) => {
                submission.requester.iter_mut().for_each(|requester| requester.at.conn = call.conn);
            }
            ToConversation::Mark(mark) => {
                mark.requester.iter_mut().for_each(|requester| requester.at.conn = call.conn);
            }
            _ => {}
        }
        (call, answer)
    }

    /// True if a second attempt does nothing that the first has done.
    fn is_repeatable(&self) -> bool {
        match &self.mail {
            ToConversation::Submit(submission) => submission.cid.is_some(),
            _ => true,
        }
    }
}

fn open() -> Error {
    Error::new(Code::Timeout, "its outcome is open; the same request is safe").after_ms(500)
}
