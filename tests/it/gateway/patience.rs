//! How long the doors wait for whom: peers that are slow, busy or silent, strangers, a gateway that does not answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;
use urge::gateway::{CloseReason, Settings};
use urge::id::{ConversationId, UserId};

use super::fake::{Came, House, Raw, message};
use super::polling::Poller;

/// More than an outbox and the kernel's buffers hold.
const MANY: i64 = 8_000;

fn short() -> Settings {
    // Long enough for a machine that is busy with other tests.
    let short = Duration::from_millis(800);
    Settings { ping_interval: short, ping_timeout: short, ..Settings::default() }
}

fn resume() -> Value {
    json!({"known": {ConversationId::fresh().to_string(): MANY}})
}

/// Reads the replay up to its ack, with breaks that are longer than a ping may take, all together.
async fn read_slowly(raw: &mut Raw, ack: &str) {
    let mut count = 0;
    while !raw.text().await.starts_with(ack) {
        count += 1;
        if count % 250 == 0 {
            sleep(Duration::from_millis(150)).await;
        }
    }
    assert_eq!(count, MANY);
}

#[tokio::test]
async fn who_reads_a_long_replay_slowly_is_alive() {
    let house = House::with(short()).await;
    let mut raw = house.enter(UserId::fresh()).await;
    raw.send(json!({"event": "resume", "data": resume(), "id": 1}).to_string()).await;
    read_slowly(&mut raw, r#"{"event":"ack""#).await;
    let user = UserId::fresh();
    let mut raw = house.dial("/socket.io/?EIO=4&transport=websocket", &[]).await;
    raw.send(format!(r#"40{{"token":"{user}"}}"#)).await;
    for _ in 0..3 {
        raw.text().await;
    }
    raw.send(format!("420{}", json!(["resume", resume()]))).await;
    let mut count = 0;
    loop {
        let text = raw.text().await;
        match text.as_bytes() {
            b"2" => raw.send("3").await,
            [b'4', b'3', ..] => break,
            _ => count += 1,
        }
        if count % 250 == 0 {
            sleep(Duration::from_millis(150)).await;
        }
    }
    assert_eq!(count, MANY);
}

#[tokio::test]
async fn who_polls_through_a_long_replay_is_alive() {
    let house = House::with(short()).await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    poller.post(format!("420{}", json!(["resume", {"known": {ConversationId::fresh().to_string(): 2_000}}]))).await;
    let mut count = 0;
    loop {
        let packets = poller.packets().await;
        count += packets.iter().filter(|packet| packet.starts_with("42")).count();
        if packets.iter().any(|packet| packet.starts_with("430")) {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count, 2_000);
}

#[tokio::test]
async fn a_peer_that_talks_but_does_not_read_is_not_waited_for_without_end() {
    let mut house = House::new().await;
    let mut raw = house.enter(UserId::fresh()).await;
    let socket = house.opened().await;
    let large = message(1, &"x".repeat(16_000));
    while !is_stuck(&socket).await {
        socket.send(large.clone());
    }
    socket.close(CloseReason::Draining);
    let closed_at = Instant::now();
    let talk = async {
        loop {
            raw.0.send(Message::text("{}")).await.ok();
            sleep(Duration::from_millis(500)).await;
        }
    };
    let reason = tokio::select! {
        reason = house.closed() => reason,
        () = talk => unreachable!(),
    };
    assert_eq!(reason, Some(CloseReason::Draining));
    assert!(closed_at.elapsed() >= Duration::from_secs(4), "what waits has its five seconds");
}

/// Whether what waits goes on waiting.
async fn is_stuck(socket: &urge::gateway::Socket) -> bool {
    for _ in 0..200 {
        if !socket.has_waiting() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_answered_and_the_next_one_heard() {
    let house = House::with(Settings { command_timeout: Duration::from_millis(300), ..Settings::default() }).await;
    let mut raw = house.enter(UserId::fresh()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "slow"}, "id": 1}).to_string()).await;
    raw.send(json!({"event": "message:sent", "data": {"content": "next"}, "id": 2}).to_string()).await;
    let answer = raw.json().await;
    assert_eq!((&answer["id"], &answer["error"]["code"], &answer["error"]["retryAfter"]), (&json!(1), &json!("unavailable"), &json!(1)));
    assert_eq!(raw.json().await, json!({"event": "ack", "id": 2, "data": {"content": "next"}}));
    // What was given up is finished all the same: it takes the one permit that there is.
    house.fake.gate.add_permits(1);
    while house.fake.gate.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_is_not_let_in_in_time_is_sent_away() {
    let mut house = House::with(Settings { command_timeout: Duration::from_millis(300), ..Settings::default() }).await;
    house.fake.stuck.store(true, Ordering::SeqCst);
    let mut raw = house.dial("/ws", &[("authorization", format!("Bearer {}", UserId::fresh()))]).await;
    assert_eq!(raw.code().await, 4503, "nor is he told that he is");
    assert_eq!(house.closed().await, Some(CloseReason::Unavailable));
    // The check of this token waits for a permit that never comes.
    let mut raw = house.dial("/ws", &[("authorization", "Bearer late".into())]).await;
    assert_eq!(raw.code().await, 4503);
    let mut raw = house.dial("/socket.io/?EIO=4&transport=websocket", &[]).await;
    raw.text().await;
    raw.send(r#"40{"token":"late"}"#).await;
    assert_eq!(raw.end().await, (0, Came::Lost));
}

#[tokio::test]
async fn a_network_has_only_so_many_strangers() {
    let house = House::with(Settings { max_strangers_per_network: 2, ..Settings::default() }).await;
    let knock = || reqwest::get(house.url("/socket.io/?EIO=4&transport=polling"));
    let mut one = house.dial("/ws", &[]).await;
    assert_eq!(knock().await.unwrap().status(), 200);
    assert_eq!(knock().await.unwrap().status(), 503);
    one.send(json!({"event": "authenticate", "data": {"token": UserId::fresh()}}).to_string()).await;
    assert_eq!(one.json().await["event"], "authenticated");
    assert_eq!(knock().await.unwrap().status(), 200, "who is known is no stranger");
    let free = House::with(Settings { max_strangers_per_network: 0, rate_limit: false, ..Settings::default() }).await;
    free.enter(UserId::fresh()).await;
}

#[tokio::test]
async fn who_opens_sockets_without_end_is_a_flood() {
    let house = House::with(Settings::default()).await;
    let (user, mut let_in) = (UserId::fresh(), 0);
    let token = json!({"event": "authenticate", "data": {"token": user}}).to_string();
    let refused = loop {
        let mut socket = house.dial("/ws", &[]).await;
        socket.send(token.clone()).await;
        match socket.came().await {
            Came::Text(_) => let_in += 1,
            end => break end,
        }
        assert!(let_in < 1_000, "some come back while they are counted, but not so many");
    };
    assert!(let_in >= 50 && matches!(refused, Came::Close(4429, _)), "{let_in} {refused:?}");
    house.enter(UserId::fresh()).await;
}
