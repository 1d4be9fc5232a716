//! The hot paths as counts of instructions (callgrind), which do not move with the machine's mood once the allocator's are left out:
//! what a message costs on the wire, at the hub, at the door and in the store.
//! `benches/instructions.sh` runs them and holds them to `instructions.json`.
#![allow(clippy::expect_used)]

mod node;

use std::hint::black_box;
use std::sync::Arc;

use gungraun::{Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use node::{Node, Person};
use serde_json::json;
use tokio::runtime::Runtime;
use urge::event::{Envelope, Event, EventKind, MessageRef, Origin, RowEvent};
use urge::gateway::{Command, Outgoing, Socket};
use urge::id::{ConversationId, MessageId, UserId};

/// Sockets that one message is told to.
const SOCKETS: usize = 100;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn event(message_id: MessageId) -> Event {
    let message = json!({
        "id": message_id, "seq": 4_711, "changeSeq": 4_711, "conversationId": ConversationId::fresh(), "senderId": UserId::fresh(),
        "senderName": "Ada Lovelace", "senderAvatar": "https://chat.example.com/media/ada.jpg", "content": "x".repeat(64),
        "messageType": "TEXT", "type": "TEXT", "status": "SENT", "createdAt": "2026-01-31T12:00:00.123Z",
    });
    Event::new(EventKind::MessageReceived, &message).expect("an event")
}

fn outgoing() -> Arc<Outgoing> {
    Outgoing::new(event(MessageId::fresh()), None)
}

#[library_benchmark(setup = outgoing)]
#[bench::message()]
fn frame_for_ws(outgoing: Arc<Outgoing>) -> usize {
    black_box(outgoing).websocket().len()
}

#[library_benchmark(setup = outgoing)]
#[bench::message()]
fn frame_for_socketio(outgoing: Arc<Outgoing>) -> usize {
    black_box(outgoing).socketio().len()
}

#[library_benchmark]
#[bench::message(br#"{"conversationId":"0190f3f0-7f6c-7c3e-9a55-0b1f6f7f9a11","content":"Hello!","clientMessageId":"4f6b1c"}"#)]
fn command_from_socket(data: &[u8]) -> bool {
    let data = std::str::from_utf8(data).ok().and_then(|text| serde_json::from_str(text).ok());
    Command::parse("message:sent", black_box(data)).is_ok()
}

/// A node with sockets, and the row that is told to them.
fn group() -> (Runtime, Node, Vec<Arc<Socket>>, Envelope) {
    let (runtime, node) = (runtime(), Node::new());
    let (sockets, envelope) = runtime.block_on(async {
        let mut people = Vec::new();
        for n in 0..SOCKETS / 10 {
            people.push(node.person(n).await);
        }
        let audience: Arc<[UserId]> = people.iter().map(|person| person.login.user_id).collect();
        let conversation_id = node.conversation(&audience).await;
        let mut sockets = Vec::new();
        for n in 0..SOCKETS {
            sockets.push(node.socket(people[n % people.len()].login).await);
        }
        let message_id = MessageId::fresh();
        let message = Some(MessageRef { message_id, sender_id: audience[0] });
        let row = RowEvent {
            conversation_id,
            seq: 2,
            audience,
            is_large: false,
            target_seq: None,
            introduces: [].into(),
            refreshes: false,
            event: Some(event(message_id)),
            faceless: None,
            message,
            step: None,
            origin: Origin::default(),
            posted: false,
            again: false,
        };
        (sockets, Envelope::Row(row))
    });
    (runtime, node, sockets, envelope)
}

#[library_benchmark(setup = group)]
#[bench::hundred_sockets()]
fn row_to_sockets((runtime, node, sockets, envelope): (Runtime, Node, Vec<Arc<Socket>>, Envelope)) -> (Runtime, Node, Vec<Arc<Socket>>) {
    {
        let _inside = runtime.enter();
        node.services.hub.take(envelope);
    }
    (runtime, node, sockets)
}

#[library_benchmark(setup = group)]
#[bench::hundred_sockets()]
fn frames_from_sockets((runtime, node, sockets, envelope): (Runtime, Node, Vec<Arc<Socket>>, Envelope)) -> (Runtime, Node, usize) {
    let told = {
        let _inside = runtime.enter();
        node.services.hub.take(envelope);
        sockets.iter().map(|socket| socket.take(usize::MAX).frames.len()).sum()
    };
    (runtime, node, told)
}

fn login() -> (Runtime, Node, Person) {
    let (runtime, node) = (runtime(), Node::new());
    let person = runtime.block_on(node.person(0));
    (runtime, node, person)
}

#[library_benchmark(setup = login)]
#[bench::known()]
fn access_token((runtime, node, person): (Runtime, Node, Person)) -> (Runtime, Node) {
    runtime.block_on(node.services.auth.authenticate(&person.token)).expect("a good token");
    (runtime, node)
}

/// What the store's writer does in its transactions, in its own thread; making the people is a small part of it.
fn in_transactions() -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let mut callgrind = Callgrind::default();
    callgrind.entry_point(EntryPoint::Custom("*urge*store*sqlite*commit*".into()));
    config.tool(callgrind);
    config
}

fn pair() -> (Runtime, Node, UserId, ConversationId) {
    let (runtime, node) = (runtime(), Node::new());
    let (sender, conversation) = runtime.block_on(async {
        let (one, other) = (node.person(0).await.login.user_id, node.person(1).await.login.user_id);
        (one, node.conversation(&[one, other]).await)
    });
    (runtime, node, sender, conversation)
}

#[library_benchmark(setup = pair, config = in_transactions())]
#[bench::two_hundred()]
fn messages_to_store((runtime, node, sender, conversation): (Runtime, Node, UserId, ConversationId)) -> (Runtime, Node) {
    runtime.block_on(async {
        for _ in 0..200 {
            node.say(sender, conversation).await;
        }
    });
    (runtime, node)
}

library_benchmark_group!(
    name = hot_paths;
    benchmarks = frame_for_ws, frame_for_socketio, command_from_socket, row_to_sockets, frames_from_sockets, access_token,
        messages_to_store
);
main!(library_benchmark_groups = hot_paths);
