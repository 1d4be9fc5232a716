//! What a member does with a conversation for himself: flags, read, clear, delete.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::bus::{Bus, BusError, Subscription};
use urge::event::{Envelope, Origin};
use urge::id::{ConversationId, UserId};

use super::{ids, listed};
use crate::support::{Human, People, TestServer};

async fn history(world: &People, who: &Human, id: ConversationId) -> Vec<String> {
    let page = world.get(who, &format!("GET /conversations/{id}/messages")).await;
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(page["total"], json!(messages.len()));
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn flags_are_ones_own() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let put = async |path: &str, body: Value| world.call(&ada, &format!("PUT /conversations/{id}/{path}"), &body).await;
    let view = async |who: &Human| {
        let view = world.get(who, &format!("GET /conversations/{id}")).await;
        (view["isArchived"] == true, view["isMuted"] == true, view["isFavourite"] == true)
    };
    assert_eq!(view(&ada).await, (false, false, false));
    assert_eq!(put("archive", Value::Null).await["success"], true);
    assert_eq!(put("mute", Value::Null).await["success"], true);
    assert_eq!(put("favorite", Value::Null).await["is_favorite"], true);
    assert_eq!(view(&ada).await, (true, true, true));
    assert_eq!(view(&bob).await, (false, false, false));
    // Archived it is in the other list, and stays there when something is said.
    world.say(&bob, id, "psst").await;
    assert_eq!((listed(&world, &ada).await.len(), listed(&world, &bob).await.len()), (0, 1));
    let archived = world.get(&ada, "GET /conversations/archived").await;
    assert_eq!((ids(&archived), &archived["total"]), (vec![id.to_string()], &json!(1)));
    assert_eq!(archived["conversations"][0]["unread_count"], 1);
    put("unarchive", Value::Null).await;
    put("unmute", Value::Null).await;
    assert_eq!(put("favorite", Value::Null).await["is_favorite"], false);
    assert_eq!(view(&ada).await, (false, false, false));
    assert_eq!((listed(&world, &ada).await.len(), world.get(&ada, "GET /conversations/archived").await["total"].clone()), (1, json!(0)));
    // Said, it is set and not turned over; all spellings are understood.
    let spellings = [
        json!({"is_favorite": true}),
        json!({"isFavorite": true}),
        json!({"is_favorite": true, "isFavorite": false}),
        json!({"is_favourite": true}),
        json!({"isFavourite": true}),
        json!({"is_favorite": true, "isFavourite": false}),
    ];
    for body in spellings {
        assert_eq!(put("favorite", body).await["is_favorite"], true);
    }
    assert_eq!(put("favorite", json!({"is_favorite": null})).await["is_favorite"], false);
    let route = format!("PUT /conversations/{id}/favorite");
    let answer = world.refused(&ada, &route, &json!({"is_favorite": "yes"}), 422, "validation_error").await;
    assert_eq!(answer["detail"][0]["loc"], json!(["body", "is_favorite"]));
    world.server.stop().await;
}

#[tokio::test]
async fn flags_are_set_also_after_the_clock_was_put_back() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    for path in ["archive", "mute", "favorite"] {
        world.get(&ada, &format!("PUT /conversations/{id}/{path}")).await;
    }
    world.server.clock.rewind(std::time::Duration::from_hours(1));
    for path in ["unarchive", "unmute", "favorite"] {
        world.get(&ada, &format!("PUT /conversations/{id}/{path}")).await;
    }
    let view = world.get(&ada, &format!("GET /conversations/{id}")).await;
    assert_eq!((&view["isArchived"], &view["isMuted"], &view["isFavourite"]), (&json!(false), &json!(false), &json!(false)));
    let said = world.call(&ada, &format!("PUT /conversations/{id}/favorite"), &json!({"is_favorite": true})).await;
    assert_eq!(said["is_favorite"], true);
    assert_eq!(world.get(&ada, &format!("GET /conversations/{id}")).await["isFavourite"], true);
    world.server.stop().await;
}

#[tokio::test]
async fn each_of_many_turns_at_once_turns_the_favourite_over() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let route = format!("PUT /conversations/{id}/favorite");
    let answers = futures_util::future::join_all((0..10).map(|_| world.get(&ada, &route))).await;
    let on = answers.iter().filter(|answer| answer["is_favorite"] == true).count();
    assert_eq!(on, 5, "half of them turned it on");
    assert_eq!(world.get(&ada, &format!("GET /conversations/{id}")).await["isFavourite"], false);
    world.server.stop().await;
}

#[tokio::test]
async fn reading_empties_the_count() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    world.say(&bob, id, "one").await;
    let last = world.say(&bob, id, "two").await;
    let route = format!("GET /conversations/{id}");
    assert_eq!(world.get(&ada, &route).await["unreadCount"], 2);
    for _ in 0..2 {
        assert_eq!(world.get(&ada, &format!("PUT /conversations/{id}/read")).await["success"], true);
        let view = world.get(&ada, &route).await;
        assert_eq!((&view["unreadCount"], &view["readSeq"]), (&json!(0), &json!(last.seq)));
    }
    assert_eq!(world.get(&bob, &route).await["lastMessage"]["status"], "READ");
    world.say(&bob, id, "three").await;
    assert_eq!(world.get(&ada, &route).await["unreadCount"], 1);
    // Writing is reading.
    world.say(&ada, id, "four").await;
    assert_eq!(world.get(&ada, &route).await["unreadCount"], 0);
    world.server.stop().await;
}

