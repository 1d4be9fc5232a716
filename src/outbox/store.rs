//! The statements of the outbox, shaped after ScyllaDB: one partition a method. A minute is noted before its first event
//! is put, so that whoever looks through the minutes misses none.

use async_trait::async_trait;

use crate::bus::Growth;
use crate::clock::Timestamp;
use crate::store::StoreResult;

/// Partitions of a minute: so that no one partition takes all that a cluster sends.
pub const SHARDS: i32 = 8;
/// What is older is given up: three days, in minutes. The stream keeps nothing longer either.
pub const KEPT_MINUTES: i64 = 3 * MINUTES_OF_A_DAY;
const MINUTES_OF_A_DAY: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

/// A minute since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(pub i64);

impl Minute {
    /// The one of this time.
    pub fn of(time: Timestamp) -> Self {
        Self(time.0.div_euclid(MINUTE_MS))
    }

    /// The day that it belongs to.
    pub fn day(self) -> i64 {
        self.0.div_euclid(MINUTES_OF_A_DAY)
    }
}

/// One partition of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When its events came.
    pub minute: Minute,
    /// Below [`SHARDS`].
    pub shard: i32,
}

impl Slot {
    /// Where an event of this minute belongs.
    pub fn of(minute: Minute, growth: &Growth) -> Self {
        Self { minute, shard: i32::from(growth.conversation_id.0.as_bytes()[15]).rem_euclid(SHARDS) }
    }
}

/// Events that the bus did not take. Every write may be repeated; an error other than `Full` means: perhaps done.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Notes that the minute has events: before the first of them is put.
    async fn put_minute(&self, minute: Minute) -> StoreResult<()>;

    /// The minutes of a day that were noted, ascending.
    async fn minutes(&self, day: i64) -> StoreResult<Vec<Minute>>;

    /// Forgets a minute that nobody puts events into any more, and that has none.
    async fn remove_minute(&self, minute: Minute) -> StoreResult<()>;

    /// Keeps an event.
    async fn put(&self, slot: Slot, growth: &Growth) -> StoreResult<()>;

    /// Events after `after`, by conversation and seq in the store's own order, at most `limit`.
    async fn events(&self, slot: Slot, after: Option<Growth>, limit: usize) -> StoreResult<Vec<Growth>>;

    /// Forgets these events.
    async fn remove(&self, slot: Slot, growths: &[Growth]) -> StoreResult<()>;
}
