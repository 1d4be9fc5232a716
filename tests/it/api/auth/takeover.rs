//! Sessions that must end, whatever happens beside or half-way.

use std::sync::Arc;

use loadtest::Door;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Person as Login, call, code_for, failed, ok, sign_up};
use crate::support::wire::Wire;
use crate::support::{PATIENCE, Person, TestServer, World};

const ADA: &str = "+12025550101";

/// A node whose stores of accounts and logins the test can stop.
async fn wired() -> (Arc<TestServer>, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.accounts(backends)).await;
    (Arc::new(server), wire)
}

async fn stop(server: Arc<TestServer>) {
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test]
async fn a_login_under_way_does_not_outlive_the_reset_that_overtakes_it() {
    let (server, wire) = wired().await;
    sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
    let code = server.sms.wait(ADA, 1).await;

    let held = wire.hold("insert_session");
    let logging_in = tokio::spawn({
        let server = Arc::clone(&server);
        async move { call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "password": "correct horse"})).await }
    });
    held.reached().await;
    let reset = json!({"phone_number": ADA, "code": code, "new_password": "another horse"});
    ok(call(&server, "POST /auth/reset-password", None, &reset).await).await;
    held.go_on();
    let overtaken = logging_in.await.unwrap();
    if overtaken.status() == 200 {
        let overtaken = Login::of(&ok(overtaken).await);
        failed(call(&server, "GET /auth/me", Some(&overtaken.token), &Value::Null).await, 401, "unauthenticated").await;
        let refresh = json!({"refresh_token": overtaken.refresh});
        failed(call(&server, "POST /auth/refresh", None, &refresh).await, 401, "unauthenticated").await;
    }
    let login = json!({"phone_number": ADA, "password": "another horse"});
    let ada = Login::of(&ok(call(&server, "POST /auth/login", None, &login).await).await);
    let list = ok(call(&server, "GET /auth/sessions", Some(&ada.token), &Value::Null).await).await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1, "{list}");
    stop(server).await;
}

#[tokio::test]
async fn a_registration_under_way_does_not_outlive_the_one_that_overtakes_it() {
    let (server, wire) = wired().await;
    let held = wire.hold("insert_session");
    let first = tokio::spawn({
        let server = Arc::clone(&server);
        async move { call(&server, "POST /auth/register", None, &json!({"phone_number": ADA})).await }
    });
    held.reached().await;
    // Neither verified nor with a password: the number may be registered again, and what was there before ends.
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    held.go_on();
    let overtaken = first.await.unwrap();
    if overtaken.status() == 200 {
        let overtaken = Login::of(&ok(overtaken).await);
        failed(call(&server, "GET /auth/me", Some(&overtaken.token), &Value::Null).await, 401, "unauthenticated").await;
    }
    ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    stop(server).await;
}

#[tokio::test]
async fn what_proves_a_number_ends_its_sessions_also_when_their_rows_stay() {
    let (server, wire) = wired().await;
    let squatter = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    let code = code_for(&server, ADA).await;
    wire.fail("sessions");
    let verified = ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await).await;
    assert!(wire.is_done());
    failed(call(&server, "GET /auth/me", Some(&squatter.token), &Value::Null).await, 401, "unauthenticated").await;
    let refresh = json!({"refresh_token": squatter.refresh});
    failed(call(&server, "POST /auth/refresh", None, &refresh).await, 401, "unauthenticated").await;
    ok(call(&server, "GET /auth/me", Some(verified["token"].as_str().unwrap()), &Value::Null).await).await;
    stop(server).await;
}

#[tokio::test]
async fn sockets_close_also_when_the_store_fails_half_way() {
    let (server, wire) = wired().await;
    let world = World::on(&server);
    let ada = world.person_with_password("Ada").await;
    let (phone, tablet) = (ada.another_device().await, ada.another_device().await);
    let mut sockets = [phone.connect(Door::WebSocket).await, tablet.connect(Door::WebSocket).await];
    wire.pass("end_session");
    wire.fail("end_session");
    let refused = ada.rest.delete("/auth/sessions").await.unwrap_err();
    assert_eq!(refused.status(), 503);
    assert!(wire.is_done());
    for socket in &mut sockets {
        assert_eq!(socket.closed(PATIENCE).await.unwrap().code, Some(4401));
    }
    ada.rest.delete("/auth/sessions").await.unwrap();
    for other in [&phone, &tablet] {
        assert_eq!(other.rest.get("/auth/me").await.unwrap_err().status(), 401);
    }

    let mut socket = ada.connect(Door::WebSocket).await;
    wire.fail("end_session");
    assert_eq!(ada.rest.logout().await.unwrap_err().status(), 503);
    assert_eq!(socket.closed(PATIENCE).await.unwrap().code, Some(4401), "the store did not say that the session goes on");
    drop((world, socket, sockets));
    stop(server).await;
}

#[tokio::test]
async fn while_the_store_is_away_only_ended_logins_are_not_told_who_they_are() {
    let wire = Arc::new(Wire::default());
    // Each node remembers whom it was asked about.
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.accounts(backends)).await;
    let server = Arc::new(server);
    let world = World::on(&server);
    let ada = world.person_with_password("Ada").await;
    let (phone, tablet) = (ada.another_device().await, ada.another_device().await);
    let me = async |who: &Person| who.rest.get("/auth/me").await.map_err(|error| error.status());
    for who in [&ada, &phone, &tablet] {
        me(who).await.unwrap();
    }
    ada.rest.put("/auth/profile", &json!({"display_name": "Ada L."})).await.unwrap();
    tablet.rest.logout().await.unwrap();
    wire.cut(true);
    assert_eq!(me(&ada).await.unwrap()["display_name"], "Ada L.", "as it was changed a moment ago");
    assert_eq!(me(&phone).await.unwrap()["display_name"], "Ada L.", "another device's logout is not its own");
    assert_eq!(me(&tablet).await, Err(503));
    wire.cut(false);

    let late = ada.another_device().await;
    ada.rest.delete("/auth/sessions").await.unwrap();
    let fresh = ada.another_device().await;
    me(&fresh).await.unwrap();
    wire.cut(true);
    for living in [&ada, &fresh] {
        me(living).await.unwrap();
    }
    for over in [&phone, &late] {
        assert_eq!(me(over).await, Err(503));
    }
    wire.cut(false);
    drop(world);
    stop(server).await;
}
