//! Drains the outbox: what the bus did not take when it was sent goes into the stream when it does. At the start, when the
//! bus takes events again, and every minute, for other nodes write there too. Any number of nodes may drain at once: an event
//! that is put into the stream twice is one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Growth};
use crate::clock::SharedClock;
use crate::outbox::{KEPT_MINUTES, Minute, OutboxStore, SHARDS, Slot};
use crate::store::StoreResult;

/// How often it is looked.
const PERIOD: Duration = Duration::from_mins(1);
/// Events that are read, and removed, at a time.
const PAGE: usize = 256;
/// Events that are on their way into the stream at a time.
const CONCURRENT: usize = 64;
/// Events that are counted while nothing can be drained; beyond it there are many.
const COUNTED: usize = 10_000;
/// Minutes after which nobody puts events into one any more: three seconds, and all that clocks may differ by.
const SETTLED_MINUTES: i64 = 10;

/// See the module.
pub struct Drainer {
    store: Arc<dyn OutboxStore>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
}

/// What became of what was there.
#[derive(Default)]
struct Drained {
    drained: usize,
    left: usize,
}

impl Drainer {
    /// Drains this store into this bus.
    pub fn new(store: Arc<dyn OutboxStore>, bus: Arc<dyn Bus>, clock: SharedClock) -> Self {
        Self { store, bus, clock }
    }

    /// Drains until `stopping`; at once if the bus has no events.
    pub async fn run(self, stopping: CancellationToken) {
        let Some(mut takes) = self.bus.takes_growths() else { return };
        stopping.run_until_cancelled(self.drain_always(&mut takes)).await;
    }

    async fn drain_always(&self, takes: &mut watch::Receiver<bool>) {
        loop {
            let takes_now = *takes.borrow_and_update();
            match self.drain(takes_now).await {
                Ok(Drained { drained, left }) => {
                    metrics::gauge!("urge_outbox_depth").set(left as f64);
                    if drained > 0 && left == 0 {
                        tracing::info!(events = drained, "the outbox is drained");
                    }
                }
                Err(error) => tracing::warn!(%error, "the outbox cannot be read; it is tried again"),
            }
            let take_again = async { while takes.changed().await.is_ok() && !*takes.borrow_and_update() {} };
            let _ = timeout(PERIOD, take_again).await;
        }
    }

    /// Goes through all minutes that have something, the oldest first.
    async fn drain(&self, mut takes: bool) -> StoreResult<Drained> {
        let now = Minute::of(self.clock.now());
        let mut done = Drained::default();
        // A node whose clock is fast is a day ahead of one that is right, for a moment.
        for day in Minute(now.0 - KEPT_MINUTES).day()..=now.day() + 1 {
            for minute in self.store.minutes(day).await? {
                let mut left = 0;
                for shard in 0..SHARDS {
                    left += self.drain_slot(Slot { minute, shard }, &mut takes, &mut done).await?;
                }
                done.left += left;
                if left == 0 && minute.0 < now.0 - SETTLED_MINUTES {
                    self.store.remove_minute(minute).await?;
                }
                if done.left >= COUNTED {
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    /// How many are left there.
    async fn drain_slot(&self, slot: Slot, takes: &mut bool, done: &mut Drained) -> StoreResult<usize> {
        let (mut after, mut left) = (None, 0);
        loop {
            let events = self.store.events(slot, after, PAGE).await?;
            after = events.last().copied();
            let (count, is_last) = (events.len(), events.len() < PAGE);
            let put = if *takes { self.enqueue(events).await } else { Vec::new() };
            // The first that is refused will do: the next look begins where this one ends.
            *takes &= put.len() == count;
            left += count - put.len();
            if !put.is_empty() {
                self.store.remove(slot, &put).await?;
                done.drained += put.len();
                metrics::counter!("urge_outbox_drained_total").increment(put.len() as u64);
            }
            if is_last || left >= COUNTED {
                return Ok(left);
            }
        }
    }

    /// Those that the stream has now.
    async fn enqueue(&self, events: Vec<Growth>) -> Vec<Growth> {
        let put = stream::iter(events).map(async |growth| self.bus.enqueue(&growth).await.is_ok().then_some(growth));
        put.buffer_unordered(CONCURRENT).filter_map(async |growth| growth).collect().await
    }
}
