//! Logging in, and wrong guesses at codes. Passwords are guessed in `limits.rs`, second factors in `second_factor.rs`.

use std::time::Duration;

use serde_json::json;

use super::{call, code_for, failed, ok, sign_up};
use crate::support::TestServer;

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
