//! Following a stream, or one subject of it, in order: a consumer of our own that is made anew whenever something is
//! missing, own words do not come back, the connection was away or the server has forgotten the stream. The library's ordered
//! consumer goes on from the last number it saw, and waits for ever in a stream that begins anew.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::{Config, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::complaint::Complaint;
use super::link::Link;
use super::pulse::Pulse;
use super::streams::Spec;
use crate::bus::BusError;

/// The server says this often that it is there; twice without, and the consumer is made anew.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The server forgets a consumer that nobody asks for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Messages asked for at a time.
const BATCH: usize = 1_000;
/// From one try to the next, doubled each time. What nobody answers, while servers choose who leads, has lasted as long itself and is
/// asked again at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What following brings.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next message, and when the server took it in, since 1970.
    Message(Bytes, Duration),
    /// Messages may have been missed before the next one.
    Missed,
}

/// What is followed.
pub(super) struct Follow {
    pub link: Link,
    pub spec: Spec,
    /// The subject; the whole stream when empty.
    pub filter: String,
    /// Told of own words in it.
    pub pulse: Arc<Pulse>,
    /// That they do not come back.
    pub deaf: Complaint,
}

/// How far it is.
#[derive(Clone, Copy)]
struct Place {
    /// When the stream was made, seconds and nanoseconds: another one counts from 1 again.
    made: i128,
    last: u64,
}

impl Follow {
    /// Follows from the stream's beginning until `stopping`; each thing taken is done with before the next.
    pub async fn run<F: Future<Output = ()>>(mut self, stopping: CancellationToken, mut take: impl FnMut(Taken) -> F) {
        let mut place = None;
        let mut pause = FIRST_PAUSE;
        let mut was_away = false;
        let complaint = Complaint::default();
        let following = async {
            loop {
                // What is asked of a server before it is there is answered before the link says that it is: as if it had come twice.
                was_away |= !self.link.is_up();
                let Ok(times) = self.link.state.wait_for(|state| state.is_up).await.map(|state| state.times) else { return };
                let begun = tokio::time::Instant::now();
                match self.open(&mut place).await {
                    Ok(messages) => {
                        pause = FIRST_PAUSE;
                        complaint.ends(Instant::now());
                        self.link.set_follows(true);
                        if was_away {
                            // Now that what comes from here on is seen: what is looked for meanwhile leaves no gap.
                            take(Taken::Missed).await;
                        }
                        self.read(messages, times, &mut place, &mut take).await;
                        self.link.set_follows(false);
                    }
                    Err(error) => {
                        // While no server is connected, the connection says so.
                        if self.link.is_up()
                            && let Some(lasted) = complaint.lasts(&error.to_string(), Instant::now())
                        {
                            let (stream, since_s, server) = (self.spec.name(), lasted.as_secs(), self.link.server());
                            tracing::warn!(%error, stream, server, since_s, "the bus cannot be followed; it is tried again");
                        }
                        // A server says nobody when it can serve again; that it is connected, the link says.
                        tokio::select! {
                            () = tokio::time::sleep_until(begun + pause) => {}
                            _ = self.link.state.changed() => {}
                        }
                        pause = LAST_PAUSE.min(pause * 2);
                    }
                }
                was_away = true;
            }
        };
        stopping.run_until_cancelled(following).await;
    }

    async fn open(&self, place: &mut Option<Place>) -> Result<Messages, BusError> {
        let mut context = async_nats::jetstream::new(self.link.client.clone());
        // What is not answered is so for as long as the longest pause: it needs none beside.
        context.set_timeout(LAST_PAUSE);
        let stream = self.spec.ensure(&context).await?;
        let made = stream.cached_info().created.unix_timestamp_nanos();
        let start = match *place {
            // A server that has lost what was in memory may begin anew under the same date.
            Some(place) if place.made == made && place.last <= stream.cached_info().state.last_sequence => {
                DeliverPolicy::ByStartSequence { start_sequence: place.last + 1 }
            }
            _ => DeliverPolicy::All,
        };
        let config = Config {
            deliver_policy: start,
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone(),
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| BusError(error.to_string()))?;
        let messages = consumer.stream().heartbeat(HEARTBEAT).expires(FORGOTTEN_AFTER).max_messages_per_batch(BATCH).messages().await;
        if start == DeliverPolicy::All {
            *place = Some(Place { made, last: 0 });
        }
        messages.map_err(|error| BusError(error.to_string()))
    }

    /// Reads until something is missing, own words are not heard, or the connection has been away.
    async fn read<F: Future<Output = ()>>(
        &mut self,
        mut messages: Messages,
        times: u64,
        place: &mut Option<Place>,
        take: &mut impl FnMut(Taken) -> F,
    ) {
        let mut expected = 1;
        self.pulse.begin();
        let pulse = Arc::clone(&self.pulse);
        let mut is_deaf = pin!(pulse.is_missed());
        loop {
            let next = tokio::select! {
                // What is here is taken before it is judged that nothing comes.
                biased;
                next = messages.next() => next,
                () = &mut is_deaf => break,
                changed = self.link.state.wait_for(|state| state.times != times) => {
                    drop(changed);
                    return;
                }
            };
            let Some(Ok(message)) = next else { return };
            let info = message.info().map(|info| (info.consumer_sequence, info.stream_sequence, info.published));
            let Ok((number, stream_number, published)) = info else { return };
            if number != expected {
                return;
            }
            expected += 1;
            pulse.brought(tokio::time::Instant::now());
            if let Some(place) = place {
                place.last = stream_number;
            }
            let published = Duration::from_nanos(u64::try_from(published.unix_timestamp_nanos()).unwrap_or(0));
            take(Taken::Message(message.message.payload, published)).await;
        }
        metrics::counter!("urge_bus_deaf_total", "kind" => self.link.kind).increment(1);
        if self.deaf.lasts("deaf", Instant::now()).is_some() {
            let (stream, server) = (self.spec.name(), self.link.server());
            tracing::warn!(stream, server, "the bus does not bring what it has taken: it is followed anew");
        }
    }
}
