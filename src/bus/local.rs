//! The bus of a node that is alone: a bounded queue to its own hub.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Bus, BusError, Subscription};
use crate::event::Envelope;

/// Envelopes that may wait for the hub; then publishers wait, and nothing is lost.
const CAPACITY: usize = 16_384;

/// In-process bus.
pub struct Local {
    sender: mpsc::Sender<Arc<Envelope>>,
    receiver: Mutex<Option<Subscription>>,
}

impl Default for Local {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

#[async_trait]
impl Bus for Local {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        self.sender.send(Arc::new(envelope)).await.map_err(|_| BusError("the hub has stopped".into()))
    }

    fn subscribe(&self) -> Subscription {
        self.receiver.lock().take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn is_up(&self) -> bool {
        !self.sender.is_closed()
    }
}
