//! Coming back: what was missed comes once, in order and before the ack; what the client may not see again does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loadtest::Socket;
use loadtest::socket::Event;
use serde_json::{Value, json};

use super::{send, through_every_door};
use crate::support::{PATIENCE, id};

/// How often the client that is written to loses its connection.
const RECONNECTS: usize = 15;
/// Between two messages of the one who writes to it.
const PACE: Duration = Duration::from_millis(10);
/// How long a node holds live events back for a `resume` (docs/API.md).
const RESUME_WAIT: Duration = Duration::from_millis(250);

/// The row of the log that a message's state comes from.
pub fn row(message: &Value) -> i64 {
    message["changeSeq"].as_i64().unwrap()
}

/// What a resume is answered, and the names and data of what came before the answer, presence left out.
pub async fn resume(socket: &mut Socket, known: &Value) -> (Value, Vec<(String, Value)>) {
    let ack = socket.resume(known).await.unwrap();
    let came = socket.drain().into_iter().map(|event| (event.name.clone(), event.json()));
    (ack, came.filter(|(name, _)| !name.starts_with("user:")).collect())
}

/// Of these, the messages: event, id, row.
pub fn messages(events: &[(String, Value)]) -> Vec<(&str, String, i64)> {
    let of_messages = events.iter().filter(|(name, data)| name.starts_with("message:") && data["changeSeq"].is_i64());
    of_messages.map(|(name, data)| (name.as_str(), id(data), row(data))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_in_order_before_the_ack() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut known_ones = Vec::new();
        for content in ["to be edited", "to be deleted", "known"] {
            known_ones.push(ann.rest.send_text(&place, content, None).await.unwrap());
        }
        let known = row(&known_ones[2]);
        let one = ann.rest.send_text(&place, "one", None).await.unwrap();
        ann.rest.edit(&id(&known_ones[0]), "edited").await.unwrap();
        let two = ann.rest.send_text(&place, "two", None).await.unwrap();
        ann.rest.delete_message(&id(&known_ones[1])).await.unwrap();

        let mut socket = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({&place: known})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
        let expected = [
            ("message:received", id(&one), known + 1),
            ("message:updated", id(&known_ones[0]), known + 2),
            ("message:received", id(&two), known + 3),
            ("message:deleted", id(&known_ones[1]), known + 4),
        ];
        assert_eq!(messages(&came), expected);
        let edited = came.iter().find(|(name, _)| name == "message:updated").unwrap();
        assert_eq!(edited.1["content"], "edited");

        // A socket resumes once: what it was sent since is not known apart from what came live.
        let everything = json!({&place: known + 4});
        for known in [&everything, &json!({&place: known})] {
            let (ack, came) = resume(&mut socket, known).await;
            assert_eq!((ack, messages(&came)), (json!({"recovered": false}), Vec::new()));
        }
        // A client that has everything.
        let mut beside = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut beside, &everything).await;
        assert_eq!((&ack["recovered"], messages(&came)), (&json!(true), Vec::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_over_many_connections() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let writer = ann.connect(scene.door).await;
        let mut known = row(&send(&writer, &place, "begin").await);
        let is_over = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let (place, is_over) = (place.clone(), Arc::clone(&is_over));
            async move {
                let (mut ticks, mut last) = (tokio::time::interval(PACE), 0);
                while !is_over.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    last = row(&send(&writer, &place, "more").await);
                }
                last
            }
        });
        let mut take = |events: Vec<Event>, during: &str| {
            for event in events.into_iter().filter(|event| event.name == "message:received") {
                let came = row(&event.json());
                assert_eq!(came, known + 1, "{during}");
                known = came;
            }
            known
        };
        for connection in 0..RECONNECTS {
            let began = Instant::now();
            let mut socket = ben.connect(scene.door).await;
            let before = take(Vec::new(), "");
            let ack = socket.resume(&json!({&place: before})).await.unwrap();
            assert_eq!(ack["recovered"], true);
            let in_time = began.elapsed() < RESUME_WAIT;
            let live = socket.collect_until(PATIENCE, |events| {
                let mut of_messages = events.iter().filter(|event| event.name == "message:received");
                of_messages.next_back().is_some_and(|event| row(&event.json()) > before + 5)
            });
            let mut live = live.await.unwrap();
            if !in_time {
                // On a machine this busy the node may have waited for the resume in vain, and live events have overtaken it.
                live.retain(|event| event.name == "message:received" && row(&event.json()) > before);
                live.sort_by_key(|event| row(&event.json()));
            }
            take(live, &format!("connection {connection}"));
            socket.abort().await.unwrap();
            socket.closed(PATIENCE).await.unwrap();
            take(socket.drain(), &format!("the end of connection {connection}"));
        }
        is_over.store(true, Ordering::Relaxed);
        let last = writing.await.unwrap();
        let mut socket = ben.connect(scene.door).await;
        let before = take(Vec::new(), "");
        let (_, rest) = resume(&mut socket, &json!({&place: before})).await;
        let rows: Vec<i64> = messages(&rest).into_iter().map(|(_, _, row)| row).collect();
        assert_eq!(rows, (before + 1..=last).collect::<Vec<_>>());
    })
    .await;
}
