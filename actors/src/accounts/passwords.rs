//! Passwords: which are good enough, and their hashes, made on a bounded pool and never on the runtime's threads.
//! Never knows whose a password is.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use protocol::{Code, Error};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, zxcvbn};

use super::names::fold;
use crate::{Random, settings::Auth};

const CHARS_MIN: usize = 8;
const CHARS_MAX: usize = 128;
/// Characters whose strength is estimated: the estimate of 128 chosen ones takes a second, of 32 at most 70 ms (two
/// shared cores, unoptimised caller, 2026-11), and what is strong there is strong.
const STRENGTH_CHARS: usize = 32;
/// Jobs that wait for a worker. One takes some 20 ms, so the last of them waits about a second.
const QUEUE_MAX: usize = 64;
/// See [`QUEUE_MAX`].
const FULL_AFTER_MS: u64 = 1_000;

/// Hashes and checks passwords.
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    /// Room for jobs, waiting ones included.
    room: Arc<Semaphore>,
    /// Workers; each holds the memory of one hash.
    workers: Arc<Semaphore>,
    random: Arc<dyn Random>,
}

/// What a check of a password found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Not the password, or there is none.
    Wrong,
    /// The password.
    Right,
    /// The password, hashed with other parameters than today's; this is its hash with today's.
    Rehashed(String),
}

impl Passwords {
    pub(super) fn new(auth: &Auth, random: Arc<dyn Random>) -> Result<Passwords, storage::Error> {
        let params = Params::new(auth.password_memory_kib, auth.password_passes, 1, None).map_err(|error| {
            storage::Error::Refused(format!(
                "auth.password_memory_kib or auth.password_passes is out of bounds: {error}"
            ))
        })?;
        // One core is left to everything else.
        let n_workers = std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1));
        Ok(Passwords {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            room: Arc::new(Semaphore::new(n_workers + QUEUE_MAX)),
            workers: Arc::new(Semaphore::new(n_workers)),
            random,
        })
    }

    /// Checks a new password against the rules and hashes it. `field` is named in a refusal; `email` must not be the
    /// password either.
    pub(super) async fn admit(
        &self, field: &'static str, password: &str, username: &str, email: Option<&str>,
    ) -> Result<String, Error> {
        let password = normal(password);
        check_shape(field, &password, username)?;
        let inputs = [username.to_owned(), email.unwrap_or_default().to_owned()];
        let (argon2, salt) = (self.argon2.clone(), self.salt());
        self.run(move || {
            check_strength(field, &password, &inputs)?;
            hash(&argon2, &password, &salt)
        })
        .await?
    }

    /// Checks a password. `stored`: `None` if there is no such user, which takes as long as a wrong password.
    pub(super) async fn check(&self, password: &str, stored: Option<String>) -> Result<Checked, Error> {
        let password = normal(password);
        let (argon2, salt) = (self.argon2.clone(), self.salt());
        self.run(move || {
            let Some(stored) = stored.as_deref().and_then(|text| PasswordHash::new(text).ok()) else {
                return hash(&argon2, &password, &salt).map(|_| Checked::Wrong);
            };
            if argon2.verify_password(password.as_bytes(), &stored).is_err() {
                return Ok(Checked::Wrong);
            }
            let current = Params::try_from(&stored).is_ok_and(|params| {
                (params.m_cost(), params.t_cost()) == (argon2.params().m_cost(), argon2.params().t_cost())
            });
            if current { Ok(Checked::Right) } else { hash(&argon2, &password, &salt).map(Checked::Rehashed) }
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let full = || Error::new(Code::Overloaded, "too many sign-ins at once").after_ms(FULL_AFTER_MS);
        let room = self.room.clone().try_acquire_owned().map_err(|_| full())?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| full())?;
        // The permits go with the job: it cannot be stopped once it runs, even if nobody waits for it any more.
        let done = tokio::task::spawn_blocking(move || {
            let _permits = (room, worker);
            job()
        });
        done.await.map_err(|_| Error::new(Code::Internal, "a password could not be hashed"))
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        salt
    }
}

/// The same characters give the same bytes, whatever keyboard they come from.
fn normal(password: &str) -> String {
    password.nfkc().collect()
}

fn hash(argon2: &Argon2<'_>, password: &str, salt: &[u8]) -> Result<String, Error> {
    let hash = argon2.hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string()).map_err(|_| Error::new(Code::Internal, "a password could not be hashed"))
}

