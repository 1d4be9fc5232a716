//! Stars: one's own, and shown as long as their message is.

use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::clock::Timestamp;
use urge::messages::{MAX_STARS, Star};

use super::{Chat, contents, text};
use crate::support::TestServer;

async fn starred(chat: &Chat, query: &str) -> Value {
    chat.ask(&chat.bob, &format!("GET /messages/starred{query}")).await
}

#[tokio::test]
async fn stars_are_listed_the_latest_first_and_are_ones_own() {
    let chat = Chat::start().await;
    let group = chat.group(&[&chat.bob]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let conversation = if n % 2 == 0 { &chat.id } else { &group };
        ids.push(text(&chat.send_to(&chat.ada, conversation, &format!("m{n}")).await["id"]));
    }
    for n in [3, 0, 4, 1, 2, 3] {
        chat.ask(&chat.bob, &format!("POST /messages/{}/star", ids[n])).await;
        // The next star has a later time.
        chat.server.clock.advance(std::time::Duration::from_millis(5));
    }
    let all = starred(&chat, "").await;
    assert_eq!(contents(&all), ["m2", "m1", "m4", "m0", "m3"]);
    assert_eq!((&all["total"], &all["limit"], &all["has_more"], &all["next_cursor"]), (&json!(5), &json!(50), &json!(false), &Value::Null));
    assert!(all["messages"].as_array().unwrap().iter().all(|message| message["isStarred"] == true));
    let page = starred(&chat, "?limit=2").await;
    assert_eq!((contents(&page), &page["has_more"], &page["total"]), (vec!["m2", "m1"], &json!(true), &json!(5)));
    let page = starred(&chat, &format!("?limit=2&cursor={}", text(&page["next_cursor"]))).await;
    assert_eq!(contents(&page), ["m4", "m0"]);
    let page = starred(&chat, &format!("?limit=2&cursor={}", text(&page["next_cursor"]))).await;
    assert_eq!((contents(&page), &page["next_cursor"]), (vec!["m3"], &Value::Null));
    assert_eq!(contents(&starred(&chat, "?limit=2&offset=3").await), ["m0", "m3"]);
    chat.refuse(&chat.bob, "GET /messages/starred?cursor=nonsense", &Value::Null, 422, "validation_error").await;
    assert_eq!(chat.ask(&chat.ada, "GET /messages/starred").await["total"], 0);
    assert_eq!(chat.ask(&chat.ada, &format!("GET /messages/{}", ids[0])).await["isStarred"], false);
    assert_eq!(chat.ask(&chat.bob, &format!("GET /messages/{}", ids[0])).await["isStarred"], true);
    for _ in 0..2 {
        chat.ask(&chat.bob, &format!("DELETE /messages/{}/star", ids[0])).await;
    }
    assert_eq!(contents(&starred(&chat, "").await), ["m2", "m1", "m4", "m3"]);
    chat.server.stop().await;
}

#[tokio::test]
async fn a_star_stays_while_its_message_is_not_found() {
    let chat = Chat::start().await;
    // A star at a place that no row has taken is what one looks like whose row a replica lacks.
    let sent = chat.send(&chat.ada, "hello").await;
    let star = Star { conversation_id: chat.id.parse().unwrap(), seq: sent["seq"].as_i64().unwrap() + 1, starred_at: Timestamp(1) };
    chat.server.stores.messages.put_star(chat.bob.id().parse().unwrap(), &star).await.unwrap();
    assert_eq!(contents(&starred(&chat, "").await), [""; 0]);
    chat.send(&chat.ada, "here I am").await;
    assert_eq!(contents(&starred(&chat, "").await), ["here I am"]);
    chat.server.stop().await;
}

#[tokio::test]
async fn a_star_goes_with_its_message() {
    let chat = Chat::start().await;
    let group = chat.group(&[&chat.bob]).await;
    let mut ids = Vec::new();
    for (conversation, content) in [(&group, "cleared"), (&chat.id, "deleted"), (&chat.id, "hidden"), (&chat.id, "edited")] {
        let id = text(&chat.send_to(&chat.ada, conversation, content).await["id"]);
        chat.ask(&chat.bob, &format!("POST /messages/{id}/star")).await;
        ids.push(id);
    }
    chat.ask(&chat.bob, &format!("DELETE /conversations/{group}/clear")).await;
    chat.ask(&chat.ada, &format!("DELETE /messages/{}", ids[1])).await;
    chat.ask(&chat.bob, &format!("DELETE /messages/{}", ids[2])).await;
    chat.tell(&chat.ada, &format!("PUT /messages/{}", ids[3]), &json!({"content": "edited now"})).await;
    let left = starred(&chat, "").await;
    assert_eq!((contents(&left), &left["total"]), (vec!["edited now"], &json!(1)));
    chat.refuse(&chat.bob, &format!("POST /messages/{}/star", ids[1]), &Value::Null, 400, "bad_request").await;
    chat.refuse(&chat.bob, &format!("POST /messages/{}/star", ids[2]), &Value::Null, 404, "not_found").await;
    chat.server.stop().await;
}

#[tokio::test]
async fn two_thousand_stars_are_all_that_one_can_have() {
    let stores = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&stores);
    let keep = move |backends: urge::app::Backends| {
        *kept.lock() = Some(Arc::clone(&backends.stores.messages));
        backends
    };
    let chat = Chat::on(TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, keep).await).await;
    let store = stores.lock().take().unwrap();
    let one = text(&chat.send(&chat.ada, "one too many").await["id"]);
    let another = text(&chat.send(&chat.ada, "another").await["id"]);
    chat.ask(&chat.bob, &format!("POST /messages/{another}/star")).await;
    // Places far behind anything that was said: they count all the same.
    let (bob, id) = (chat.bob.id().parse().unwrap(), chat.id.parse().unwrap());
    let stars: Vec<_> = (1..MAX_STARS as i64).map(|n| Star { conversation_id: id, seq: 1_000 + n, starred_at: Timestamp(n) }).collect();
    try_join_all(stars.iter().map(|star| store.put_star(bob, star))).await.unwrap();
    let route = format!("POST /messages/{one}/star");
    let refused = chat.refuse(&chat.bob, &route, &Value::Null, 400, "bad_request").await;
    assert!(refused["message"].as_str().unwrap().contains("2000"), "{refused}");
    // One that is there already is no more, others have their own, and one less makes room.
    chat.ask(&chat.bob, &format!("POST /messages/{another}/star")).await;
    chat.ask(&chat.ada, &route).await;
    chat.ask(&chat.bob, &format!("DELETE /messages/{another}/star")).await;
    chat.ask(&chat.bob, &route).await;
    chat.server.stop().await;
}
