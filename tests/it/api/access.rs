//! Who may do what with what he once could see: after leaving or being removed, after clearing, where only admins write.

use std::sync::Arc;

use serde_json::{Value, json};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId};
use urge::log::{Body, ProfileChange, Proposal, Role};

use crate::support::document::{Operation, operations};
use crate::support::{Human, People, failure};

/// The calls below this path that name one thing there.
fn about_one(prefix: &str) -> Vec<Operation> {
    operations().into_iter().filter(|call| call.path.starts_with(prefix) && !call.path_parameters.is_empty()).collect()
}

/// A body with which the call is allowed to whom it is allowed.
fn body(call: &Operation) -> Value {
    match call.id.as_str() {
        "edit_message" => json!({"content": "changed"}),
        "update_message_status" => json!({"status": "READ"}),
        _ => Value::Null,
    }
}

async fn refused(people: &People, who: &Human, route: &str, body: &Value, status: u16, code: &str) {
    let response = people.send(route, Some(&who.token), body).await;
    assert_eq!(response.status(), status, "{} {route} {body}", who.name);
    failure(response, status, code).await;
}

#[tokio::test]
async fn who_left_or_was_removed_may_do_nothing_with_what_is_there() {
    let people = People::start().await;
    let (ada, bob, eve) = (people.person("Ada").await, people.person("Bob").await, people.person("Eve").await);
    let group = people.group(&ada, &[&bob, &eve], "Three").await;
    let direct = [people.direct(&bob, &ada).await, people.direct(&eve, &ada).await];
    let theirs = people.say(&ada, group, "hello").await.id;
    let own = [people.say(&bob, group, "bobs").await.id, people.say(&eve, group, "eves").await.id];
    for (who, own) in [(&bob, own[0]), (&eve, own[1])] {
        for id in [theirs, own] {
            people.get(who, &format!("POST /messages/{id}/star")).await;
        }
    }
    let services = &people.server.services;
    services.conversations.leave(bob.id, group, Origin::default()).await.unwrap();
    services.conversations.remove_member(ada.id, group, eve.id, Origin::default()).await.unwrap();

    for (who, own, direct) in [(&bob, own[0], direct[0]), (&eve, own[1], direct[1])] {
        for call in about_one("/conversations/") {
            refused(&people, who, &call.with_id(&group.to_string()), &body(&call), 403, "forbidden").await;
        }
        for id in [theirs, own] {
            for call in about_one("/messages/") {
                refused(&people, who, &call.with_id(&id.to_string()), &body(&call), 403, "forbidden").await;
            }
            refused(&people, who, "POST /messages/read", &json!({"message_ids": [id]}), 403, "forbidden").await;
            let forward = json!({"message_ids": [id], "conversation_id": direct});
            refused(&people, who, "POST /messages/forward", &forward, 403, "forbidden").await;
            let reply = json!({"conversation_id": direct, "content": "x", "reply_to_id": id});
            refused(&people, who, "POST /messages", &reply, 422, "validation_error").await;
        }
        let words = people.say(who, direct, "mine to forward").await.id;
        refused(&people, who, "POST /messages", &json!({"conversation_id": group, "content": "x"}), 403, "forbidden").await;
        let forward = json!({"message_ids": [words], "conversation_ids": [direct, group]});
        refused(&people, who, "POST /messages/forward", &forward, 403, "forbidden").await;
        refused(&people, who, &format!("GET /messages/search?q=hello&conversation_id={group}"), &Value::Null, 403, "forbidden").await;
        assert_eq!(people.get(who, "GET /messages/search?q=hello").await["total"], 0);
        assert_eq!(people.get(who, "GET /messages/starred").await["total"], 0);
        assert_eq!(people.get(who, &format!("GET /conversations/{direct}/messages")).await["total"], 1, "nothing was forwarded");
    }
    // Nothing of it has changed anything for who is still there.
    for (id, content) in [(theirs, "hello"), (own[0], "bobs"), (own[1], "eves")] {
        let message = people.get(&ada, &format!("GET /messages/{id}")).await;
        assert_eq!((&message["content"], &message["isEdited"], &message["isDeleted"]), (&json!(content), &json!(false), &json!(false)));
    }
    people.server.stop().await;
}

