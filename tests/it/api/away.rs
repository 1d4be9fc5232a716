//! What is answered while the store is away or does not answer, and while too much is under way: 503 and when to come
//! back, in time, and never a 401, for which apps drop their login.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_immediate};
use reqwest::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::conversations::Sync;
use urge::messages::{HistoryQuery, SendMessage, Sent};
use urge::page::Page;

use super::auth::{Person, sign_up};
use super::good::{Good, Stage};
use crate::support::document::{Operation, operations};
use crate::support::{PATIENCE, Switch, TestServer, failure, json as body_of};

/// A node whose store is behind a switch. Codes are counted in the store, as in production.
async fn node() -> (Switch, Stage) {
    let switch = Switch::default();
    let wrap = |backends| switch.wrap(backends);
    let folder = Arc::new(TempDir::new().unwrap());
    // Each node remembers whom it was asked about.
    let server = TestServer::alone_on(folder, |config| config.sms.daily_budget = Some(100_000), wrap).await;
    (switch, Stage::on(server).await)
}

/// These need nothing of the store.
fn needs_no_store(call: &Operation) -> bool {
    matches!(call.id.as_str(), "get_index" | "get_health" | "get_me")
}

/// What the node keeps of settings for a few seconds.
fn may_be_remembered(call: &Operation) -> bool {
    matches!(call.id.as_str(), "get_privacy" | "list_blocked_users")
}

/// For each call a request that it takes, made while the store is there.
async fn requests(stage: &Stage) -> Vec<(Operation, Good)> {
    let all = operations().into_iter().filter(|call| !needs_no_store(call));
    let mut requests = Vec::new();
    for call in all {
        let good = stage.good(&call).await;
        requests.push((call, good));
    }
    requests
}

async fn is_unavailable(response: Response, what: &str) {
    assert_eq!(response.status(), 503, "{what}: {}", response.text().await.unwrap());
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{what}: {wait}");
    failure(response, 503, "unavailable").await;
}

/// Somebody whose login this node has not looked at since it was made.
async fn unseen(stage: &Stage) -> Person {
    sign_up(&stage.people.server, &json!({"phone_number": stage.people.number(), "display_name": "Unseen"})).await
}

/// Asks everything that can be asked while the store is as it is now.
async fn everything_is_503_in_time(stage: &Stage, requests: &[(Operation, Good)], unseen: &Person, limit: Duration) {
    let ask = async |(call, good): &(Operation, Good)| {
        let begin = Instant::now();
        let response = stage.send(good).await;
        assert!(begin.elapsed() < limit, "{} took {:?}", call.route(), begin.elapsed());
        if !(may_be_remembered(call) && response.status() == 200) {
            is_unavailable(response, &call.route()).await;
        }
        // A login that cannot be checked is no stale one.
        if call.needs_login {
            let other = Good { token: Some(unseen.token.clone()), ..good.clone() };
            let begin = Instant::now();
            is_unavailable(stage.send(&other).await, &format!("{}, not checked", call.route())).await;
            assert!(begin.elapsed() < limit, "{} took {:?}", call.route(), begin.elapsed());
        }
    };
    join_all(requests.iter().map(ask)).await;
}

async fn me(stage: &Stage, token: &str) -> Response {
    stage.people.send("GET /auth/me", Some(token), &Value::Null).await
}

