//! The plain WebSocket at `/ws`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use urge::event::{Event, EventKind};
use urge::gateway::{CloseReason, Outgoing, Settings};
use urge::id::{ConversationId, UserId};

use super::fake::{Came, House, message};

fn short() -> Settings {
    let short = Duration::from_millis(200);
    Settings { authentication_timeout: short, ping_interval: short, ping_timeout: short, ..Settings::default() }
}

#[tokio::test]
async fn a_token_opens_by_header_ticket_or_first_frame() {
    let mut house = House::new().await;
    let user = UserId::fresh();
    house.enter(user).await;
    assert_eq!(house.opened().await.user_id, user);
    let mut by_ticket = house.dial(&format!("/ws?ticket={user}"), &[]).await;
    assert_eq!(by_ticket.json().await["event"], "authenticated");
    let mut by_frame = house.dial("/ws", &[("user-agent", "test/1".into())]).await;
    by_frame.send(json!({"event": "typing:start", "id": 1}).to_string()).await;
    assert_eq!(by_frame.json().await["error"]["code"], "unauthenticated");
    by_frame.send(json!({"event": "authenticate", "data": {"token": user}, "id": 2}).to_string()).await;
    assert_eq!(by_frame.json().await, json!({"event": "authenticated", "data": {"userId": user}}));
    assert_eq!(by_frame.json().await, json!({"event": "ack", "id": 2, "data": {"userId": user}}));
    let visitor = house.fake.visitors.lock().last().unwrap().clone();
    assert_eq!((visitor.address, visitor.user_agent.as_deref()), (Some("127.0.0.1".parse().unwrap()), Some("test/1")));
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let house = House::with(short()).await;
    for (token, code, words) in [
        ("bad", 4401, "the token is not valid"),
        ("unverified", 4403, "verify the phone number first"),
        ("away", 4503, "the store is away"),
    ] {
        let mut raw = house.dial("/ws", &[("authorization", format!("Bearer {token}"))]).await;
        assert_eq!(raw.came().await, Came::Close(code, words.into()));
        let mut raw = house.dial("/ws", &[]).await;
        raw.send(json!({"event": "authenticate", "data": {"token": token}, "id": "x"}).to_string()).await;
        assert_eq!(raw.json().await["id"], "x");
        assert_eq!(raw.code().await, code);
    }
    assert_eq!(house.dial("/ws", &[]).await.code().await, 4408);
    let mut raw = house.dial("/ws", &[]).await;
    raw.send(r#"{"event":"authenticate"}"#).await;
    assert_eq!(raw.code().await, 4401);
}

#[tokio::test]
async fn strangers_may_send_little() {
    let house = House::new().await;
    let mut at_once = house.dial("/ws", &[]).await;
    at_once.send("x".repeat(40_000)).await;
    assert_eq!(at_once.code().await, 4413);
    let mut by_and_by = house.dial("/ws", &[]).await;
    for _ in 0..40 {
        if by_and_by.0.send(Message::text("x".repeat(1000))).await.is_err() {
            break;
        }
    }
    assert_eq!(by_and_by.end().await.1, Came::Close(4413, "the frame is too large".into()));
}

#[tokio::test]
async fn commands_are_answered_in_order_under_their_ids() {
    let house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let place = ConversationId::fresh();
    raw.send(json!({"event": "join:conversation", "data": place, "id": 1}).to_string()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "hi"}, "id": "two"}).to_string()).await;
    raw.send(json!({"event": "typing:start", "data": {"conversationId": place}}).to_string()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "forbidden"}, "id": 3}).to_string()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "forbidden"}}).to_string()).await;
    assert_eq!(raw.json().await, json!({"event": "ack", "id": 1, "data": {"conversationId": place, "bare": true}}));
    assert_eq!(raw.json().await, json!({"event": "ack", "id": "two", "data": {"content": "hi"}}));
    let refused = raw.json().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["code"], &refused["error"]["message"]),
        (&json!(3), &json!("forbidden"), &json!("not here"))
    );
    let refused = raw.json().await;
    assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("error"), &json!("forbidden")));
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to_make_none() {
    let house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    raw.send("hello").await;
    assert_eq!(raw.json().await["data"]["code"], "bad_request");
    raw.send(json!({"event": "shout", "id": 4}).to_string()).await;
    assert_eq!(raw.json().await["error"]["code"], "not_found");
    raw.send(json!({"event": "typing:start", "data": {"conversationId": "x"}, "id": 5}).to_string()).await;
    assert_eq!(raw.json().await["error"]["code"], "bad_request");
    raw.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(raw.json().await["data"]["code"], "unsupported_media_type");
    raw.send(json!({"event": "authenticate", "id": 6}).to_string()).await;
    assert_eq!(raw.json().await["error"]["code"], "bad_request");
    raw.send(json!({"event": "resume", "id": 7}).to_string()).await;
    assert_eq!(raw.json().await["data"]["recovered"], true);
}

#[tokio::test]
async fn a_slow_command_holds_up_neither_events_nor_pings() {
    let mut house = House::with(short()).await;
    let mut raw = house.enter(UserId::fresh()).await;
    let socket = house.opened().await;
    raw.send(json!({"event": "message:sent", "data": {"content": "slow"}, "id": 1}).to_string()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "next"}, "id": 2}).to_string()).await;
    socket.send(message(1, "a"));
    assert_eq!(raw.json().await["event"], "message:received");
    assert_eq!(house.wrote().await, [1]);
    assert_eq!(raw.came().await, Came::Ping);
    house.fake.gate.add_permits(1);
    assert_eq!(raw.json().await["id"], 1);
    assert_eq!(raw.json().await["id"], 2);
}

