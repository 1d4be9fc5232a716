//! Logging in, the second factor, wrong guesses.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use urge::clock::Clock;
use urge::id::UserId;
use urge::users::{Totp, UserStore};

use super::{call, code_for, failed, ok, sign_up};
use crate::support::TestServer;
use crate::support::wire::Wire;

const ADA: &str = "+12025550101";

#[tokio::test]
async fn by_password_and_by_code_and_in_the_same_words_when_wrong() {
    let server = TestServer::start().await;
    sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "password": "correct horse"})).await).await;
    let wrong = json!({"phone_number": ADA, "password": "wrong horse"});
    let wrong = failed(call(&server, "POST /auth/login", None, &wrong).await, 401, "unauthenticated").await;
    let unknown = json!({"phone_number": "+12025550199", "password": "correct horse"});
    let unknown = failed(call(&server, "POST /auth/login", None, &unknown).await, 401, "unauthenticated").await;
    let code = json!({"phone_number": ADA, "verification_code": "000000"});
    let code = failed(call(&server, "POST /auth/login", None, &code).await, 401, "unauthenticated").await;
    assert_eq!((&wrong, &wrong), (&unknown, &code));
    failed(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA})).await, 422, "validation_error").await;
    failed(
        call(&server, "POST /auth/login", None, &json!({"phone_number": "x", "password": "correct horse"})).await,
        422,
        "validation_error",
    )
    .await;
    let code = code_for(&server, ADA).await;
    let login = ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": code})).await).await;
    assert_eq!(login["user"]["is_verified"], true);
    server.stop().await;
}

#[tokio::test]
async fn a_right_code_of_an_unknown_number_stays_good_to_register_with() {
    let server = TestServer::start().await;
    let code = code_for(&server, ADA).await;
    let command = json!({"phone_number": ADA, "verification_code": code});
    failed(call(&server, "POST /auth/login", None, &command).await, 401, "unauthenticated").await;
    ok(call(&server, "POST /auth/register", None, &command).await).await;
    server.stop().await;
}

#[tokio::test]
async fn the_second_factor_is_asked_for_and_taken_from_the_code_field() {
    let mut users = None;
    let server = TestServer::on(
        Arc::new(TempDir::new().unwrap()),
        |_| {},
        |backends| {
            users = Some(backends.stores.users.clone());
            backends
        },
    )
    .await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    let code = code_for(&server, ADA).await;
    ok(call(&server, "POST /auth/verify-phone", Some(&ada.token), &json!({"phone_number": ADA, "code": code})).await).await;
    switch_on(users.unwrap().as_ref(), ada.user["id"].as_str().unwrap().parse().unwrap()).await;

    let by_password = |totp: Option<&str>| json!({"phone_number": ADA, "password": "correct horse", "totp_code": totp});
    let in_code_field = |code: &str| json!({"phone_number": ADA, "verification_code": code});
    failed(call(&server, "POST /auth/login", None, &in_code_field(&totp_at(&server))).await, 401, "unauthenticated").await;
    failed(call(&server, "POST /auth/login", None, &by_password(None)).await, 401, "totp_required").await;
    failed(call(&server, "POST /auth/login", None, &in_code_field("000000")).await, 401, "unauthenticated").await;
    let used = totp_at(&server);
    ok(call(&server, "POST /auth/login", None, &in_code_field(&used)).await).await;
    failed(call(&server, "POST /auth/login", None, &by_password(Some(&used))).await, 401, "totp_required").await;

    server.clock.advance(Duration::from_mins(1));
    ok(call(&server, "POST /auth/login", None, &by_password(Some(&totp_at(&server)))).await).await;

    let code = code_for(&server, ADA).await;
    failed(call(&server, "POST /auth/login", None, &in_code_field(&code)).await, 401, "totp_required").await;
    server.clock.advance(Duration::from_mins(6));
    failed(call(&server, "POST /auth/login", None, &in_code_field(&totp_at(&server))).await, 401, "unauthenticated").await;

    let code = code_for(&server, ADA).await;
    let verify = |code: &str| json!({"phone_number": ADA, "code": code});
    failed(call(&server, "POST /auth/verify-phone", None, &verify(&code)).await, 401, "totp_required").await;
    ok(call(&server, "POST /auth/verify-phone", None, &verify(&totp_at(&server))).await).await;
    server.stop().await;
}

#[tokio::test]
async fn an_authenticator_proves_no_number() {
    let mut users = None;
    let server = TestServer::on(
        Arc::new(TempDir::new().unwrap()),
        |_| {},
        |backends| {
            users = Some(backends.stores.users.clone());
            backends
        },
    )
    .await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    switch_on(users.unwrap().as_ref(), ada.user["id"].as_str().unwrap().parse().unwrap()).await;
    // Whoever registered the number has its password and its authenticator, but no code that was sent to it.
    let by_password = json!({"phone_number": ADA, "password": "correct horse"});
    failed(call(&server, "POST /auth/login", None, &by_password).await, 401, "totp_required").await;
    let verify = json!({"phone_number": ADA, "code": totp_at(&server)});
    failed(call(&server, "POST /auth/verify-phone", None, &verify).await, 400, "bad_request").await;
    let me = ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    assert_eq!(me["is_verified"], false);
    let login = json!({"phone_number": ADA, "verification_code": totp_at(&server)});
    let login = ok(call(&server, "POST /auth/login", None, &login).await).await;
    assert_eq!(login["user"]["is_verified"], false);
    server.stop().await;
}

