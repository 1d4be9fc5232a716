//! GET /conversations/{id}/messages: pages both ways, by message, by place, by offset and by cursor.

use serde_json::{Value, json};

use super::{Chat, UNKNOWN, contents, text};

/// Messages of the conversation that is paged through.
const COUNT: usize = 25;

/// A conversation with messages `m1` to `m25` of both, and between them rows that are none: an edit and a deletion of
/// others. One more message has been removed from Bob's view.
async fn written() -> (Chat, Vec<Value>) {
    let chat = Chat::start().await;
    let mut messages = Vec::new();
    for n in 1..=COUNT {
        let from = if n % 2 == 0 { &chat.ada } else { &chat.bob };
        messages.push(chat.send(from, &format!("m{n}")).await);
        if n == 7 {
            let changed = format!("PUT /messages/{}", text(&messages[1]["id"]));
            chat.tell(&chat.ada, &changed, &json!({"content": "m2, changed"})).await;
            chat.tell(&chat.ada, &changed, &json!({"content": "m2"})).await;
            let removed = chat.send(&chat.ada, "not for Bob").await;
            chat.ask(&chat.bob, &format!("DELETE /messages/{}", text(&removed["id"]))).await;
        }
    }
    (chat, messages)
}

async fn page(chat: &Chat, query: &str) -> Value {
    let page = chat.ask(&chat.bob, &format!("GET /conversations/{}/messages?{query}", chat.id)).await;
    assert_eq!(page["total"], COUNT, "whatever page it is: {query}");
    assert_eq!(page["has_more"], page["next_cursor"].is_string(), "{query}");
    page
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..=to).map(|n| format!("m{n}")).collect()
}

/// Follows the cursors from the page of this query on; the contents page by page.
async fn follow(chat: &Chat, query: &str, limit: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut query = format!("{query}&limit={limit}");
    loop {
        let page = page(chat, &query).await;
        assert_eq!(page["limit"], limit);
        pages.push(contents(&page).into_iter().map(str::to_owned).collect());
        let Some(cursor) = page["next_cursor"].as_str() else { return pages };
        query = format!("cursor={cursor}&limit={limit}");
        assert!(pages.len() <= COUNT, "it goes round");
    }
}

