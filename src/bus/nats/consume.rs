//! The growths that a worker takes out of the stream: a durable consumer that all nodes share, as `nats/<worker>.json` says.
//! Each is acknowledged when it is worked on; what fails comes again a few times, and then lies with the dead letters. What fails
//! because the store is away never does. A server that has forgotten the consumer gets it anew, and the worker hears that nobody
//! knows how far it had come.

mod lent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::Consumer as Durable;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::jetstream::{AckKind, Context, Message};
use futures_util::StreamExt as _;
use lent::Lent;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::complaint::Complaint;
use super::events::{context, failed};
use super::link::Link;
use super::streams::{Found, Names, Spec};
use super::{codec, dead, skip};
use crate::bus::{BusError, Growth, Worker};

/// Growths that are taken at a time.
const BATCH: usize = 256;
/// How long one request waits for the first of them at the server.
const WAIT: Duration = Duration::from_secs(5);
/// How long the server may take to send those that are there.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries after which a growth is a dead letter.
const TRIES: i64 = 8;
/// Loans after which one is, of which nobody lived to say how his try ended. Well beyond the tries: a loan that ends with its
/// worker, or with the connection, says nothing of the growths that merely waited there.
const LOANS: i64 = 2 * TRIES;
/// The pause before the second try, doubled each time: 13 s in all.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A server that has just refused a copy is not asked for another one.
const REFUSED: Duration = Duration::from_secs(2);
/// Pauses before a server that cannot be asked is asked again, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What consuming brings.
pub enum Consumed {
    /// Growths: each is to be [`Consumer::done`] or [`Consumer::failed`].
    Growths(Vec<Delivery>),
    /// The server knew nothing of this worker: growths before may have been lost with what it knew.
    Anew,
}

/// A growth on loan: who drops it without a word leaves it to be lent to another.
pub struct Delivery {
    /// It.
    pub growth: Growth,
    message: Arc<Message>,
    tries: i64,
}

/// Why a growth was not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Something is wrong with it, or with what it is about: a few more tries, then it is a dead letter.
    Fault,
    /// What the worker needs is away: it is tried until that is back.
    Outage,
}

/// See the module.
pub struct Consumer {
    link: Link,
    context: Context,
    names: Names,
    stream: Spec,
    dead: Spec,
    worker: Worker,
    durable: Option<Durable<Config>>,
    lent: Arc<Lent>,
    /// Messages that are here, and that nobody has been given.
    taken: Vec<Arc<Message>>,
    /// Growths by their place in the stream that an outage kept from being worked on, and something else from beginning anew:
    /// they are tried here, and not given back, which would count as tries until they were dead letters.
    held: Mutex<BTreeMap<u64, Delivery>>,
    /// When the server last took no copy.
    refused: Mutex<Option<Instant>>,
    pause: Duration,
    complaint: Complaint,
}

impl Consumer {
    pub(super) fn new(link: Link, names: Names, stream: Spec, dead: Spec, worker: Worker) -> Self {
        let (context, lent, held, refused) = (context(&link), Arc::default(), Mutex::default(), Mutex::default());
        let (durable, taken, pause, complaint) = (None, Vec::new(), FIRST_WAIT, Complaint::default());
        Self { link, context, names, stream, dead, worker, durable, lent, taken, held, refused, pause, complaint }
    }

    /// The next growths, at least one, with those that come within `gather` after it. Waits for them for ever; who gives up
    /// waiting says so by [`Consumer::give_back`].
    pub async fn next(&mut self, gather: Duration) -> Consumed {
        let (lent, link) = (Arc::clone(&self.lent), self.link.clone());
        tokio::select! {
            consumed = Box::pin(self.wait(gather)) => consumed,
            never = lent.keep(&link) => match never {},
        }
    }

