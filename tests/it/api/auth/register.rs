//! Making accounts and proving numbers: the shipped app's sign-up, taken numbers, who sat on a number in advance.

use serde_json::{Value, json};

use super::{Person, call, failed, ok, sign_up};
use crate::support::{Process, TestServer, World};

const ADA: &str = "+12025550101";

#[tokio::test]
async fn an_account_is_made_and_logged_in() {
    let server = TestServer::start().await;
    let command = json!({"phone_number": "(202) 555-0101", "password": "correct horse", "display_name": "Ada", "email": "ada@example.org"});
    let refused = call(&server, "POST /auth/register", None, &command).await;
    failed(refused, 422, "validation_error").await;
    let command =
        json!({"phoneNumber": "+1 (202) 555-0101", "password": "correct horse", "displayName": "Ada", "email": "ada@example.org"});
    let made = ok(call(&server, "POST /api/auth/register", None, &command).await).await;
    assert_eq!(made["token"], made["access_token"]);
    assert_eq!((&made["token_type"], &made["expires_in"]), (&json!("bearer"), &json!(2_592_000)));
    let user = &made["user"];
    assert_eq!((&user["phone_number"], &user["display_name"], &user["email"]), (&json!(ADA), &json!("Ada"), &json!("ada@example.org")));
    assert_eq!((&user["is_verified"], &user["role"]), (&json!(false), &json!("REGULAR")));
    let me = ok(call(&server, "GET /auth/me", made["access_token"].as_str(), &Value::Null).await).await;
    assert_eq!(me["id"], user["id"]);
    failed(call(&server, "POST /auth/register", None, &command).await, 400, "bad_request").await;
    server.stop().await;
}

#[tokio::test]
async fn the_apps_sign_up_registers_verifies_and_logs_in_with_the_same_code() {
    let server = TestServer::start().await;
    let first = sign_up(&server, &json!({"phone_number": ADA, "display_name": "Ada"})).await;
    ok(call(&server, "POST /auth/send-verification", None, &json!({"phone_number": ADA})).await).await;
    let code = server.sms.last(ADA).unwrap();
    let verified = ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await).await;
    assert_eq!((&verified["user"]["is_verified"], &verified["user"]["display_name"]), (&json!(true), &json!("Ada")));
    assert_eq!(verified["token"], verified["access_token"]);
    failed(call(&server, "GET /auth/me", Some(&first.token), &Value::Null).await, 401, "unauthenticated").await;
    let with_code = json!({"phone_number": ADA, "verification_code": code});
    let login = ok(call(&server, "POST /auth/login", None, &with_code).await).await;
    assert_eq!(login["user"]["id"], verified["user"]["id"]);
    failed(call(&server, "POST /auth/login", None, &with_code).await, 401, "unauthenticated").await;
    let again = call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await;
    failed(again, 400, "bad_request").await;
    for token in [&verified["token"], &login["token"]] {
        ok(call(&server, "GET /auth/me", token.as_str(), &Value::Null).await).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_number_is_proven_first_and_registered_with_its_token() {
    let server = TestServer::start().await;
    let code = super::code_for(&server, ADA).await;
    let proven = ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await).await;
    assert_eq!((&proven["success"], &proven["verified"]), (&json!(true), &json!(true)));
    assert!(proven.get("access_token").is_none());
    let token = &proven["registration_token"];
    let other = json!({"phone_number": "+12025550102", "registration_token": token});
    failed(call(&server, "POST /auth/register", None, &other).await, 400, "bad_request").await;
    let command = json!({"phone_number": ADA, "registration_token": token, "password": "correct horse"});
    let made = ok(call(&server, "POST /auth/register", None, &command).await).await;
    assert_eq!(made["user"]["is_verified"], true);
    failed(call(&server, "POST /auth/register", None, &command).await, 400, "bad_request").await;
    server.stop().await;
}

