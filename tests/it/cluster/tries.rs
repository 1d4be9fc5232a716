//! How workers try again: what a worker has at hand is lent to no other however long it takes, and what an outage keeps from
//! being worked on never ends as a dead letter, whatever else fails at that time.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream;
use tokio::time::{sleep, timeout};
use urge::bus::{Bus, Consumed, Consumer, Delivery, Growth, Nats, Trouble, Worker};
use urge::clock::RealClock;
use urge::config::Role;
use urge::id::ConversationId;

use super::Cluster;
use super::events::{context, eventually, finds, send, stream, stream_name, takes_events};
use crate::support::{PATIENCE, Switch};

/// How long the server of these tests waits for a worker that says nothing.
const ACK_WAIT: Duration = Duration::from_secs(1);
/// What is given together with the first that comes.
const GATHER: Duration = Duration::from_millis(10);
/// After so many tries a growth of which something is wrong is given up.
const TRIES: usize = 8;
/// How long so many take: the pauses between them are 13 s, and a loan that nobody gave back ends by itself.
const LONG: Duration = Duration::from_mins(1);

/// The workers' consumer, made by somebody who is less patient than the nodes.
async fn impatient(cluster: &Cluster) {
    let config = pull::Config {
        durable_name: Some(Worker::Index.name().to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        ..Default::default()
    };
    stream(cluster, "EVENTS").await.create_consumer(config).await.unwrap();
}

/// Waits for the next growths.
async fn next(consumer: &mut Consumer) -> Vec<Delivery> {
    let waiting = async {
        loop {
            if let Consumed::Growths(growths) = consumer.next(GATHER).await {
                return growths;
            }
        }
    };
    timeout(LONG, waiting).await.expect("no growth comes")
}

/// The next growth, which is alone.
async fn the_next(consumer: &mut Consumer) -> Delivery {
    let mut growths = next(consumer).await;
    assert_eq!(growths.len(), 1);
    growths.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_worker_has_at_hand_is_lent_to_no_other() {
    let Some(mut cluster) = Cluster::of(0).await else { return };
    cluster.add_as(Role::Gateway).await;
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[0].person("Ben").await);
    let (slow, quick) = (cluster.worlds[0].direct(&ann, &ben).await, cluster.worlds[0].group(&ann, "Club", &[&ben]).await);
    takes_events(&cluster).await;
    impatient(&cluster).await;
    // The growths of the group's making are not what this is about.
    let mut other = cluster.buses[0].consume(Worker::Index).unwrap();
    let made = next(&mut other).await;
    other.done(made).await;

    let switch = Switch::default();
    cluster.add_with(Role::Worker, |backends| switch.wrap(backends)).await;
    let events = stream(&cluster, "EVENTS").await;
    let lent = async || events.consumer_info(Worker::Index.name()).await.unwrap().delivered.consumer_sequence;
    let before = lent().await;
    switch.stall();
    send(&ann, &slow, "slow", 1).await;
    timeout(PATIENCE, switch.asked_by(1)).await.expect("nobody works on it");
    let waiting = tokio::spawn(async move {
        let growths = next(&mut other).await;
        let found: Vec<_> = growths.iter().map(|delivery| delivery.growth.conversation_id.to_string()).collect();
        other.done(growths).await;
        found
    });
    // Nothing tells that the server does not lend it again: only that it would have by now.
    sleep(ACK_WAIT * 4).await;
    send(&ann, &quick, "quick", 1).await;
    assert_eq!(waiting.await.unwrap(), [quick]);
    switch.give_back();
    eventually("it is found", PATIENCE, async || finds(&ben, "slow", 1).await).await;
    eventually("all is given back", PATIENCE, async || {
        let info = events.consumer_info(Worker::Index.name()).await.unwrap();
        (info.num_pending, info.num_ack_pending) == (0, 0)
    })
    .await;
    assert_eq!(lent().await - before, 2, "each was lent once");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_dead_letter_though_nothing_can_begin_anew() {
    let Some(cluster) = Cluster::of(0).await else { return };
    let connect = async || Nats::connect(&cluster.settings, Arc::new(RealClock)).await.unwrap();
    let (bus, another): (Nats, Nats) = tokio::join!(connect(), connect());
    for bus in [&bus, &another] {
        timeout(PATIENCE, bus.takes_growths().unwrap().wait_for(|takes| *takes)).await.expect("no events are taken").unwrap();
    }
    impatient(&cluster).await;
    let growth = Growth { conversation_id: ConversationId::fresh(), seq: 7 };
    bus.enqueue(&growth).await.unwrap();
    // Whoever looks after the servers has made a mistake: what is there is lent, and nothing more is taken.
    let limited = async |max_message_size| {
        let context = context(&cluster).await;
        let config = context.get_stream(stream_name(&cluster, "EVENTS")).await.unwrap().cached_info().config.clone();
        context.update_stream(stream::Config { max_message_size, ..config }).await.unwrap();
    };
    limited(1).await;

    let (mut one, mut other) = (bus.consume(Worker::Index).unwrap(), another.consume(Worker::Index).unwrap());
    for _ in 0..TRIES + 3 {
        let delivery = the_next(&mut one).await;
        assert_eq!(delivery.growth, growth);
        one.failed(delivery, Trouble::Outage, "the store is away").await;
    }
    // Its node dies, and the next one knows nothing of what happened there.
    drop(one);
    for _ in 0..3 {
        let delivery = the_next(&mut other).await;
        other.failed(delivery, Trouble::Outage, "the store is still away").await;
    }
    limited(-1).await;
    // The store stays away longer than that: the growth stands at the end of the stream, as new.
    for _ in 0..3 {
        let delivery = the_next(&mut other).await;
        other.failed(delivery, Trouble::Outage, "the store is still away").await;
    }
    let delivery = the_next(&mut other).await;
    assert_eq!(delivery.growth, growth);
    other.done(vec![delivery]).await;
    let (events, dead) = (stream(&cluster, "EVENTS").await, stream(&cluster, "DEAD").await);
    eventually("all is given back", PATIENCE, async || {
        let info = events.consumer_info(Worker::Index.name()).await.unwrap();
        (info.num_pending, info.num_ack_pending) == (0, 0)
    })
    .await;
    assert_eq!(events.cached_info().state.messages, 2, "it and its copy");
    assert_eq!(dead.cached_info().state.messages, 0);
}
