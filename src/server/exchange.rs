//! What passes over one connection, request by request: how many have begun, and whether the last one's answer has been
//! handed over to the engine as a whole. The connection asks, to tell our answers from those that the engine makes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::Notify;

/// The exchanges of one connection, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Exchanges(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicU64,
    has_begun: Notify,
    ended: AtomicU64,
    upgraded: AtomicBool,
}

impl Exchanges {
    /// A request has come. The exchange ends when what is returned is dropped.
    pub fn begin(&self) -> Exchange {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.has_begun.notify_waiters();
        Exchange(self.clone())
    }

    /// From now on the connection is a socket's.
    pub fn upgrade(&self) {
        self.0.upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_upgraded(&self) -> bool {
        self.0.upgraded.load(Ordering::Relaxed)
    }

    /// How many have begun.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Returns once one has begun.
    pub async fn first(&self) {
        let begins = self.0.has_begun.notified();
        if self.begun() == 0 {
            begins.await;
        }
    }

    /// How many have begun, if all of them have ended and none will be a socket.
    pub fn begun_and_ended(&self) -> Option<u64> {
        let begun = self.begun();
        (self.0.ended.load(Ordering::Relaxed) == begun && !self.is_upgraded()).then_some(begun)
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange(Exchanges);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Exchange {
    /// This body, with which the exchange ends.
    pub fn track<B: Body>(self, body: B) -> impl Body<Data = B::Data, Error = B::Error> {
        // What the closure holds goes when the body goes.
        body.map_err(move |error| {
            let _held = &self;
            error
        })
    }
}
