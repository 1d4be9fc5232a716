//! The second factor: asked for at every way in, taken from the field that the app has, guessed in vain.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;
use tempfile::TempDir;
use urge::clock::Clock;
use urge::config::Config;
use urge::config::secrecy::Hidden;
use urge::users::Totp;

use super::{Person, call, code_for, failed, ok, sign_up};
use crate::support::TestServer;
use crate::support::wire::Wire;

const ADA: &str = "+12025550101";
const PASSWORD: &str = "correct horse";
/// What the node's keys come of.
const NODES_SECRET: &str = "a secret of sixteen characters or more";
/// 20 bytes, as base32 and plain.
const SECRET: (&str, &[u8]) = ("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", b"12345678901234567890");
const BACKUP_CODES: [&str; 2] = ["ABCDE12345", "ZZZZZ99999"];

/// A node, and Ada, who is verified and has a second factor.
async fn node(change: impl FnOnce(&mut Config)) -> (TestServer, Person) {
    let server = TestServer::with(|config| {
        config.secret_key = Some(Hidden::new(NODES_SECRET.to_owned()));
        change(config);
    })
    .await;
    let ada = ada(&server, true).await;
    (server, ada)
}

/// Ada, who has a second factor, and whose number is perhaps proven.
async fn ada(server: &TestServer, is_verified: bool) -> Person {
    let ada = sign_up(server, &json!({"phone_number": ADA, "password": PASSWORD})).await;
    let backup_codes = BACKUP_CODES.map(as_stored).to_vec();
    let switch_on = |record: &mut urge::users::UserRecord| {
        record.is_verified = is_verified;
        record.totp = Some(Totp { secret: SECRET.0.to_owned(), enabled: true, backup_codes: backup_codes.clone(), ..Totp::default() });
        Ok(())
    };
    server.services.users.change(ada.user["id"].as_str().unwrap().parse().unwrap(), switch_on).await.unwrap();
    ada
}

/// A backup code as it is kept: its hash under the node's key for codes.
fn as_stored(code: &str) -> String {
    let tag = |key: &[u8], parts: &[&[u8]]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes()
    };
    let root = tag(b"urge", &[NODES_SECRET.as_bytes()]);
    let key = tag(&root, &[b"one-time code", &[1]]);
    let hash = tag(&key, &[b"backup", code.as_bytes()]);
    hash.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// What an authenticator app shows now.
fn shown(server: &TestServer) -> String {
    code_of_step(server.clock.now().seconds() / 30)
}

/// The code of a time step (RFC 6238).
fn code_of_step(step: i64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.1).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 15);
    let word = u32::from_be_bytes([digest[offset] & 127, digest[offset + 1], digest[offset + 2], digest[offset + 3]]);
    format!("{:06}", word % 1_000_000)
}

/// A code that no step near now has.
fn wrong(server: &TestServer) -> &'static str {
    let now = server.clock.now().seconds() / 30;
    let near: Vec<_> = (now - 3..=now + 3).map(code_of_step).collect();
    ["000000", "000001", "000002", "000003", "000004", "000005", "000006", "000007"]
        .into_iter()
        .find(|code| near.iter().all(|n| n != code))
        .unwrap()
}

fn by_password(totp: Option<&str>) -> Value {
    json!({"phone_number": ADA, "password": PASSWORD, "totp_code": totp})
}

fn in_code_field(code: &str) -> Value {
    json!({"phone_number": ADA, "verification_code": code})
}

async fn login(server: &TestServer, command: &Value) -> reqwest::Response {
    call(server, "POST /auth/login", None, command).await
}

#[tokio::test]
async fn it_is_asked_for_and_taken_from_the_code_field() {
    let (server, _) = node(|_| {}).await;
    failed(login(&server, &in_code_field(&shown(&server))).await, 401, "unauthenticated").await;
    failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
    failed(login(&server, &in_code_field(wrong(&server))).await, 401, "unauthenticated").await;
    let used = shown(&server);
    ok(login(&server, &in_code_field(&used)).await).await;
    failed(login(&server, &by_password(Some(&used))).await, 401, "totp_required").await;

    server.clock.advance(Duration::from_mins(1));
    ok(login(&server, &by_password(Some(&shown(&server)))).await).await;

    let code = code_for(&server, ADA).await;
    failed(login(&server, &in_code_field(&code)).await, 401, "totp_required").await;
    server.clock.advance(Duration::from_mins(6));
    failed(login(&server, &in_code_field(&shown(&server))).await, 401, "unauthenticated").await;

    let code = code_for(&server, ADA).await;
    let verify = |code: &str| json!({"phone_number": ADA, "code": code});
    failed(call(&server, "POST /auth/verify-phone", None, &verify(&code)).await, 401, "totp_required").await;
    ok(call(&server, "POST /auth/verify-phone", None, &verify(&shown(&server))).await).await;
    server.stop().await;
}