    /// Does this while what is on loan stays so.
    pub async fn while_lent<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.lent.keep(&self.link) => match never {},
        }
    }

    async fn wait(&mut self, gather: Duration) -> Consumed {
        loop {
            let taken = match self.durable.take() {
                None => self.open().await.map(|is_made| is_made.then_some(Consumed::Anew)),
                Some(durable) => {
                    let taken = self.take(&durable, gather).await;
                    if taken.is_ok() {
                        self.durable = Some(durable);
                    }
                    taken.map(|deliveries| Some(deliveries).filter(|some| !some.is_empty()).map(Consumed::Growths))
                }
            };
            match taken {
                Ok(Some(consumed)) => return consumed,
                Ok(None) => {}
                Err(error) => {
                    // While no server is connected, the connection says so.
                    if self.link.is_up()
                        && let Some(lasted) = self.complaint.lasts(&error.to_string(), std::time::Instant::now())
                    {
                        let (worker, since_s) = (self.worker.name(), lasted.as_secs());
                        tracing::warn!(%error, worker, since_s, "a worker cannot be given its events; it is tried again");
                    }
                    // A server says nobody when it can serve again; that it is connected, the link says.
                    tokio::select! {
                        () = sleep(self.pause) => {}
                        _ = self.link.state.changed() => {}
                    }
                    self.pause = LAST_WAIT.min(self.pause * 2);
                }
            }
        }
    }

    /// What is here already goes to others.
    pub async fn give_back(&mut self) {
        let held = std::mem::take(&mut *self.held.lock());
        for message in self.taken.drain(..).chain(held.into_values().map(|delivery| delivery.message)) {
            settle(&message, AckKind::Nak(None)).await;
        }
    }

    /// Finds or makes what is needed; whether the consumer had to be made.
    async fn open(&mut self) -> Result<bool, BusError> {
        let stream = self.stream.ensure(&self.context).await?;
        if let Err(error) = self.dead.ensure(&self.context).await {
            // Most of the work never needs it.
            tracing::warn!(%error, "there is no place for dead letters");
        }
        let (durable, found) = find_or_make(&stream, self.worker).await?;
        if let Found::Different(differs) = &found {
            let (worker, differs) = (self.worker.name(), differs.join(", "));
            tracing::warn!(
                worker,
                differs,
                "a worker's consumer is not as it should be, and used as it is: change it with the nats command"
            );
        }
        // One that somebody has made, and that nobody has been given anything of, knows nothing of what was before it either.
        let is_new = found == Found::Made || durable.cached_info().delivered.consumer_sequence == 0;
        if is_new {
            // On loan from a consumer that is gone.
            self.held.lock().clear();
        }
        self.lent.server_waits(durable.cached_info().config.ack_wait);
        self.durable = Some(durable);
        Ok(is_new)
    }

    async fn take(&mut self, durable: &Durable<Config>, gather: Duration) -> Result<Vec<Delivery>, BusError> {
        let times = self.link.state.borrow_and_update().times;
        let wait = if self.held.lock().is_empty() { WAIT } else { LAST_WAIT };
        let mut first = durable.batch().max_messages(1).expires(wait).messages().await.map_err(failed)?;
        let first = tokio::select! {
            first = first.next() => first,
            // What was asked of a connection that has ended is answered by nobody.
            _ = self.link.state.wait_for(|state| !state.is_up || state.times != times) => {
                return Err(BusError("the connection was away".into()));
            }
        };
        let first = first.transpose().map_err(failed)?;
        // It was answered: what comes after this is another matter.
        self.pause = FIRST_WAIT;
        self.complaint.ends(std::time::Instant::now());
        let Some(first) = first else { return Ok(self.held_ones()) };
        self.taken.push(self.lent.take(first));
        // What comes within it is worked on together: that is what the caller asked for.
        sleep(gather).await;
        let rest = async {
            let mut rest = durable.fetch().max_messages(BATCH - 1).messages().await.ok()?;
            while let Some(Ok(message)) = rest.next().await {
                self.taken.push(self.lent.take(message));
            }
            Some(())
        };
        // What is not here by then comes later: the first is not kept waiting for it.
        let _ = timeout(FETCH_TIMEOUT, rest).await;
        let messages = std::mem::take(&mut self.taken);
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            deliveries.extend(self.read(message).await);
        }
        deliveries.extend(self.held_ones());
        Ok(deliveries)
    }

    /// Those that are tried here once more.
    fn held_ones(&self) -> Vec<Delivery> {
        std::mem::take(&mut *self.held.lock()).into_values().collect()
    }

    /// A growth that is to be tried; what is none, or was tried often enough, is seen to here.
    async fn read(&self, message: Arc<Message>) -> Option<Delivery> {
        let (tries, place) = message.info().map_or((1, 0), |info| (info.delivered, info.stream_sequence));
        // Lent anew, as after a while without a connection: of this one it is known how the tries ended.
        let is_held = self.held.lock().remove(&place).is_some();
        match codec::decode(&message.payload) {
            Ok(growth) if tries <= LOANS || is_held => Some(Delivery { growth, message, tries }),
            Ok(growth) => {
                // Nobody lived to say what became of it.
                self.bury(Delivery { growth, message, tries }, "no try ended").await;
                None
            }
            Err(foreign) => {
                skip("events", &foreign);
                settle(&message, AckKind::Ack).await;
                None
            }
        }
    }

    /// These are worked on.
    pub async fn done(&self, deliveries: Vec<Delivery>) {
        metrics::counter!("urge_events_done_total", "worker" => self.worker.name()).increment(deliveries.len() as u64);
        for delivery in deliveries {
            settle(&delivery.message, AckKind::Ack).await;
        }
    }

    /// This one is not: it comes again, or is put aside.
    pub async fn failed(&self, delivery: Delivery, trouble: Trouble, reason: &str) {
        metrics::counter!("urge_events_failed_total", "worker" => self.worker.name()).increment(1);
        match trouble {
            _ if delivery.tries < TRIES => {
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(delivery.tries.clamp(1, TRIES) as u32 - 1);
                settle(&delivery.message, AckKind::Nak(Some(pause))).await;
            }
            Trouble::Outage => self.begin_anew(delivery).await,
            Trouble::Fault => self.bury(delivery, reason).await,
        }
    }

    /// Puts a copy at the end of the stream, whose tries are counted anew. If that cannot be done, it stays here.
    async fn begin_anew(&self, delivery: Delivery) {
        let message = &delivery.message;
        let is_refused = self.refused.lock().is_some_and(|last| last.elapsed() < REFUSED);
        let copied = if self.link.is_up() && !is_refused {
            dead::copy(&self.context, message, message.subject.to_string(), None).await
        } else {
            Err(BusError("no server is connected, or it takes no copies".into()))
        };
        if copied.is_err() && !is_refused {
            // Each of many would wait as long for it.
            *self.refused.lock() = Some(Instant::now());
        }
        match (copied, message.info().map(|info| info.stream_sequence)) {
            (Ok(()), _) => settle(message, AckKind::Ack).await,
            (Err(error), Ok(place)) => {
                tracing::debug!(%error, "an event could not be put at the end of its stream; it is tried here");
                self.held.lock().insert(place, delivery);
            }
            (Err(_), Err(_)) => settle(message, AckKind::Nak(Some(LAST_WAIT))).await,
        }
    }

    /// Puts it among the dead letters.
    async fn bury(&self, delivery: Delivery, reason: &str) {
        let (worker, message) = (self.worker.name(), &delivery.message);
        let Growth { conversation_id, seq } = delivery.growth;
        match dead::copy(&self.context, message, self.names.dead(self.worker), Some(reason)).await {
            Ok(()) => {
                metrics::counter!("urge_events_dead_total", "worker" => worker).increment(1);
                tracing::error!(worker, conversation = %conversation_id, seq, reason, "an event cannot be worked on, and lies with the dead letters");
                settle(message, AckKind::Term).await;
            }
            Err(error) => {
                tracing::warn!(%error, worker, "an event could not be put among the dead letters; it is tried again");
                settle(message, AckKind::Nak(Some(LAST_WAIT))).await;
            }
        }
    }
}

