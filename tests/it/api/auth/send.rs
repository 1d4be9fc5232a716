//! What counts when a code is sent, and what happens when it does not go out.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{call, code_for, failed, ok, sign_up};
use crate::support::{PATIENCE, TestServer};

const ADA: &str = "+12025550101";

/// A node that sends as many codes as in production.
async fn limited() -> TestServer {
    TestServer::with(|config| config.sms.daily_budget = Some(10_000)).await
}

#[tokio::test]
async fn a_code_that_does_not_go_out_leaves_the_one_before() {
    let server = TestServer::start().await;
    sign_up(&server, &json!({"phone_number": ADA})).await;
    let code = code_for(&server, ADA).await;
    let ask = json!({"phone_number": ADA});
    server.sms.set_down(true);
    failed(call(&server, "POST /auth/send-code", None, &ask).await, 503, "sms_unavailable").await;
    server.sms.set_down(false);
    server.sms.set_refusing(true);
    failed(call(&server, "POST /auth/send-code", None, &ask).await, 422, "validation_error").await;
    ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": code})).await).await;
    server.stop().await;
}

#[tokio::test]
async fn a_number_that_gets_no_sms_is_counted_all_the_same() {
    let server = limited().await;
    let ask = json!({"phone_number": ADA});
    server.sms.set_refusing(true);
    failed(call(&server, "POST /auth/send-code", None, &ask).await, 422, "validation_error").await;
    failed(call(&server, "POST /auth/send-code", None, &ask).await, 429, "rate_limited").await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_given_up_gives_back_what_it_took() {
    let server = TestServer::with(|config| {
        config.sms.daily_budget = Some(10_000);
        config.server.request_timeout = Duration::from_millis(200);
    })
    .await;
    for route in ["POST /auth/send-code", "POST /auth/send-verification"] {
        server.sms.hold();
        let ask = json!({"phone_number": ADA});
        let (given_up, ()) = tokio::join!(call(&server, route, None, &ask), server.sms.reached());
        failed(given_up, 503, "unavailable").await;
        server.sms.fail_held();
        // Nobody is told when the unit is back.
        let begin = Instant::now();
        loop {
            let answer = call(&server, route, None, &ask).await;
            if answer.status() == 200 {
                break;
            }
            failed(answer, 429, "rate_limited").await;
            assert!(begin.elapsed() < PATIENCE, "what it took is lost");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.clock.advance(Duration::from_mins(1));
    }
    server.stop().await;
}

#[tokio::test]
async fn no_hour_sees_more_codes_than_it_may() {
    let server = limited().await;
    let ask = json!({"phone_number": ADA});
    // One early and four at the end of an hour: the next one waits for the second of them.
    ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
    server.clock.advance(Duration::from_mins(55));
    for _ in 0..4 {
        ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
        server.clock.advance(Duration::from_mins(1));
    }
    server.clock.advance(Duration::from_mins(2));
    ok(call(&server, "POST /auth/send-code", None, &ask).await).await;
    server.clock.advance(Duration::from_mins(2));
    let refused = call(&server, "POST /auth/send-code", None, &ask).await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((40 * 60..=60 * 60).contains(&wait), "{wait}");
    failed(refused, 429, "rate_limited").await;
    server.stop().await;
}
