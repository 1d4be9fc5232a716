//! POST /sync: exactly what changed, whatever happened meanwhile.

use std::collections::{BTreeMap, HashMap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId};
use urge::messages::Message;

use crate::support::{Human, People};

const ROUTE: &str = "POST /sync";

async fn sync(world: &People, who: &Human, known: &Value) -> Value {
    world.call(who, ROUTE, &json!({"known": known})).await
}

/// The one conversation of an answer.
fn only(answer: &Value) -> &Value {
    let entries = answer["conversations"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{answer}");
    &entries[0]
}

fn known(id: ConversationId, seq: i64) -> Value {
    json!({ id.to_string(): seq })
}

fn contents(entry: &Value) -> Vec<&str> {
    entry["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn places_that_cannot_be_read_count_as_missing() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let (one, two) = (world.direct(&ada, &bob).await, world.direct(&ada, &eve).await);
    world.say(&bob, one, "hello").await;
    for place in [json!(null), json!("2"), json!(1.5), json!([]), json!({"seq": 2})] {
        let answer = sync(&world, &ada, &json!({one.to_string(): place, two.to_string(): 1, "nonsense": 3})).await;
        assert_eq!(contents(only(&answer)), ["hello"], "{place}");
    }
    // A bare null, as some clients send for nothing, is an empty body.
    let answer = world.call_with(&ada, ROUTE, "null").await;
    assert_eq!(answer["conversations"].as_array().unwrap().len(), 2);
    world.server.stop().await;
}

#[tokio::test]
async fn a_new_device_gets_the_newest_page_of_everything() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let direct = world.direct(&ada, &bob).await;
    let empty = world.group(&eve, &[&ada], "Silent").await;
    for n in 1..=60 {
        world.say(&bob, direct, &format!("{n}")).await;
    }
    let answer = sync(&world, &ada, &json!({})).await;
    assert_eq!(answer["next_cursor"], Value::Null);
    assert!(answer["server_time"].as_str().unwrap().ends_with('Z'));
    let entries: HashMap<_, _> = answer["conversations"].as_array().unwrap().iter().map(|one| (one["id"].as_str().unwrap(), one)).collect();
    assert_eq!(entries.len(), 2);
    let entry = entries[direct.to_string().as_str()];
    let mut keys: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "clearedSeq",
        "conversation",
        "id",
        "lastSeq",
        "messages",
        "more",
        "peerDeliveredSeq",
        "peerReadSeq",
        "readSeq",
        "state",
        "unreadCount",
        "upTo",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        (&entry["upTo"], &entry["lastSeq"], &entry["more"], &entry["state"]),
        (&json!(61), &json!(61), &json!(false), &json!("ACTIVE"))
    );
    assert_eq!((&entry["unreadCount"], &entry["clearedSeq"], &entry["conversation"]["name"]), (&json!(60), &json!(0), &json!("Bob")));
    let shown = contents(entry);
    assert_eq!((shown.len(), shown[0], shown[49]), (50, "11", "60"));
    let silent = entries[empty.to_string().as_str()];
    assert_eq!((&silent["upTo"], &silent["conversation"]["lastMessage"], contents(silent).len()), (&json!(1), &Value::Null, 0));
    // Who has it all gets nothing.
    let answer = sync(&world, &ada, &json!({direct.to_string(): 61, empty.to_string(): 1})).await;
    assert_eq!(answer["conversations"], json!([]));
    world.server.stop().await;
}

