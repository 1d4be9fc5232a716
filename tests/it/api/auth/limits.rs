//! What bounds guessing and sending: wrong passwords, storms of logins, codes by number, address, network and in all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use urge::phone::Country;

use super::{call, code_for, failed, ok, sign_up};
use crate::support::{PATIENCE, TestServer};

const ADA: &str = "+12025550101";
const BOB: &str = "+12025550102";

/// Checks that the answer says when to come back, at least and at most in so many seconds.
async fn told_to_wait(response: Response, status: u16, code: &str, seconds: std::ops::RangeInclusive<u64>) {
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds.contains(&wait), "{wait}");
    failed(response, status, code).await;
}

async fn log_in(server: &TestServer, phone: &str, password: &str) -> Response {
    call(server, "POST /auth/login", None, &json!({"phone_number": phone, "password": password})).await
}

#[tokio::test]
async fn thirty_wrong_passwords_are_a_quarter_of_an_hour() {
    let server = TestServer::with(|config| config.rate_limit = true).await;
    for phone in [ADA, BOB] {
        sign_up(&server, &json!({"phone_number": phone, "password": "correct horse"})).await;
    }
    for n in 0..30 {
        failed(log_in(&server, ADA, "wrong horse").await, 401, "unauthenticated").await;
        if n == 15 {
            // A right one does not count.
            ok(log_in(&server, ADA, "correct horse").await).await;
        }
    }
    for password in ["wrong horse", "correct horse"] {
        told_to_wait(log_in(&server, ADA, password).await, 429, "rate_limited", 600..=900).await;
    }
    // Others are not concerned, and the owner has another way in.
    ok(log_in(&server, BOB, "correct horse").await).await;
    let code = code_for(&server, ADA).await;
    ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": code})).await).await;
    // A number without an account is guessed at no longer than one with.
    let unknown = "+12025550199";
    for _ in 0..30 {
        failed(log_in(&server, unknown, "wrong horse").await, 401, "unauthenticated").await;
    }
    told_to_wait(log_in(&server, unknown, "wrong horse").await, 429, "rate_limited", 600..=900).await;
    server.clock.advance(Duration::from_mins(15));
    failed(log_in(&server, ADA, "correct horse").await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_slows_logins_alone() {
    // Each node has threads of its own.
    let server = TestServer::alone(|config| config.auth.hashing_threads = 1).await;
    let ada = sign_up(&server, &json!({"phone_number": ADA, "password": "correct horse"})).await;
    let bob = sign_up(&server, &json!({"phone_number": BOB})).await;
    let command = json!({"type": "DIRECT", "participant_ids": [bob.user["id"]]});
    let place = ok(call(&server, "POST /conversations", Some(&ada.token), &command).await).await["id"].clone();
    let begin = Instant::now();
    let storm = join_all((0..60).map(async |_| {
        let response = log_in(&server, ADA, "correct horse").await;
        (response, begin.elapsed())
    }));
    let talk = async {
        let mut slowest = Duration::ZERO;
        for n in 0..20 {
            let asked = Instant::now();
            let message = json!({"conversation_id": place, "content": format!("meanwhile {n}")});
            ok(call(&server, "POST /messages", Some(&bob.token), &message).await).await;
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(storm, talk);
    let mut counts = [0, 0];
    for (response, took) in answers {
        // Those that wait in line meet their deadline of 3 s; the rest is what a busy machine takes to find the time.
        assert!(took < PATIENCE, "{took:?}");
        if response.status() == 200 {
            counts[0] += 1;
        } else {
            counts[1] += 1;
            told_to_wait(response, 503, "unavailable", 1..=5).await;
        }
    }
    // One is computed and 32 wait; what comes on top is refused.
    assert!(counts[0] >= 1 && counts[1] >= 20, "{counts:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    // It is over as soon as it is over.
    ok(log_in(&server, ADA, "correct horse").await).await;
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
    for _ in 0..2 {
        for _ in 0..5 {
            ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
            // One a minute …
            told_to_wait(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited", 1..=60).await;
            server.clock.advance(Duration::from_mins(1));
        }
        // … five an hour, the first of them five minutes ago …
        told_to_wait(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited", 3_200..=3_300).await;
        server.clock.advance(Duration::from_hours(1));
    }
    // … and ten a day.
    told_to_wait(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited", 70_000..=86_400).await;
    ok(call(&server, "POST /auth/send-code", None, &json!({"phone_number": "+12025550102"})).await).await;
    assert_eq!(server.sms.count(ADA), 10);
    server.stop().await;
}

/// Asks for a code as a client behind a trusted proxy does.
async fn ask_from(server: &TestServer, address: &str, route: &str, phone: &str) -> Response {
    let request = server.request(reqwest::Method::POST, route).header("x-forwarded-for", address);
    request.header("content-type", "application/json").body(json!({"phone_number": phone}).to_string()).send().await.unwrap()
}

#[tokio::test]
async fn sending_is_limited_by_address_and_by_network() {
    let server = TestServer::with(|config| {
        config.rate_limit = true;
        config.sms.daily_budget = Some(10_000);
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut numbers = (200..).map(|n| format!("+1202555{n:04}"));
    let mut ask = async |address: &str| ask_from(&server, address, "/auth/send-code", &numbers.next().unwrap()).await;
    for (one, beside, network, elsewhere) in [
        ("192.0.2.1", "192.0.2.2", ["192.0.2.3", "192.0.2.4", "192.0.2.5"], "198.51.100.1"),
        // One subscriber has a /64, and who is handed out a /48 has many of them.
        ("2001:db8:1:1::1", "2001:db8:1:2::1", ["2001:db8:1:3::1", "2001:db8:1:4::1", "2001:db8:1:5::1"], "2001:db8:2:1::1"),
    ] {
        for n in 0..10 {
            let address = if n % 2 == 1 && one.contains(':') { "2001:db8:1:1:ffff::2" } else { one };
            ok(ask(address).await).await;
        }
        told_to_wait(ask(one).await, 429, "rate_limited", 3_000..=3_600).await;
        for address in [beside, network[0], network[1], network[2]] {
            for _ in 0..10 {
                ok(ask(address).await).await;
            }
        }
        let another = if one.contains(':') { "2001:db8:1:6::1" } else { "192.0.2.6" };
        told_to_wait(ask(another).await, 429, "rate_limited", 3_000..=3_600).await;
        ok(ask(elsewhere).await).await;
    }
    server.clock.advance(Duration::from_hours(1));
    ok(ask("192.0.2.1").await).await;
    // Whatever is asked for counts: a code to log in with, one to reset a password with.
    let mut asked = 1;
    for route in ["/auth/send-verification", "/auth/forgot-password"].into_iter().cycle().take(9) {
        asked += 1;
        ok(ask_from(&server, "192.0.2.1", route, &format!("+1202555{:04}", 4_000 + asked)).await).await;
    }
    told_to_wait(ask_from(&server, "192.0.2.1", "/auth/forgot-password", "+12025554999").await, 429, "rate_limited", 3_000..=3_600).await;
    server.stop().await;
}

#[tokio::test]
async fn a_budget_that_is_spent_is_503_and_holds_nothing_against_the_number() {
    let server = TestServer::with(|config| config.sms.daily_budget = Some(12)).await;
    let ask = async |route: &str, phone: &str| call(&server, route, None, &json!({"phone_number": phone})).await;
    for phone in ["+12025550111", "+12025550112"] {
        ok(ask("POST /auth/send-code", phone).await).await;
    }
    for _ in 0..7 {
        for route in ["POST /auth/send-code", "POST /auth/send-verification", "POST /auth/forgot-password"] {
            told_to_wait(ask(route, ADA).await, 503, "sms_unavailable", 3_000..=3_600).await;
        }
    }
    // Had the tries counted, there would be no code for this number for a day.
    server.clock.advance(Duration::from_hours(1));
    ok(ask("POST /auth/send-code", ADA).await).await;
    assert_eq!(server.sms.count(ADA), 1);
    // Two an hour make twelve, and a day has no more.
    for sent in 3..12 {
        server.clock.advance(Duration::from_mins(30));
        ok(ask("POST /auth/send-code", &format!("+1202555{:04}", 300 + sent)).await).await;
    }
    server.clock.advance(Duration::from_hours(1));
    told_to_wait(ask("POST /auth/send-code", BOB).await, 503, "sms_unavailable", 3_600..=86_400).await;
    server.stop().await;
}

#[tokio::test]
async fn a_number_that_gets_no_messages_is_named() {
    let server = TestServer::with(|config| config.sms.daily_budget = Some(10_000)).await;
    let ask = json!({"phone_number": ADA});
    server.sms.set_refusing(true);
    for route in ["POST /auth/send-code", "POST /auth/send-verification"] {
        let refused = failed(call(&server, route, None, &ask).await, 422, "validation_error").await;
        assert_eq!(refused["detail"][0]["loc"], json!(["body", "phone_number"]));
        assert_eq!(refused["message"], "this number cannot receive SMS");
        server.clock.advance(Duration::from_mins(1));
    }
    // A reset says nothing about the number, whatever its provider says.
    ok(call(&server, "POST /auth/forgot-password", None, &ask).await).await;
    server.sms.set_refusing(false);
    server.clock.advance(Duration::from_mins(1));
    ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
    server.stop().await;
}

#[tokio::test]
async fn resetting_is_limited_like_sending_and_guessing() {
    let server = TestServer::with(|config| config.sms.daily_budget = Some(10_000)).await;
    sign_up(&server, &json!({"phone_number": ADA})).await;
    for phone in [ADA, BOB] {
        // One without an account is told the same.
        ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": phone})).await).await;
        let again = call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": phone})).await;
        told_to_wait(again, 429, "rate_limited", 1..=60).await;
    }
    let code = server.sms.wait(ADA, 1).await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let with = |code: &str| json!({"phone_number": ADA, "code": code, "new_password": "another horse"});
    let routes = ["POST /auth/verify-reset-code", "POST /auth/reset-password"];
    for n in 0..5 {
        failed(call(&server, routes[n % 2], None, &with(wrong)).await, 400, "bad_request").await;
    }
    for route in routes {
        told_to_wait(call(&server, route, None, &with(&code)).await, 429, "rate_limited", 1..=60).await;
    }
    server.clock.advance(Duration::from_mins(1));
    ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
    let code = server.sms.wait(ADA, 2).await;
    for route in routes {
        ok(call(&server, route, None, &with(&code)).await).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn numbers_of_other_countries_get_no_code_where_countries_are_listed() {
    let server = TestServer::with(|config| config.sms.countries = vec![Country::US]).await;
    ok(call(&server, "POST /auth/send-code", None, &json!({"phone_number": ADA})).await).await;
    failed(call(&server, "POST /auth/send-code", None, &json!({"phone_number": "+4915123456789"})).await, 403, "forbidden").await;
    failed(call(&server, "POST /auth/send-code", None, &Value::Null).await, 422, "validation_error").await;
    server.stop().await;
}