#[tokio::test]
async fn clearing_is_for_oneself() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let old = world.say(&bob, id, "old").await;
    world.get(&ada, &format!("DELETE /conversations/{id}/clear")).await;
    let view = world.get(&ada, &format!("GET /conversations/{id}")).await;
    assert_eq!((&view["lastMessage"], &view["unreadCount"], &view["lastMessageAt"]), (&Value::Null, &json!(0), &Value::Null));
    assert_eq!(history(&world, &ada, id).await, [""; 0]);
    assert_eq!(history(&world, &bob, id).await, ["old"]);
    assert_eq!(listed(&world, &ada).await, [id.to_string()]);
    // An edit brings nothing back; the next message is there alone.
    world.edit(&bob, old.id, "old, edited").await;
    assert_eq!(history(&world, &ada, id).await, [""; 0]);
    world.say(&bob, id, "new").await;
    assert_eq!(history(&world, &ada, id).await, ["new"]);
    assert_eq!(history(&world, &bob, id).await, ["old, edited", "new"]);
    assert_eq!(world.get(&ada, &format!("GET /conversations/{id}")).await["unreadCount"], 1);
    world.server.stop().await;
}

#[tokio::test]
async fn a_deleted_conversation_comes_back_empty_with_the_next_message() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let direct = world.direct(&ada, &bob).await;
    let group = world.group(&eve, &[&ada], "Two").await;
    for (id, other) in [(direct, &bob), (group, &eve)] {
        let old = world.say(other, id, "old").await;
        assert_eq!(world.get(&ada, &format!("DELETE /conversations/{id}")).await["success"], true);
        assert!(!listed(&world, &ada).await.contains(&id.to_string()));
        assert!(listed(&world, other).await.contains(&id.to_string()));
        // It is still his to see, and an edit is no message.
        assert_eq!(world.get(&ada, &format!("GET /conversations/{id}")).await["lastMessage"], Value::Null);
        world.edit(other, old.id, "edited").await;
        assert!(!listed(&world, &ada).await.contains(&id.to_string()));
        world.say(other, id, "new").await;
        assert!(listed(&world, &ada).await.contains(&id.to_string()));
        assert_eq!(history(&world, &ada, id).await, ["new"]);
        assert_eq!(history(&world, other, id).await, ["edited", "new"]);
    }
    assert_eq!(world.get(&ada, &format!("GET /conversations/{group}")).await["participantCount"], 2);
    world.server.stop().await;
}

/// Keeps what would go out.
#[derive(Default)]
struct Recorder(Mutex<Vec<Envelope>>);

#[async_trait]
impl Bus for Recorder {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        self.0.lock().push(envelope);
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        tokio::sync::mpsc::channel(1).1
    }

    fn is_up(&self) -> bool {
        true
    }
}

impl Recorder {
    /// Whose devices were told, and whether the one that made the change was left out.
    fn refreshed(&self) -> Vec<(UserId, ConversationId, bool)> {
        let refresh = |envelope: Envelope| match envelope {
            Envelope::Refresh { user_id, conversation_id, origin } => Some((user_id, conversation_id, origin != Origin::default())),
            _ => None,
        };
        std::mem::take(&mut *self.0.lock()).into_iter().filter_map(refresh).collect()
    }
}

#[tokio::test]
async fn ones_other_devices_hear_of_every_change() {
    let bus = Arc::new(Recorder::default());
    let shared = bus.clone();
    let folder = Arc::new(TempDir::new().unwrap());
    // What one node gives to the bus.
    let server = TestServer::alone_on(folder, |_| {}, move |backends| urge::app::Backends { bus: shared, ..backends }).await;
    let world = People::of(server);
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    world.say(&bob, id, "hi").await;
    bus.refreshed();
    for route in [
        "PUT ID/archive",
        "PUT ID/unarchive",
        "PUT ID/mute",
        "PUT ID/unmute",
        "PUT ID/favorite",
        "PUT ID/read",
        "DELETE ID/clear",
        "DELETE ID",
    ] {
        world.get(&ada, &route.replace("ID", &format!("/conversations/{id}"))).await;
        assert_eq!(bus.refreshed(), [(ada.id, id, true)], "{route}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn what_one_removed_from_ones_view_is_not_unread() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let first = world.say(&bob, id, "first").await;
    world.get(&ada, &format!("PUT /conversations/{id}/read")).await;
    let second = world.say(&bob, id, "second").await;
    world.say(&bob, id, "third").await;
    let unread = async || {
        let one = world.get(&ada, &format!("GET /conversations/{id}")).await["unreadCount"].clone();
        let page = world.get(&ada, "GET /conversations").await;
        let synced = world.call(&ada, "POST /sync", &json!({"known": {}})).await;
        assert_eq!(page["conversations"][0]["unreadCount"], one);
        assert_eq!(page["conversations"][0]["unread_count"], one);
        assert_eq!(synced["conversations"][0]["unreadCount"], one);
        assert_eq!(synced["conversations"][0]["conversation"]["unreadCount"], one);
        one
    };
    assert_eq!(unread().await, 2);
    // What he had read already makes no difference; what he had not does, once.
    for message in [&first, &second, &second] {
        world.get(&ada, &format!("DELETE /messages/{}?scope=me", message.id)).await;
    }
    assert_eq!(unread().await, 1);
    world.get(&ada, &format!("PUT /conversations/{id}/read")).await;
    assert_eq!(unread().await, 0);
    world.say(&bob, id, "fourth").await;
    assert_eq!(unread().await, 1);
    world.server.stop().await;
}