#[tokio::test]
async fn only_what_changed_comes_once_and_as_it_is_now() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let first = world.say(&bob, id, "first").await;
    let second = world.say(&bob, id, "second").await;
    world.say(&bob, id, "untouched").await;
    let up_to = only(&sync(&world, &ada, &json!({})).await)["upTo"].as_i64().unwrap();
    assert_eq!(up_to, 4);
    let new = world.say(&bob, id, "new").await;
    world.edit(&bob, first.id, "first, edited").await;
    world.edit(&bob, new.id, "new, edited").await;
    world.edit(&bob, first.id, "first, edited twice").await;
    world.unsay(&bob, second.id).await;
    let answer = sync(&world, &ada, &known(id, up_to)).await;
    let entry = only(&answer);
    assert_eq!(contents(entry), ["new, edited", "first, edited twice", "This message was deleted"]);
    let changes: Vec<_> = entry["messages"].as_array().unwrap().iter().map(|one| one["changeSeq"].as_i64().unwrap()).collect();
    assert_eq!(changes, [7, 8, 9]);
    assert_eq!((&entry["upTo"], &entry["more"]), (&json!(9), &json!(false)));
    assert_eq!(entry["messages"][0]["seq"], json!(new.seq));
    // From the middle of it only what comes after.
    let answer = sync(&world, &ada, &known(id, 8)).await;
    assert_eq!(contents(only(&answer)), ["This message was deleted"]);
    world.server.stop().await;
}

#[tokio::test]
async fn more_than_a_hundred_come_in_turns() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let mut said = Vec::new();
    for n in 0..230 {
        said.push(world.say(&bob, id, &format!("{n}")).await);
    }
    // Edited behind the first hundred: it comes with its edit, and only then.
    world.edit(&bob, said[3].id, "edited").await;
    let (mut up_to, mut got, mut turns) = (1, Vec::new(), 0);
    loop {
        let answer = sync(&world, &ada, &known(id, up_to)).await;
        let entry = only(&answer);
        assert!(entry["messages"].as_array().unwrap().len() <= 100);
        got.extend(contents(entry).into_iter().map(str::to_owned));
        up_to = entry["upTo"].as_i64().unwrap();
        turns += 1;
        if entry["more"] == false {
            break;
        }
    }
    let mut expected: Vec<_> = (0..230).filter(|n| *n != 3).map(|n| n.to_string()).collect();
    expected.push("edited".to_owned());
    assert_eq!((got, turns), (expected, 3));
    world.server.stop().await;
}

#[tokio::test]
async fn what_was_cleared_or_hidden_does_not_come() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let old = world.say(&bob, id, "old").await;
    world.get(&ada, &format!("DELETE /conversations/{id}/clear")).await;
    world.edit(&bob, old.id, "old, edited").await;
    world.say(&bob, id, "new").await;
    let mine = world.say(&bob, id, "not for me").await;
    world.server.services.messages.delete(ada.id, mine.id, None, Origin::default()).await.unwrap();
    for from in [json!({}), known(id, 0), known(id, 1), known(id, 2), known(id, 3)] {
        let answer = sync(&world, &ada, &from).await;
        let entry = only(&answer);
        assert_eq!((contents(entry), &entry["clearedSeq"], &entry["upTo"]), (vec!["new"], &json!(2), &json!(5)), "{from}");
    }
    // Deleted: gone until the next message, an edit is none.
    world.get(&ada, &format!("DELETE /conversations/{id}")).await;
    for from in [json!({}), known(id, 1), known(id, 5)] {
        assert_eq!(sync(&world, &ada, &from).await["conversations"], json!([]), "{from}");
    }
    world.edit(&bob, old.id, "again").await;
    assert_eq!(sync(&world, &ada, &known(id, 5)).await["conversations"], json!([]));
    world.say(&bob, id, "next").await;
    for from in [json!({}), known(id, 1), known(id, 5)] {
        let answer = sync(&world, &ada, &from).await;
        assert_eq!((contents(only(&answer)), &only(&answer)["unreadCount"]), (vec!["next"], &json!(1)), "{from}");
    }
    assert_eq!(contents(only(&sync(&world, &bob, &json!({})).await)).len(), 4);
    world.server.stop().await;
}