/// What can be done with a message that the caller has cleared: nothing that shows or changes it.
async fn is_gone(people: &People, who: &Human, id: MessageId, conversation: ConversationId) {
    for call in about_one("/messages/") {
        let route = call.with_id(&id.to_string());
        match call.id.as_str() {
            // There is nothing to be done, and it is not there: as good as done.
            "unstar_message" => drop(people.get(who, &route).await),
            "delete_message" => {
                refused(people, who, &format!("{route}?scope=everyone"), &Value::Null, 404, "not_found").await;
                people.get(who, &format!("{route}?scope=me")).await;
            }
            "update_message_status" => {
                for status in ["SENT", "DELIVERED", "READ"] {
                    refused(people, who, &route, &json!({"status": status}), 404, "not_found").await;
                }
            }
            _ => refused(people, who, &route, &body(&call), 404, "not_found").await,
        }
    }
    refused(people, who, "POST /messages/read", &json!({"message_ids": [id]}), 404, "not_found").await;
    let forward = json!({"message_ids": [id], "conversation_id": conversation});
    refused(people, who, "POST /messages/forward", &forward, 403, "forbidden").await;
    let reply = json!({"conversation_id": conversation, "content": "x", "reply_to_id": id});
    refused(people, who, "POST /messages", &reply, 422, "validation_error").await;
}

#[tokio::test]
async fn what_was_cleared_with_or_without_its_conversation_is_gone_for_every_call() {
    let people = People::start().await;
    let (ada, bob) = (people.person("Ada").await, people.person("Bob").await);
    for how in ["/clear", ""] {
        for id in [people.direct(&ada, &bob).await, people.group(&ada, &[&bob], "Two").await] {
            let (theirs, own) = (people.say(&ada, id, "hers").await.id, people.say(&bob, id, "his").await.id);
            for message in [theirs, own] {
                people.get(&bob, &format!("POST /messages/{message}/star")).await;
            }
            people.get(&bob, &format!("DELETE /conversations/{id}{how}")).await;
            is_gone(&people, &bob, theirs, id).await;
            is_gone(&people, &bob, own, id).await;
            assert_eq!(people.get(&bob, "GET /messages/starred").await["total"], 0);
            // What one wrote oneself is not taken back by a call that cannot see it.
            for (message, content) in [(theirs, "hers"), (own, "his")] {
                let still = people.get(&ada, &format!("GET /messages/{message}")).await;
                assert_eq!((&still["content"], &still["isDeleted"], &still["status"] != "READ"), (&json!(content), &json!(false), true));
            }
            // What comes next is all that there is.
            let next = people.say(&ada, id, "next").await.id;
            let history = people.get(&bob, &format!("GET /conversations/{id}/messages")).await;
            assert_eq!((&history["total"], &history["messages"][0]["id"]), (&json!(1), &json!(next)));
            is_gone(&people, &bob, theirs, id).await;
        }
    }
    people.server.stop().await;
}

/// From now on only admins write in this group: a row of its log, as the calls that manage groups will write it.
async fn only_admins_may_post(people: &People, founder: &Human, group: ConversationId) {
    let appender = &people.server.services.appender;
    let mut profile = appender.state(group).await.unwrap().record().unwrap().profile.clone();
    profile.rules.only_admins_can_post = true;
    let proposal = Proposal {
        conversation_id: group,
        message_id: MessageId::fresh(),
        may_exist: false,
        sender_id: founder.id,
        body: Body::Profile(ProfileChange { profile, text: "only admins may write from now on".to_owned() }),
        permit: Arc::new(|_| Ok(())),
        origin: Origin::default(),
        posted: false,
    };
    appender.append(proposal).await.unwrap();
}

#[tokio::test]
async fn where_only_admins_may_write_nobody_else_does_by_any_call() {
    let people = People::start().await;
    let (ada, bob, eve) = (people.person("Ada").await, people.person("Bob").await, people.person("Eve").await);
    let group = people.group(&ada, &[&bob, &eve], "News").await;
    let old = people.say(&eve, group, "before").await.id;
    let services = &people.server.services;
    services.conversations.change_role(ada.id, group, bob.id, Role::Cheerleader, Origin::default()).await.unwrap();
    only_admins_may_post(&people, &ada, group).await;

    let send = json!({"conversation_id": group, "content": "news"});
    for admin in [&ada, &bob] {
        people.call(admin, "POST /messages", &send).await;
    }
    refused(&people, &eve, "POST /messages", &send, 403, "forbidden").await;
    let direct = people.direct(&eve, &ada).await;
    let words = people.say(&eve, direct, "words").await.id;
    let forward = json!({"message_ids": [words], "conversation_ids": [direct, group]});
    refused(&people, &eve, "POST /messages/forward", &forward, 403, "forbidden").await;
    // Reading, marking, mending and taking back go on.
    let mended = people.call(&eve, &format!("PUT /messages/{old}"), &json!({"content": "mended"})).await;
    assert_eq!(mended["content"], "mended");
    assert_eq!(people.get(&eve, &format!("GET /conversations/{group}/messages")).await["total"], 5, "two are of the system");
    people.get(&eve, &format!("PUT /conversations/{group}/read")).await;
    people.get(&eve, &format!("POST /messages/{old}/star")).await;
    people.get(&eve, &format!("DELETE /messages/{old}")).await;
    assert_eq!(people.get(&ada, &format!("GET /messages/{old}")).await["isDeleted"], true);
    people.server.stop().await;
}
