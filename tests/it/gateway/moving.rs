//! A client that moves from polling to a websocket in the middle of something.

use serde_json::{Value, json};
use urge::id::{ConversationId, UserId};

use super::fake::{House, Raw, message};
use super::polling::Poller;

/// More than an outbox holds.
const MANY: i64 = 6_000;

/// Probes a websocket while a poll waits; gives back what that poll was answered.
async fn probe(poller: &Poller, house: &House) -> (Raw, Vec<String>) {
    let mut raw = poller.upgrade(house).await;
    let probing = async {
        raw.send("2probe").await;
        assert_eq!(raw.text().await, "3probe");
    };
    let ((), packets) = tokio::join!(probing, poller.packets());
    (raw, packets)
}

#[tokio::test]
async fn a_replay_goes_on_over_the_websocket_and_what_was_posted_comes_first() {
    let house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let place = ConversationId::fresh().to_string();
    let resume = json!(["resume", {"known": {place: MANY}}]);
    let said = |id: i64| format!(r#"42{id}["message:sent",{{"content":"{id}"}}]"#);
    assert_eq!(poller.post(format!("420{resume}\u{1e}{}", said(1))).await.0, 200);
    assert_eq!(poller.post(said(2)).await.0, 200);
    let mut came: Vec<String> = Vec::new();
    while came.len() < 50 {
        came.extend(poller.packets().await);
    }
    let (mut raw, packets) = probe(&poller, &house).await;
    came.extend(packets);
    raw.send("5").await;
    raw.send(said(3)).await;
    while !came.last().unwrap().starts_with("433") {
        came.push(raw.text().await);
    }
    let (mut seen, mut acks) = (Vec::new(), Vec::new());
    for packet in &came {
        if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            seen.push(event[1]["seq"].as_i64().unwrap());
        } else if let Some(ack) = packet.strip_prefix("43") {
            acks.push(ack[..1].to_owned());
        }
    }
    assert!(seen.into_iter().eq(0..MANY), "all of it, once and in order");
    assert_eq!(acks, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn polls_wait_as_before_until_the_websocket_is_probed() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let _hesitant = poller.upgrade(&house).await;
    let send = async {
        // The poll is there before the message: it came first, and others have been answered since.
        for _ in 0..5 {
            assert_eq!(poller.http.get(house.url("/socket.io/")).send().await.unwrap().status(), 400);
        }
        socket.send(message(1, "a"));
    };
    let (packets, ()) = tokio::join!(poller.packets(), send);
    assert!(packets[0].contains("message:received"), "{packets:?}");
}
