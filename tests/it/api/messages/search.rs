//! GET /messages/search: found within 2 seconds, by every word, newest first, and only what the caller may see.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use urge::id::Seq;
use urge::messages::{MessageStore, TermMatch};

use super::super::auth::Person;
use super::{Chat, UNKNOWN, contents, text};
use crate::support::{PATIENCE, Switch, TestServer};

/// How soon a message must be found.
const SOON: Duration = Duration::from_secs(2);

/// What the query of this caller finds.
async fn search(chat: &Chat, caller: &Person, query: &str) -> Value {
    chat.ask(caller, &format!("GET /messages/search?q={query}")).await
}

/// Searches until so many are found. Nothing tells when the index has caught up, so it is asked again and again.
async fn found(chat: &Chat, caller: &Person, query: &str, count: usize) -> Value {
    found_within(PATIENCE, chat, caller, query, count).await
}

async fn found_within(limit: Duration, chat: &Chat, caller: &Person, query: &str, count: usize) -> Value {
    let begin = Instant::now();
    loop {
        let answer = search(chat, caller, query).await;
        if answer["total"] == count {
            return answer;
        }
        assert!(begin.elapsed() < limit, "{count} were to be found by {query}: {}", answer["total"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many rows the index has by this word, whatever a search makes of them.
async fn indexed(store: &Arc<dyn MessageStore>, conversation: &str, word: &str) -> usize {
    let (conversation, wanted) = (conversation.parse().unwrap(), TermMatch::Word(word.to_owned()));
    store.term_rows(conversation, 0, &wanted, Seq::MAX, 100).await.unwrap().unwrap().len()
}

#[tokio::test]
async fn a_message_is_found_within_two_seconds() {
    let chat = Chat::start().await;
    chat.send(&chat.ada, "eureka").await;
    found_within(SOON, &chat, &chat.bob, "eureka", 1).await;
    chat.server.stop().await;
}

#[tokio::test]
async fn words_are_found_whatever_case_and_accents() {
    let chat = Chat::start().await;
    chat.send(&chat.ada, "Rendez-vous à l’École, Straße 5").await;
    chat.send(&chat.bob, "the quick brown fox 🦊").await;
    chat.send(&chat.ada, "我们明天见 quickly").await;
    found(&chat, &chat.ada, "quick", 2).await;
    for (query, wanted) in [
        ("ecole", vec!["Rendez-vous à l’École, Straße 5"]),
        ("%C3%89COLE%20rendez", vec!["Rendez-vous à l’École, Straße 5"]),
        ("strasse", vec!["Rendez-vous à l’École, Straße 5"]),
        ("quick", vec!["我们明天见 quickly", "the quick brown fox 🦊"]),
        ("quick%20fo", vec!["the quick brown fox 🦊"]),
        ("qui%20fox", vec![]),
        ("quick%20cat", vec![]),
        ("%E6%98%8E%E5%A4%A9", vec!["我们明天见 quickly"]),
        ("", vec![]),
        ("%F0%9F%A6%8A", vec![]),
    ] {
        for caller in [&chat.ada, &chat.bob] {
            let answer = search(&chat, caller, query).await;
            assert_eq!(contents(&answer), wanted, "{query}");
            assert_eq!((&answer["total"], &answer["next_cursor"]), (&json!(wanted.len()), &Value::Null));
        }
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn only_what_the_caller_may_see_is_found() {
    let chat = Chat::start().await;
    let (group, cleared) = (chat.group(&[&chat.eve]).await, chat.group(&[&chat.bob]).await);
    let edited = text(&chat.send(&chat.ada, "apple before").await["id"]);
    let deleted = text(&chat.send(&chat.ada, "apple deleted").await["id"]);
    let hidden = text(&chat.send(&chat.ada, "apple hidden").await["id"]);
    let encrypted = json!({"conversation_id": chat.id, "content": "apple encrypted", "is_encrypted": true});
    chat.tell(&chat.ada, "POST /messages", &encrypted).await;
    chat.send_to(&chat.ada, &group, "apple for Eve").await;
    chat.send_to(&chat.ada, &cleared, "apple cleared").await;
    found(&chat, &chat.bob, "apple", 4).await;
    chat.tell(&chat.ada, &format!("PUT /messages/{edited}"), &json!({"content": "apple after"})).await;
    chat.ask(&chat.ada, &format!("DELETE /messages/{deleted}")).await;
    chat.ask(&chat.bob, &format!("DELETE /messages/{hidden}")).await;
    chat.ask(&chat.bob, &format!("DELETE /conversations/{cleared}/clear")).await;
    found(&chat, &chat.bob, "after", 1).await;
    assert_eq!(contents(&search(&chat, &chat.bob, "apple").await), ["apple after"]);
    assert_eq!(search(&chat, &chat.bob, "before").await["total"], 0);
    assert_eq!(contents(&search(&chat, &chat.eve, "apple").await), ["apple for Eve"]);
    let mut ada: HashSet<String> = HashSet::new();
    ada.extend(contents(&search(&chat, &chat.ada, "apple").await).into_iter().map(str::to_owned));
    assert_eq!(ada.len(), 4, "{ada:?}");
    chat.server.stop().await;
}

#[tokio::test]
async fn pages_go_on_newest_first_without_repeats() {
    let chat = Chat::start().await;
    let groups = [chat.group(&[&chat.bob]).await, chat.group(&[&chat.bob]).await];
    for n in 0..90 {
        let conversation = [&chat.id, &groups[0], &groups[1]][n % 3];
        chat.send_to(&chat.ada, conversation, &format!("melon {n}")).await;
    }
    found(&chat, &chat.bob, "melon&limit=100", 90).await;
    for (scope, count) in
        [(String::new(), 90), (format!("&conversation_id={}", chat.id), 30), (format!("&conversationId={}", groups[1]), 30)]
    {
        let (mut all, mut cursor, mut total) = (Vec::new(), String::new(), 0);
        loop {
            let page = search(&chat, &chat.bob, &format!("melon{scope}&limit=20{cursor}")).await;
            let messages = page["messages"].as_array().unwrap().clone();
            total += messages.len();
            assert_eq!(page["total"], total);
            all.extend(messages);
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(all.len(), count);
        assert_eq!(all.iter().map(|message| text(&message["id"])).collect::<HashSet<_>>().len(), count);
        let times: Vec<_> = all.iter().map(|message| text(&message["createdAt"])).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    }
    chat.server.stop().await;
}

/// One page looks through 200 conversations; those with the latest activity come first.
#[tokio::test]
async fn more_conversations_than_one_search_looks_through_are_found_page_by_page() {
    const CONVERSATIONS: usize = 205;
    let chat = Chat::start().await;
    let mut said = Vec::new();
    for n in 0..CONVERSATIONS {
        let group = chat.group(&[&chat.bob]).await;
        said.push(text(&chat.send_to(&chat.ada, &group, &format!("needle {n}")).await["id"]));
    }
    let all = async || {
        let (mut all, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = search(&chat, &chat.bob, &format!("needle&limit=100{cursor}")).await;
            all.extend(page["messages"].as_array().unwrap().iter().map(|message| text(&message["id"])));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break (all, pages) };
            cursor = format!("&cursor={next}");
        }
    };
    let begin = Instant::now();
    let (found, pages) = loop {
        let (found, pages) = all().await;
        if found.len() == CONVERSATIONS {
            break (found, pages);
        }
        assert!(begin.elapsed() < PATIENCE, "{} of {CONVERSATIONS} were found", found.len());
    };
    assert!(pages >= 3, "{pages}");
    said.reverse();
    assert_eq!(found, said, "each once, the latest first");
    // One of them alone is looked through however long ago something was said in it.
    let oldest = chat.ask(&chat.bob, &format!("GET /messages/{}", said[CONVERSATIONS - 1])).await;
    let scoped = search(&chat, &chat.bob, &format!("needle&conversation_id={}", text(&oldest["conversationId"]))).await;
    assert_eq!((contents(&scoped), &scoped["next_cursor"]), (vec!["needle 0"], &Value::Null));
    chat.server.stop().await;
}

/// Beyond a few thousand places a word's list is not read; the log is walked instead.
#[tokio::test]
async fn a_word_that_is_everywhere_is_found_too() {
    let chat = Chat::start().await;
    chat.send(&chat.ada, "nothing of the kind").await;
    for n in 0..10 {
        let words: Vec<_> = (0..500).map(|word| format!("w{word}")).collect();
        chat.send(&chat.ada, &format!("number{n} {}", words.join(" "))).await;
    }
    found(&chat, &chat.bob, "number", 10).await;
    assert_eq!(search(&chat, &chat.bob, "w").await["total"], 10);
    assert_eq!(search(&chat, &chat.bob, "number7%20w").await["total"], 1);
    let page = search(&chat, &chat.bob, &format!("w&limit=7&conversation_id={}", chat.id)).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 7);
    let next = format!("w&limit=7&conversation_id={}&cursor={}", chat.id, text(&page["next_cursor"]));
    let page = search(&chat, &chat.bob, &next).await;
    assert_eq!((page["messages"].as_array().unwrap().len(), &page["total"], &page["next_cursor"]), (3, &json!(10), &Value::Null));
    chat.server.stop().await;
}

/// The index stays behind, for its statements do not come through; the messages do.
#[tokio::test]
async fn what_was_not_indexed_when_a_node_stopped_is_found_by_the_next() {
    let (folder, switch) = (Arc::new(TempDir::new().unwrap()), Switch::default());
    let wrap = |backends| switch.wrap_messages(backends);
    let chat = Chat::on(TestServer::on(Arc::clone(&folder), |_| {}, wrap).await).await;
    switch.take_away();
    for n in 0..20 {
        chat.send(&chat.ada, &format!("pear {n}")).await;
    }
    let Chat { server, ada, bob, eve, id } = chat;
    let messages = Arc::clone(&server.stores.messages);
    server.stop().await;
    assert_eq!(indexed(&messages, &id, "pear").await, 0, "nothing of it was indexed");
    let server = TestServer::on(folder, |_| {}, |backends| backends).await;
    let chat = Chat { server, ada, bob, eve, id };
    found(&chat, &chat.bob, "pear", 20).await;
    chat.server.stop().await;
}

#[tokio::test]
async fn a_message_is_indexed_by_the_words_that_it_has_now() {
    let chat = Chat::start().await;
    let edited = text(&chat.send(&chat.ada, "a yellow submarine").await["id"]);
    let deleted = text(&chat.send(&chat.ada, "a yellow submarine").await["id"]);
    found(&chat, &chat.ada, "submarine", 2).await;
    chat.tell(&chat.ada, &format!("PUT /messages/{edited}"), &json!({"content": "a yellow octopus"})).await;
    chat.ask(&chat.ada, &format!("DELETE /messages/{deleted}")).await;
    found(&chat, &chat.ada, "yellow", 1).await;
    found(&chat, &chat.ada, "octopus", 1).await;
    let store = &chat.server.stores.messages;
    let begin = Instant::now();
    while (indexed(store, &chat.id, "submarine").await, indexed(store, &chat.id, "yellow").await, indexed(store, &chat.id, "octopus").await)
        != (0, 1, 1)
    {
        assert!(begin.elapsed() < PATIENCE, "words of before are left over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn wrong_searches_are_refused() {
    let chat = Chat::start().await;
    let cases = [
        (String::new(), 422, "validation_error"),
        (format!("?q={}", "x".repeat(257)), 422, "validation_error"),
        ("?q=x&cursor=nonsense".to_owned(), 422, "validation_error"),
        ("?q=x&conversation_id=no-uuid".to_owned(), 422, "validation_error"),
        (format!("?q=x&conversation_id={UNKNOWN}"), 404, "not_found"),
        (format!("?q=x&conversation_id={}", chat.id), 403, "forbidden"),
        (format!("?q=x&conversationId={}", chat.id), 403, "forbidden"),
    ];
    for (query, status, code) in cases {
        chat.refuse(&chat.eve, &format!("GET /messages/search{query}"), &Value::Null, status, code).await;
    }
    chat.server.stop().await;
}
