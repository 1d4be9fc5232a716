//! GET /conversations: order, pages, what each one shows.

use serde_json::{Value, json};
use urge::event::Origin;

use super::{ids, listed};
use crate::support::{People, TestServer};

#[tokio::test]
async fn the_newest_activity_comes_first() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let tick = || world.server.clock.advance(std::time::Duration::from_secs(1));
    let with_bob = world.direct(&ada, &bob).await.to_string();
    tick();
    let with_eve = world.direct(&ada, &eve).await.to_string();
    tick();
    assert_eq!(listed(&world, &ada).await, [with_eve.clone(), with_bob.clone()]);
    let message = world.say(&bob, with_bob.parse().unwrap(), "hi").await;
    tick();
    assert_eq!(listed(&world, &ada).await, [with_bob.clone(), with_eve.clone()]);
    world.say(&ada, with_eve.parse().unwrap(), "hey").await;
    tick();
    assert_eq!(listed(&world, &ada).await, [with_eve.clone(), with_bob.clone()]);
    // An edit is no activity, and a favourite stays in its place.
    world.edit(&bob, message.id, "hi!").await;
    world.get(&ada, &format!("PUT /conversations/{with_bob}/favorite")).await;
    assert_eq!(listed(&world, &ada).await, [with_eve, with_bob]);
    world.server.stop().await;
}

#[tokio::test]
async fn each_one_shows_its_last_message_in_both_spellings() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    world.say(&bob, id, "one").await;
    let last = world.say(&bob, id, "two").await;
    let page = world.get(&ada, "GET /conversations").await;
    assert_eq!((&page["total"], &page["limit"], &page["offset"], &page["next_cursor"]), (&json!(1), &json!(50), &json!(0), &Value::Null));
    let one = &page["conversations"][0];
    assert_eq!((&one["unreadCount"], &one["unread_count"], &one["lastSeq"], &one["readSeq"]), (&json!(2), &json!(2), &json!(3), &json!(0)));
    assert_eq!((&one["lastMessage"]["id"], &one["last_message"]["id"]), (&json!(last.id), &json!(last.id)));
    assert_eq!((&one["lastMessage"]["senderName"], &one["last_message"]["sender_name"]), (&json!("Bob"), &json!("Bob")));
    assert_eq!(one["last_message"]["conversation_id"], json!(id));
    assert_eq!((&one["lastMessageAt"], one.get("avatar_url")), (&one["lastMessage"]["createdAt"], Some(&Value::Null)));
    assert!(one["last_message"].get("senderName").is_none());
    // For the sender nothing is unread.
    assert_eq!(world.get(&bob, "GET /conversations").await["conversations"][0]["unreadCount"], 0);
    // The single view speaks camelCase alone.
    let single = world.get(&ada, &format!("GET /conversations/{id}")).await;
    assert!(single.get("last_message").is_none() && single.get("unread_count").is_none());

    // Taken back for everyone it stays the last one; removed from one's own view the one before it shows.
    world.unsay(&bob, last.id).await;
    let single = world.get(&ada, &format!("GET /conversations/{id}")).await;
    assert_eq!(
        (&single["lastMessage"]["content"], &single["lastMessage"]["isDeleted"]),
        (&json!("This message was deleted"), &json!(true))
    );
    world.server.services.messages.delete(ada.id, last.id, None, Origin::default()).await.unwrap();
    let single = world.get(&ada, &format!("GET /conversations/{id}")).await;
    assert_eq!(single["lastMessage"]["content"], "one");
    assert_eq!(world.get(&bob, &format!("GET /conversations/{id}")).await["lastMessage"]["id"], json!(last.id));
    world.server.stop().await;
}

