//! Why and how sockets end: the login's end, one socket too many, a node that goes.

use loadtest::socket::Ending;
use loadtest::{Door, Socket};
use serde_json::Value;

use super::{about, send, through_every_door};
use crate::support::{PATIENCE, Person, TestServer, World, id};

/// Sockets that a user may have open at once.
const MAX_SOCKETS: usize = 10;

/// Waits for the socket's end, which must be one after which clients stay away.
async fn ends_for_good(socket: &mut Socket, door: Door, code: u16) {
    let close = socket.closed(PATIENCE).await.unwrap();
    if door.is_socket_io() {
        assert_eq!(close.ending, Ending::Disconnect, "{close}");
    } else {
        assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(code)), "{close}");
        assert!(!close.reason.is_empty());
    }
}

/// The socket still gets what is sent to its user.
async fn lives(socket: &mut Socket, from: &Person, place: &str) {
    let sent = from.rest.send_text(place, "still there?", None).await.unwrap();
    about(socket, "message:received", &id(&sent)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_closes_the_sockets_of_its_login_alone() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person("Ann").await, scene.world.person_with_password("Ben").await);
        let place = scene.world.direct(&ann, &ben).await;
        let tablet = ben.another_device().await;
        let (mut phone, mut beside) = (ben.connect(scene.door).await, ben.connect(scene.door).await);
        let mut other = tablet.connect(scene.door).await;
        ben.rest.logout().await.unwrap();
        ends_for_good(&mut phone, scene.door, 4401).await;
        ends_for_good(&mut beside, scene.door, 4401).await;
        lives(&mut other, &ann, &place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_ended_from_another_one_loses_its_sockets() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person("Ann").await, scene.world.person_with_password("Ben").await);
        let place = scene.world.direct(&ann, &ben).await;
        let tablet = ben.another_device().await;
        let (mut phone, mut other) = (ben.connect(scene.door).await, tablet.connect(scene.door).await);
        let list = tablet.rest.get("/auth/sessions").await.unwrap();
        let first = list["sessions"].as_array().unwrap().iter().find(|session| session["current"] == Value::Bool(false)).unwrap();
        tablet.rest.delete(&format!("/auth/sessions/{}", id(first))).await.unwrap();
        ends_for_good(&mut phone, scene.door, 4401).await;
        lives(&mut other, &ann, &place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_too_many_closes_the_oldest() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut oldest = ben.connect(scene.door).await;
        let mut others = Vec::new();
        for _ in 1..MAX_SOCKETS {
            others.push(ben.connect(scene.door).await);
        }
        lives(&mut oldest, &ann, &place).await;
        others.push(ben.connect(scene.door).await);
        ends_for_good(&mut oldest, scene.door, 4409).await;
        let sent = ann.rest.send_text(&place, "to ten", None).await.unwrap();
        for socket in &mut others {
            about(socket, "message:received", &id(&sent)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_asks_its_clients_to_come_back() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let writer = ann.connect(Door::WebSocket).await;
    let mut sockets = Vec::new();
    for door in Door::ALL {
        sockets.push((door, ben.connect(door).await));
    }
    let sent = send(&writer, &place, "the last").await;
    for (_, socket) in &mut sockets {
        about(socket, "message:received", &id(&sent)).await;
    }
    let ends = async {
        for (door, socket) in &mut sockets {
            let close = socket.closed(PATIENCE).await.unwrap();
            if door.is_socket_io() {
                assert_ne!(close.ending, Ending::Disconnect, "{door:?}: its clients would stay away");
            } else {
                assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(4503)), "{close}");
            }
        }
    };
    tokio::join!(server.stop(), ends);
}
