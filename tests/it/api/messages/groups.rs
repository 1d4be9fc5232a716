//! Messages in groups whose members come, go and are ruled; there is no call for that yet, so rows of the log say it.

use std::sync::Arc;

use loadtest::Door;
use serde_json::{Value, json};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId, UserId};
use urge::log::{Body, GroupRules, MemberState, MembersChange, Profile, ProfileChange, Proposal, Role};

use crate::support::{PATIENCE, Person, TestServer, World, id};

/// Appends a row that nobody could refuse.
async fn append(server: &TestServer, place: &str, sender: &Person, body: Body) {
    let proposal = Proposal {
        conversation_id: place.parse().unwrap(),
        message_id: MessageId::fresh(),
        may_exist: false,
        sender_id: sender.id().parse().unwrap(),
        body,
        permit: Arc::new(|_| Ok(())),
        origin: Origin::default(),
        posted: false,
    };
    assert!(server.services.appender.append(proposal).await.unwrap().fresh);
}

#[tokio::test]
async fn those_who_have_gone_keep_no_message_from_turning() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let (ann, ben, cat) = (world.person("Ann").await, world.person("Ben").await, world.person("Cat").await);
    let place = world.group(&ann, "Door", &[&ben, &cat]).await;
    // More than are read at a time, and before the others in the order of ids.
    for part in 0..6 {
        let passing: Vec<_> = (1..=50).map(|n| UserId(uuid::Uuid::from_u128(part * 50 + n))).collect();
        for state in [MemberState::Active, MemberState::Left] {
            let members = passing.iter().map(|user| (*user, state, Role::Member)).collect();
            append(&server, &place, &ann, Body::Members(MembersChange { members, text: "passing".into() })).await;
        }
    }
    let mut socket = ann.connect(Door::WebSocket).await;
    let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
    let status = async || ann.rest.message(&id(&sent)).await.unwrap()["status"].clone();
    ben.rest.read_conversation(&place).await.unwrap();
    assert_eq!(status().await, "SENT", "Cat has not got it");
    cat.rest.read_conversation(&place).await.unwrap();
    assert_eq!(socket.next_event("message:read", PATIENCE).await.unwrap()["messageId"], sent["id"]);
    assert_eq!(status().await, "READ");
    let synced = ann.rest.sync(&json!({ &place: 0 }), None).await.unwrap();
    assert_eq!(synced["conversations"][0]["peerReadSeq"], sent["seq"]);
    drop((socket, world));
    server.stop().await;
}

#[tokio::test]
async fn the_rule_of_who_may_write_does_not_hold_for_edits() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.group(&ann, "Lectern", &[&ben]).await;
    let sent = ben.rest.send_text(&place, "hullo", None).await.unwrap();
    let rules = GroupRules { only_admins_can_post: true, ..GroupRules::default() };
    let profile = Profile { name: Some("Lectern".into()), rules, ..Profile::default() };
    append(&server, &place, &ann, Body::Profile(ProfileChange { profile, text: "only admins".into() })).await;
    assert_eq!(ben.rest.send_text(&place, "more", None).await.unwrap_err().status(), 403);
    assert_eq!(ben.rest.edit(&id(&sent), "hello").await.unwrap()["content"], "hello");
    // A block does: what is edited reaches the other anew.
    let direct = world.direct(&ann, &ben).await;
    let sent = ben.rest.send_text(&direct, "hullo", None).await.unwrap();
    ann.rest.block(ben.id()).await.unwrap();
    assert_eq!(ben.rest.edit(&id(&sent), "hello").await.unwrap_err().status(), 403);
    drop(world);
    server.stop().await;
}

#[tokio::test]
async fn what_one_removed_unread_is_not_unread_however_much_it_is() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.group(&ann, "Chatter", &[&ben]).await;
    let conversation: ConversationId = place.parse().unwrap();
    let mut all = Vec::new();
    for n in 0..300 {
        all.push(id(&ann.rest.send_text(&place, &format!("{n}"), None).await.unwrap()));
    }
    // One of the system counts neither as unread nor as removed.
    append(&server, &place, &ann, Body::Members(MembersChange { members: Vec::new(), text: "somebody came".into() })).await;
    let history = ben.rest.history(&place, "limit=1").await.unwrap();
    assert_eq!(history["messages"][0]["type"], "SYSTEM");
    let messages = &server.services.messages;
    let system: MessageId = id(&history["messages"][0]).parse().unwrap();
    let reader: UserId = ben.id().parse().unwrap();
    messages.delete(reader, system, None, Origin::default()).await.unwrap();
    for message in &all[..290] {
        messages.delete(reader, message.parse().unwrap(), None, Origin::default()).await.unwrap();
    }
    let unread = async || ben.rest.conversation(&conversation.to_string()).await.unwrap()["unreadCount"].clone();
    assert_eq!(unread().await, Value::from(10));
    ben.rest.read_conversation(&place).await.unwrap();
    assert_eq!(unread().await, Value::from(0));
    drop(world);
    server.stop().await;
}
