//! The promises of `outbox::OutboxStore`: what was put is found by its minute, page by page, until it is removed.

use std::sync::Arc;

use urge::bus::Growth;
use urge::clock::Timestamp;
use urge::id::ConversationId;
use urge::outbox::{Minute, OutboxStore, SHARDS, Slot};

promises!(
    urge::outbox::OutboxStatements;
    minutes_are_noted_once_and_found_by_their_day,
    events_are_read_page_by_page,
    what_is_removed_is_gone_and_the_rest_stays,
);

const MINUTES_OF_A_DAY: i64 = 1_440;

/// The first minute of a day that nobody else has, far from now in either direction of time.
fn new_day() -> Minute {
    Minute(rand::random_range(1_000_000..1_000_000_000) * MINUTES_OF_A_DAY)
}

fn growth(seq: i64) -> Growth {
    Growth { conversation_id: ConversationId::fresh(), seq }
}

async fn all(store: &dyn OutboxStore, slot: Slot) -> Vec<Growth> {
    store.events(slot, None, 1_000).await.unwrap()
}

async fn minutes_are_noted_once_and_found_by_their_day(store: Arc<dyn OutboxStore>) {
    let Minute(first) = new_day();
    let last = first + MINUTES_OF_A_DAY - 1;
    for minute in [last, first, first + 7, first, last + 1] {
        store.put_minute(Minute(minute)).await.unwrap();
    }
    let day = Minute(first).day();
    assert_eq!(Minute::of(Timestamp(first * 60_000 + 59_999)), Minute(first));
    assert_eq!(store.minutes(day).await.unwrap(), [Minute(first), Minute(first + 7), Minute(last)]);
    assert_eq!(store.minutes(day + 1).await.unwrap(), [Minute(last + 1)]);
    for _ in 0..2 {
        store.remove_minute(Minute(first + 7)).await.unwrap();
    }
    assert_eq!(store.minutes(day).await.unwrap(), [Minute(first), Minute(last)]);
}

async fn events_are_read_page_by_page(store: Arc<dyn OutboxStore>) {
    let slot = Slot { minute: new_day(), shard: 3 };
    let (other_shard, other_minute) = (Slot { shard: 4, ..slot }, Slot { minute: Minute(slot.minute.0 + 1), ..slot });
    let mut put: Vec<_> = (1..=20).map(growth).collect();
    // Several of one conversation too.
    let first = put[0];
    put.extend((21..=25).map(|seq| Growth { seq, ..first }));
    for growth in put.iter().chain(&put[..3]) {
        store.put(slot, growth).await.unwrap();
    }
    store.put(other_shard, &growth(1)).await.unwrap();
    store.put(other_minute, &growth(1)).await.unwrap();
    let mut read = Vec::new();
    loop {
        let page = store.events(slot, read.last().copied(), 7).await.unwrap();
        let is_last = page.len() < 7;
        read.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(read.len(), put.len(), "each once");
    assert!(put.iter().all(|growth| read.contains(growth)));
    let seqs: Vec<_> = read.iter().filter(|growth| growth.conversation_id == put[0].conversation_id).map(|growth| growth.seq).collect();
    assert_eq!(seqs, [1, 21, 22, 23, 24, 25]);
    let spread = |growth| Slot::of(slot.minute, &growth).shard;
    assert!((0..200).map(|_| spread(growth(1))).all(|shard| (0..SHARDS).contains(&shard)));
    assert!(put[20..].iter().all(|growth| spread(*growth) == spread(put[0])), "a conversation's are together");
}

async fn what_is_removed_is_gone_and_the_rest_stays(store: Arc<dyn OutboxStore>) {
    let slot = Slot { minute: new_day(), shard: 0 };
    let other = Slot { shard: 1, ..slot };
    let put: Vec<_> = (1..=300).map(growth).collect();
    for growth in &put {
        store.put(slot, growth).await.unwrap();
    }
    store.put(other, &put[0]).await.unwrap();
    // More than one statement takes, some twice and some that are not there.
    for _ in 0..2 {
        store.remove(slot, &put[..280]).await.unwrap();
    }
    store.remove(slot, &[growth(1), Growth { seq: 999, ..put[290] }]).await.unwrap();
    let left = all(&*store, slot).await;
    assert_eq!(left.len(), 20);
    assert!(put[280..].iter().all(|growth| left.contains(growth)));
    assert_eq!(all(&*store, other).await, [put[0]]);
    store.remove(slot, &left).await.unwrap();
    assert!(all(&*store, slot).await.is_empty());
    store.remove(slot, &[]).await.unwrap();
}
