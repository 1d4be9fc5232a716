//! What workers are told: that a conversation's log has grown, before whoever made it grow is answered. It goes into the
//! bus's stream, or into the store's outbox while the bus does not take it; a worker drains that (`worker/outbox.rs`).
//! On a bus that is one node's alone there is nothing to tell: the node tells its own workers.

mod scylla;
mod sqlite;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
pub use scylla::OutboxStatements;
pub use store::{KEPT_MINUTES, Minute, OutboxStore, SHARDS, Slot};

use crate::bus::{Bus, Growth};
use crate::clock::SharedClock;
use crate::store::StoreResult;

/// Tells workers; shared by everybody on a node.
pub struct Growths {
    bus: Arc<dyn Bus>,
    store: Arc<dyn OutboxStore>,
    clock: SharedClock,
    /// The minute that was noted last.
    noted: Mutex<Option<Minute>>,
    /// Whether it has been said that the outbox is written.
    is_told: AtomicBool,
}

impl Growths {
    /// Through this bus, or into this store.
    pub fn new(bus: Arc<dyn Bus>, store: Arc<dyn OutboxStore>, clock: SharedClock) -> Self {
        Self { bus, store, clock, noted: Mutex::default(), is_told: AtomicBool::new(false) }
    }

    /// Tells of it. `Ok`: the stream has it, or the outbox.
    ///
    /// # Errors
    /// Those of the store: perhaps the one or the other has it nevertheless.
    pub async fn tell(&self, growth: Growth) -> StoreResult<()> {
        let Err(refused) = self.bus.enqueue(&growth).await else {
            self.is_told.store(false, Ordering::Relaxed);
            return Ok(());
        };
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%refused, "the bus does not take events: they are written to the outbox, and worked on when it is back");
        }
        let minute = Minute::of(self.clock.now());
        let is_noted = *self.noted.lock() == Some(minute);
        if !is_noted {
            self.store.put_minute(minute).await?;
            *self.noted.lock() = Some(minute);
        }
        self.store.put(Slot::of(minute, &growth), &growth).await?;
        metrics::counter!("urge_outbox_written_total").increment(1);
        Ok(())
    }
}
