//! Why and how sockets end: the login's end, one socket too many, a node that goes.

use loadtest::{Account, Auth, Door, Socket};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{about, is_for_good, is_for_now, of_a_node, send, through_every_door};
use crate::support::{PATIENCE, Person, TestServer, World, id};

/// Sockets that a user may have open at once.
const MAX_SOCKETS: usize = 10;
/// Logins that a user may have at once.
const MAX_SESSIONS: usize = 50;

/// Waits for the socket's end, which must be one after which clients stay away.
async fn ends_for_good(socket: &mut Socket, door: Door, code: u16) {
    is_for_good(&socket.closed(PATIENCE).await.unwrap(), door, code);
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
async fn ending_all_other_logins_closes_their_sockets_alone() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person("Ann").await, scene.world.person_with_password("Ben").await);
        let place = scene.world.direct(&ann, &ben).await;
        let (tablet, laptop) = (ben.another_device().await, ben.another_device().await);
        let mut own = ben.connect(scene.door).await;
        let (mut one, mut two) = (tablet.connect(scene.door).await, laptop.connect(scene.door).await);
        ben.rest.delete("/auth/sessions").await.unwrap();
        ends_for_good(&mut one, scene.door, 4401).await;
        ends_for_good(&mut two, scene.door, 4401).await;
        lives(&mut own, &ann, &place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_closes_every_socket() {
    through_every_door(|scene| async move {
        let ben = scene.world.person_with_password("Ben").await;
        let tablet = ben.another_device().await;
        let (mut one, mut two) = (ben.connect(scene.door).await, tablet.connect(scene.door).await);
        ben.rest.post("/auth/forgot-password", &json!({"phone_number": ben.phone})).await.unwrap();
        let code = scene.server.sms.wait(&ben.phone, 1).await;
        let command = json!({"phone_number": ben.phone, "code": code, "new_password": "another horse"});
        ben.rest.without_token().post("/auth/reset-password", &command).await.unwrap();
        ends_for_good(&mut one, scene.door, 4401).await;
        ends_for_good(&mut two, scene.door, 4401).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_refresh_token_closes_the_sockets_of_its_login_alone() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person("Ann").await, scene.world.person_with_password("Ben").await);
        let place = scene.world.direct(&ann, &ben).await;
        let tablet = ben.another_device().await;
        let (mut phone, mut other) = (ben.connect(scene.door).await, tablet.connect(scene.door).await);
        let Account { refresh_token: first, .. } = &ben.account;
        let next = ben.rest.refresh(first).await.unwrap();
        ben.rest.refresh(&next.refresh_token).await.unwrap();
        lives(&mut phone, &ann, &place).await;
        assert_eq!(ben.rest.refresh(first).await.unwrap_err().status(), 401, "it is older than one that was used");
        ends_for_good(&mut phone, scene.door, 4401).await;
        lives(&mut other, &ann, &place).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sat_on_a_number_loses_his_sockets_to_its_owner() {
    through_every_door(|scene| async move {
        let squatter = scene.world.person("Squatter").await;
        let mut socket = squatter.connect(scene.door).await;
        let rest = &scene.world.rest;
        rest.post("/auth/send-code", &json!({"phone_number": squatter.phone})).await.unwrap();
        let code = scene.server.sms.last(&squatter.phone).unwrap();
        let owner = rest.post("/auth/verify-phone", &json!({"phone_number": squatter.phone, "code": code})).await.unwrap();
        ends_for_good(&mut socket, scene.door, 4401).await;
        let token = owner["access_token"].as_str().unwrap().to_owned();
        assert_eq!(scene.knock(Auth::Token(token)).await.unwrap().user_id(), squatter.id());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_too_many_closes_the_sockets_of_the_least_used() {
    let server = TestServer::start().await;
    let world = World::on(&server);
    let ben = world.person("Ben").await;
    let mut sockets = Vec::new();
    for door in Door::ALL {
        sockets.push((door, ben.connect(door).await));
    }
    for _ in 0..MAX_SESSIONS {
        server.clock.advance(std::time::Duration::from_secs(1));
        world.rest.post("/auth/send-code", &json!({"phone_number": ben.phone})).await.unwrap();
        let code = server.sms.last(&ben.phone).unwrap();
        // His own token with it: else the first code would end what an unverified account had.
        ben.rest.login_with_code(&ben.phone, &code).await.unwrap();
    }
    for (door, socket) in &mut sockets {
        ends_for_good(socket, *door, 4401).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_too_many_closes_the_oldest() {
    // Each node counts the sockets that it has.
    of_a_node(TestServer::alone(|_| {}).await, |scene| async move {
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
            is_for_now(&socket.closed(PATIENCE).await.unwrap(), *door, 4503);
        }
    };
    tokio::join!(server.stop(), ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_all_the_time_leaves_nothing_behind() {
    // Where there are other nodes, it is looked once more half a minute after somebody has come: that task is meant to be there.
    of_a_node(TestServer::alone(|_| {}).await, |scene| async move {
        let (ann, _, _) = scene.pair().await;
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        // What the first one sets up stays, here and at the doors that are tried beside this one, some of them a little later.
        ann.connect(scene.door).await.abort().await.unwrap();
        let before = alive();
        for _ in 0..30 {
            ann.connect(scene.door).await.abort().await.unwrap();
        }
        // Long before the looks after those who have just come, which take half a minute; connections wait 10 s for another request.
        let gone = async {
            while alive() > before + 25 {
                tokio::task::yield_now().await;
            }
        };
        timeout(2 * PATIENCE, gone).await.expect("tasks of sockets that have ended");
    })
    .await;
}
