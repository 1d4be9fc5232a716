//! A client that does not read what it is told: it costs the node a bounded outbox, is sent away, and has missed nothing
//! once it is back.

use loadtest::Door;
use loadtest::socket::Event;
use serde_json::json;

use super::is_for_now;
use crate::support::{PATIENCE, TestServer, World};

/// Events that may wait for one socket of this node.
const OUTBOX: usize = 16;
/// More than any kernel keeps for a connection that nobody reads, a few messages of this size at a time.
const MAX_MESSAGES: usize = 900;
const MESSAGE_BYTES: usize = 16_000;

async fn falls_behind(door: Door) {
    // The hub that he is at is asked whether he is still there.
    let server = TestServer::alone(|config| config.sockets.outbox = OUTBOX).await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let mut socket = ben.connect(door).await;
    let known = ann.rest.send_text(&place, "first", None).await.unwrap()["seq"].as_i64().unwrap();
    socket.next_event("message:received", PATIENCE).await.unwrap();
    socket.emitter().stop_reading().await.unwrap();
    let content = "x".repeat(MESSAGE_BYTES);
    let mut last = known;
    while server.services.hub.sockets() > 0 {
        last = ann.rest.send_text(&place, &content, None).await.unwrap()["seq"].as_i64().unwrap();
        assert!((last as usize) < MAX_MESSAGES, "{door:?}: all of it was kept for him");
    }
    socket.emitter().start_reading().await.unwrap();
    is_for_now(&socket.closed(PATIENCE).await.unwrap(), door, 4503);
    let row = |event: &Event| event.json()["changeSeq"].as_i64().unwrap();
    let rows = |events: Vec<Event>| events.iter().filter(|event| event.name == "message:received").map(row).collect::<Vec<_>>();
    let read = rows(socket.drain());
    let upto = known + read.len() as i64;
    assert_eq!(read, (known + 1..=upto).collect::<Vec<_>>(), "{door:?}: what came before the end");
    assert!(upto < last, "{door:?}: nothing was held back");

    let mut socket = ben.connect(door).await;
    let answer = socket.resume(&json!({&place: upto})).await.unwrap();
    assert_eq!(answer["recovered"], true, "{door:?}");
    assert_eq!(rows(socket.drain()), (upto + 1..=last).collect::<Vec<_>>(), "{door:?}: what came after it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_sent_away_and_misses_nothing() {
    let doors = [Door::WebSocket, Door::SocketIo, Door::Polling].map(|door| tokio::spawn(falls_behind(door)));
    for door in doors {
        door.await.unwrap();
    }
}
