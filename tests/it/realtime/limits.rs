//! What a socket may send: how large, how fast, and what. Beyond it a command is refused; too much of it ends the socket.

use std::time::Duration;

use futures_util::future::join_all;
use loadtest::socket::Ending;
use loadtest::{Auth, Door, Options, Socket};
use serde_json::{Value, json};
use tokio::time::Instant;
use urge::id::ConversationId;

use super::{Scene, is_for_now, next, of_a_node, send, through_every_door};
use crate::support::{PATIENCE, Person, TestServer};

/// The largest frame, in bytes; and all that may come before authentication.
const MAX_FRAME: usize = 1 << 20;
const MAX_UNAUTHENTICATED: usize = 16 << 10;
/// Commands of each kind that may come at once, and refusals that end a socket.
const BURST: usize = 50;
const MAX_REFUSALS: usize = 200;

/// A socket whose transport is the one that its door is named after.
async fn settled(person: &Person, door: Door) -> Socket {
    let socket = person.connect(door).await;
    if door == Door::Upgrade {
        socket.upgraded(PATIENCE).await.unwrap();
    }
    socket
}

async fn limited(body: impl Fn(Scene) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
    of_a_node(TestServer::with(|config| config.rate_limit = true).await, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_ends_its_socket() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut socket = settled(&ann, scene.door).await;
        let mut peer = ben.connect(scene.door).await;
        let long = json!({"conversationId": place, "content": "x".repeat(MAX_FRAME - 1_000)});
        assert_eq!(socket.call("message:sent", &long).await.unwrap_err().code(), "validation_error", "a large frame that fits is read");
        socket.emitter().raw_text(&"x".repeat(MAX_FRAME + 1)).await.unwrap();
        is_for_now(&socket.closed(PATIENCE).await.unwrap(), scene.door, 4413);
        let socket = settled(&ann, scene.door).await;
        let sent = send(&socket, &place, "back").await;
        assert_eq!(next(&mut peer, "message:received").await["id"], sent["id"]);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_may_send_little() {
    let server = TestServer::start().await;
    let mut socket = Options::new(&server.url(""), Door::WebSocket, Auth::Missing).open().await.unwrap();
    socket.emitter().raw_text(&"x".repeat(MAX_UNAUTHENTICATED + 1)).await.unwrap();
    let close = socket.closed(PATIENCE).await.unwrap();
    assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(4413)), "{close}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_said_to_be_none() {
    through_every_door(|scene| async move {
        let (ann, _, place) = scene.pair().await;
        let mut socket = settled(&ann, scene.door).await;
        let no_commands: &[(&str, &str)] = if scene.door.is_socket_io() {
            &[
                ("42nonsense", "bad_request"),
                ("42[", "bad_request"),
                ("4", "bad_request"),
                ("42{\"message:sent\":{}}", "bad_request"),
                ("42/other,[\"message:sent\",{}]", "bad_request"),
                ("42[\"shout\"]", "not_found"),
                ("451-[\"message:sent\",{\"_placeholder\":true,\"num\":0}]", "unsupported_media_type"),
            ]
        } else {
            &[
                ("nonsense", "bad_request"),
                ("[]", "bad_request"),
                ("", "bad_request"),
                ("{\"data\":{}}", "bad_request"),
                ("{\"event\":\"shout\"}", "not_found"),
                ("{\"event\":\"typing:start\",\"id\":{}}", "bad_request"),
            ]
        };
        for (text, code) in no_commands {
            socket.emitter().raw_text(text).await.unwrap();
            let error = next(&mut socket, "error").await;
            assert_eq!((&error["code"], &error["success"]), (&json!(code), &json!(false)), "{text}");
        }
        match scene.door {
            Door::WebSocket => {
                socket.emitter().raw_binary(vec![0, 159, 146, 150]).await.unwrap();
                assert_eq!(next(&mut socket, "error").await["code"], "unsupported_media_type");
            }
            // Binary data that no packet has announced: passed over without a word.
            Door::SocketIo | Door::Upgrade => socket.emitter().raw_binary(vec![0, 159, 146, 150]).await.unwrap(),
            Door::Polling => socket.emitter().raw_text("bAJ+Slg==").await.unwrap(),
        }
        send(&socket, &place, "none the worse").await;
        assert!(!socket.drain().iter().any(|event| event.name == "error"));
    })
    .await;
}

/// What so many of these commands at once were answered with: the machine codes, empty for success.
async fn burst(socket: &Socket, event: &str, data: &Value, count: usize) -> Vec<(String, Value)> {
    let mut acks = Vec::new();
    for _ in 0..count {
        acks.push(socket.emitter().begin(event, data).await.unwrap());
    }
    let code = |error: Value| (error["code"].as_str().unwrap_or_default().to_owned(), error);
    join_all(acks).await.into_iter().map(|ack| ack.unwrap().map_or_else(code, |_| Default::default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_and_other_commands_each_have_a_burst_and_then_their_rate() {
    limited(|scene| {
        Box::pin(async move {
            let (ann, ben, place) = scene.pair().await;
            let socket = settled(&ann, scene.door).await;
            // Drafts that are refused for their content come as fast as they are read.
            for (event, draft, answer) in [
                ("message:sent", json!({"conversationId": place}), "validation_error"),
                ("leave:conversation", json!(ConversationId::fresh()), ""),
            ] {
                let answers = burst(&socket, event, &draft, 2 * BURST).await;
                assert!(answers[..BURST].iter().all(|(code, _)| code == answer), "{event}: {answers:?}");
                let limited: Vec<_> = answers.iter().filter(|(code, _)| code == "rate_limited").collect();
                assert!(!limited.is_empty() && limited.iter().all(|(_, error)| error["retryAfter"] == 1), "{event}: {answers:?}");
            }
            // What is refused is not done, and the socket is none the worse for it.
            let draft = json!({"conversationId": place, "content": "in time", "clientMessageId": "one"});
            let began = Instant::now();
            while let Err(error) = socket.call("message:sent", &draft).await {
                assert_eq!(error.code(), "rate_limited");
                assert!(began.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(ben.rest.history(&place, "limit=5").await.unwrap()["total"], 1);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_its_socket() {
    limited(|scene| {
        Box::pin(async move {
            let (ann, ben, place) = scene.pair().await;
            let mut socket = settled(&ann, scene.door).await;
            let mut peer = ben.connect(scene.door).await;
            for n in 0..2 * MAX_REFUSALS {
                if socket.emit("shout", &json!({})).await.is_err() {
                    assert!(n >= MAX_REFUSALS, "it ended after {n}");
                    break;
                }
            }
            is_for_now(&socket.closed(PATIENCE).await.unwrap(), scene.door, 4429);
            let told = socket.drain().iter().filter(|event| event.name == "error").count();
            assert!(told >= MAX_REFUSALS - 1, "only {told} refusals were told");
            let socket = ann.connect(scene.door).await;
            let sent = send(&socket, &place, "more slowly").await;
            assert_eq!(next(&mut peer, "message:received").await["id"], sent["id"]);
        })
    })
    .await;
}
