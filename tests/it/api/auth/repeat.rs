//! A 503 half-way through, and the same request again with the same code: a code is used up once its work is done,
//! and by one of many who bring it at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{call, code_for, failed, ok, sign_up};
use crate::support::TestServer;
use crate::support::wire::Wire;

const ADA: &str = "+12025550101";

async fn wired() -> (TestServer, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.accounts(backends)).await;
    (server, wire)
}

/// The call fails where the store does, is made again and succeeds, and a third time it is too late.
async fn again(server: &TestServer, wire: &Wire, route: &str, command: &Value, fails: &'static str, late: u16) -> Value {
    wire.fail(fails);
    failed(call(server, route, None, command).await, 503, "unavailable").await;
    assert!(wire.is_done(), "{route} did not come to {fails}");
    let done = ok(call(server, route, None, command).await).await;
    assert_eq!(call(server, route, None, command).await.status(), late, "{route} after {fails}");
    done
}

#[tokio::test]
async fn a_login_by_code() {
    let (server, wire) = wired().await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    for fails in ["replace_user", "insert_session", "advance_code"] {
        let code = code_for(&server, ADA).await;
        again(&server, &wire, "POST /auth/login", &json!({"phone_number": ADA, "verification_code": code}), fails, 401).await;
    }
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn a_verification_and_the_login_that_follows_it() {
    let (server, wire) = wired().await;
    for fails in ["replace_user", "insert_session"] {
        let phone = if fails == "replace_user" { ADA } else { "+12025550102" };
        sign_up(&server, &json!({"phone_number": phone})).await;
        let code = code_for(&server, phone).await;
        let verify = json!({"phone_number": phone, "code": code});
        let verified = again(&server, &wire, "POST /auth/verify-phone", &verify, fails, 400).await;
        assert_eq!(verified["user"]["is_verified"], true);
        let login = json!({"phone_number": phone, "verification_code": code});
        ok(call(&server, "POST /auth/login", None, &login).await).await;
        failed(call(&server, "POST /auth/login", None, &login).await, 401, "unauthenticated").await;
    }
    // Broken off for good: the code is still one to log in with.
    sign_up(&server, &json!({"phone_number": "+12025550103"})).await;
    let code = code_for(&server, "+12025550103").await;
    wire.fail("insert_session");
    let verify = json!({"phone_number": "+12025550103", "code": code});
    failed(call(&server, "POST /auth/verify-phone", None, &verify).await, 503, "unavailable").await;
    let login = json!({"phone_number": "+12025550103", "verification_code": code});
    ok(call(&server, "POST /auth/login", None, &login).await).await;
    failed(call(&server, "POST /auth/verify-phone", None, &verify).await, 400, "bad_request").await;
    server.stop().await;
}

#[tokio::test]
async fn a_registration_by_code() {
    let (server, wire) = wired().await;
    for (nth, fails) in ["insert_user", "insert_session", "advance_code"].into_iter().enumerate() {
        let phone = format!("+1202555011{nth}");
        let code = code_for(&server, &phone).await;
        let command = json!({"phone_number": phone, "verification_code": code, "display_name": "Ada"});
        let made = again(&server, &wire, "POST /auth/register", &command, fails, 400).await;
        assert_eq!((&made["user"]["is_verified"], &made["user"]["display_name"]), (&json!(true), &json!("Ada")));
    }
    // A code that was not claimed for a registration logs nobody in by registering.
    let ada = sign_up(&server, &json!({"phone_number": ADA, "verification_code": code_for(&server, ADA).await})).await;
    let code = code_for(&server, ADA).await;
    let command = json!({"phone_number": ADA, "verification_code": code});
    failed(call(&server, "POST /auth/register", None, &command).await, 400, "bad_request").await;
    ok(call(&server, "POST /auth/login", Some(&ada.token), &command).await).await;
    server.stop().await;
}

#[tokio::test]
async fn a_new_password() {
    let (server, wire) = wired().await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "verification_code": code_for(&server, ADA).await})).await;
    for (nth, fails) in ["replace_user", "advance_code"].into_iter().enumerate() {
        ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
        let code = server.sms.wait(ADA, nth + 2).await;
        let reset = json!({"phone_number": ADA, "code": code, "new_password": format!("another horse {nth}")});
        let other = json!({"phone_number": ADA, "code": code, "new_password": "a third horse"});
        wire.fail(fails);
        failed(call(&server, "POST /auth/reset-password", None, &reset).await, 503, "unavailable").await;
        failed(call(&server, "POST /auth/reset-password", None, &other).await, 400, "bad_request").await;
        ok(call(&server, "POST /auth/reset-password", None, &reset).await).await;
        failed(call(&server, "POST /auth/reset-password", None, &reset).await, 400, "bad_request").await;
        let login = json!({"phone_number": ADA, "password": format!("another horse {nth}")});
        ok(call(&server, "POST /auth/login", None, &login).await).await;
    }
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn of_many_who_bring_a_code_at_once_one_has_used_it() {
    let server = TestServer::start().await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "verification_code": code_for(&server, ADA).await})).await;
    let sessions = async |token: &str| {
        let list = ok(call(&server, "GET /auth/sessions", Some(token), &Value::Null).await).await;
        list["sessions"].as_array().unwrap().len()
    };
    let race = async |route: &str, command: Value, refused: u16| {
        let all = futures_util::future::join_all((0..8).map(|_| call(&server, route, None, &command))).await;
        let count = |status: u16| all.iter().filter(|answer| answer.status() == status).count();
        // More than five who hold a try at once are told to wait.
        assert_eq!((count(200), count(refused) + count(429)), (1, 7), "{route}");
    };
    race("POST /auth/login", json!({"phone_number": ADA, "verification_code": code_for(&server, ADA).await}), 401).await;
    assert_eq!(sessions(&ada.token).await, 2);
    race("POST /auth/verify-phone", json!({"phone_number": ADA, "code": code_for(&server, ADA).await}), 400).await;
    assert_eq!(sessions(&ada.token).await, 3);
    let known = server.sms.count(ADA);
    ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
    let code = server.sms.wait(ADA, known + 1).await;
    race("POST /auth/reset-password", json!({"phone_number": ADA, "code": code, "new_password": "another horse"}), 400).await;
    server.stop().await;
}