#[tokio::test]
async fn a_code_verifies_at_registration_and_is_used_up() {
    let server = TestServer::start().await;
    let code = super::code_for(&server, ADA).await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let command = |code: &str| json!({"phone_number": ADA, "verification_code": code});
    failed(call(&server, "POST /auth/register", None, &command(wrong)).await, 400, "bad_request").await;
    let made = ok(call(&server, "POST /auth/register", None, &command(&code)).await).await;
    assert_eq!(made["user"]["is_verified"], true);
    failed(call(&server, "POST /auth/login", None, &command(&code)).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn an_account_without_password_and_proof_may_be_registered_again() {
    let server = TestServer::start().await;
    let first = sign_up(&server, &json!({"phone_number": ADA, "display_name": "First"})).await;
    let second = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    assert_eq!((&first.user["id"], &second.user["display_name"]), (&second.user["id"], &Value::Null));
    failed(call(&server, "GET /auth/me", Some(&first.token), &Value::Null).await, 401, "unauthenticated").await;
    failed(call(&server, "POST /auth/register", None, &json!({"phone_number": ADA})).await, 400, "bad_request").await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_sits_on_a_number_in_advance() {
    let server = TestServer::start().await;
    let command = json!({"phone_number": ADA, "password": "squatters password", "display_name": "Squatter", "email": "s@example.org"});
    let squatter = sign_up(&server, &command).await;
    let profile = json!({"bio": "mine", "avatar_url": "https://example.org/s.png", "social_links": {"x": "@squatter"}});
    ok(call(&server, "PUT /auth/profile", Some(&squatter.token), &profile).await).await;
    let code = super::code_for(&server, ADA).await;
    let login = ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await).await;
    let user = &login["user"];
    assert_eq!((&user["id"], &user["phone_number"]), (&squatter.user["id"], &json!(ADA)));
    for field in ["display_name", "email", "bio", "avatar_url"] {
        assert_eq!(user[field], Value::Null, "{field}");
    }
    assert_eq!((&user["social_links"], &user["is_verified"]), (&json!({}), &json!(true)));
    failed(call(&server, "GET /auth/me", Some(&squatter.token), &Value::Null).await, 401, "unauthenticated").await;
    failed(call(&server, "POST /auth/refresh", None, &json!({"refresh_token": squatter.refresh})).await, 401, "unauthenticated").await;
    let login = json!({"phone_number": ADA, "password": "squatters password"});
    failed(call(&server, "POST /auth/login", None, &login).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn who_proves_the_number_takes_an_unverified_account_over_by_registering() {
    let server = TestServer::start().await;
    let squatter = sign_up(&server, &json!({"phone_number": ADA, "password": "squatters password", "display_name": "Squatter"})).await;
    let code = super::code_for(&server, ADA).await;
    let command = json!({"phone_number": ADA, "password": "correct horse", "verification_code": code});
    let made = ok(call(&server, "POST /auth/register", None, &command).await).await;
    assert_eq!((&made["user"]["id"], &made["user"]["display_name"]), (&squatter.user["id"], &Value::Null));
    failed(call(&server, "GET /auth/me", Some(&squatter.token), &Value::Null).await, 401, "unauthenticated").await;
    ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "password": "correct horse"})).await).await;
    server.stop().await;
}

#[tokio::test]
async fn the_owners_own_token_keeps_password_profile_and_sessions() {
    let server = TestServer::start().await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse", "display_name": "Ada"})).await;
    let code = super::code_for(&server, ADA).await;
    let command = json!({"phone_number": ADA, "code": code});
    ok(call(&server, "POST /auth/verify-phone", Some(&ada.token), &command).await).await;
    let me = ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    assert_eq!((&me["is_verified"], &me["display_name"]), (&json!(true), &json!("Ada")));
    ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "password": "correct horse"})).await).await;
    server.stop().await;
}

#[tokio::test]
async fn somebody_elses_token_or_a_stale_one_changes_nothing_on_public_calls() {
    let server = TestServer::start().await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    let bob = sign_up(&server, &json!({"phone_number": "+12025550102", "password": "correct horse"})).await;
    ok(call(&server, "POST /auth/login", Some("stale.token.here"), &json!({"phone_number": ADA, "password": "correct horse"})).await).await;
    let code = super::code_for(&server, ADA).await;
    ok(call(&server, "POST /auth/verify-phone", Some(&bob.token), &json!({"phone_number": ADA, "code": code})).await).await;
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    ok(call(&server, "GET /auth/me", Some(&bob.token), &Value::Null).await).await;
    server.stop().await;
}