/// The worker's consumer of this stream, and how it was found.
pub(super) async fn find_or_make(stream: &Stream<Info>, worker: Worker) -> Result<(Durable<Config>, Found), BusError> {
    let wanted = wanted(worker)?;
    let found = match stream.consumer_info(worker.name()).await {
        Ok(there) => {
            let differs = differences(&wanted, &there.config);
            metrics::gauge!("urge_bus_consumer_differs", "worker" => worker.name()).set(differs.len() as f64);
            Found::of(differs)
        }
        Err(error) if matches!(error.kind(), ConsumerInfoErrorKind::NotFound) => {
            tracing::info!(worker = worker.name(), "a worker's consumer is made");
            stream.create_consumer(wanted).await.map_err(failed)?;
            Found::Made
        }
        Err(error) => return Err(failed(error)),
    };
    Ok((stream.get_consumer(worker.name()).await.map_err(failed)?, found))
}

/// The consumer as it should be.
fn wanted(worker: Worker) -> Result<Config, BusError> {
    let json = match worker {
        Worker::Index => include_str!("../../../nats/index.json"),
    };
    serde_json::from_str(json).map_err(|error| BusError(format!("a consumer's JSON cannot be read: {error}")))
}

/// What matters to the nodes; limits are the operator's to raise.
fn differences(wanted: &Config, there: &async_nats::jetstream::consumer::Config) -> Vec<&'static str> {
    let differs = [
        ("ack_policy", wanted.ack_policy != there.ack_policy),
        ("ack_wait", there.ack_wait < wanted.ack_wait),
        ("max_deliver", there.max_deliver != wanted.max_deliver),
        ("filter_subject", !there.filter_subject.is_empty() || !there.filter_subjects.is_empty()),
        ("deliver_subject", there.deliver_subject.is_some()),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Gives it back. What does not arrive is lent out once more, which does no harm.
async fn settle(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "an event could not be given back; it comes again");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, IntoConsumerConfig as _};

    use super::*;

    #[test]
    fn the_files_are_what_the_code_takes_them_for() {
        let config = wanted(Worker::Index).unwrap();
        assert_eq!((config.durable_name.as_deref(), config.ack_policy), (Some(Worker::Index.name()), AckPolicy::Explicit));
        // That it is given up is for the nodes to say: a server that counts would do it without a word.
        assert_eq!((config.deliver_policy, config.max_deliver), (DeliverPolicy::All, -1));
        assert!(config.ack_wait > FETCH_TIMEOUT * 2);
    }

    #[test]
    fn a_consumer_may_wait_longer_but_not_work_otherwise() {
        let config = wanted(Worker::Index).unwrap();
        let mut there = config.clone().into_consumer_config();
        there.ack_wait *= 2;
        assert!(differences(&config, &there).is_empty());
        (there.max_deliver, there.ack_policy) = (3, AckPolicy::All);
        assert_eq!(differences(&config, &there), ["ack_policy", "max_deliver"]);
    }
}