#[tokio::test]
async fn what_waits_is_written_in_order_and_marked() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let socket = house.opened().await;
    (0..500).for_each(|n| socket.send(message(n, "a")));
    for n in 0..500 {
        assert_eq!(raw.json().await["data"]["seq"], n);
    }
    let mut marks = Vec::new();
    while marks.len() < 500 {
        marks.extend(house.wrote().await);
    }
    assert!(marks.into_iter().eq(0..500));
}

#[tokio::test]
async fn a_replay_larger_than_the_outbox_comes_before_its_ack() {
    let house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    raw.send(json!({"event": "resume", "data": {"known": {ConversationId::fresh().to_string(): 6000}}, "id": 1}).to_string()).await;
    for n in 0..6000 {
        assert_eq!(raw.json().await["data"]["seq"], n);
    }
    assert_eq!(raw.json().await["data"], json!({"recovered": true, "sent": 6000}));
}

#[tokio::test]
async fn a_frame_over_the_limit_closes() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let fits = json!({"event": "message:sent", "data": {"content": "x".repeat(1_000_000)}, "id": 1}).to_string();
    raw.send(fits).await;
    assert_eq!(raw.json().await["id"], 1);
    raw.0.feed(Message::text("x".repeat(1 << 21))).await.ok();
    raw.0.flush().await.ok();
    assert_eq!(raw.code().await, 4413);
    house.closed().await;
}

#[tokio::test]
async fn too_many_commands_are_refused_and_a_flood_closes() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    for n in 0..60 {
        raw.send(json!({"event": "message:sent", "data": {"content": "a"}, "id": n}).to_string()).await;
    }
    let mut refused = 0;
    for _ in 0..60 {
        refused += usize::from(raw.json().await["error"]["code"] == "rate_limited");
    }
    assert!((5..=10).contains(&refused), "{refused}");
    for _ in 0..300 {
        if raw.0.send(Message::text("nonsense")).await.is_err() {
            break;
        }
    }
    assert_eq!(raw.code().await, 4429);
    assert_eq!(house.closed().await, Some(CloseReason::Flood));
    let free = House::with(Settings { rate_limit: false, ..Settings::default() }).await;
    let mut raw = free.enter(UserId::fresh()).await;
    for n in 0..300 {
        raw.send(json!({"event": "message:sent", "data": {"content": "a"}, "id": n}).to_string()).await;
        assert_eq!(raw.json().await["data"]["content"], "a");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_as_too_slow() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let socket = house.opened().await;
    let large = message(1, &"x".repeat(16_000));
    let typing = Outgoing::new(Event::new(EventKind::TypingStart, &Value::Null).unwrap(), None);
    let mut sent = 0;
    while socket.closing().is_none() {
        socket.send(large.clone());
        socket.send(typing.clone());
        sent += 1;
        assert!(sent < 100_000, "its outbox is bounded");
        tokio::task::yield_now().await;
    }
    assert_eq!(house.closed().await, Some(CloseReason::TooSlow));
    let (read, end) = raw.end().await;
    assert!(read < sent * 2, "{read} of {sent}");
    assert!(matches!(end, Came::Close(4503, _) | Came::Lost), "{end:?}");
}

#[tokio::test]
async fn a_silent_peer_is_found_dead() {
    let mut house = House::with(short()).await;
    let mut raw = house.enter(UserId::fresh()).await;
    house.opened().await;
    // Nobody polls the client's side: its pongs are never sent.
    assert_eq!(house.closed().await, None);
    while raw.came().await == Came::Ping {}
    let mut alive = house.enter(UserId::fresh()).await;
    for _ in 0..5 {
        assert_eq!(alive.came().await, Came::Ping);
    }
}

#[tokio::test]
async fn the_hub_closes_sockets_with_a_code_that_says_why() {
    let mut house = House::new().await;
    for reason in CloseReason::ALL {
        let mut raw = house.enter(UserId::fresh()).await;
        let socket = house.opened().await;
        socket.send(message(1, "a"));
        socket.close(reason);
        let (_, end) = raw.end().await;
        assert_eq!(end, Came::Close(reason.code(), reason.text().into()));
        assert_eq!(house.closed().await, Some(reason));
    }
}

#[tokio::test]
async fn a_goodbye_is_answered() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    house.opened().await;
    raw.0.close(Some(CloseFrame { code: CloseCode::Normal, reason: "bye".into() })).await.unwrap();
    assert_eq!(raw.came().await, Came::Close(1000, "bye".into()));
    assert_eq!(house.closed().await, None);
}

#[tokio::test]
async fn a_node_that_drains_lets_nobody_in() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let socket = house.opened().await;
    house.fake.draining.store(true, Ordering::SeqCst);
    let handshake = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 503");
    (0..100).for_each(|n| socket.send(message(n, "a")));
    socket.close(CloseReason::Draining);
    let (read, end) = raw.end().await;
    assert_eq!((read, end), (100, Came::Close(4503, CloseReason::Draining.text().into())));
    drop(raw);
    house.doors.finished().await;
}

#[tokio::test]
async fn a_request_that_is_no_websocket_is_told_so() {
    let house = House::new().await;
    let answer = reqwest::get(house.url("/ws")).await.unwrap();
    assert_eq!(answer.status(), 426);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!("bad_request")));
}