#[tokio::test]
async fn who_is_gone_learns_how_and_nothing_after_it() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let id = world.group(&ada, &[&bob, &eve], "Three").await;
    world.say(&ada, id, "before").await;
    let conversations = &world.server.services.conversations;
    conversations.remove_member(ada.id, id, bob.id, Origin::default()).await.unwrap();
    conversations.leave(eve.id, id, Origin::default()).await.unwrap();
    world.say(&ada, id, "after").await;
    let answer = sync(&world, &bob, &known(id, 1)).await;
    let entry = only(&answer);
    assert_eq!(
        (&entry["state"], &entry["conversation"], &entry["upTo"], &entry["lastSeq"]),
        (&json!("REMOVED"), &Value::Null, &json!(3), &json!(3))
    );
    assert_eq!(contents(entry), ["before", "Ada removed Bob"]);
    let answer = sync(&world, &eve, &known(id, 2)).await;
    let entry = only(&answer);
    assert_eq!((&entry["state"], contents(entry)), (&json!("LEFT"), vec!["Ada removed Bob", "Eve left"]));
    // Known to be gone, or never known: nothing.
    assert_eq!(sync(&world, &eve, &known(id, 4)).await["conversations"], json!([]));
    assert_eq!(sync(&world, &bob, &json!({})).await["conversations"], json!([]));
    // Back again: what was said meanwhile stays unseen.
    conversations.add_members(ada.id, id, &[bob.id], Origin::default()).await.unwrap();
    world.say(&ada, id, "welcome").await;
    for from in [json!({}), known(id, 1), known(id, 3)] {
        let answer = sync(&world, &bob, &from).await;
        let entry = only(&answer);
        assert_eq!((&entry["state"], contents(entry)), (&json!("ACTIVE"), vec!["Ada added Bob", "welcome"]));
    }
    world.server.stop().await;
}

