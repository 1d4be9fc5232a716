//! What it costs the hub to tell one message to the sockets of a group: 10, 1,000 and 10,000 of them. Encoding and writing are the
//! doors' part and not in it; outboxes are emptied between two messages, outside the measured time.
//! `cargo bench --bench fanout`
#![allow(clippy::expect_used)]

mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use node::Node;
use serde_json::json;
use urge::event::{Envelope, Event, EventKind, MessageRef, Origin, RowEvent};
use urge::id::{ConversationId, MessageId, UserId};

/// Sockets of one person: the most that a node lets in.
const SOCKETS_A_PERSON: usize = 10;

fn row(conversation_id: ConversationId, seq: i64, audience: &Arc<[UserId]>, sender_id: UserId) -> Envelope {
    let message_id = MessageId::fresh();
    let data = json!({"id": message_id, "seq": seq, "conversationId": conversation_id, "senderId": sender_id, "content": "x".repeat(64)});
    Envelope::Row(RowEvent {
        conversation_id,
        seq,
        audience: Arc::clone(audience),
        is_large: audience.len() > 64,
        target_seq: None,
        introduces: [].into(),
        refreshes: false,
        event: Event::new(EventKind::MessageReceived, &data).ok(),
        faceless: None,
        message: Some(MessageRef { message_id, sender_id }),
        step: None,
        origin: Origin::default(),
        posted: false,
        again: false,
    })
}

fn fanout(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("one message to the sockets of a group");
    for sockets in [10, 1_000, 10_000_usize] {
        let node = Node::new();
        let (conversation, audience, open) = runtime.block_on(async {
            let mut people = Vec::new();
            for n in 0..sockets.div_ceil(SOCKETS_A_PERSON).max(2) {
                people.push(node.person(n).await);
            }
            let ids: Vec<UserId> = people.iter().map(|person| person.login.user_id).collect();
            let conversation = node.conversation(&ids).await;
            let mut open = Vec::new();
            for n in 0..sockets {
                open.push(node.socket(people[n % people.len()].login).await);
            }
            (conversation, Arc::<[UserId]>::from(ids), open)
        });
        let mut seq = 1;
        group.throughput(Throughput::Elements(sockets as u64));
        group.bench_function(sockets.to_string(), |bencher| {
            bencher.iter_custom(|iterations| {
                let _inside = runtime.enter();
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    seq += 1;
                    let envelope = row(conversation, seq, &audience, audience[0]);
                    let started = Instant::now();
                    node.services.hub.take(envelope);
                    took += started.elapsed();
                    let told: usize = open.iter().map(|socket| socket.take(usize::MAX).frames.len()).sum();
                    assert!(told >= sockets, "the hub told {told} sockets of {sockets}");
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = hub;
    config = Criterion::default().sample_size(20);
    targets = fanout
}
criterion_main!(hub);
