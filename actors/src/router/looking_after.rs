//! What a dead node may have left untold is claimed, repaired and told here.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use protocol::ConversationId;
use tokio::sync::oneshot;

use super::Router;
use crate::{conversation::state as conversation, tasks};

/// Conversations of a dead node that are looked after at a time: what clients want goes on beside.
const LOOK_AFTER_MAX: usize = 64;
const LOOK_AFTER_AGAIN: Duration = Duration::from_secs(2);

impl Router {
    /// Looks after what a dead node may have left untold of these conversations, those that the view of this version places
    /// here: they are claimed, repaired and told, some at a time. False if the view changed meanwhile.
    pub(crate) async fn look_after(&self, version: u64, share: Vec<ConversationId>) -> bool {
        let places = self.places();
        if places.version() != version {
            return false;
        }
        // the rest is others' to claim, and taking it from them would stop what their clients want
        let mine = share.into_iter().filter(|c| places.conversation(*c) == Some(self.me));
        let all = futures_util::stream::iter(mine).map(|c| self.look_after_one(version, c));
        all.buffer_unordered(LOOK_AFTER_MAX).all(|done| async move { done }).await
    }

    /// Nothing of it is untold.
    pub(crate) fn looked_after(&self, c: ConversationId) {
        let waiting = self.looking_after().remove(&c);
        for waiting in waiting.into_iter().flatten() {
            let _ = waiting.send(());
        }
    }

    async fn look_after_one(&self, version: u64, c: ConversationId) -> bool {
        while self.places().version() == version {
            let (done, looked_after) = oneshot::channel();
            self.looking_after().entry(c).or_default().push(done);
            if let Some(mailboxes) = self.mailboxes.get() {
                let _ = mailboxes.ask(c, conversation::Input::LookAfter);
            }
            // it may have crashed, or had no room: asked again, it is no more work
            if tasks::within(LOOK_AFTER_AGAIN, looked_after).await.is_some_and(|answer| answer.is_ok()) {
                return true;
            }
        }
        false
    }

    fn looking_after(&self) -> MutexGuard<'_, HashMap<ConversationId, Vec<oneshot::Sender<()>>>> {
        self.looking_after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
