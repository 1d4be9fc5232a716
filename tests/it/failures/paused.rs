//! A node that stands still amid an append, while the sender tries again through another one and others write: when it goes on
//! it finds what has become of its message.

use std::time::Duration;

use tokio::time::sleep;

use super::scene::{Scene, through};

/// Longer than a node takes to answer anything: 3 s.
const PAST_THE_DEADLINE: Duration = Duration::from_secs(4);

/// Holds Ann's node at this place; when she is answered elsewhere, and so long after, it goes on.
async fn goes_on_after(point: &str, place: &str, later: Duration) {
    let Some(mut scene) = Scene::set().await else { return };
    let (ann, dan) = (scene.ann.clone(), scene.dan.clone());
    scene.sends(&dan, "before").await;
    let held = scene.failing(&format!("{point}=stop"));
    scene.settles().await;

    let first = scene.ann_is_held(held, "held").await;
    // What is in the log by then has its place; what is not takes one behind those who were faster.
    let is_written = point != "append.located";
    if is_written {
        scene.has_said(&ann, "held");
    }
    scene.sends(&dan, "meanwhile").await;
    let again = ann.rest.send_text(&scene.place, "held", Some("held")).await.unwrap();
    if !is_written {
        scene.has_said(&ann, "held");
    }
    scene.sends(&dan, "after it").await;
    // For so long more it stands still.
    sleep(later).await;
    scene.nodes.processes[held].signal("CONT");

    let mut how = "answered when it went on";
    let first = match first.await.unwrap() {
        Ok(answer) => answer,
        // It stood for longer than the request's deadline: "perhaps", and the sender tries once more.
        Err(error) if error.status() == 503 => {
            how = "answered 503 when it went on, and when it was tried again there";
            scene.ann_sends(held, "held").await.unwrap().unwrap()
        }
        Err(error) => panic!("{error}"),
    };
    for name in ["id", "seq", "content", "createdAt", "clientMessageId"] {
        assert_eq!(first[name], again[name], "the same {name}");
    }
    // The node knows of the others' rows, too.
    let late = through(&scene.nodes.processes[held], &dan).send_text(&scene.place, "late", Some("late")).await.unwrap();
    scene.has_said(&dan, "late");
    assert_eq!(late["seq"], scene.said.len() as u64 + 1);
    scene.is_whole(0).await;
    scene.is_whole(held).await;
    scene.heard("late").await;
    let case = format!("2 a node paused between {place}");
    scene.tally(held).await.accept(&case, format!("the one that it held was {how}, as elsewhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_location_and_the_row() {
    goes_on_after("append.located", "its location and its row", Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_location_and_the_row_past_the_deadline() {
    goes_on_after("append.located", "its location and its row, for longer than a request may take", PAST_THE_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_row_and_the_heads() {
    goes_on_after("append.inserted", "its row and the heads", Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_heads_and_telling_of_it() {
    goes_on_after("settle.headed", "the heads and telling of it", Duration::ZERO).await;
}
