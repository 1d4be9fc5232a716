//! `/conversations`: making, listing, keeping and leaving them, and who may.

mod create;
mod keep;
mod list;

use serde_json::{Value, json};
use urge::event::Origin;

use crate::support::{Human, People, failure};

const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";

/// Every call about one conversation.
const ONE: [&str; 11] = [
    "GET /conversations/ID",
    "DELETE /conversations/ID",
    "GET /conversations/ID/messages",
    "PUT /conversations/ID/read",
    "PUT /conversations/ID/archive",
    "PUT /conversations/ID/unarchive",
    "PUT /conversations/ID/mute",
    "PUT /conversations/ID/unmute",
    "PUT /conversations/ID/favorite",
    "DELETE /conversations/ID/clear",
    "GET /api/conversations/ID",
];

/// The ids of a list, in its order.
fn ids(page: &Value) -> Vec<String> {
    page["conversations"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn listed(world: &People, who: &Human) -> Vec<String> {
    ids(&world.get(who, "GET /conversations").await)
}

#[tokio::test]
async fn every_call_needs_a_login() {
    let world = People::start().await;
    let routes = ["GET /conversations", "POST /conversations", "GET /conversations/archived", "POST /sync"];
    for route in ONE.iter().chain(&routes) {
        let body = if route.starts_with("POST") { json!({}) } else { Value::Null };
        failure(world.send(&route.replace("ID", UNKNOWN), None, &body).await, 401, "unauthenticated").await;
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_conversation_is_its_participants_alone() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let direct = world.direct(&ada, &bob).await;
    let group = world.group(&ada, &[&bob], "Two").await;
    world.say(&ada, direct, "secret").await;
    for route in ONE {
        for id in [direct, group] {
            world.refused(&eve, &route.replace("ID", &id.to_string()), &Value::Null, 403, "forbidden").await;
        }
        world.refused(&eve, &route.replace("ID", UNKNOWN), &Value::Null, 404, "not_found").await;
    }
    assert_eq!(listed(&world, &eve).await, [""; 0]);
    world.server.stop().await;
}

#[tokio::test]
async fn who_left_or_was_removed_is_out() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let group = world.group(&ada, &[&bob, &eve], "Three").await;
    world.say(&ada, group, "hello").await;
    let conversations = &world.server.services.conversations;
    conversations.leave(bob.id, group, Origin::default()).await.unwrap();
    conversations.remove_member(ada.id, group, eve.id, Origin::default()).await.unwrap();
    for gone in [&bob, &eve] {
        for route in ONE {
            world.refused(gone, &route.replace("ID", &group.to_string()), &Value::Null, 403, "forbidden").await;
        }
        assert_eq!(listed(&world, gone).await, [""; 0]);
        assert_eq!(world.get(gone, "GET /conversations").await["total"], 0);
    }
    let left = world.get(&ada, &format!("GET /conversations/{group}")).await;
    assert_eq!(left["participantCount"], 1);
    assert_eq!(left["lastMessage"]["content"], "Ada removed Eve");
    assert_eq!(left["lastMessage"]["type"], "SYSTEM");
    assert_eq!(left["unreadCount"], 0);

    // Added again he sees what comes from then on.
    conversations.add_members(ada.id, group, &[bob.id], Origin::default()).await.unwrap();
    let history = world.get(&bob, &format!("GET /conversations/{group}/messages")).await;
    let contents: Vec<_> = history["messages"].as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["Ada added Bob"]);
    assert_eq!(history["total"], 1);
    assert_eq!(listed(&world, &bob).await, [group.to_string()]);
    world.server.stop().await;
}
