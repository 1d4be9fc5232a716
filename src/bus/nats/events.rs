//! Growths into their stream: each is acknowledged by the server, or refused within a moment, so that its writer can keep
//! it elsewhere. A server that has failed to answer a few times in a row is not asked again until it shows that it answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::consume::Consumer;
use super::link::Link;
use super::streams::{DEAD, EVENTS, Names, Spec};
use super::{NatsSettings, codec};
use crate::bus::{BusError, Growth, Worker};
use crate::id::NodeId;

/// How long the server may take to acknowledge a growth.
const ACK_TIMEOUT: Duration = Duration::from_millis(250);
/// Growths that were not acknowledged, one after the other, after which the server counts as down.
const FAILURES: u32 = 3;
/// How often a server that counts as down is asked whether it answers; the longest that it may take to.
const PROBE: Duration = Duration::from_secs(1);
/// Growths under way at a time; further ones wait for a place, within their time.
const IN_FLIGHT: usize = 1_024;

/// See the module.
pub(super) struct Events {
    link: Link,
    context: Context,
    names: Names,
    stream: Spec,
    dead: Spec,
    places: Semaphore,
    takes: watch::Sender<bool>,
    failures: AtomicU32,
}

impl Events {
    /// Connects in the background.
    pub async fn open(settings: &NatsSettings, names: &Names, node: NodeId) -> Result<Self, BusError> {
        let link = Link::open(settings, "events", node).await?;
        let context = context(&link);
        Ok(Self {
            stream: Spec::read(EVENTS, names, settings.replicas)?,
            dead: Spec::read(DEAD, names, settings.replicas)?,
            context,
            link,
            names: names.clone(),
            places: Semaphore::new(IN_FLIGHT),
            takes: watch::Sender::new(false),
            failures: AtomicU32::new(0),
        })
    }

    /// Whether growths are taken now.
    pub fn takes(&self) -> watch::Receiver<bool> {
        self.takes.subscribe()
    }

    /// What this worker is to do.
    pub fn consumer(&self, worker: Worker) -> Consumer {
        Consumer::new(self.link.clone(), self.names.clone(), self.stream.clone(), self.dead.clone(), worker)
    }

    /// Puts a growth into the stream, and waits for the server's word.
    pub async fn enqueue(&self, growth: &Growth) -> Result<(), BusError> {
        if !*self.takes.borrow() {
            return Err(BusError("no server takes events".into()));
        }
        let put = timeout(ACK_TIMEOUT, self.put(growth)).await;
        match put.unwrap_or_else(|_| Err(BusError("the server does not acknowledge events in time".into()))) {
            Ok(()) => {
                self.failures.store(0, Ordering::Relaxed);
                metrics::counter!("urge_events_published_total").increment(1);
                Ok(())
            }
            Err(error) => {
                metrics::counter!("urge_events_publish_failures_total").increment(1);
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
                    self.takes.send_replace(false);
                }
                Err(error)
            }
        }
    }

    async fn put(&self, growth: &Growth) -> Result<(), BusError> {
        let _place = self.places.acquire().await;
        // The same growth again, from whomever, is dropped by the server.
        let id = format!("{}:{}", growth.conversation_id, growth.seq);
        let message = PublishMessage::build().message_id(id).payload(codec::encode(growth)?);
        let acknowledged = self.context.send_publish(self.names.event(growth.conversation_id), message).await.map_err(failed)?;
        acknowledged.await.map(drop).map_err(failed)
    }

    /// Keeps the stream there, and says whether growths are taken, for ever.
    pub async fn keep(&self) {
        let (mut state, mut takes) = (self.link.state.clone(), self.takes());
        loop {
            // The sender is the connection's own: it ends with it.
            let Ok(times) = state.wait_for(|state| state.is_up).await.map(|state| state.times) else { return };
            let there = timeout(PROBE, self.stream.ensure(&self.context)).await;
            match there.unwrap_or_else(|_| Err(BusError("the server does not answer in time".into()))) {
                Ok(_) => {
                    self.failures.store(0, Ordering::Relaxed);
                    self.link.set_follows(true);
                    self.takes.send_replace(true);
                    tokio::select! {
                        _ = state.wait_for(|state| !state.is_up || state.times != times) => {}
                        _ = takes.wait_for(|takes| !*takes) => {}
                    }
                    self.takes.send_replace(false);
                    self.link.set_follows(false);
                }
                Err(error) => tracing::warn!(%error, "events cannot be put into their stream; it is tried again"),
            }
            // When it answers again nobody says who is not asked: once in this time, or as soon as there is another connection.
            tokio::select! {
                () = sleep(PROBE) => {}
                _ = state.wait_for(|state| state.is_up && state.times != times) => {}
            }
        }
    }
}

/// What is asked of the server on this connection: nothing for longer than a moment.
pub(super) fn context(link: &Link) -> Context {
    let mut context = async_nats::jetstream::new(link.client.clone());
    context.set_timeout(2 * PROBE);
    context
}

pub(super) fn failed(error: impl std::fmt::Display) -> BusError {
    BusError(error.to_string())
}