fn check_shape(field: &str, password: &str, username: &str) -> Result<(), Error> {
    let n_chars = password.chars().count();
    if !(CHARS_MIN..=CHARS_MAX).contains(&n_chars) {
        let reason = format!("{field} has {n_chars} characters; {CHARS_MIN} to {CHARS_MAX} are allowed");
        return Err(Error::field(field, reason));
    }
    let (password, username) = (fold(password), fold(username));
    if password.contains(&username) || username.contains(&password) {
        return Err(Error::field(field, format!("{field} contains the username, or is a part of it")));
    }
    Ok(())
}

fn check_strength(field: &str, password: &str, inputs: &[String]) -> Result<(), Error> {
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let start: String = password.chars().take(STRENGTH_CHARS).collect();
    let estimate = zxcvbn(&start, &inputs);
    if estimate.score() >= Score::Two {
        return Ok(());
    }
    let reason = estimate.feedback().and_then(|feedback| feedback.warning()).map(|warning| warning.to_string());
    let reason = reason.unwrap_or_else(|| "Add another word or two.".to_owned());
    Err(Error::field(field, format!("{field} is too easy to guess: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;
    impl Random for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }

    fn passwords(memory_kib: u32) -> Passwords {
        let auth = Auth {
            issuer: String::new(),
            access_ttl: std::time::Duration::ZERO,
            refresh_ttl: std::time::Duration::ZERO,
            secret: crate::settings::Secret([0; 32]),
            sessions_per_user_max: 1,
            single_session: false,
            password_memory_kib: memory_kib,
            password_passes: 1,
        };
        Passwords::new(&auth, Arc::new(Ones)).unwrap()
    }

    async fn refused(passwords_: &[&str], because: &str) {
        for password in passwords_ {
            let error = passwords(8).admit("password", password, "grace.hopper", Some("grace@example.org")).await;
            let error = error.unwrap_err();
            assert_eq!(error.field.as_deref(), Some("password"), "{password:?}");
            assert!(error.message.contains(because), "{password:?}: {} does not say {because:?}", error.message);
        }
    }

    #[tokio::test]
    async fn passwords_too_short_or_too_long_are_refused() {
        refused(&["", "Xk7#pQ2", &"Xk7#".repeat(33)], "characters").await;
    }

    #[tokio::test]
    async fn passwords_with_the_username_are_refused() {
        refused(&["grace.hopper", "my GRACE.HOPPER 1906", "race.hop"], "username").await;
    }

    #[tokio::test]
    async fn passwords_that_are_easy_to_guess_are_refused() {
        refused(&["password", "qwertyuiop", "aaaaaaaaaaaa", "grace@example.org"], "too easy to guess").await;
    }

    #[tokio::test]
    async fn a_long_password_is_judged_by_its_beginning() {
        refused(&[&"password".repeat(16)], "too easy to guess").await;
        let hostile = "@4({[<369!1|7$50+%2xz".repeat(6);
        assert!(passwords(8).admit("password", &hostile, "grace", None).await.is_ok());
    }

    #[tokio::test]
    async fn a_password_is_right_however_its_letters_are_encoded() {
        let pool = passwords(8);
        let hash = pool.admit("password", "caf\u{e9} violet nimbus", "grace", None).await.unwrap();
        assert_eq!(pool.check("cafe\u{301} violet nimbus", Some(hash.clone())).await, Ok(Checked::Right));
        assert_eq!(pool.check("cafe violet nimbus", Some(hash)).await, Ok(Checked::Wrong));
        assert_eq!(pool.check("cafe violet nimbus", None).await, Ok(Checked::Wrong));
        assert_eq!(pool.check("x", Some("not a hash".to_owned())).await, Ok(Checked::Wrong));
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_made_anew_when_it_is_seen() {
        let old = passwords(8).admit("password", "violet nimbus 7", "grace", None).await.unwrap();
        let Checked::Rehashed(new) = passwords(16).check("violet nimbus 7", Some(old)).await.unwrap() else {
            panic!("the hash was kept")
        };
        assert!(new.contains("m=16"), "{new}");
        assert_eq!(passwords(16).check("violet nimbus 7", Some(new)).await, Ok(Checked::Right));
    }

    #[tokio::test]
    async fn g15_more_sign_ins_than_the_queue_holds_are_told_to_come_back() {
        let pool = passwords(8);
        let room = pool.room.clone().try_acquire_many_owned(pool.room.available_permits() as u32).unwrap();
        let error = pool.check("x", None).await.unwrap_err();
        assert_eq!((error.code, error.after_ms), (Code::Overloaded, Some(FULL_AFTER_MS)));
        drop(room);
        assert_eq!(pool.check("x", None).await, Ok(Checked::Wrong));
    }
}