#[tokio::test]
async fn a_login_that_fails_after_its_second_factor_leaves_the_ticket_open() {
    let wire = Arc::new(Wire::default());
    let mut users = None;
    let server = TestServer::on(
        Arc::new(TempDir::new().unwrap()),
        |_| {},
        |backends| {
            users = Some(backends.stores.users.clone());
            wire.accounts(backends)
        },
    )
    .await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    switch_on(users.unwrap().as_ref(), ada.user["id"].as_str().unwrap().parse().unwrap()).await;
    let by_password = json!({"phone_number": ADA, "password": "correct horse"});
    failed(call(&server, "POST /auth/login", None, &by_password).await, 401, "totp_required").await;
    let in_code_field =
        async || call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": totp_at(&server)})).await;
    wire.fail("insert_session");
    failed(in_code_field().await, 503, "unavailable").await;
    server.clock.advance(Duration::from_secs(60));
    ok(in_code_field().await).await;
    server.clock.advance(Duration::from_secs(60));
    failed(in_code_field().await, 401, "unauthenticated").await;
    server.stop().await;
}

/// 20 bytes, as base32 and plain.
const SECRET: (&str, &[u8]) = ("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", b"12345678901234567890");

async fn switch_on(users: &dyn UserStore, id: UserId) {
    let mut record = users.user(id).await.unwrap().unwrap();
    record.version += 1;
    record.totp = Some(Totp { secret: SECRET.0.to_owned(), enabled: true, ..Totp::default() });
    users.replace_user(&record).await.unwrap();
}

/// What an authenticator app shows now (RFC 6238).
fn totp_at(server: &TestServer) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.1).unwrap();
    mac.update(&(server.clock.now().seconds() / 30).to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 15);
    let word = u32::from_be_bytes([digest[offset] & 127, digest[offset + 1], digest[offset + 2], digest[offset + 3]]);
    format!("{:06}", word % 1_000_000)
}

#[tokio::test]
async fn a_code_takes_five_wrong_tries_and_a_number_fifteen_a_day() {
    let server = TestServer::start().await;
    sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    for round in 0..3 {
        let code = code_for(&server, ADA).await;
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for _ in 0..5 {
            let command = json!({"phone_number": ADA, "code": wrong});
            failed(call(&server, "POST /auth/verify-phone", None, &command).await, 400, "bad_request").await;
        }
        let right = call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": code})).await;
        assert!(right.headers().contains_key("retry-after"), "round {round}");
        failed(right, 429, "rate_limited").await;
    }
    let code = code_for(&server, ADA).await;
    let right = json!({"phone_number": ADA, "code": code});
    failed(call(&server, "POST /auth/verify-phone", None, &right).await, 429, "rate_limited").await;
    server.clock.advance(Duration::from_hours(24));
    let code = code_for(&server, ADA).await;
    ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": ADA, "code": code})).await).await;
    server.stop().await;
}

#[tokio::test]
async fn of_parallel_guesses_no_more_than_five_are_looked_at() {
    let server = TestServer::start().await;
    let code = code_for(&server, ADA).await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let command = json!({"phone_number": ADA, "code": wrong});
    let all = futures_util::future::join_all((0..20).map(|_| call(&server, "POST /auth/verify-phone", None, &command))).await;
    assert_eq!(all.iter().filter(|answer| answer.status() == 400).count(), 5);
    assert_eq!(all.iter().filter(|answer| answer.status() == 429).count(), 15);
    server.stop().await;
}

#[tokio::test]
async fn codes_expire_after_ten_minutes_and_a_new_one_replaces_the_old() {
    let server = TestServer::start().await;
    let old = code_for(&server, ADA).await;
    server.clock.advance(Duration::from_mins(10));
    let command = |code: &str| json!({"phone_number": ADA, "code": code});
    failed(call(&server, "POST /auth/verify-phone", None, &command(&old)).await, 400, "bad_request").await;
    let first = code_for(&server, ADA).await;
    let second = code_for(&server, ADA).await;
    if first != second {
        failed(call(&server, "POST /auth/verify-phone", None, &command(&first)).await, 400, "bad_request").await;
    }
    ok(call(&server, "POST /auth/verify-phone", None, &command(&second)).await).await;
    server.stop().await;
}

#[tokio::test]
async fn sending_is_limited_per_number_and_what_does_not_go_out_is_not_counted() {
    let server = TestServer::with(|config| config.sms.daily_budget = Some(10_000)).await;
    let ask = json!({"phone_number": ADA});
    server.sms.set_down(true);
    for _ in 0..3 {
        failed(call(&server, "POST /auth/send-code", None, &ask).await, 503, "sms_unavailable").await;
    }
    server.sms.set_down(false);
    for hour in 0..2 {
        for _ in 0..5 {
            ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
            let refused = call(&server, "POST /auth/send-code", None, &ask).await;
            assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 60 || hour > 0);
            failed(refused, 429, "rate_limited").await;
            server.clock.advance(Duration::from_mins(1));
        }
        failed(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited").await;
        server.clock.advance(Duration::from_hours(1));
    }
    failed(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited").await;
    ok(call(&server, "POST /auth/send-code", None, &json!({"phone_number": "+12025550102"})).await).await;
    assert_eq!(server.sms.count(ADA), 10);
    server.stop().await;
}

#[tokio::test]
async fn numbers_of_other_countries_get_no_code_where_countries_are_listed() {
    let server = TestServer::with(|config| config.sms.countries = vec![urge::phone::Country::US]).await;
    ok(call(&server, "POST /auth/send-code", None, &json!({"phone_number": ADA})).await).await;
    failed(call(&server, "POST /auth/send-code", None, &json!({"phone_number": "+4915123456789"})).await, 403, "forbidden").await;
    failed(call(&server, "POST /auth/send-code", None, &Value::Null).await, 422, "validation_error").await;
    server.stop().await;
}