#[tokio::test]
async fn before_a_message_or_a_place_it_goes_back_to_the_beginning() {
    let (chat, messages) = written().await;
    let (id, seq) = (text(&messages[9]["id"]), messages[9]["seq"].clone());
    for query in [format!("before={id}"), format!("before_seq={seq}"), format!("beforeSeq={seq}&after_seq=1")] {
        assert_eq!(follow(&chat, &query, 4).await, [names(6, 9), names(2, 5), names(1, 1)], "{query}");
    }
    assert_eq!(follow(&chat, "x=y", 10).await, [names(16, 25), names(6, 15), names(1, 5)]);
    // A page that holds just the rest is the last one.
    assert_eq!(follow(&chat, &format!("before={id}"), 9).await, [names(1, 9)]);
    assert_eq!(follow(&chat, &format!("before={}", text(&messages[0]["id"])), 5).await, [names(1, 0)]);
    for nothing in ["before_seq=1", "before_seq=0", "before_seq=-9"] {
        assert_eq!(contents(&page(&chat, nothing).await), [""; 0], "{nothing}");
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn after_a_message_or_a_place_it_goes_on_to_the_end() {
    let (chat, messages) = written().await;
    let (id, seq) = (text(&messages[9]["id"]), messages[9]["seq"].clone());
    for query in [format!("after={id}"), format!("after_seq={seq}"), format!("afterSeq={seq}")] {
        let pages = [names(11, 16), names(17, 22), names(23, 25)];
        assert_eq!(follow(&chat, &query, 6).await, pages, "{query}");
    }
    assert_eq!(follow(&chat, "after_seq=0", 20).await, [names(1, 20), names(21, 25)]);
    assert_eq!(follow(&chat, &format!("after={id}"), 15).await, [names(11, 25)]);
    for nothing in [format!("after={}", text(&messages[24]["id"])), "after_seq=999999".to_owned()] {
        assert_eq!(contents(&page(&chat, &nothing).await), [""; 0], "{nothing}");
    }
    // At the end one waits for what comes: the next page after the last message is what has come.
    chat.send(&chat.ada, "news").await;
    let news = chat.ask(&chat.bob, &format!("GET /conversations/{}/messages?after={}", chat.id, text(&messages[24]["id"]))).await;
    assert_eq!((contents(&news), &news["total"]), (vec!["news"], &json!(COUNT + 1)));
    chat.server.stop().await;
}

#[tokio::test]
async fn offsets_skip_in_the_direction_of_reading() {
    let (chat, messages) = written().await;
    let (id, seq) = (text(&messages[9]["id"]), messages[9]["seq"].clone());
    for (query, wanted, more) in [
        ("limit=10&offset=0".to_owned(), names(16, 25), true),
        ("limit=10&offset=10".to_owned(), names(6, 15), true),
        ("limit=10&offset=20".to_owned(), names(1, 5), false),
        ("limit=10&offset=25".to_owned(), names(1, 0), false),
        (format!("limit=3&offset=2&before={id}"), names(5, 7), true),
        (format!("limit=3&offset=2&after={id}"), names(13, 15), true),
        (format!("limit=5&offset=10&after_seq={seq}"), names(21, 25), false),
        ("limit=2&offset=-5".to_owned(), names(24, 25), true),
    ] {
        let page = page(&chat, &query).await;
        assert_eq!((contents(&page), &page["has_more"]), (wanted.iter().map(String::as_str).collect(), &json!(more)), "{query}");
    }
    // A cursor knows where it goes on: what stands beside it changes nothing.
    let first = page(&chat, "limit=10").await;
    let cursor = text(&first["next_cursor"]);
    let second = page(&chat, &format!("limit=10&offset=7&before={id}&cursor={cursor}")).await;
    assert_eq!(contents(&second), names(6, 15));
    chat.server.stop().await;
}

#[tokio::test]
async fn what_a_page_cannot_begin_at_is_named() {
    let chat = Chat::start().await;
    chat.send(&chat.ada, "here").await;
    let other = chat.group(&[&chat.bob]).await;
    let foreign = text(&chat.send_to(&chat.ada, &other, "elsewhere").await["id"]);
    for (query, field) in [
        (format!("before={foreign}"), "before"),
        (format!("after={foreign}"), "after"),
        (format!("before={UNKNOWN}"), "before"),
        (format!("after={UNKNOWN}"), "after"),
        ("before=7".to_owned(), "before"),
        ("after=no-uuid".to_owned(), "after"),
        ("before_seq=x".to_owned(), "before_seq"),
        ("after_seq=1.5".to_owned(), "after_seq"),
        ("limit=x".to_owned(), "limit"),
        ("offset=x".to_owned(), "offset"),
        ("cursor=nonsense".to_owned(), "cursor"),
    ] {
        let route = format!("GET /conversations/{}/messages?{query}", chat.id);
        let refused = chat.refuse(&chat.bob, &route, &Value::Null, 422, "validation_error").await;
        assert_eq!(refused["detail"][0]["loc"], json!(["query", field]), "{query}");
    }
    // What was deleted is still a place.
    let here = text(&chat.history(&chat.ada).await["messages"][0]["id"]);
    chat.ask(&chat.ada, &format!("DELETE /messages/{here}")).await;
    chat.send(&chat.bob, "later").await;
    let after = chat.ask(&chat.bob, &format!("GET /conversations/{}/messages?after={here}", chat.id)).await;
    assert_eq!(contents(&after), ["later"]);
    chat.server.stop().await;
}
