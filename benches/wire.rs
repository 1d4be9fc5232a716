//! What it costs to put one `message:received` into the bytes of each door, and to hand the bytes to a further socket.
//! The first is paid once for an event and protocol, the second for every socket.
//! `cargo bench --bench wire`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use urge::event::{Event, EventKind};
use urge::gateway::Outgoing;
use urge::id::{ConversationId, MessageId, UserId};

/// A message as it goes to clients, with content of this many bytes.
fn event(content_bytes: usize) -> Event {
    let message = json!({
        "id": MessageId::fresh(), "seq": 4_711, "changeSeq": 4_711,
        "conversationId": ConversationId::fresh(), "senderId": UserId::fresh(),
        "senderName": "Ada Lovelace", "senderAvatar": "https://chat.example.com/media/ada.jpg",
        "content": "x".repeat(content_bytes), "messageType": "TEXT", "type": "TEXT", "status": "SENT",
        "mediaUrl": null, "thumbnailUrl": null, "audioDuration": null, "replyToId": null, "replyTo": null,
        "isEdited": false, "isDeleted": false, "isEncrypted": false, "isForwarded": false, "clientMessageId": "4f6b1c",
        "createdAt": "2026-01-31T12:00:00.123Z", "updatedAt": "2026-01-31T12:00:00.123Z", "deletedAt": null,
    });
    let data = message.to_string().into_bytes().into();
    Event { kind: EventKind::MessageReceived, data }
}

fn encode(criterion: &mut Criterion) {
    for content_bytes in [64, 4_096] {
        let event = event(content_bytes);
        let mut group = criterion.benchmark_group(format!("message of {content_bytes} bytes"));
        group.throughput(Throughput::Bytes(event.data.len() as u64));
        let fresh = || Outgoing::new(event.clone(), None);
        group.bench_function("for /ws", |bencher| bencher.iter_batched(fresh, |it| it.websocket(), BatchSize::SmallInput));
        group.bench_function("for Socket.IO", |bencher| bencher.iter_batched(fresh, |it| it.socketio(), BatchSize::SmallInput));
        group.finish();
    }
}

fn share(criterion: &mut Criterion) {
    let outgoing: Arc<Outgoing> = Outgoing::new(event(64), None);
    outgoing.websocket();
    criterion.bench_function("the same bytes for one more socket", |bencher| bencher.iter(|| black_box(&outgoing).websocket()));
}

criterion_group!(wire, encode, share);
criterion_main!(wire);
