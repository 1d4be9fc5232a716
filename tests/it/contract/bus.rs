//! The promises of `bus::Bus`, as far as they hold on a bus that is well; what happens on one that is not is the faults'
//! business (`support::faulty`). That a full queue makes publishers wait is the in-process bus's own promise.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use urge::bus::{Bus, Local, Subscription};
use urge::event::{Envelope, Origin};
use urge::id::{ConversationId, UserId};

use super::racing;

/// What an envelope that is on its way may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs each promise on each bus.
macro_rules! bus_promises {
    ($($promise:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(urge::bus::Local::default())).await;
            })*
        }
    };
}

bus_promises!(what_one_publishes_comes_in_order, nothing_of_many_publishers_is_lost, what_was_published_before_waits);

/// An envelope that is told from others by its two ids.
fn envelope(user_id: UserId, conversation_id: ConversationId) -> Envelope {
    Envelope::Refresh { user_id, conversation_id, origin: Origin::default() }
}

async fn next(subscription: &mut Subscription) -> (UserId, ConversationId) {
    let arrived = tokio::time::timeout(PATIENCE, subscription.recv()).await.expect("nothing came").expect("the bus has ended");
    match &*arrived {
        Envelope::Refresh { user_id, conversation_id, .. } => (*user_id, *conversation_id),
        other => panic!("{other:?} was never published"),
    }
}

async fn what_one_publishes_comes_in_order(bus: Arc<dyn Bus>) {
    let mut subscription = bus.subscribe();
    assert!(bus.is_up());
    let user = UserId::fresh();
    let sent: Vec<_> = (0..2_000).map(|_| ConversationId::fresh()).collect();
    for conversation in &sent {
        bus.publish(envelope(user, *conversation)).await.unwrap();
    }
    for conversation in sent {
        assert_eq!(next(&mut subscription).await, (user, conversation));
    }
}

async fn nothing_of_many_publishers_is_lost(bus: Arc<dyn Bus>) {
    const PUBLISHERS: usize = 32;
    const EACH: usize = 1_000;
    let mut subscription = bus.subscribe();
    let publishing = {
        let bus = Arc::clone(&bus);
        tokio::spawn(racing(PUBLISHERS, move |_| {
            let (bus, user) = (Arc::clone(&bus), UserId::fresh());
            let sent: Vec<_> = (0..EACH).map(|_| ConversationId::fresh()).collect();
            async move {
                for conversation in &sent {
                    bus.publish(envelope(user, *conversation)).await.unwrap();
                }
                (user, sent)
            }
        }))
    };
    // More than fit into the queue: publishers wait for this reader.
    let mut arrived: HashMap<_, Vec<_>> = HashMap::new();
    for _ in 0..PUBLISHERS * EACH {
        let (user, conversation) = next(&mut subscription).await;
        arrived.entry(user).or_default().push(conversation);
    }
    for (user, sent) in publishing.await.unwrap() {
        assert!(arrived[&user] == sent, "one publisher's envelopes are out of order, lost or doubled");
    }
}

async fn what_was_published_before_waits(bus: Arc<dyn Bus>) {
    let (user, conversation) = (UserId::fresh(), ConversationId::fresh());
    let mut subscription = bus.subscribe();
    bus.publish(envelope(user, conversation)).await.unwrap();
    assert!(subscription.recv().await.is_some());
    assert!(subscription.try_recv().is_err(), "once");
}

#[tokio::test]
async fn a_full_queue_makes_publishers_wait_and_loses_nothing() {
    let bus = Local::default();
    let mut subscription = bus.subscribe();
    let (user, conversation) = (UserId::fresh(), ConversationId::fresh());
    // Unconstrained: else the runtime makes every 128th publish wait, whatever the queue.
    let filled = tokio::task::unconstrained(async {
        let mut filled = 0;
        while poll!(pin!(bus.publish(envelope(user, conversation)))).is_ready() {
            filled += 1;
        }
        filled
    })
    .await;
    assert!(filled >= 1_024, "too short a queue: {filled}");
    let last = ConversationId::fresh();
    let mut waiting = pin!(bus.publish(envelope(user, last)));
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(next(&mut subscription).await, (user, conversation));
    waiting.await.unwrap();
    for _ in 1..filled {
        assert_eq!(next(&mut subscription).await, (user, conversation));
    }
    assert_eq!(next(&mut subscription).await, (user, last), "what waited came, and at its turn");
}

#[tokio::test]
async fn a_bus_without_a_hub_is_down() {
    let bus = Local::default();
    drop(bus.subscribe());
    assert!(!bus.is_up());
    assert!(bus.publish(envelope(UserId::fresh(), ConversationId::fresh())).await.is_err());
}
