//! POST /conversations.

use serde_json::{Value, json};
use urge::event::Origin;
use urge::users::{NewUser, Registered};

use super::{UNKNOWN, ids, listed};
use crate::support::People;

#[tokio::test]
async fn a_direct_conversation_is_the_same_for_both() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let made = world.call(&ada, "POST /conversations", &json!({"type": "DIRECT", "participant_ids": [bob.id]})).await;
    let fields = [
        "id",
        "type",
        "name",
        "avatar",
        "avatarUrl",
        "description",
        "participants",
        "participantCount",
        "lastMessage",
        "lastMessageAt",
        "lastSeq",
        "readSeq",
        "unreadCount",
        "isTyping",
        "typingUsers",
        "isFavourite",
        "isMuted",
        "isArchived",
        "createdAt",
        "updatedAt",
    ];
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    assert_eq!(made.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!((&made["type"], &made["name"], &made["lastMessage"]), (&json!("DIRECT"), &json!("Bob"), &Value::Null));
    assert_eq!((&made["participantCount"], &made["unreadCount"], &made["isTyping"]), (&json!(2), &json!(0), &json!(false)));
    let mut names: Vec<_> = made["participants"].as_array().unwrap().iter().map(|one| one["display_name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Ada", "Bob"]);
    let other = made["participants"].as_array().unwrap().iter().find(|one| one["id"] == json!(bob.id)).unwrap();
    assert_eq!((&other["phone_number"], &other["role"], &other["is_online"]), (&json!(bob.phone), &json!("MEMBER"), &json!(false)));

    // In both lists at once, called by the other's name.
    assert_eq!(listed(&world, &ada).await, listed(&world, &bob).await);
    let his = world.get(&bob, &format!("GET /conversations/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(his["name"], "Ada");

    // Again, by either, with the caller named or not and the other named twice: the same one.
    let again = json!({"type": "DIRECT", "participantIds": [ada.id, bob.id, bob.id]});
    assert_eq!(world.call(&ada, "POST /conversations", &again).await["id"], made["id"]);
    assert_eq!(world.call(&bob, "POST /conversations", &again).await["id"], made["id"]);
    assert_eq!(world.get(&ada, "GET /conversations").await["total"], 1);
    world.server.stop().await;
}

#[tokio::test]
async fn two_who_write_to_each_other_at_once_share_one() {
    let world = People::start().await;
    for round in 0..10 {
        let (ada, bob) = (world.person(&format!("Ada {round}")).await, world.person(&format!("Bob {round}")).await);
        let to = |human: &crate::support::Human| json!({"type": "DIRECT", "participant_ids": [human.id]});
        let (to_ada, to_bob) = (to(&ada), to(&bob));
        let (a, b, c) = tokio::join!(
            world.call(&ada, "POST /conversations", &to_bob),
            world.call(&bob, "POST /conversations", &to_ada),
            world.call(&ada, "POST /conversations", &to_bob),
        );
        assert_eq!((&a["id"], &b["id"]), (&b["id"], &c["id"]));
        assert_eq!((&a["lastSeq"], &b["lastSeq"]), (&json!(1), &json!(1)));
        assert_eq!(listed(&world, &ada).await, listed(&world, &bob).await);
    }
    world.server.stop().await;
}

#[tokio::test]
async fn whom_one_can_write_to() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let direct = |participants: Value| json!({"type": "DIRECT", "participant_ids": participants});
    world.refused(&ada, "POST /conversations", &direct(json!([ada.id])), 400, "bad_request").await;
    world.refused(&ada, "POST /conversations", &direct(json!([UNKNOWN])), 404, "not_found").await;
    world.refused(&ada, "POST /conversations", &direct(json!([])), 422, "validation_error").await;
    world.refused(&ada, "POST /conversations", &direct(json!([bob.id, UNKNOWN])), 422, "validation_error").await;
    let group = json!({"type": "GROUP", "participant_ids": [bob.id, UNKNOWN], "name": "Some"});
    world.refused(&ada, "POST /conversations", &group, 404, "not_found").await;

    world.call(&bob, &format!("POST /settings/privacy/block/{}", ada.id), &json!({})).await;
    world.refused(&ada, "POST /conversations", &direct(json!([bob.id])), 403, "forbidden").await;
    world.refused(&bob, "POST /conversations", &direct(json!([ada.id])), 403, "forbidden").await;
    let group = json!({"type": "GROUP", "participant_ids": [bob.id], "name": "Some"});
    world.refused(&ada, "POST /conversations", &group, 403, "forbidden").await;
    world.get(&bob, &format!("DELETE /settings/privacy/unblock/{}", ada.id)).await;
    let there = world.direct(&ada, &bob).await;

    // What is there already stays theirs: the block stands against writing in it.
    world.call(&bob, &format!("POST /settings/privacy/block/{}", ada.id), &json!({})).await;
    assert_eq!(world.direct(&ada, &bob).await, there);
    assert_eq!(world.direct(&bob, &ada).await, there);
    let message = json!({"conversation_id": there, "content": "hello"});
    world.refused(&ada, "POST /messages", &message, 403, "forbidden").await;
    world.server.stop().await;
}

#[tokio::test]
async fn a_group_has_a_name_and_a_founder() {
    let world = People::start().await;
    let (ada, bob, eve) = (world.person("Ada").await, world.person("Bob").await, world.person("Eve").await);
    let command = json!({
        "type": "GROUP", "participant_ids": [eve.id, bob.id, ada.id, bob.id],
        "name": "  Analytical\u{202e} \t engineers ", "avatarUrl": "https://example.org/g.png", "unknown": 1,
    });
    let made = world.call(&ada, "POST /conversations", &command).await;
    assert_eq!((&made["type"], &made["name"]), (&json!("GROUP"), &json!("Analytical engineers")));
    assert_eq!((&made["avatar"], &made["avatarUrl"]), (&json!("https://example.org/g.png"), &json!("https://example.org/g.png")));
    assert_eq!(made["participantCount"], 3);
    let first = &made["participants"][0];
    assert_eq!((&first["id"], &first["role"]), (&json!(ada.id), &json!("FOUNDER")));
    assert_eq!((&made["participants"][1]["role"], &made["participants"][2]["role"]), (&json!("MEMBER"), &json!("MEMBER")));
    for member in [&ada, &bob, &eve] {
        let page = world.get(member, "GET /conversations").await;
        assert_eq!(ids(&page), [made["id"].as_str().unwrap()]);
        assert_eq!(page["conversations"][0]["lastMessage"], Value::Null);
    }
    // A picture that lies on the phone is left out, and the same group twice is two groups.
    let local = json!({"type": "GROUP", "participant_ids": [bob.id], "name": "x", "avatar_url": "file:///a.png"});
    let (one, two) = (world.call(&ada, "POST /conversations", &local).await, world.call(&ada, "POST /conversations", &local).await);
    assert_eq!(one["avatarUrl"], Value::Null);
    assert_ne!(one["id"], two["id"]);
    world.server.stop().await;
}

#[tokio::test]
async fn who_is_let_in_is_shown_the_conversation_as_it_was_then() {
    let world = People::start().await;
    let (ada, bob, cy) = (world.person("Ada").await, world.person("Bob").await, world.person("Cy").await);
    let made = world.call(&ada, "POST /conversations", &json!({"type": "GROUP", "participant_ids": [bob.id], "name": "Club"})).await;
    let club = made["id"].as_str().unwrap().parse().unwrap();
    world.say(&ada, club, "before Cy").await;
    let conversations = &world.server.services.conversations;
    assert_eq!(conversations.add_members(ada.id, club, &[cy.id], Origin::default()).await.unwrap(), 1);
    let then = conversations.view_for(cy.id, club).await.unwrap();
    assert_eq!((then.unread_count, then.participant_count), (0, 3));
    world.say(&ada, club, "after he came").await;
    assert_eq!(conversations.view_for(cy.id, club).await.unwrap().unread_count, 1);
    // He is told of what was said after it by itself, and counts that: it must not be in here too.
    assert_eq!(conversations.view_upto(cy.id, club, Some(then.last_seq)).await.unwrap(), then);
    world.server.stop().await;
}

#[tokio::test]
async fn a_thousand_people_are_a_group_and_one_more_are_too_many() {
    let world = People::start().await;
    let ada = world.person("Ada").await;
    let register = async |n: u32| {
        let phone = urge::phone::Phone::parse("phone_number", &format!("+12025{:06}", 560_000 + n), None).unwrap();
        let new = NewUser { phone, display_name: Some(format!("P{n}")), email: None, password_hash: None, is_verified: true };
        match world.server.services.users.register(new).await.unwrap() {
            Registered::New(record) => record.id,
            Registered::Taken(_) => panic!("the number was taken"),
        }
    };
    let others = futures_util::future::join_all((0..1_001).map(register)).await;
    let too_many = json!({"type": "GROUP", "participant_ids": others, "name": "All"});
    world.refused(&ada, "POST /conversations", &too_many, 422, "validation_error").await;
    let all = json!({"type": "GROUP", "participant_ids": others[..1_000], "name": "All"});
    let made = world.call(&ada, "POST /conversations", &all).await;
    assert_eq!(made["participantCount"], 1_001);
    assert_eq!(made["participants"].as_array().unwrap().len(), 50);
    assert_eq!(made["participants"][0]["id"], json!(ada.id));

    // No membership carries the head of a large group: what is said shows in the others' lists all the same.
    let conversation = made["id"].as_str().unwrap().parse().unwrap();
    let said = world.say(&ada, conversation, "hello, everybody").await;
    let services = &world.server.services;
    let view = services.conversations.view_for(others[999], conversation).await.unwrap();
    assert_eq!((view.unread_count, view.last_message.map(|message| message.id)), (1, Some(said.id)));
    let page = urge::page::Page::new(None, None, None);
    let listed = services.conversations.list(others[0], false, &page).await.unwrap();
    assert_eq!((listed.total, listed.conversations[0].unread_count, listed.conversations[0].last_seq), (1, 1, 2));
    assert_eq!(listed.conversations[0].participants.len(), 8);
    world.server.stop().await;
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let long = "x".repeat(101);
    let cases = [
        (json!({"participant_ids": [bob.id]}), "type"),
        (json!({"type": null, "participant_ids": [bob.id]}), "type"),
        (json!({"type": "CHANNEL", "participant_ids": [bob.id]}), "type"),
        (json!({"type": 1, "participant_ids": [bob.id]}), "type"),
        (json!({"type": "DIRECT"}), "participant_ids"),
        (json!({"type": "DIRECT", "participant_ids": null}), "participant_ids"),
        (json!({"type": "DIRECT", "participant_ids": "x"}), "participant_ids"),
        (json!({"type": "DIRECT", "participant_ids": ["x"]}), "participant_ids"),
        (json!({"type": "DIRECT", "participant_ids": [7]}), "participant_ids"),
        (json!({"type": "GROUP", "participant_ids": [bob.id]}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": null}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": 5}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": ""}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": " \u{200b}\u{202e}\t"}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": "a\u{0}b"}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": long}), "name"),
        (json!({"type": "GROUP", "participant_ids": [bob.id], "name": "x", "avatar_url": 5}), "avatar_url"),
    ];
    for (body, field) in cases {
        let answer = world.refused(&ada, "POST /conversations", &body, 422, "validation_error").await;
        assert_eq!(answer["detail"][0]["loc"][1], field, "{body}");
    }
    let not_json = world.server.request(reqwest::Method::POST, "/conversations").bearer_auth(&ada.token);
    let response = not_json.header("content-type", "application/json").body("{\"type\":").send().await.unwrap();
    crate::support::failure(response, 400, "bad_request").await;
    let emoji = json!({"type": "GROUP", "participant_ids": [], "name": "👩‍💻".repeat(30)});
    assert_eq!(world.call(&ada, "POST /conversations", &emoji).await["participantCount"], 1);
    assert_eq!(world.get(&ada, "GET /conversations").await["total"], 1);
    world.server.stop().await;
}