#[tokio::test]
async fn of_many_at_once_one_registers() {
    let server = TestServer::start().await;
    let command = json!({"phone_number": ADA, "password": "correct horse"});
    let all = futures_util::future::join_all((0..8).map(|_| call(&server, "POST /auth/register", None, &command))).await;
    let made = all.iter().filter(|answer| answer.status() == 200).count();
    assert_eq!(made, 1, "{:?}", all.iter().map(reqwest::Response::status).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test]
async fn unverified_accounts_can_do_nothing_but_verify_where_it_is_required() {
    let server = TestServer::with(|config| config.auth.require_verified_phone = true).await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    for route in ["GET /auth/me", "GET /auth/sessions", "DELETE /auth/sessions", "PUT /auth/profile", "POST /auth/socket-ticket"] {
        failed(call(&server, route, Some(&ada.token), &Value::Null).await, 403, "phone_unverified").await;
    }
    let code = super::code_for(&server, ADA).await;
    ok(call(&server, "POST /auth/verify-phone", Some(&ada.token), &json!({"phone_number": ADA, "code": code})).await).await;
    ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    server.stop().await;
}

#[tokio::test]
async fn bad_fields_are_named() {
    let server = TestServer::start().await;
    for (field, value) in [
        ("phone_number", json!(null)),
        ("phone_number", json!(12_025_550_101_i64)),
        ("phone_number", json!("")),
        ("phone_number", json!("nobody")),
        ("phone_number", json!("+1202555010\u{0}1")),
        ("phone_number", json!("9".repeat(1_000))),
        // Said and empty is not unsaid: somebody meant to have one.
        ("password", json!("")),
        ("password", json!("short")),
        ("password", json!("x".repeat(101))),
        ("password", json!(["x"])),
        ("display_name", json!("x".repeat(101))),
        ("display_name", json!("\u{200b}\u{202e}")),
        ("email", json!("nobody")),
        ("verification_code", json!({"x": 1})),
    ] {
        let mut command = json!({"phone_number": ADA, "password": "correct horse"});
        command[field] = value.clone();
        let body = failed(call(&server, "POST /auth/register", None, &command).await, 422, "validation_error").await;
        assert_eq!(body["detail"][0]["loc"], json!(["body", field]), "{value}");
    }
    let Person { user, .. } = sign_up(&server, &json!({"phone_number": ADA, "display_name": "  Ада 🦊 Ω  ", "unknown": true})).await;
    assert_eq!(user["display_name"], "Ада 🦊 Ω");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_national_form_are_read_in_the_nodes_country() {
    let node = Process::with(&[("URGE_DEFAULT_COUNTRY", "US")]).ready();
    let rest = World::at(&node.url()).rest;
    let ada = rest.register_with_password("(202) 555-0101", "Ada", "correct horse").await.unwrap();
    assert_eq!(ada.answer["user"]["phone_number"], ADA);
    for spelling in ["2025550101", "202-555-0101", "1 202 555 0101", "12025550101", ADA, "+1 (202) 555-0101"] {
        assert_eq!(rest.login(spelling, "correct horse").await.unwrap().user_id, ada.user_id, "{spelling}");
    }
    // What is international stays so, and what is neither is none.
    let bob = rest.register("+49 151 20000001", "Bob").await.unwrap();
    assert_eq!(bob.answer["user"]["phone_number"], "+4915120000001");
    let rest = rest.as_account(&rest.register("+49 151 20000002", "Eve").await.unwrap());
    let numbers = json!({"phone_numbers": ["(202) 555-0101", "0151 20000001", "+4915120000001"]});
    let found = rest.post("/users/lookup", &numbers).await.unwrap();
    let found: Vec<_> = found["users"].as_array().unwrap().iter().map(|one| one["phone_number"].as_str().unwrap()).collect();
    assert_eq!(found, ["(202) 555-0101", "+4915120000001"]);
    assert_eq!(rest.get("/users/search?q=(202)%20555-0101").await.unwrap()["users"][0]["id"], ada.user_id.as_str());
    assert_eq!(rest.register("555-0101", "Nobody").await.unwrap_err().status(), 422);
}
