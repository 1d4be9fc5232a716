//! Socket.IO on a websocket.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use urge::event::{Event, EventKind};
use urge::gateway::{CloseReason, Outgoing, Settings};
use urge::id::{ConversationId, MessageId, UserId};

use super::fake::{Came, House, Raw, message};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

async fn dial(house: &House) -> Raw {
    let mut raw = house.dial(PATH, &[]).await;
    let open: Value = serde_json::from_str(raw.text().await.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(open["upgrades"], json!([]));
    raw
}

async fn enter(house: &House, user: UserId) -> Raw {
    let mut raw = dial(house).await;
    raw.send(format!(r#"40{{"token":"{user}"}}"#)).await;
    assert!(raw.text().await.starts_with(r#"40{"sid":""#));
    assert_eq!(raw.text().await, format!(r#"42["authenticated",{{"userId":"{user}"}}]"#));
    raw
}

fn short() -> Settings {
    let short = Duration::from_millis(200);
    Settings { connect_timeout: short, ping_interval: short, ping_timeout: short, ..Settings::default() }
}

#[tokio::test]
async fn events_are_acknowledged() {
    let mut house = House::new().await;
    let mut raw = enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    raw.send(r#"420["message:sent",{"content":"hi"}]"#).await;
    assert_eq!(raw.text().await, r#"430[{"content":"hi"}]"#);
    raw.send(r#"421["message:sent",{"content":"forbidden"}]"#).await;
    let refused: Value = serde_json::from_str(raw.text().await.strip_prefix("431").unwrap()).unwrap();
    assert_eq!(refused[0]["error"]["code"], "forbidden");
    raw.send(r#"42["shout"]"#).await;
    let error: Value = serde_json::from_str(raw.text().await.strip_prefix("42").unwrap()).unwrap();
    assert_eq!((&error[0], &error[1]["code"]), (&json!("error"), &json!("not_found")));
    socket.send(message(7, "a"));
    let event: Value = serde_json::from_str(raw.text().await.strip_prefix("42").unwrap()).unwrap();
    assert_eq!((&event[0], &event[1]["seq"]), (&json!("message:received"), &json!(7)));
    assert_eq!(event[1]["conversationId"], event[1]["conversation_id"]);
    assert_eq!(house.wrote().await, [7]);
}

#[tokio::test]
async fn only_a_final_refusal_is_said_with_a_packet() {
    let mut house = House::new().await;
    for (token, code) in [("bad", Some("unauthenticated")), ("unverified", Some("phone_unverified")), ("away", None)] {
        let mut raw = dial(&house).await;
        raw.send(format!(r#"40{{"token":"{token}"}}"#)).await;
        if let Some(code) = code {
            let error: Value = serde_json::from_str(raw.text().await.strip_prefix("44").unwrap()).unwrap();
            assert_eq!(error["data"]["code"], code);
        }
        assert_eq!(raw.end().await.0, 0);
    }
    let mut raw = dial(&house).await;
    raw.send("40").await;
    assert!(raw.text().await.starts_with(r#"44{"data":{"code":"unauthenticated"}"#));
    for reason in CloseReason::ALL {
        let mut raw = enter(&house, UserId::fresh()).await;
        house.opened().await.close(reason);
        let mut last = None;
        let end = loop {
            match raw.came().await {
                Came::Text(text) => last = Some(text),
                end => break end,
            }
        };
        assert_eq!(last.as_deref() == Some("41"), reason.is_final(), "{reason:?}");
        assert_eq!(matches!(end, Came::Close(..)), reason.is_final(), "{reason:?}: {end:?}");
        assert_eq!(house.closed().await, Some(reason));
    }
}

#[tokio::test]
async fn other_namespaces_and_binary_are_refused() {
    let house = House::new().await;
    let mut raw = enter(&house, UserId::fresh()).await;
    raw.send("40/chat,{}").await;
    assert!(raw.text().await.starts_with("44/chat,{"));
    raw.send(r#"451-3["message:sent",{"_placeholder":true,"num":0}]"#).await;
    assert!(raw.text().await.starts_with(r#"433[{"error":{"#));
    raw.0.send(Message::binary(vec![0; 10])).await.unwrap();
    raw.send("4nonsense").await;
    assert!(raw.text().await.contains("bad_request"));
    raw.send(r#"429["message:sent",{"content":"hi"}]"#).await;
    assert_eq!(raw.text().await, r#"439[{"content":"hi"}]"#);
    let mut stranger = dial(&house).await;
    stranger.send("40/chat,").await;
    assert!(stranger.text().await.starts_with("44/chat,{"));
    for _ in 0..20 {
        stranger.0.send(Message::text("40/chat,")).await.ok();
    }
    assert_eq!(stranger.end().await.1, Came::Lost);
}

#[tokio::test]
async fn heartbeats_are_packets() {
    let mut house = House::with(short()).await;
    let mut raw = enter(&house, UserId::fresh()).await;
    house.opened().await;
    for _ in 0..3 {
        assert_eq!(raw.text().await, "2");
        raw.send("3").await;
    }
    raw.send("2").await;
    while raw.text().await != "3" {}
    assert_eq!(house.closed().await, None, "it answers no more");
    raw.end().await;
    assert_eq!(dial(&house).await.end().await.1, Came::Lost, "nobody connected");
}

#[tokio::test]
async fn goodbye_is_heard() {
    let mut house = House::new().await;
    for packet in ["41", "1", "x"] {
        let mut raw = enter(&house, UserId::fresh()).await;
        raw.send(packet).await;
        assert_eq!(house.closed().await, None);
        assert_eq!(raw.end().await.0, 0);
    }
}

#[tokio::test]
async fn strangers_may_send_little_and_nobody_too_much() {
    let house = House::new().await;
    let mut stranger = dial(&house).await;
    stranger.send("x".repeat(40_000)).await;
    assert_eq!(stranger.end().await.1, Came::Lost);
    let mut known = enter(&house, UserId::fresh()).await;
    known.send(format!(r#"420["message:sent",{{"content":"{}"}}]"#, "x".repeat(100_000))).await;
    assert!(known.text().await.starts_with("430"));
    known.0.send(Message::text("x".repeat(2 << 20))).await.ok();
    assert_eq!(known.end().await.1, Came::Lost);
}

#[tokio::test]
async fn the_dialect_follows_the_join() {
    let mut house = House::new().await;
    let mut raw = enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let id = MessageId::fresh();
    let delivered =
        Outgoing::new(Event::new(EventKind::MessageDelivered, &json!({"messageId": id, "userId": socket.user_id})).unwrap(), None);
    let receipts = Outgoing::new(Event::new(EventKind::Receipts, &json!({})).unwrap(), None);
    socket.send(receipts);
    socket.send(delivered.clone());
    assert!(raw.text().await.starts_with(r#"42["message:delivered",{"#), "receipts are for /ws alone");
    let place = ConversationId::fresh();
    raw.send(format!(r#"420["join:conversation","{place}"]"#)).await;
    assert_eq!(raw.text().await, format!(r#"430[{{"bare":true,"conversationId":"{place}"}}]"#));
    assert!(socket.has_open(place));
    socket.send(delivered);
    assert_eq!(raw.text().await, format!(r#"42["message:delivered","{id}"]"#));
}

#[tokio::test]
async fn a_node_that_drains_lets_nobody_in() {
    let mut house = House::new().await;
    let mut raw = enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    house.fake.draining.store(true, Ordering::SeqCst);
    assert_eq!(reqwest::get(house.url("/socket.io/?EIO=4&transport=polling")).await.unwrap().status(), 503);
    socket.close(CloseReason::Draining);
    let end = raw.end().await.1;
    assert!(!matches!(end, Came::Close(..)), "a close frame keeps the Java client from coming back: {end:?}");
    house.doors.finished().await;
}
