//! A node that cannot serve now: its store is away, or it is about to go. Nobody is told to stay away, and who is
//! connected stays so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::socket::{Close, ConnectError, Event};
use loadtest::{Auth, Door, Options, RestError, Socket};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use urge::event::Origin;

use super::{about, before_marker, is_for_now, knock, message_of, next};
use crate::support::wire::Wire;
use crate::support::{PATIENCE, Person, Switch, TestServer, World, id};

/// How a knock that comes to nothing ends: at once, or after the greeting when the login is known for the moment.
async fn sent_away(server: &TestServer, door: Door, auth: Auth) -> Close {
    match knock(server, door, auth).await {
        Ok(mut socket) => socket.closed(PATIENCE).await.unwrap(),
        Err(ConnectError::Closed(close)) => close,
        Err(other) => panic!("{door:?}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_sockets_stay_and_new_ones_are_told_to_come_back() {
    let switch = Switch::default();
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| switch.wrap(backends)).await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let (mut sockets, mut tickets) = (Vec::new(), Vec::new());
    for door in Door::ALL {
        sockets.push((door, ann.connect(door).await, ben.connect(door).await));
        tickets.push(Auth::Ticket(ann.rest.socket_ticket().await.unwrap()));
    }
    // Nobody has checked this login yet.
    let new = world.person("Cy").await;
    let token = |person: &Person| Auth::Token(person.account.access_token.clone());
    let draft = |door: Door| json!({"conversationId": place, "content": "perhaps", "clientMessageId": format!("{door:?}")});

    switch.take_away();
    // Each waits for the store as long as an append may take.
    let refused = join_all(sockets.iter().map(async |(door, phone, _)| phone.call("message:sent", &draft(*door)).await.unwrap_err()));
    for refused in refused.await {
        assert_eq!(refused.code(), "unavailable", "{refused}");
    }
    for (door, ticket) in Door::ALL.into_iter().zip(tickets) {
        for auth in [token(&ann), token(&new), ticket] {
            is_for_now(&sent_away(&server, door, auth).await, door, 4503);
        }
    }

    switch.give_back();
    for (door, phone, peer) in &mut sockets {
        let sent = phone.call("message:sent", &draft(*door)).await.unwrap();
        about(peer, "message:received", &id(&sent)).await;
        assert_eq!(knock(&server, *door, token(&new)).await.unwrap().user_id(), new.id());
    }
    assert_eq!(ben.rest.history(&place, "limit=1").await.unwrap()["total"], Door::ALL.len(), "each once, however often tried");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_still_at_the_door_when_the_node_drains_is_told_to_go_elsewhere() {
    // One node drains; what the others do meanwhile is no part of this.
    let server = TestServer::alone(|_| {}).await;
    let ann = World::on(&server).person("Ann").await;
    let mut late = Options::new(&server.url(""), Door::WebSocket, Auth::Missing).open().await.unwrap();
    server.services.sessions.drain(1, Duration::ZERO).await;
    let token = json!({"event": "authenticate", "data": {"token": ann.account.access_token}});
    late.emitter().raw_text(&token.to_string()).await.unwrap();
    let close = late.closed(PATIENCE).await.unwrap();
    is_for_now(&close, Door::WebSocket, 4503);
    assert!(close.reason.contains("going away"), "{close}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_lets_nobody_in() {
    let server = TestServer::alone(|_| {}).await;
    let ann = World::on(&server).person("Ann").await;
    let token = Auth::Token(ann.account.access_token.clone());
    for door in Door::ALL {
        knock(&server, door, token.clone()).await.unwrap();
    }
    server.services.sessions.drain(1, Duration::ZERO).await;
    for door in Door::ALL {
        match knock(&server, door, token.clone()).await {
            Err(ConnectError::Http { status: 503, body }) => assert!(body.contains("\"unavailable\""), "{door:?}: {body}"),
            other => panic!("{door:?}: {other:?}"),
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everybody_goes_at_once_writing_that_down_leaves_room_for_others() {
    /// Comings and goings that are written down at a time.
    const AT_A_TIME: usize = 64;
    let switch = Switch::default();
    // Each node writes down who leaves it.
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| switch.wrap(backends)).await;
    let world = World::on(&server);
    let people = join_all((0..2 * AT_A_TIME).map(async |n| world.person(&format!("Person {n}")).await)).await;
    let sockets = join_all(people.iter().map(|person| person.connect(Door::WebSocket))).await;
    switch.stall();
    join_all(sockets.iter().map(Socket::abort)).await.into_iter().for_each(|ended| ended.unwrap());
    timeout(PATIENCE, switch.asked_by(AT_A_TIME)).await.expect("their going is written down");
    let more = timeout(Duration::from_secs(1), switch.asked_by(AT_A_TIME + 8)).await;
    assert!(more.is_err(), "the store's queue is for those who wait for an answer");
    switch.give_back();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_the_store_is_away_is_told_of_when_it_is_back() {
    let switch = Switch::default();
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| switch.wrap(backends)).await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    world.direct(&ann, &ben).await;
    let mut watching = ann.connect(Door::WebSocket).await;
    let leaving = ben.connect(Door::SocketIo).await;
    assert_eq!(next(&mut watching, "user:online").await["userId"], ben.id());
    let seen = async || server.stores.users.user(ben.id().parse().unwrap()).await.unwrap().unwrap().last_seen;
    let came = seen().await;

    switch.take_away();
    leaving.abort().await.unwrap();
    // That he has gone can neither be written down nor told.
    timeout(PATIENCE, switch.refuses("mark_seen")).await.expect("nobody writes it down");
    timeout(PATIENCE, switch.refuses("user")).await.expect("nobody asks since when he has gone");
    switch.give_back();
    let told = next(&mut watching, "user:offline").await;
    assert_eq!(told["userId"], ben.id());
    let went = seen().await;
    assert!(went > came, "{went} is when he came");
    assert_eq!(told["lastSeen"], went.to_string());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_nothing_can_be_written_is_told_of_with_when_he_went() {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.accounts(backends)).await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    world.direct(&ann, &ben).await;
    // What is to fail below is his going, not her coming.
    let her_coming = wire.hold("mark_seen");
    let mut watching = ann.connect(Door::WebSocket).await;
    her_coming.reached().await;
    her_coming.go_on();
    let leaving = ben.connect(Door::SocketIo).await;
    assert_eq!(next(&mut watching, "user:online").await["userId"], ben.id());
    let seen = async || server.stores.users.user(ben.id().parse().unwrap()).await.unwrap().unwrap().last_seen;
    let came = seen().await;

    wire.fail("mark_seen");
    let again = wire.hold("mark_seen");
    leaving.abort().await.unwrap();
    let told = next(&mut watching, "user:offline").await;
    assert_eq!(told["userId"], ben.id());
    again.reached().await;
    assert_eq!(seen().await, came, "it is not written yet");
    assert!(told["lastSeen"].as_str().unwrap() > came.to_string().as_str(), "{told}: {came} is when he came");
    again.go_on();
    server.stop().await;
}

/// Reads up to this message.
async fn read(reader: &Person, message: &str) -> Result<Value, RestError> {
    reader.rest.post("/messages/read", &json!({"message_ids": [message]})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_the_store_kept_from_being_told_is_told_later() {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.conversations(backends)).await;
    let world = World::on(&server);
    let (ann, ben, cy) = (world.person("Ann").await, world.person("Ben").await, world.person("Cy").await);
    let (place, group) = (world.direct(&ann, &ben).await, world.group(&ann, "Club", &[&ben, &cy]).await);
    let mut phone = ann.connect(Door::WebSocket).await;

    // The mark is written, and what it turns cannot be read; or it cannot be written at all.
    for method in ["rows_before", "mark_members"] {
        let message = id(&ann.rest.send_text(&place, "hello", None).await.unwrap());
        wire.fail(method);
        assert_eq!(read(&ben, &message).await.unwrap_err().code(), "unavailable", "{method}");
        assert_eq!(about(&mut phone, "message:read", &message).await["userId"], ben.id());
        assert_eq!(read(&ben, &message).await.unwrap()["updated"], 0, "{method}: it is told");
    }

    // What somebody's leaving turns.
    let message = id(&ann.rest.send_text(&group, "hello", None).await.unwrap());
    read(&ben, &message).await.unwrap();
    wire.fail("rows_before");
    let (founder, leaving) = (ann.id().parse().unwrap(), cy.id().parse().unwrap());
    server.services.conversations.remove_member(founder, group.parse().unwrap(), leaving, Origin::default()).await.unwrap();
    assert_eq!(about(&mut phone, "message:read", &message).await["userId"], cy.id());
    assert!(wire.is_done());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_waits_for_a_conversation_that_does_not_answer() {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.conversations(backends)).await;
    let world = World::on(&server);
    let (ann, ben, cy) = (world.person("Ann").await, world.person("Ben").await, world.person("Cy").await);
    let (stuck, other) = (world.direct(&ann, &ben).await, world.group(&ann, "Club", &[&cy]).await);
    let mut phone = ann.connect(Door::WebSocket).await;
    let (_ben, _cy) = (ben.connect(Door::WebSocket).await, cy.connect(Door::WebSocket).await);

    // That a message has reached Ben is not answered, now and when it is tried again.
    let first = wire.hold("mark_members");
    let late = id(&ann.rest.send_text(&stuck, "hello", None).await.unwrap());
    first.reached().await;
    let soon = id(&ann.rest.send_text(&other, "hello", None).await.unwrap());
    assert_eq!(about(&mut phone, "message:delivered", &soon).await["userId"], cy.id());
    // Nobody has let it go on: it is given up in time, and tried again, while others go on.
    let again = wire.hold("mark_members");
    again.reached().await;
    let soon = id(&ann.rest.send_text(&other, "hello", None).await.unwrap());
    let is_told = |events: &[Event]| {
        let of = |message: &str| events.iter().any(|event| event.name == "message:delivered" && message_of(&event.json()) == message);
        of(&soon) && of(&late)
    };
    phone.collect_until(PATIENCE, is_told).await.unwrap();
    assert!(wire.is_done());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_to_be_told_of_one_member_is_not_told_with_anothers_mark_too() {
    let wire = Arc::new(Wire::default());
    // Of what another one has still to tell, a node knows nothing.
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.conversations(backends)).await;
    let world = World::on(&server);
    let (ann, ben, cy) = (world.person("Ann").await, world.person("Ben").await, world.person("Cy").await);
    let group = world.group(&ann, "Club", &[&ben, &cy]).await;
    let mut phone = ann.connect(Door::WebSocket).await;
    let message = id(&ann.rest.send_text(&group, "hello", None).await.unwrap());
    // Once for him, and once in the background.
    wire.fail("members");
    wire.fail("members");
    read(&ben, &message).await.unwrap_err();
    wire.done().await;
    read(&cy, &message).await.unwrap();
    let (mut marks, mut told) = (Vec::new(), 0);
    while marks.len() < 2 {
        let event = phone.next_match("receipts", PATIENCE, |_| true).await.unwrap();
        match (event.name.as_str(), event.json()) {
            ("receipts", data) => marks.push(data["userId"].clone()),
            ("message:read", data) if message_of(&data) == message => told += 1,
            _ => {}
        }
    }
    assert!(marks.contains(&json!(ben.id())) && marks.contains(&json!(cy.id())), "{marks:?}");
    let before = before_marker(&mut phone, &ben, &group).await;
    told += before.iter().filter(|(name, data)| name == "message:read" && message_of(data) == message).count();
    assert_eq!(told, 1);
    server.stop().await;
}