#[tokio::test]
async fn many_conversations_come_by_pages_that_activity_does_not_disturb() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let mut groups = Vec::new();
    for n in 0..7 {
        let id = world.group(&bob, &[&ada], &format!("Group {n}")).await;
        world.say(&bob, id, "hi").await;
        groups.push(id);
    }
    let (mut cursor, mut got) = (Value::Null, Vec::new());
    loop {
        let answer = world.call(&ada, ROUTE, &json!({"known": {}, "limit": 2, "cursor": cursor})).await;
        let entries = answer["conversations"].as_array().unwrap();
        assert!(entries.len() <= 2);
        got.extend(entries.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        for id in &groups {
            world.say(&bob, *id, "more").await;
        }
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let mut expected: Vec<_> = groups.iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(got, expected);
    let bad = world.refused(&ada, ROUTE, &json!({"cursor": "abc"}), 422, "validation_error").await;
    assert_eq!(bad["detail"][0]["loc"], json!(["body", "cursor"]));
    world.server.stop().await;
}

#[tokio::test]
async fn marks_come_along_and_what_is_synced_is_delivered() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let direct = world.direct(&ada, &bob).await;
    let group = world.group(&ada, &[&bob, &eve], "Three").await;
    let (one, two) = (world.say(&ada, direct, "one").await, world.say(&ada, group, "two").await);
    sync(&world, &bob, &json!({})).await;
    sync(&world, &eve, &json!({})).await;
    // Delivery marks are written behind the answer.
    let statuses = async || {
        let answer = sync(&world, &ada, &json!({})).await;
        let marks = answer["conversations"].as_array().unwrap().iter();
        let marks: BTreeMap<_, _> = marks
            .map(|one| (one["id"].as_str().unwrap().to_owned(), (one["peerDeliveredSeq"].clone(), one["peerReadSeq"].clone())))
            .collect();
        (marks[&direct.to_string()].clone(), marks[&group.to_string()].clone())
    };
    let delivered = async {
        while statuses().await != ((json!(one.seq), json!(0)), (json!(two.seq), json!(0))) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, delivered).await.expect("never delivered");
    let view = world.get(&ada, &format!("GET /conversations/{direct}")).await;
    assert_eq!(view["lastMessage"]["status"], "DELIVERED");
    world.get(&bob, &format!("PUT /conversations/{direct}/read")).await;
    world.get(&bob, &format!("PUT /conversations/{group}/read")).await;
    assert_eq!(statuses().await, ((json!(one.seq), json!(one.seq)), (json!(two.seq), json!(0))));
    world.get(&eve, &format!("PUT /conversations/{group}/read")).await;
    assert_eq!(statuses().await.1, (json!(two.seq), json!(two.seq)));
    let answer = sync(&world, &bob, &json!({direct.to_string(): 2, group.to_string(): 1})).await;
    let entry = only(&answer);
    assert!(entry["conversation"]["id"] != Value::Null && entry["unreadCount"] == 0 && entry["readSeq"] == json!(two.seq));
    world.server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_named() {
    let world = People::start().await;
    let ada = world.person("Ada").await;
    let id = "0197a5a3-0000-7000-8000-000000000000";
    for body in [json!({"known": []}), json!({"known": 5}), json!({"known": "x"})] {
        let answer = world.refused(&ada, ROUTE, &body, 422, "validation_error").await;
        assert_eq!(answer["detail"][0]["loc"][1], "known", "{body}");
    }
    let many: HashMap<_, _> = (0..10_001).map(|_| (ConversationId::fresh().to_string(), 1)).collect();
    world.refused(&ada, ROUTE, &json!({"known": many}), 422, "validation_error").await;
    // Conversations that are none, or somebody else's, say nothing; null and nothing are the same.
    let wrong = world.refused(&ada, ROUTE, &json!({"known": {}, "limit": "5"}), 422, "validation_error").await;
    assert_eq!(wrong["message"], "limit must be a whole number, like 50");
    for body in [json!({"known": {id: 3}}), json!({"known": null, "limit": null}), json!({}), json!({"known": {id: -1}, "limit": -3})] {
        assert_eq!(world.call(&ada, ROUTE, &body).await["conversations"], json!([]));
    }
    world.server.stop().await;
}

/// A client that only ever syncs.
#[derive(Default)]
struct Device {
    up_to: Option<i64>,
    messages: BTreeMap<i64, (i64, String)>,
}

impl Device {
    async fn sync(&mut self, world: &People, who: &Human, id: ConversationId) {
        loop {
            let from = self.up_to.map_or(json!({}), |up_to| known(id, up_to));
            let answer = sync(world, who, &from).await;
            let Some(entry) = answer["conversations"].as_array().unwrap().first() else { return };
            for message in entry["messages"].as_array().unwrap() {
                let message: Message = serde_json::from_value(message.clone()).unwrap();
                assert!(self.up_to.is_none_or(|up_to| message.change_seq > up_to), "told again: {message:?}");
                let before = self.messages.insert(message.seq, (message.change_seq, message.content));
                assert!(before.is_none_or(|(change, _)| change < message.change_seq));
            }
            self.up_to = entry["upTo"].as_i64();
            if entry["more"] == false {
                return;
            }
        }
    }
}

#[tokio::test]
async fn devices_that_sync_now_and_then_have_what_the_history_has() {
    let world = People::start().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let mut devices: Vec<_> = (0..4).map(|_| Device::default()).collect();
    for device in &mut devices {
        device.sync(&world, &ada, id).await;
    }
    let mut mine: Vec<MessageId> = Vec::new();
    for n in 0..400 {
        let which = if mine.is_empty() { None } else { Some(random.random_range(0..mine.len())) };
        match (random.random_range(0..10), which) {
            (0..=2, Some(which)) => {
                drop(world.server.services.messages.edit(bob.id, mine[which], Some(format!("edit {n}")), Origin::default()).await);
            }
            (3, Some(which)) => drop(world.unsay(&bob, mine[which]).await),
            _ => mine.push(world.say(&bob, id, &format!("say {n}")).await.id),
        }
        if random.random_range(0..40) == 0 {
            let which = random.random_range(0..devices.len() - 1);
            devices[which].sync(&world, &ada, id).await;
        }
    }
    let mut history: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    let mut route = format!("GET /conversations/{id}/messages?limit=100");
    loop {
        let page = world.get(&ada, &route).await;
        for message in page["messages"].as_array().unwrap() {
            let message: Message = serde_json::from_value(message.clone()).unwrap();
            history.insert(message.seq, (message.change_seq, message.content));
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        route = format!("GET /conversations/{id}/messages?limit=100&cursor={cursor}");
    }
    assert_eq!(history.len(), mine.len());
    for device in &mut devices {
        device.sync(&world, &ada, id).await;
        assert_eq!(device.messages, history);
    }
    world.server.stop().await;
}
