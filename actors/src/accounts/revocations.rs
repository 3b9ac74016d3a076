//! Sessions that ended while access tokens of theirs may live. Known in memory, told to the other nodes at once and through
//! the token store, learnt from them. Never decides that a session ends: that is its row (see `sessions`).
//!
//! The token store may be away, be emptied, or come back as it was a while ago, and clocks differ. So what it says is only
//! ever added to what is known here, and what it lacks is said again: after each failure, and every now and then anyway.
//! Each keeps the end it was given when its row was revoked, however often it is said: none goes round for ever.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::{Millis, SessionId, close::CloseCode, peer::EndedSession};
use tokio::time::{Duration, sleep};

use super::{Inner, keys::millis};

/// How long a clock that ran ahead may be set back without a revocation having been forgotten meanwhile.
const CLOCK_SLACK_MS: u64 = 2 * 60 * 60 * 1000;
/// Between two looks at what others revoked: G13 allows a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look goes back to the one before, and by as much more as clocks of nodes may differ.
const OVERLAP_MS: u64 = 60_000;
/// One look in so many goes back to the beginning: it finds what a clock further off hid, and what was forgotten.
const LOOKS_PER_REVIEW: u64 = 120;

/// Sessions whose access tokens are void although they have not ended yet.
#[derive(Default)]
pub(super) struct Revoked {
    of: RwLock<Recent>,
    /// The token store may lack some of them.
    untold: AtomicBool,
}

#[derive(Default)]
struct Recent {
    /// Until when each matters.
    sessions: HashMap<SessionId, Millis>,
    swept_at: Millis,
}

impl Revoked {
    /// True if nothing of the session may be accepted.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.of.read().unwrap_or_else(PoisonError::into_inner).sessions.contains_key(&session)
    }

    /// True if it was not known. Those that do not matter any more are dropped now and then.
    fn add(&self, session: SessionId, now: Millis, until: Millis) -> bool {
        let mut recent = self.of.write().unwrap_or_else(PoisonError::into_inner);
        if now.0 >= recent.swept_at.0 + 60_000 {
            recent.swept_at = now;
            recent.sessions.retain(|_, until| *until > now);
        }
        recent.sessions.insert(session, until).is_none()
    }

    /// Those that still matter and are not among `told`.
    fn lacking(&self, told: &[(SessionId, Millis)], now: Millis) -> Vec<(SessionId, Millis)> {
        let told: HashSet<_> = told.iter().map(|(session, _)| *session).collect();
        let recent = self.of.read().unwrap_or_else(PoisonError::into_inner);
        let lacking = recent.sessions.iter().filter(|(session, until)| !told.contains(session) && **until > now);
        lacking.map(|(session, until)| (*session, *until)).collect()
    }
}

impl Inner {
    /// Reads the revocations that still matter, at start.
    pub(super) async fn load_revoked(&self) -> Result<(), storage::Error> {
        let now = self.world.clock.wall();
        for (session, until) in self.world.store.tokens.revoked(self.all_that_matter(now), now).await? {
            self.revoked.add(session, now, until);
        }
        Ok(())
    }

    /// What follows from a row that was revoked at `at`. Doing it again changes nothing.
    pub(super) async fn finish_end(&self, session: SessionId, at: Millis, code: CloseCode) {
        // Nothing waits for the token store: the row is written, so the session is over, and this node says so at once.
        let (now, until) = (self.world.clock.wall(), self.ends_to_matter(at));
        self.revoked.add(session, now, until);
        self.on_end.close(session, code);
        self.on_end.tell_others(EndedSession { session, code: code.into(), until });
        if let Err(error) = self.world.store.tokens.revoke(session, now, until).await {
            tracing::warn!(%error, "cannot note a revoked session in the token store; trying on");
            self.revoked.untold.store(true, Ordering::SeqCst);
        }
    }

    /// Another node says that it has ended a session.
    pub(super) fn hear(&self, ended: EndedSession) {
        let EndedSession { session, code, until } = ended;
        if self.revoked.add(session, self.world.clock.wall(), until) {
            self.on_end.close(session, CloseCode::try_from(code).unwrap_or(CloseCode::SessionRevoked));
        }
    }

    /// One look: learns what others revoked since `read_to`, and answers up to when it has read. A review learns and says
    /// everything.
    async fn exchange(&self, read_to: Millis, review: bool) -> Result<Millis, storage::Error> {
        let (tokens, now) = (&self.world.store.tokens, self.world.clock.wall());
        let since = if review { self.all_that_matter(now) } else { Millis(read_to.0.saturating_sub(OVERLAP_MS)) };
        let told = tokens.revoked(since, now).await?;
        for (session, until) in &told {
            if self.revoked.add(*session, now, *until) {
                self.on_end.close(*session, CloseCode::SessionRevoked);
            }
        }
        if review {
            for (session, until) in self.revoked.lacking(&told, now) {
                tokens.revoke(session, now, until).await?;
            }
        }
        Ok(now)
    }

    fn all_that_matter(&self, now: Millis) -> Millis {
        Millis(now.0.saturating_sub(self.matters_ms()))
    }

    fn ends_to_matter(&self, at: Millis) -> Millis {
        Millis(at.0 + self.matters_ms())
    }

    fn matters_ms(&self) -> u64 {
        millis(self.auth.access_ttl) + CLOCK_SLACK_MS
    }
}

/// Looks again and again, as long as anybody uses the accounts. A store that nobody shares is only told what it lacks.
pub(super) fn watch(inner: &Arc<Inner>) {
    tokio::spawn(look_on(Arc::downgrade(inner)));
}

async fn look_on(inner: Weak<Inner>) {
    let mut read_to = Millis(0);
    for look in 0.. {
        sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        // taken before the look, so that what fails during it is not forgotten
        let untold = inner.revoked.untold.swap(false, Ordering::SeqCst);
        let shared = inner.world.store.tokens.is_shared();
        if !shared && !untold {
            continue;
        }
        let review = untold || look % LOOKS_PER_REVIEW == 0;
        match inner.exchange(read_to, review).await {
            Ok(now) => read_to = now,
            Err(error) => {
                tracing::debug!(%error, "cannot exchange revocations with the token store");
                inner.revoked.untold.store(true, Ordering::SeqCst);
            }
        }
    }
}
