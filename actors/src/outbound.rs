//! The line of one socket, shared between the session that fills it and the write loop that empties it.

pub(crate) mod line;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use protocol::{
    ConnId, DeviceId, UserId,
    push::{Bye, Limits, PresenceState},
};
use tokio::sync::Notify;

use self::line::{Bounds, Line};
use crate::Caller;

/// What the write loop does with what it was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Write, flush once, ask again.
    Frames,
    /// Write, then say this as the last frame and close.
    Close(Bye),
}

/// The bounded queue of what a socket is to be sent.
pub struct Outbound {
    line: Mutex<Line>,
    changed: Notify,
    pub(crate) conn: ConnId,
    /// Who said hello, and when the token they said it with ends.
    pub(crate) caller: Caller,
    pub(crate) device: Option<DeviceId>,
    /// Whose presence this socket is told.
    pub(crate) watched: Mutex<Vec<UserId>>,
    /// How users appeared that were told while a `watch` is being answered: newer than what the answer says.
    told: Mutex<HashMap<UserId, PresenceState>>,
    /// Requests of this socket that are being worked on beside its session.
    jobs: AtomicUsize,
}

/// One request that is being worked on; over when it is dropped.
pub(crate) struct Job(Arc<Outbound>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Outbound {
    pub(crate) fn new(conn: ConnId, caller: Caller, device: Option<DeviceId>, bounds: Bounds) -> Self {
        let line = Mutex::new(Line::new(bounds));
        Outbound {
            line,
            changed: Notify::new(),
            conn,
            caller,
            device,
            watched: Mutex::default(),
            told: Mutex::default(),
            jobs: AtomicUsize::new(0),
        }
    }

    /// Waits until there is something to write, then moves all of it to the end of `frames`. Cancel-safe.
    pub async fn next(&self, frames: &mut Vec<Bytes>) -> Next {
        loop {
            {
                let mut line = self.lock();
                if line.is_ready() {
                    return line.take(frames).map_or(Next::Frames, Next::Close);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the session has ended for good (revoked, banned, replaced): a write that is still under way is given
    /// up, so that nothing is delivered long after. Not to be waited for together with [`Outbound::next`].
    pub async fn ended(&self) -> Bye {
        loop {
            if let Some(bye) = self.lock().ended() {
                return bye;
            }
            self.changed.notified().await;
        }
    }

    /// Room for one more job, if fewer than this are under way. What has an id is also bounded by what is unanswered,
    /// what has none by nothing else.
    pub(crate) fn begin_job(self: &Arc<Self>, n_max: usize) -> Option<Job> {
        let fewer = |n: usize| (n < n_max).then_some(n + 1);
        self.jobs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok().then(|| Job(self.clone()))
    }

    /// True if an answer would still go out: to the request of this id, or to what was asked without one.
    pub(crate) fn wants(&self, id: Option<u32>) -> bool {
        let line = self.lock();
        !line.is_closing() && id.is_none_or(|id| line.waits_for(id))
    }

    /// True if somebody's leaving changes whom this socket may watch: its own user's, or that of one it watches.
    pub(crate) fn watches(&self, user: UserId) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        !watched.is_empty() && (self.caller.user == user || watched.contains(&user))
    }

    /// Users appear like this now.
    pub(crate) fn note_presence(&self, states: &[(UserId, PresenceState)]) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(states.iter().copied());
    }

    /// What was told since this was asked last.
    pub(crate) fn take_presence(&self) -> HashMap<UserId, PresenceState> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says `bye` after what is queued.
    pub(crate) fn close(&self, bye: Bye) {
        self.with(|line| line.close(bye));
    }

    /// True once the socket is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().is_closing()
    }

    /// Works on the line, and wakes the write loop if there is something to write.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Line) -> T) -> T {
        let (result, wake) = self.with_asleep(work);
        if wake {
            self.wake();
        }
        result
    }

    /// Wakes the write loop.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Works on the line without waking the write loop; true if it has to be woken.
    pub(crate) fn with_asleep<T>(&self, work: impl FnOnce(&mut Line) -> T) -> (T, bool) {
        let mut line = self.lock();
        let was_ready = line.is_ready();
        let result = work(&mut line);
        let wake = line.is_ready() && !was_ready || line.is_closing();
        drop(line);
        (result, wake)
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // a panic under the lock leaves a line that is at worst short of one frame; its session is restarted anyway
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `hello` tells the client, of what the operator chose.
pub(crate) fn stated(limits: &crate::settings::Limits) -> Limits {
    Limits {
        frame: limits.frame_bytes,
        text: limits.text_chars,
        inflight: limits.inflight,
        send_per_s: limits.send_per_s,
        burst: limits.send_burst,
    }
}

/// The bounds of a line, of what the operator chose.
pub(crate) fn bounds(limits: &crate::settings::Limits) -> Bounds {
    Bounds { soft_bytes: limits.queue_soft_bytes, hard_bytes: limits.queue_hard_bytes, inflight: limits.inflight }
}
