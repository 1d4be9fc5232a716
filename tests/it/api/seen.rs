//! What people see of each other as it changes: numbers, presence, when one was last there.

use loadtest::{Door, Socket};
use serde_json::{Value, json};
use urge::clock::Clock;
use urge::event::Origin;

use crate::support::{Human, PATIENCE, People};

async fn seen(people: &People, caller: &Human, whom: &Human) -> Value {
    people.get(caller, &format!("GET /users/{}", whom.id)).await
}

async fn status(people: &People, caller: &Human, whom: &Human) -> Value {
    people.get(caller, &format!("GET /users/{}/status", whom.id)).await
}

async fn connect(people: &People, who: &Human) -> Socket {
    let socket = Socket::connect(&people.server.url(""), &who.token, Door::WebSocket).await.unwrap();
    people.server.all_know(who.id, true).await;
    socket
}

/// The data of the next event of this name about this person.
async fn told(socket: &mut Socket, name: &str, whom: &Human) -> Value {
    let of_him = |event: &loadtest::socket::Event| event.name == name && event.json()["userId"] == json!(whom.id);
    socket.next_match(name, PATIENCE, of_him).await.unwrap().json()
}

#[tokio::test]
async fn a_number_is_for_those_who_share_a_conversation() {
    let people = People::start().await;
    let (ada, bob) = (people.person("Ada").await, people.person("Bob").await);
    let everywhere = async || {
        let id = json!(bob.id);
        let batch = people.call(&ada, "POST /users/batch", &json!({"user_ids": [id]})).await;
        let found = people.get(&ada, "GET /users/search?q=bob").await;
        let contact = people.call(&ada, "POST /users/lookup", &json!({"phone_numbers": [bob.phone]})).await;
        let numbers = [&batch["users"][0], &found["users"][0], &contact["users"][0]["user"]].map(|user| user["phone_number"].clone());
        assert_eq!(numbers, [(); 3].map(|()| numbers[0].clone()), "one and the same everywhere");
        assert_eq!(seen(&people, &ada, &bob).await["phone_number"], numbers[0]);
        numbers[0].clone()
    };
    assert_eq!(everywhere().await, Value::Null);
    let group = people.group(&bob, &[&ada], "Two").await;
    assert_eq!(everywhere().await, json!(bob.phone));
    assert_eq!(seen(&people, &bob, &ada).await["phone_number"], json!(ada.phone));
    people.server.services.conversations.leave(ada.id, group, Origin::default()).await.unwrap();
    assert_eq!(everywhere().await, Value::Null, "nothing is shared any more");
    people.direct(&ada, &bob).await;
    assert_eq!(everywhere().await, json!(bob.phone));
    people.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_was_last_seen_when_he_went() {
    let people = People::start().await;
    let (ada, bob) = (people.person("Ada").await, people.person("Bob").await);
    people.direct(&ada, &bob).await;
    let mut watching = connect(&people, &ada).await;
    let before = status(&people, &ada, &bob).await;
    assert_eq!((&before["is_online"], &before["last_seen"]), (&json!(false), &Value::Null));
    let socket = connect(&people, &bob).await;
    told(&mut watching, "user:online", &bob).await;
    assert_eq!(status(&people, &ada, &bob).await["is_online"], true);
    assert_eq!(seen(&people, &ada, &bob).await["is_online"], true);
    let begin = people.server.clock.now().to_string();
    socket.close().await.unwrap();
    let gone = told(&mut watching, "user:offline", &bob).await;
    people.server.all_know(bob.id, false).await;
    let after = status(&people, &ada, &bob).await;
    assert_eq!((&after["is_online"], &after["last_seen"]), (&json!(false), &gone["lastSeen"]));
    assert!(gone["lastSeen"].as_str().unwrap() >= begin.as_str(), "{gone}, after {begin}");
    assert_eq!(seen(&people, &ada, &bob).await["last_seen"], gone["lastSeen"]);
    // It stays so, also for a stranger, until he comes again.
    let eve = people.person("Eve").await;
    assert_eq!(status(&people, &eve, &bob).await["last_seen"], gone["lastSeen"]);
    people.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_when_he_was_last_seen_or_that_he_is_there_hides_it_everywhere() {
    let people = People::start().await;
    let (ada, bob) = (people.person("Ada").await, people.person("Bob").await);
    let id = people.direct(&ada, &bob).await;
    let mut watching = connect(&people, &ada).await;
    people.call(&bob, "PUT /settings/privacy", &json!({"show_last_seen": false})).await;
    let socket = connect(&people, &bob).await;
    told(&mut watching, "user:online", &bob).await;
    socket.close().await.unwrap();
    assert_eq!(told(&mut watching, "user:offline", &bob).await["lastSeen"], Value::Null);
    people.server.all_know(bob.id, false).await;
    for view in [status(&people, &ada, &bob).await, seen(&people, &ada, &bob).await] {
        assert_eq!((&view["is_online"], &view["last_seen"]), (&json!(false), &Value::Null));
    }
    assert!(people.get(&bob, "GET /users/me").await["last_seen"].is_string(), "he sees it himself");

    people.call(&bob, "PUT /settings/privacy", &json!({"show_last_seen": true, "show_online_status": false})).await;
    assert!(status(&people, &ada, &bob).await["last_seen"].is_string());
    let socket = connect(&people, &bob).await;
    assert_eq!(socket.user_id(), bob.id.to_string());
    // He is told that he is let in before he counts as there; what he asks then is answered after both.
    socket.call("join:conversation", &json!({"conversationId": id})).await.unwrap();
    assert_eq!(people.get(&bob, "GET /users/me").await["is_online"], true);
    for view in [status(&people, &ada, &bob).await, seen(&people, &ada, &bob).await] {
        assert_eq!(view["is_online"], false);
    }
    // Nor is it told: what comes first after he has come is what he says.
    people.say(&bob, id, "I was here all the time").await;
    let events = watching.collect_until(PATIENCE, |events| events.last().is_some_and(|event| event.name == "message:received"));
    let events: Vec<_> = events.await.unwrap().into_iter().map(|event| event.name.clone()).collect();
    assert!(!events.contains(&"user:online".to_owned()), "{events:?}");
    people.server.stop().await;
}