#[tokio::test]
async fn pages_by_offset_and_by_cursor_hold_everything_once() {
    let world = People::start().await;
    let ada = world.person("Ada").await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.insert(0, world.group(&ada, &[], &format!("Group {n}")).await.to_string());
        // Two of the same millisecond come in one order too.
        if n % 2 == 0 {
            world.server.clock.advance(std::time::Duration::from_secs(1));
        }
    }
    let all = listed(&world, &ada).await;
    let sorted = |mut ids: Vec<String>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(all.clone()), sorted(expected));
    let mut by_offset = Vec::new();
    for offset in (0..9).step_by(3) {
        let page = world.get(&ada, &format!("GET /conversations?limit=3&offset={offset}")).await;
        assert_eq!((&page["total"], &page["limit"], &page["offset"]), (&json!(7), &json!(3), &json!(offset)));
        by_offset.extend(ids(&page));
    }
    assert_eq!(by_offset, all);
    let (mut by_cursor, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&ada, &format!("GET /conversations?limit=2&cursor={cursor}")).await;
        assert_eq!(page["total"], 7);
        by_cursor.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(by_cursor, all);
    // Limits are clamped, offsets end somewhere, foreign cursors are refused.
    let page = world.get(&ada, "GET /conversations?limit=100000&offset=-4").await;
    assert_eq!((&page["limit"], &page["offset"], ids(&page).len()), (&json!(100), &json!(0), 7));
    assert_eq!(ids(&world.get(&ada, "GET /conversations?limit=0").await).len(), 1);
    assert_eq!(ids(&world.get(&ada, "GET /conversations?offset=5000").await).len(), 0);
    for route in ["GET /conversations?cursor=abc", "GET /conversations/archived?cursor=abc", "GET /conversations?limit=many"] {
        world.refused(&ada, route, &Value::Null, 422, "validation_error").await;
    }
    let first = world.get(&ada, "GET /conversations?limit=2").await;
    let foreign = format!("GET /conversations/archived?cursor={}", first["next_cursor"].as_str().unwrap());
    world.refused(&ada, &foreign, &Value::Null, 422, "validation_error").await;
    world.server.stop().await;
}

#[tokio::test]
async fn archived_ones_are_paged_by_cursor_like_the_list() {
    let world = People::start().await;
    let ada = world.person("Ada").await;
    for n in 0..9 {
        let id = world.group(&ada, &[], &format!("Group {n}")).await;
        if n % 3 > 0 {
            world.get(&ada, &format!("PUT /conversations/{id}/archive")).await;
        }
    }
    let all = world.get(&ada, "GET /conversations/archived").await;
    assert_eq!((&all["total"], ids(&all).len(), &all["next_cursor"]), (&json!(6), 6, &Value::Null));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&ada, &format!("GET /conversations/archived?limit=4{cursor}")).await;
        assert_eq!((&page["total"], &page["limit"]), (&json!(6), &json!(4)));
        paged.push(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((paged.iter().map(Vec::len).collect::<Vec<_>>(), paged.concat()), (vec![4, 2], ids(&all)));
    // The two lists share nothing, and their cursors are not each other's.
    assert!(!listed(&world, &ada).await.iter().any(|id| paged.concat().contains(id)));
    let foreign = format!("GET /conversations?limit=4{cursor}");
    world.refused(&ada, &foreign, &Value::Null, 422, "validation_error").await;
    world.server.stop().await;
}

#[tokio::test]
async fn people_show_what_they_want_to_show() {
    // One node is told by hand who is there and who types.
    let world = People::of(TestServer::alone(|_| {}).await);
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    world.call(&bob, "PUT /auth/profile", &json!({"avatar_url": "https://example.org/b.png"})).await;
    let id = world.direct(&ada, &bob).await;
    let services = &world.server.services;
    services.online.came(bob.id);
    services.typing.set(id, bob.id, true);
    let route = format!("GET /conversations/{id}");
    let bob_of = |view: &Value| view["participants"].as_array().unwrap().iter().find(|one| one["id"] == json!(bob.id)).unwrap().clone();
    let view = world.get(&ada, &route).await;
    assert_eq!(
        (&view["avatar"], &view["isTyping"], &view["typingUsers"]),
        (&json!("https://example.org/b.png"), &json!(true), &json!([bob.id]))
    );
    assert_eq!((&bob_of(&view)["is_online"], &bob_of(&view)["avatar_url"]), (&json!(true), &json!("https://example.org/b.png")));
    assert_eq!(world.get(&bob, &route).await["isTyping"], false);
    services.typing.set(id, bob.id, false);
    world.call(&bob, "PUT /settings/privacy", &json!({"show_online_status": false, "show_profile_photo": false})).await;
    let view = world.get(&ada, &route).await;
    assert_eq!((&view["avatar"], &view["isTyping"]), (&Value::Null, &json!(false)));
    assert_eq!((&bob_of(&view)["is_online"], &bob_of(&view)["avatar_url"]), (&json!(false), &Value::Null));
    world.call(&bob, "PUT /settings/privacy", &json!({"show_online_status": true, "show_profile_photo": true})).await;
    world.call(&bob, &format!("POST /settings/privacy/block/{}", ada.id), &json!({})).await;
    let view = world.get(&ada, &route).await;
    assert_eq!((&view["avatar"], &bob_of(&view)["is_online"]), (&Value::Null, &json!(false)));
    world.server.stop().await;
}
