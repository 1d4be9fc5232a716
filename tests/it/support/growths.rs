//! What workers have been told and are still to be told, read past the nodes: the events in the stream, and those in the outbox.

use std::collections::BTreeMap;

use async_nats::jetstream;
use urge::bus::Growth;
use urge::clock::{Clock as _, RealClock};
use urge::outbox::{Minute, OutboxStore, SHARDS, Slot};

/// The ids of the events in the stream of the bus of this name at this server, and how often each is there.
pub async fn in_stream(server: &str, bus: &str) -> BTreeMap<String, usize> {
    let context = jetstream::new(async_nats::connect(server).await.unwrap());
    let stream = context.get_stream(format!("{}_EVENTS", bus.to_uppercase())).await.unwrap();
    let state = &stream.cached_info().state;
    let mut found = BTreeMap::new();
    for place in state.first_sequence.max(1)..=state.last_sequence {
        let message = stream.get_raw_message(place).await.unwrap();
        *found.entry(message.headers.get("Nats-Msg-Id").unwrap().to_string()).or_insert(0) += 1;
    }
    found
}

/// What is in the outbox.
pub async fn in_outbox(store: &dyn OutboxStore) -> Vec<Growth> {
    let today = Minute::of(RealClock.now()).day();
    let mut found = Vec::new();
    for day in [today - 1, today] {
        for minute in store.minutes(day).await.unwrap() {
            for shard in 0..SHARDS {
                found.extend(store.events(Slot { minute, shard }, None, 10_000).await.unwrap());
            }
        }
    }
    found
}
