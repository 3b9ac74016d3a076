//! Says in the store what this node is about to append to, before it does: if it dies before everybody knows, the others
//! read it there. What comes while one note is on its way goes with the next. Only where several nodes share the store.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use protocol::{ConversationId, Incarnation, cluster::MemberState};
use storage::{Error, cluster::Cluster};
use tokio::sync::oneshot;

use crate::tasks;

/// Conversations in one note.
const NOTE_MAX: usize = 256;

type Answer = Result<bool, Error>;

#[derive(Default)]
struct Line {
    waiting: Vec<(ConversationId, oneshot::Sender<Answer>)>,
    under_way: bool,
}

/// See the module.
pub(crate) struct Notes {
    cluster: Arc<dyn Cluster>,
    me: Incarnation,
    /// The last slot that the store knows this node to have lived in; 0: none.
    slot: AtomicU64,
    line: Mutex<Line>,
}

impl Notes {
    pub(crate) fn new(cluster: Arc<dyn Cluster>, me: Incarnation) -> Arc<Notes> {
        Arc::new(Notes { cluster, me, slot: AtomicU64::new(0), line: Mutex::default() })
    }

    /// The store knows that this node lived in this slot.
    pub(crate) fn lived(&self, slot: u64) {
        self.slot.fetch_max(slot, Ordering::AcqRel);
    }

    /// Notes a conversation, then reads the view: false if this node is no member of it, so that what it appends from now
    /// on nobody would look after.
    ///
    /// # Errors
    /// As of every write; not noted, for all one knows.
    pub(crate) async fn note(self: &Arc<Self>, c: ConversationId) -> Answer {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut line = self.line();
            line.waiting.push((c, answer));
            !std::mem::replace(&mut line.under_way, true)
        };
        if begins {
            let notes = self.clone();
            tasks::spawn(async move { while notes.next().await {} });
        }
        answered.await.unwrap_or_else(|_| Err(Error::Unknown("the note was given up".into())))
    }

    /// One note for all that wait; false if nobody does.
    async fn next(&self) -> bool {
        let some: Vec<_> = {
            let mut line = self.line();
            let n = line.waiting.len().min(NOTE_MAX);
            line.under_way = n > 0;
            line.waiting.drain(..n).collect()
        };
        if some.is_empty() {
            return false;
        }
        let conversations: Vec<ConversationId> = some.iter().map(|(c, _)| *c).collect();
        let result = self.write(&conversations).await;
        for (_, answer) in some {
            let _ = answer.send(result.clone());
        }
        true
    }

    async fn write(&self, conversations: &[ConversationId]) -> Answer {
        let slot = self.slot.load(Ordering::Acquire);
        if slot == 0 {
            return Err(Error::Refused("this node has not lived in any slot yet".into()));
        }
        if !crate::planted::is(crate::planted::Mistake::NoNote) {
            self.cluster.note(self.me, slot, conversations).await?;
        }
        // begun after the note: whoever takes this node out of the view later finds it
        let view = self.cluster.view().await?;
        Ok(view.member(self.me).is_some_and(|member| member.state != MemberState::Gone))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