/// From memory where there is one, else from what the token says.
async fn who_one_is_is_answered(stage: &Stage, remembered: &Value, unseen: &Person) {
    assert_eq!(&body_of(me(stage, &stage.ada.token).await).await, remembered);
    let answer = me(stage, &unseen.token).await;
    assert_eq!(answer.status(), 200);
    let claimed = body_of(answer).await;
    assert_eq!((&claimed["id"], &claimed["display_name"]), (&unseen.user["id"], &json!("Unseen")));
    assert_eq!((&claimed["phone_number"], &claimed["email"]), (&Value::Null, &Value::Null));
    // What is no token is still none.
    failure(me(stage, "nonsense").await, 401, "unauthenticated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_all_is_503_but_who_one_is() {
    let (switch, stage) = node().await;
    let (requests, unseen) = (requests(&stage).await, unseen(&stage).await);
    let remembered = body_of(me(&stage, &stage.ada.token).await).await;
    switch.take_away();
    everything_is_503_in_time(&stage, &requests, &unseen, PATIENCE).await;
    who_one_is_is_answered(&stage, &remembered, &unseen).await;
    for path in ["/", "/health", "/metrics", "/openapi.json"] {
        assert_eq!(stage.people.server.get(path).await.status(), 200, "{path}");
    }
    switch.give_back();
    for token in [&stage.ada.token, &unseen.token] {
        let answer = stage.people.send("GET /users/me", Some(token), &Value::Null).await;
        assert_eq!(answer.status(), 200, "nobody was logged out");
    }
    stage.people.call(&stage.ada, "POST /messages", &json!({"conversation_id": stage.conversation, "content": "back"})).await;
    stage.people.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_does_not_answer_all_is_503_by_the_deadline() {
    let (switch, stage) = node().await;
    let (requests, unseen) = (requests(&stage).await, unseen(&stage).await);
    let remembered = body_of(me(&stage, &stage.ada.token).await).await;
    switch.stall();
    // The deadline is 3 s; the rest is what a busy machine takes to find the time.
    let limit = Duration::from_secs(8);
    tokio::join!(everything_is_503_in_time(&stage, &requests, &unseen, limit), who_one_is_is_answered(&stage, &remembered, &unseen));
    switch.give_back();
    stage.people.get(&stage.ada, "GET /users/me").await;
    stage.people.server.stop().await;
}

/// Sends, histories and lists that may be under way on a node, and searches.
const PLACES: [(&str, usize); 4] = [("sends", 2_048), ("histories", 1_024), ("lists", 512), ("searches", 16)];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_now_is_503_at_once() {
    let switch = Switch::default();
    let wrap = |backends| switch.wrap_log(backends);
    // Each node has places of its own.
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, wrap).await;
    let stage = Stage::on(server).await;
    let (people, ada, services) = (&stage.people, &stage.ada, &stage.people.server.services);
    let id = stage.conversation.parse().unwrap();
    let page = Page::new(None, None, None);
    let query = HistoryQuery::default();
    // More than one conversation's log lets wait.
    let group = people.group(ada, &[&stage.bob], "Two").await;
    let third = people.group(ada, &[&stage.bob], "Three").await;
    let send = |n: usize| {
        let command =
            SendMessage { conversation_id: Some([id, group, third][n % 3]), content: Some("waits".into()), ..SendMessage::default() };
        services.messages.send(ada.id, command, Sent::default())
    };
    switch.stall();
    // Each has its place once it has begun, and keeps it while the log does not answer.
    let (mut sends, mut histories, mut lists, mut searches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let [(_, most_sends), (_, most_histories), (_, most_lists), (_, most_searches)] = PLACES;
    for n in 0..most_sends {
        sends.push(Box::pin(send(n)));
        assert!(poll_immediate(sends.last_mut().unwrap()).await.is_none());
    }
    for _ in 0..most_histories {
        histories.push(Box::pin(services.messages.history(ada.id, id, &query, &page)));
        assert!(poll_immediate(histories.last_mut().unwrap()).await.is_none());
    }
    for _ in 0..most_lists {
        lists.push(Box::pin(services.conversations.list(ada.id, false, &page)));
        assert!(poll_immediate(lists.last_mut().unwrap()).await.is_none());
    }
    for _ in 0..most_searches {
        searches.push(Box::pin(services.messages.search(ada.id, "hello", None, &page)));
        assert!(poll_immediate(searches.last_mut().unwrap()).await.is_none());
    }
    let message = json!({"conversation_id": id, "content": "one more"});
    let forward = json!({"message_ids": [stage.message], "conversation_id": id});
    let routes = [
        ("POST /messages".to_owned(), message.clone()),
        ("POST /messages/forward".to_owned(), forward),
        (format!("GET /conversations/{id}/messages"), Value::Null),
        ("GET /conversations".to_owned(), Value::Null),
        ("GET /conversations/archived".to_owned(), Value::Null),
        ("POST /sync".to_owned(), json!({"known": {}})),
        ("GET /messages/search?q=hello".to_owned(), Value::Null),
    ];
    for (route, body) in &routes {
        let begin = Instant::now();
        let refused = people.send(route, Some(&ada.token), body).await;
        // At once: well before the deadline, which ends what waits.
        assert!(begin.elapsed() < Duration::from_secs(2), "{route}: {:?}", begin.elapsed());
        is_unavailable(refused, route).await;
    }
    assert!(services.conversations.sync(ada.id, Sync::default()).await.is_err());
    // What needs no place among them goes on.
    people.get(ada, "GET /users/me").await;

    switch.give_back();
    drop((sends, histories, lists, searches));
    for (route, body) in &routes {
        people.call(ada, route, body).await;
    }
    stage.people.server.stop().await;
}
