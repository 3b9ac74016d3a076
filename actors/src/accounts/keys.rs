//! The signing keys: made, sealed into the store, loaded, rotated, dropped when no token can need them any more.
//! Never decides about tokens (see `access`).

use std::sync::{
    Arc, PoisonError, RwLock, Weak,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use protocol::Millis;
use storage::accounts::SigningKey;
use tokio::time::{Duration, Instant, sleep};

use super::{
    access::{Key, Ring, kid},
    secrets::Secrets,
};
use crate::World;

/// However many tokens name keys that are not known, the keys are read once in this time.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two looks at what other nodes rotated. A key is kept for two lives of its tokens, and a life is half a minute
/// at least: nobody signs with one that others have dropped.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The keys of the deployment, as this process knows them.
pub(super) struct Keys {
    world: World,
    secrets: Arc<Secrets>,
    /// A key is kept this long past its successor's making.
    keep_ms: u64,
    ring: RwLock<Arc<Ring>>,
    /// How many reads of the keys have begun.
    begun: AtomicU64,
    /// One read, or rotation, at a time.
    reads: tokio::sync::Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    at: Option<Instant>,
    /// The last one that came to its end, and how: one whose asker has gone meanwhile may not have.
    done: u64,
    outcome: Option<storage::Error>,
}

impl Keys {
    /// Loads the keys; makes the first. Nodes that start at once may each make one: all of them verify, the newest signs.
    pub(super) async fn start(
        world: World, secrets: Arc<Secrets>, access_ttl: Duration,
    ) -> Result<Arc<Keys>, storage::Error> {
        let keys = Keys {
            world,
            secrets,
            keep_ms: millis(access_ttl) * 2,
            ring: RwLock::new(Arc::new(Ring { keys: Vec::new() })),
            begun: AtomicU64::new(0),
            reads: tokio::sync::Mutex::default(),
        };
        keys.load(&mut *keys.reads.lock().await).await?;
        if keys.ring().keys.is_empty() {
            keys.rotate().await?;
        }
        let keys = Arc::new(keys);
        tokio::spawn(look_on(Arc::downgrade(&keys)));
        Ok(keys)
    }

    /// The keys now.
    pub(super) fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a key that signs from now on, and drops those that no living token was signed with. Answers its `kid`.
    pub(super) async fn rotate(&self) -> Result<String, storage::Error> {
        let reads = &mut *self.reads.lock().await;
        self.load(reads).await?;
        let newest = self.ring().keys.first().map_or(0, |key| key.created_at.0);
        let now = self.world.clock.wall().0;
        // Later than every other even if the clock was set back: the newest signs.
        let (kid, key) = self.make(Millis(now.max(newest + 1)));
        self.world.store.accounts.add_signing_key(&key).await?;
        self.load(reads).await?;
        if let Some(before) = spent_before(&self.ring().keys, Millis(now.saturating_sub(self.keep_ms))) {
            self.world.store.accounts.drop_signing_keys(before).await?;
            self.load(reads).await?;
        }
        Ok(kid)
    }

    /// The keys as they stand in the store after this was asked: another node may have made one. Whoever asks while they
    /// are read, or within [`PAUSE`] of that, is answered together with all others who do, by the next read.
    pub(super) async fn fresh(&self) -> Result<Arc<Ring>, storage::Error> {
        let begun = self.begun.load(Ordering::SeqCst);
        let reads = &mut *self.reads.lock().await;
        if reads.done <= begun {
            let now = self.world.clock.now();
            sleep(reads.at.map_or(Duration::ZERO, |at| (at + PAUSE).saturating_duration_since(now))).await;
            self.load(reads).await?;
        }
        reads.outcome.clone().map_or_else(|| Ok(self.ring()), Err)
    }

    async fn load(&self, reads: &mut Reads) -> Result<(), storage::Error> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        reads.at = Some(self.world.clock.now());
        let read = self.read().await;
        (reads.done, reads.outcome) = (number, read.as_ref().err().cloned());
        read
    }

    async fn read(&self) -> Result<(), storage::Error> {
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

/// Looks again and again, as long as anybody uses the keys.
async fn look_on(keys: Weak<Keys>) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(keys) = keys.upgrade() else { return };
        if let Err(error) = keys.fresh().await {
            tracing::debug!(%error, "cannot read the signing keys again");
        }
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