#[tokio::test]
async fn a_login_ticket_takes_five_tries_and_a_backup_code_is_as_good_once() {
    let (server, _) = node(|_| {}).await;
    let refused = failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
    assert!(refused["message"].as_str().unwrap().contains("backup code"), "the app shows what to type: {refused}");
    for _ in 0..5 {
        failed(login(&server, &in_code_field(wrong(&server))).await, 401, "unauthenticated").await;
    }
    failed(login(&server, &in_code_field(&shown(&server))).await, 401, "unauthenticated").await;
    // A right password opens another one.
    failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
    ok(login(&server, &in_code_field(&shown(&server))).await).await;

    for (n, typed) in ["abcde-12345", BACKUP_CODES[1]].iter().enumerate() {
        failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
        ok(login(&server, &in_code_field(typed)).await).await;
        failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
        failed(login(&server, &in_code_field(BACKUP_CODES[n])).await, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn fifteen_wrong_ones_are_a_day() {
    let (server, _) = node(|_| {}).await;
    for n in 0..15 {
        // By every way in; each new one needs the password again.
        let command = if n % 3 == 0 { by_password(Some(wrong(&server))) } else { in_code_field(wrong(&server)) };
        let code = if n % 3 == 0 { "totp_required" } else { "unauthenticated" };
        failed(login(&server, &command).await, 401, code).await;
    }
    for command in [by_password(Some(&shown(&server))), by_password(Some(BACKUP_CODES[0])), in_code_field(&shown(&server))] {
        let refused = login(&server, &command).await;
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(wait > 80_000 && wait <= 86_400, "{wait}");
        failed(refused, 429, "rate_limited").await;
    }
    server.clock.advance(Duration::from_hours(24));
    ok(login(&server, &by_password(Some(&shown(&server)))).await).await;
    server.stop().await;
}

#[tokio::test]
async fn it_stays_on_when_the_password_is_reset() {
    let (server, ada) = node(|_| {}).await;
    ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
    let code = server.sms.wait(ADA, 1).await;
    let reset = json!({"phone_number": ADA, "code": code, "new_password": "another horse"});
    ok(call(&server, "POST /auth/reset-password", None, &reset).await).await;
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    let with = |totp: Option<&str>| json!({"phone_number": ADA, "password": "another horse", "totp_code": totp});
    failed(login(&server, &with(None)).await, 401, "totp_required").await;
    ok(login(&server, &with(Some(&shown(&server)))).await).await;
    server.stop().await;
}

#[tokio::test]
async fn an_authenticator_proves_no_number() {
    let server = TestServer::start().await;
    let ada = ada(&server, false).await;
    // Whoever registered the number has its password and its authenticator, but no code that was sent to it.
    failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
    let verify = json!({"phone_number": ADA, "code": shown(&server)});
    failed(call(&server, "POST /auth/verify-phone", None, &verify).await, 400, "bad_request").await;
    let me = ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    assert_eq!(me["is_verified"], false);
    let login = ok(login(&server, &in_code_field(&shown(&server))).await).await;
    assert_eq!(login["user"]["is_verified"], false);
    server.stop().await;
}

#[tokio::test]
async fn a_login_that_fails_after_its_second_factor_leaves_the_ticket_open() {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.accounts(backends)).await;
    ada(&server, false).await;
    failed(login(&server, &by_password(None)).await, 401, "totp_required").await;
    wire.fail("insert_session");
    failed(login(&server, &in_code_field(&shown(&server))).await, 503, "unavailable").await;
    server.clock.advance(Duration::from_mins(1));
    ok(login(&server, &in_code_field(&shown(&server))).await).await;
    server.clock.advance(Duration::from_mins(1));
    failed(login(&server, &in_code_field(&shown(&server))).await, 401, "unauthenticated").await;
    server.stop().await;
}
