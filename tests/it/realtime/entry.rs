//! Who is let in: with what he shows, as whom, and until when. Who is not learns why, in the way of his door.

use std::time::Duration;

use loadtest::socket::{ConnectError, Ending};
use loadtest::{Auth, Door, Options};
use serde_json::json;
use tokio::time::Instant;

use super::{Scene, about, knock, of_a_node, send, through_every_door};
use crate::support::{PATIENCE, TestServer, World, id};

/// How long `/ws` waits for a token.
const TO_AUTHENTICATE: Duration = Duration::from_secs(5);
/// Longer than an access token lives, and shorter than its login.
const OLD: Duration = Duration::from_hours(24 * 31);

/// Knocks with this and is refused for good: with this close code on `/ws`, with this error code on Socket.IO, in words.
async fn is_refused(scene: &Scene, auth: Auth, close_code: u16, code: &str) {
    match scene.knock(auth).await.expect_err("it was let in") {
        ConnectError::Closed(close) if !scene.door.is_socket_io() => {
            assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(close_code)), "{close}");
            assert!(!close.reason.is_empty());
        }
        ConnectError::Refused(refusal) if scene.door.is_socket_io() => {
            assert_eq!(refusal["data"]["code"], code);
            assert!(refusal["message"].as_str().is_some_and(|message| !message.is_empty()), "{refusal}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_or_over_is_refused_for_good() {
    let server = TestServer::start().await;
    let expired = World::on(&server).person("Ann").await.account.access_token;
    server.clock.advance(OLD);
    of_a_node(server, move |scene| {
        let expired = expired.clone();
        async move {
            let ann = scene.world.person("Ann").await;
            let revoked = ann.account.access_token.clone();
            assert_eq!(scene.knock(Auth::Token(revoked.clone())).await.unwrap().user_id(), ann.id());
            ann.rest.logout().await.unwrap();
            let (head, signature) = revoked.rsplit_once('.').unwrap();
            let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
            for token in [expired, revoked, forged, ann.account.refresh_token, String::new(), "nonsense".to_owned()] {
                is_refused(&scene, Auth::Token(token.clone()), 4401, "unauthenticated").await;
                is_refused(&scene, Auth::Frame(token), 4401, "unauthenticated").await;
            }
            if scene.door.is_socket_io() {
                is_refused(&scene, Auth::Missing, 4401, "unauthenticated").await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_verified_his_number_may_not_connect_where_he_must() {
    let server = TestServer::with(|config| config.auth.require_verified_phone = true).await;
    of_a_node(server, |scene| async move {
        let ann = scene.world.person("Ann").await;
        let token = Auth::Token(ann.account.access_token.clone());
        is_refused(&scene, token.clone(), 4403, "phone_unverified").await;
        ann.rest.post("/auth/send-code", &json!({"phone_number": ann.phone})).await.unwrap();
        let code = scene.server.sms.last(&ann.phone).unwrap();
        ann.rest.post("/auth/verify-phone", &json!({"phone_number": ann.phone, "code": code})).await.unwrap();
        assert_eq!(scene.knock(token).await.unwrap().user_id(), ann.id());
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_is_shown_out() {
    let server = TestServer::start().await;
    let began = Instant::now();
    let mut socket = Options::new(&server.url(""), Door::WebSocket, Auth::Missing).open().await.unwrap();
    let close = socket.closed(PATIENCE).await.unwrap();
    assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(4408)), "{close}");
    assert!(!close.reason.is_empty() && began.elapsed() >= TO_AUTHENTICATE, "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_socket() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let ticket = Auth::Ticket(ann.rest.socket_ticket().await.unwrap());
        let socket = scene.knock(ticket.clone()).await.unwrap();
        assert_eq!(socket.user_id(), ann.id());
        let mut peer = ben.connect(scene.door).await;
        let sent = send(&socket, &place, "by ticket").await;
        about(&mut peer, "message:received", &id(&sent)).await;
        is_refused(&scene, ticket, 4401, "unauthenticated").await;
        is_refused(&scene, Auth::Ticket("nonsense".to_owned()), 4401, "unauthenticated").await;
        // An access token is no ticket.
        is_refused(&scene, Auth::Ticket(ann.account.access_token.clone()), 4401, "unauthenticated").await;
        let unused = Auth::Ticket(ann.rest.socket_ticket().await.unwrap());
        ann.rest.logout().await.unwrap();
        is_refused(&scene, unused, 4401, "unauthenticated").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_for_thirty_seconds() {
    let server = TestServer::start().await;
    let ann = World::on(&server).person("Ann").await;
    let mut tickets = Vec::new();
    for door in Door::ALL.into_iter().chain(Door::ALL) {
        tickets.push((door, Auth::Ticket(ann.rest.socket_ticket().await.unwrap())));
    }
    let late = tickets.split_off(Door::ALL.len());
    // The rest of its time is for a machine that is busy.
    server.clock.advance(Duration::from_secs(15));
    for (door, ticket) in tickets {
        assert_eq!(knock(&server, door, ticket).await.unwrap().user_id(), ann.id(), "{door:?}");
    }
    server.clock.advance(Duration::from_secs(16));
    for (door, ticket) in late {
        let refused = knock(&server, door, ticket).await.expect_err("it was let in");
        let is_final = match &refused {
            ConnectError::Closed(close) => close.code == Some(4401),
            refused => matches!(refused, ConnectError::Refused(_)),
        };
        assert!(is_final, "{door:?}: {refused}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_outlives_its_token() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let mut sockets = Vec::new();
    for door in Door::ALL {
        sockets.push((ann.connect(door).await, ben.connect(door).await));
    }
    server.clock.advance(OLD);
    assert_eq!(ann.rest.me().await.unwrap_err().status(), 401, "the token is over");
    for (phone, peer) in &mut sockets {
        let sent = send(phone, &place, "still here").await;
        about(peer, "message:received", &id(&sent)).await;
    }
    server.stop().await;
}
