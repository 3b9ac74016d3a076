//! The signing keys: made, sealed into the store, loaded, rotated, dropped when no token can need them any more.
//! Never decides about tokens (see `access`).

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use protocol::Millis;
use storage::accounts::SigningKey;
use tokio::time::{Duration, Instant};

use super::{
    access::{Key, Ring, kid},
    secrets::Secrets,
};
use crate::World;

/// A token of an unknown key makes the keys be read again, at most this often.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// The keys of the deployment, as this process knows them.
pub(super) struct Keys {
    world: World,
    secrets: Arc<Secrets>,
    /// A key is kept this long past its successor's making.
    keep_ms: u64,
    ring: RwLock<Arc<Ring>>,
    reloaded_at: Mutex<Option<Instant>>,
    /// One rotation at a time.
    rotating: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Loads the keys; makes the first.
    pub(super) async fn start(
        world: World, secrets: Arc<Secrets>, access_ttl: Duration,
    ) -> Result<Arc<Keys>, storage::Error> {
        let keys = Keys {
            world,
            secrets,
            keep_ms: millis(access_ttl) * 2,
            ring: RwLock::new(Arc::new(Ring { keys: Vec::new() })),
            reloaded_at: Mutex::new(None),
            rotating: tokio::sync::Mutex::new(()),
        };
        keys.load().await?;
        if keys.ring().keys.is_empty() {
            keys.rotate().await?;
        }
        Ok(Arc::new(keys))
    }

    /// The keys now.
    pub(super) fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a key that signs from now on, and drops those that no living token was signed with. Answers its `kid`.
    pub(super) async fn rotate(&self) -> Result<String, storage::Error> {
        let _one = self.rotating.lock().await;
        self.load().await?;
        let newest = self.ring().keys.first().map_or(0, |key| key.created_at.0);
        let now = self.world.clock.wall().0;
        // Later than every other even if the clock was set back: the newest signs.
        let (kid, key) = self.make(Millis(now.max(newest + 1)));
        self.world.store.accounts.add_signing_key(&key).await?;
        self.load().await?;
        if let Some(before) = spent_before(&self.ring().keys, Millis(now.saturating_sub(self.keep_ms))) {
            self.world.store.accounts.drop_signing_keys(before).await?;
            self.load().await?;
        }
        Ok(kid)
    }

    /// Reads the keys again in the background, unless that was done a moment ago: another process may have rotated.
    /// The token that named the unknown key is refused this time; its holder tries again.
    pub(super) fn reload(self: &Arc<Self>) {
        let now = self.world.clock.now();
        {
            let mut at = self.reloaded_at.lock().unwrap_or_else(PoisonError::into_inner);
            if at.is_some_and(|at| now.saturating_duration_since(at) < RELOAD_EVERY) {
                return;
            }
            *at = Some(now);
        }
        let keys = self.clone();
        tokio::spawn(async move {
            if let Err(error) = keys.load().await {
                tracing::warn!(%error, "cannot read the signing keys again");
            }
        });
    }

    async fn load(&self) -> Result<(), storage::Error> {
        let stored = self.world.store.accounts.signing_keys().await?;
        let mut keys = stored.iter().map(|key| self.open(key)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by(|a, b| (b.created_at, &b.kid).cmp(&(a.created_at, &a.kid)));
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Ring { keys });
        Ok(())
    }

    fn open(&self, stored: &SigningKey) -> Result<Key, storage::Error> {
        let opened = self.secrets.open(&stored.kid, &stored.sealed);
        let key = opened.and_then(|pkcs8| Key::new(&pkcs8, stored.created_at));
        key.filter(|key| key.kid == stored.kid).ok_or_else(|| {
            storage::Error::Corrupt(format!(
                "signing key {} was sealed under another secret; auth.secret_file must hold the secret this store was \
                 first started with",
                stored.kid
            ))
        })
    }

    fn make(&self, created_at: Millis) -> (String, SigningKey) {
        let mut seed = [0; 32];
        self.world.random.fill(&mut seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        let pkcs8 = pair.to_pkcs8().expect("a key pair has an encoding");
        let public = pair.public_key().as_ref().to_vec();
        let kid = kid(&public);
        let sealed = self.secrets.seal(&*self.world.random, &kid, pkcs8.as_ref());
        (kid.clone(), SigningKey { kid, sealed, public, created_at })
    }
}

/// Keys made before the answer have a successor made at or before `then`. `keys`: newest first.
fn spent_before(keys: &[Key], then: Millis) -> Option<Millis> {
    keys.iter().map(|key| key.created_at).find(|made| *made <= then)
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
