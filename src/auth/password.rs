//! Passwords: Argon2id (19 MiB, 2 passes, 1 lane) as PHC strings, computed by a few threads of their own: on the runtime's
//! many blocking threads the allocator would keep 19 MiB for each that ever hashed.
//! A storm of logins fills this pool and is refused at once; it slows logins alone. Who has no password, or no account,
//! costs the same work as who has.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam_channel::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result};

/// Shortest password, in characters.
pub const MIN_CHARS: usize = 8;
/// Longest password, in characters.
pub const MAX_CHARS: usize = 100;

/// Logins that may wait for each thread: at about 30 ms a hash, the last one still meets its deadline of 3 s.
const WAITING_PER_THREAD: usize = 32;
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash that no password has, of the same cost as all others.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdC4uLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a thread does next.
type Job = Box<dyn FnOnce() + Send>;

/// The pool; its threads end with it.
#[derive(Clone)]
pub struct Passwords {
    jobs: Sender<Job>,
    /// Running and waiting together.
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Passwords {
    /// A pool of this many threads.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn new(threads: NonZeroUsize) -> io::Result<Self> {
        let threads = threads.get();
        let admitted = threads.saturating_mul(1 + WAITING_PER_THREAD);
        let (jobs, waiting) = crossbeam_channel::unbounded::<Job>();
        for n in 0..threads {
            let waiting = waiting.clone();
            std::thread::Builder::new().name(format!("password-{n}")).spawn(move || {
                for job in waiting {
                    // Whoever waits for a job that panics learns of it; the thread goes on.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("a password hash panicked");
                    }
                }
            })?;
        }
        Ok(Self { jobs, admitted: Arc::new(Semaphore::new(admitted)), running: Arc::new(Semaphore::new(threads)) })
    }

    /// A place among those that run now; waits in line while there is room in it.
    ///
    /// # Errors
    /// `Unavailable` at once when the line is full.
    pub async fn enter(&self) -> Result<Place> {
        let full = || Error {
            retry_after: Some(Duration::from_secs(2)),
            ..Error::unavailable("too many logins at the moment, try again shortly")
        };
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| full())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(Error::internal)?;
        Ok(Place { jobs: self.jobs.clone(), _admitted: admitted, _running: running })
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// As [`Passwords::enter`].
    pub async fn hash(&self, password: &str) -> Result<String> {
        self.enter().await?.hash(password, None).await
    }

    /// The same under a salt of the caller's, which must be no other hash's.
    ///
    /// # Errors
    /// As [`Passwords::enter`].
    pub async fn hash_with_salt(&self, password: &str, salt: [u8; 16]) -> Result<String> {
        self.enter().await?.hash(password, Some(salt)).await
    }
}

/// A place in the pool. It goes along into the work: who goes away does not make room while his hash is still computed.
pub struct Place {
    jobs: Sender<Job>,
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl Place {
    /// The PHC string of a password, under a random salt if none is given.
    async fn hash(self, password: &str, salt: Option<[u8; 16]>) -> Result<String> {
        let password = normal(password);
        let hash = self
            .run(move || {
                let argon2 = argon2()?;
                let hash = match salt {
                    Some(salt) => argon2.hash_password_with_salt(password.as_bytes(), &salt)?,
                    None => argon2.hash_password(password.as_bytes())?,
                };
                Ok::<_, argon2::password_hash::Error>(hash.to_string())
            })
            .await?;
        hash.map_err(Error::internal)
    }

    /// Whether the password has this hash; without a hash the same work is done, and the answer is no.
    pub async fn verify(self, password: &str, hash: Option<&str>) -> Result<bool> {
        let known = hash.is_some();
        let (password, hash) = (normal(password), hash.unwrap_or(NOBODYS).to_owned());
        let same = self.run(move || argon2().is_ok_and(|argon2| argon2.verify_password(password.as_bytes(), &*hash).is_ok())).await?;
        Ok(same && known)
    }

    async fn run<T: Send + 'static>(self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let jobs = self.jobs.clone();
        let work = Box::new(move || {
            let outcome = job();
            drop(self);
            // Who waited may have gone away.
            let _ = sender.send(outcome);
        });
        jobs.send(work).map_err(|_| Error::internal("the threads that hash passwords have ended"))?;
        receiver.await.map_err(Error::internal)
    }
}

/// Refuses passwords that are too short or too long.
pub fn validate(field: &str, password: &str) -> Result<()> {
    match password.chars().count() {
        0..MIN_CHARS => Err(Error::invalid(field, format!("the password must have at least {MIN_CHARS} characters"))),
        MIN_CHARS..=MAX_CHARS => Ok(()),
        _ => Err(Error::invalid(field, format!("the password must have at most {MAX_CHARS} characters"))),
    }
}

/// One spelling of what keyboards write in several: composed or not, it is the same password.
fn normal(password: &str) -> String {
    password.nfc().collect()
}

fn argon2() -> argon2::password_hash::Result<Argon2<'static>> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(MEMORY_KIB, PASSES, LANES, None)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pool(threads: usize) -> Passwords {
        Passwords::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    async fn verify(pool: &Passwords, password: &str, hash: Option<&str>) -> Result<bool> {
        pool.enter().await?.verify(password, hash).await
    }

    #[tokio::test]
    async fn a_password_has_its_hash_and_no_other() {
        let pool = pool(1);
        let hash = pool.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify(&pool, "correct horse", Some(&hash)).await.unwrap());
        assert!(!verify(&pool, "Correct horse", Some(&hash)).await.unwrap());
        assert_ne!(hash, pool.hash("correct horse").await.unwrap(), "salted");
        let composed = pool.hash("caf\u{e9} noir").await.unwrap();
        assert!(verify(&pool, "cafe\u{301} noir", Some(&composed)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_costs_as_much_as_somebody() {
        let pool = pool(1);
        let hash = pool.hash("correct horse").await.unwrap();
        let parsed = argon2::PasswordHash::new(NOBODYS).unwrap();
        let real = argon2::PasswordHash::new(&hash).unwrap();
        assert_eq!((parsed.algorithm, parsed.version, parsed.params), (real.algorithm, real.version, real.params));
        assert_eq!(parsed.hash.unwrap().len(), real.hash.unwrap().len());
        assert!(!verify(&pool, "correct horse", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_pool_refuses_at_once_and_says_when_to_come_back() {
        let pool = pool(1);
        let held = Arc::clone(&pool.running).acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..=WAITING_PER_THREAD)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { verify(&pool, "a password", None).await })
            })
            .collect();
        while pool.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = verify(&pool, "a password", None).await.unwrap_err();
        assert_eq!(refused.code, crate::error::ErrorCode::Unavailable);
        assert!(refused.retry_after.is_some());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        for task in waiting {
            assert!(task.await.is_err(), "aborted while waiting");
        }
        drop(held);
        assert!(!verify(&pool, "a password", None).await.unwrap(), "who gave up left his place");
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(validate("password", "1234567").is_err());
        assert!(validate("password", "ßßßßßßßß").is_ok());
        assert!(validate("password", &"😀".repeat(100)).is_ok());
        assert!(validate("password", &"x".repeat(101)).is_err());
    }
}
