//! Backends that go wrong the way real ones do: [`Faulty`] wraps a store or a bus and spoils its answers at random.
//! It breaks no promise of the traits (an error means "perhaps done", an envelope may be lost), so nothing that is built
//! on them may break. The seed is printed; `URGE_TEST_SEED` repeats it.

mod bus;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::task::TaskTracker;
use urge::event::Envelope;
use urge::id::{ConversationId, Seq};
use urge::log::ConversationRecord;
use urge::store::{StoreError, StoreResult};

/// The seed of a run: `URGE_TEST_SEED`, or a fresh one.
pub fn seed() -> u64 {
    given_seed().unwrap_or_else(rand::random)
}

/// The one that is asked for.
pub fn given_seed() -> Option<u64> {
    std::env::var("URGE_TEST_SEED").ok().and_then(|text| text.parse().ok())
}

/// What can go wrong, and in how many of ten thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Store: an error, and nothing was done. Bus: refused.
    pub refused: u32,
    /// Store: an error, and it was done.
    pub unanswered: u32,
    /// An error, and it will be done in a moment. Bus: delivered later, no error.
    pub late: u32,
    /// A read answers as it would have earlier.
    pub stale: u32,
    /// The answer takes a while.
    pub stalled: u32,
    /// The answer never comes: the caller's deadline ends it. Store only.
    pub hung: u32,
    /// Done twice; the second answer is the one that comes.
    pub doubled: u32,
    /// An append goes step by step, as on a store that has no transactions across partitions.
    pub stepwise: u32,
    /// Bus: lost without an error.
    pub dropped: u32,
    /// Bus: changes places with the next one.
    pub swapped: u32,
    /// Bus: down for the next few calls.
    pub down: u32,
}

impl Odds {
    /// Everything that a store can do to its callers.
    pub const STORE: Self = Self {
        refused: 200,
        unanswered: 200,
        late: 200,
        stale: 300,
        stalled: 100,
        hung: 2,
        doubled: 200,
        stepwise: 5_000,
        dropped: 0,
        swapped: 0,
        down: 0,
    };
    /// Everything that a bus can do.
    pub const BUS: Self = Self {
        refused: 100,
        unanswered: 0,
        late: 200,
        stale: 0,
        stalled: 100,
        hung: 0,
        doubled: 200,
        stepwise: 0,
        dropped: 200,
        swapped: 200,
        down: 20,
    };
}

/// One fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Refused,
    Unanswered,
    Late,
    Stale,
    Stalled,
    Hung,
    Doubled,
    Stepwise,
    Dropped,
    Swapped,
    Down,
}

/// The dice, shared by everything that a test wraps; they can be put away.
pub struct Faults {
    odds: Odds,
    rng: Mutex<StdRng>,
    calm: AtomicBool,
    calls: AtomicU64,
    counts: Mutex<HashMap<Fault, u64>>,
    late: TaskTracker,
}

impl Faults {
    /// Dice with this seed, which the caller has printed.
    pub fn new(seed: u64, odds: Odds) -> Arc<Self> {
        Arc::new(Self {
            odds,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            counts: Mutex::default(),
            late: TaskTracker::new(),
        })
    }

    /// From now on nothing goes wrong; returns once everything late has happened.
    pub async fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.late.close();
        self.late.wait().await;
        self.late.reopen();
    }

    /// Things go wrong again.
    pub fn storm(&self) {
        self.calm.store(false, Ordering::SeqCst);
    }

    /// How often each fault struck.
    pub fn counts(&self) -> HashMap<Fault, u64> {
        self.counts.lock().clone()
    }

    fn roll(&self, fates: &[(Fault, u32)]) -> Option<Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.calm.load(Ordering::SeqCst) {
            return None;
        }
        let mut dice = self.rng.lock().random_range(0..10_000);
        for (fault, odds) in fates {
            if dice < *odds {
                *self.counts.lock().entry(*fault).or_default() += 1;
                return Some(*fault);
            }
            dice -= odds;
        }
        None
    }

    fn up_to(&self, limit: u64) -> u64 {
        self.rng.lock().random_range(0..=limit)
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(self.up_to(40))).await;
    }

    /// Makes a write, or seems to.
    async fn write<T, F>(self: &Arc<Self>, write: impl Fn() -> F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let odds = &self.odds;
        let fault = self.roll(&[
            (Fault::Refused, odds.refused),
            (Fault::Unanswered, odds.unanswered),
            (Fault::Late, odds.late),
            (Fault::Stalled, odds.stalled),
            (Fault::Hung, odds.hung),
            (Fault::Doubled, odds.doubled),
        ]);
        match fault {
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::Unanswered) => write().await.and(Err(lost())),
            Some(Fault::Late) => {
                let (faults, write) = (Arc::clone(self), write());
                self.late.spawn(async move {
                    faults.pause().await;
                    let _ = write.await;
                });
                Err(lost())
            }
            Some(Fault::Stalled) => {
                self.pause().await;
                write().await
            }
            Some(Fault::Hung) => {
                write().await?;
                std::future::pending().await
            }
            Some(Fault::Doubled) => {
                write().await?;
                write().await
            }
            _ => write().await,
        }
    }

    /// Reads, or fails to.
    async fn read<T>(&self, read: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        match self.roll(&[(Fault::Refused, self.odds.refused), (Fault::Stalled, self.odds.stalled)]) {
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::Stalled) => {
                self.pause().await;
                read.await
            }
            _ => read.await,
        }
    }

    fn is_stale(&self) -> bool {
        self.roll(&[(Fault::Stale, self.odds.stale)]).is_some()
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the test lost the answer".into())
}

/// A backend with [`Faults`].
pub struct Faulty<B: ?Sized> {
    backend: Arc<B>,
    faults: Arc<Faults>,
    /// Conversations as they were read before.
    records: Mutex<HashMap<ConversationId, Option<ConversationRecord>>>,
    /// How far logs went when they were read before.
    ends: Mutex<HashMap<ConversationId, Seq>>,
    /// The envelope that lets the next one pass, and for how many calls the bus is down.
    held: Mutex<(Option<Envelope>, u64)>,
}

impl<B: ?Sized> Faulty<B> {
    /// Spoils this backend.
    pub fn new(backend: Arc<B>, faults: Arc<Faults>) -> Self {
        Self { backend, faults, records: Mutex::default(), ends: Mutex::default(), held: Mutex::default() }
    }
}
