//! A node that cannot serve now: its store is away, or it is about to go. Nobody is told to stay away, and who is
//! connected stays so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::socket::{Close, ConnectError};
use loadtest::{Auth, Door, Options, Socket};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{about, is_for_now, knock};
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
