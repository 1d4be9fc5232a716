//! How a node tells all nodes, itself included. Correctness never depends on it: a lost envelope is found by the hub
//! (gap) or by the heads, and read from the store. Workers are told by growths, which are not lost: see `outbox`.
//! In process for a node that is alone; NATS behind the same trait.

mod codec;
mod local;
mod nats;
mod routes;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
pub use local::Local;
pub use nats::{Consumed, Consumer, Delivery, Nats, NatsSettings, Trouble};
use tokio::sync::{mpsc, watch};
pub use work::{Growth, Worker};

use crate::event::{Envelope, Typist};
use crate::id::UserId;

/// Why an envelope did not get on its way.
#[derive(Debug, thiserror::Error)]
#[error("the bus is unavailable: {0}")]
pub struct BusError(pub String);

impl From<rmp_serde::encode::Error> for BusError {
    fn from(error: rmp_serde::encode::Error) -> Self {
        Self(error.to_string())
    }
}

/// The envelopes that reach this node, in the order in which they came.
pub type Subscription = mpsc::Receiver<Arc<Envelope>>;

/// The bus.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends an envelope to every node that has one of its recipients. `Ok` means that it is on its way, not that it arrived.
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError>;

    /// This node's envelopes; called once.
    fn subscribe(&self) -> Subscription;

    /// Whether envelopes get through now.
    fn is_up(&self) -> bool;

    /// Whether there are other nodes, or may be.
    fn has_others(&self) -> bool {
        false
    }

    /// The user has sockets on this node from now on: the others send here what concerns him.
    fn came(&self, _user: UserId) {}

    /// He has none any more. True when he has none on any other node either, so that this one tells of it.
    fn left(&self, _user: UserId) -> bool {
        true
    }

    /// Whether he has sockets on another node, for all that this one knows.
    fn is_elsewhere(&self, _user: UserId) -> bool {
        false
    }

    /// Somebody types on this node, or no longer: all nodes show him in their lists. Whom it concerns is told besides.
    fn types(&self, _typist: Typist) {}

    /// Whether of all nodes that live this one does what only one of them is to do.
    fn is_first(&self) -> bool {
        true
    }

    /// Waits until all that this node has said of who is here can be known to the others. For as long as the bus is away, if it is.
    async fn known(&self) {}

    /// Tells the workers of all nodes that a log has grown. `Ok`: it is kept until they have worked on it, or, on the bus of one
    /// node, there are none to tell.
    async fn enqueue(&self, _growth: &Growth) -> Result<(), BusError> {
        Ok(())
    }

    /// Whether growths are taken now; nothing on the bus of one node, which tells its own workers by itself.
    fn takes_growths(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// What this worker is to do, shared with its like on other nodes; nothing on the bus of one node.
    fn consume(&self, _worker: Worker) -> Option<Consumer> {
        None
    }

    /// The node stops: the others see to its users.
    async fn leave(&self) {}

    /// It has stopped: nothing is published any more. What is not on its way for certain the others are told to look for.
    async fn close(&self) {}
}
