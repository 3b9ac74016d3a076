//! Short-lived secrets and limits: refresh families, one-time tickets, revocations, rate limits.
//! Redis or its embedded twin. Losing all of it means signing in again, never letting somebody in.

use async_trait::async_trait;
use protocol::{Millis, SessionId, UserId};

use crate::Error;

/// What a refresh token presented for rotation must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The family.
    pub family: SessionId,
    /// The generation of the token presented.
    pub presented: u64,
    /// SHA-256 of the token presented.
    pub presented_hash: [u8; 32],
    /// SHA-256 of its successor (generation `presented + 1`).
    pub successor_hash: [u8; 32],
    /// Now, for the grace and the end.
    pub now: Millis,
    /// When the successor ends.
    pub expires_at: Millis,
    /// The generation that the durable row of the session knows of. A family of an earlier one comes from an old copy.
    pub known: u64,
    /// How long the predecessor may be presented again and gets the same successor, milliseconds.
    pub grace_ms: u64,
}

/// Answer to [`Tokens::rotate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The successor is live now.
    Rotated,
    /// The same request again within the grace: the successor was live already.
    Again,
    /// A spent token: the family has been ended.
    Reused,
    /// No such family: forgotten, ended, never there, or older than the row. Nothing was changed.
    Unknown,
}

/// A one-time pass to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Who.
    pub user: UserId,
    /// In which session.
    pub session: SessionId,
    /// When the access token that asked for it ends.
    pub token_expires_at: Millis,
    /// When the ticket itself ends.
    pub expires_at: Millis,
}

/// A rate: `burst` at once, then one every `period_ms / count`. GCRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many per period, lasting.
    pub count: u32,
    /// The period, milliseconds.
    pub period_ms: u64,
    /// How many at once.
    pub burst: u32,
}

/// Tokens and limits. All may fail with [`Error::Refused`]; those that write also with [`Error::Unknown`].
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Begins a family with the hash of its first token (generation 1).
    async fn begin_family(
        &self, family: SessionId, hash: [u8; 32], now: Millis, expires_at: Millis,
    ) -> Result<(), Error>;

    /// Rotates, detects reuse, honours the grace: one atomic step. Durable when it returns.
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, Error>;

    /// Ends a family, and remembers until `until` that access tokens of the session are void. Said again it counts as
    /// revoked at the later `at`, so that who has read up to the earlier one meets it; `until` is the same each time.
    async fn revoke(&self, family: SessionId, at: Millis, until: Millis) -> Result<(), Error>;

    /// Sessions revoked at or after `since` whose access tokens may still live at `now`, in that order, and until when.
    async fn revoked(&self, since: Millis, now: Millis) -> Result<Vec<(SessionId, Millis)>, Error>;

    /// Stores a ticket under the hash of its text.
    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, now: Millis) -> Result<(), Error>;

    /// Takes a ticket: it works once. `None`: not there, spent, or ended at `now`.
    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, Error>;

    /// Takes one from the bucket `key`. `Ok(Err(after_ms))`: none left, wait that long.
    async fn take(&self, key: &str, rate: Rate, now: Millis) -> Result<Result<(), u64>, Error>;

    /// True if other processes write here too, and what was written may be forgotten (a server that restarts empty, an older
    /// copy that takes over): what matters must be read, and said, again and again.
    fn is_shared(&self) -> bool;
}

/// Tickets live for seconds: one that ended this long ago is gone for good and may be forgotten, even if the clock was
/// set back since.
pub(crate) const SWEEP_AFTER_MS: u64 = 3_600_000;

/// A family of refresh tokens as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The generation of the live token, from 1.
    pub generation: u64,
    /// SHA-256 of the live token.
    pub hash: [u8; 32],
    /// The hash of the token before the live one, and when it was spent.
    pub predecessor: Option<([u8; 32], Millis)>,
    /// When the live token ends.
    pub expires_at: Millis,
}

impl Family {
    /// Judges a token and, if it is the live one, puts its successor in its place. Whoever calls has proved that the
    /// token of this generation was made here once, so an older one than the predecessor needs no hash to be a reuse.
    pub(crate) fn rotate(&mut self, rotation: &Rotation) -> Rotated {
        let from_an_old_copy = self.generation < rotation.known;
        if self.expires_at <= rotation.now || rotation.presented > self.generation || from_an_old_copy {
            return Rotated::Unknown;
        }
        if rotation.presented == self.generation {
            if rotation.presented_hash != self.hash {
                return Rotated::Unknown;
            }
            self.predecessor = Some((self.hash, rotation.now));
            self.hash = rotation.successor_hash;
            self.generation += 1;
            self.expires_at = rotation.expires_at;
            return Rotated::Rotated;
        }
        match self.predecessor {
            Some((hash, spent_at)) if rotation.presented + 1 == self.generation => {
                if rotation.presented_hash != hash {
                    Rotated::Unknown
                } else if rotation.now.0 <= spent_at.0.saturating_add(rotation.grace_ms) {
                    Rotated::Again
                } else {
                    Rotated::Reused
                }
            }
            // Sent before the last rotation and carried out after it: its caller has long gone away, and came back.
            Some((_, spent_at)) if rotation.now < spent_at => Rotated::Unknown,
            _ => Rotated::Reused,
        }
    }
}
