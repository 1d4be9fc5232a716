//! Twilio's HTTP API, played by a local server: what is sent, and what each of its answers means.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use urge::auth::sms::{Sms, SmsError, Twilio, TwilioAccount};
use urge::phone::Phone;

use crate::support::{Process, World};

/// Answers one request with this status and body, and gives back what it received.
async fn exchange(status: u16, body: &str) -> (String, Result<(), SmsError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let twilio = client(&format!("http://{}/", listener.local_addr().unwrap()));
    let number = Phone::read("+12025550123", None).unwrap();
    tokio::join!(serve_one(&listener, status, body), twilio.send_code(&number, "123456"))
}

/// Answers the next request with this status and body, and gives back what it received.
async fn serve_one(listener: &TcpListener, status: u16, body: &str) -> String {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}", body.len());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    while !is_whole(&received) {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "the request broke off");
    }
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    String::from_utf8(received).unwrap()
}

fn client(base_url: &str) -> Twilio {
    let account = TwilioAccount { base_url: base_url.into(), sid: "AC01".into(), token: "secret".into(), from: "+15005550006".into() };
    Twilio::with_timeout(account, Duration::from_millis(500)).unwrap()
}

fn is_whole(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|length| length.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

#[tokio::test]
async fn a_message_is_a_form_with_basic_auth() {
    let (request, sent) = exchange(201, r#"{"sid": "SM1", "status": "queued"}"#).await;
    sent.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /2010-04-01/Accounts/AC01/Messages.json HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(head.contains("authorization: basic qumwmtpzzwnyzxq="), "{head}");
    assert!(body.starts_with("To=%2B12025550123&From=%2B15005550006&Body=123456+is+your+URGE+code"), "{body}");
}

#[tokio::test]
async fn a_refused_number_is_told_from_a_provider_in_trouble() {
    let (_, sent) = exchange(400, r#"{"code": 21211, "message": "Invalid 'To' Phone Number: +12025550123", "status": 400}"#).await;
    assert!(matches!(&sent, Err(SmsError::Refused(reason)) if !reason.contains("2025550123")), "{sent:?}");
    for (status, body) in [
        (400, r#"{"code": 21606, "message": "the From number is not ours"}"#),
        (401, r#"{"code": 20003, "message": "Authenticate"}"#),
        (429, r#"{"code": 20429, "message": "Too Many Requests"}"#),
        (500, "oops"),
        (302, ""),
    ] {
        let (_, sent) = exchange(status, body).await;
        assert!(matches!(sent, Err(SmsError::Unavailable(_))), "{status}");
    }
}

#[tokio::test]
async fn silence_and_a_closed_port_are_a_provider_in_trouble() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let number = Phone::read("+12025550123", None).unwrap();
    assert!(matches!(client(&address).send_code(&number, "123456").await, Err(SmsError::Unavailable(_))));
    drop(listener);
    let closed = client(&address).send_code(&number, "123456").await;
    assert!(matches!(&closed, Err(SmsError::Unavailable(reason)) if !reason.contains("AC01")), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_node_sends_its_codes_by_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let node = Process::with(&[
        ("URGE_SMS_PROVIDER", "twilio"),
        ("URGE_SMS_TWILIO_ACCOUNT_SID", "AC01"),
        ("URGE_SMS_TWILIO_AUTH_TOKEN", "secret-of-the-account"),
        ("URGE_SMS_TWILIO_FROM", "+15005550006"),
        ("URGE_SMS_TWILIO_URL", &url),
    ])
    .ready();
    let rest = World::at(&node.url()).rest;
    // What costs money is limited, also in development: each number is asked for once.
    let phones = [123, 124, 125].map(|last| json!({"phone_number": format!("+1 (202) 555-0{last}")}));

    let queued = serve_one(&listener, 201, r#"{"sid": "SM1", "status": "queued"}"#);
    let (asked, request) = tokio::join!(rest.post("/auth/send-code", &phones[0]), queued);
    asked.unwrap();
    assert!(request.starts_with("POST /2010-04-01/Accounts/AC01/Messages.json HTTP/1.1\r\n"), "{request}");
    let form = request.split_once("\r\n\r\n").unwrap().1;
    let code = form.strip_prefix("To=%2B12025550123&From=%2B15005550006&Body=").and_then(|body| body.get(..6)).unwrap().to_owned();
    let proven = rest.post("/auth/verify-phone", &json!({"phone_number": "+12025550123", "code": code})).await.unwrap();
    assert_eq!(proven["verified"], true);

    let invalid = serve_one(&listener, 400, r#"{"code": 21211, "message": "Invalid 'To' Phone Number: +12025550123", "status": 400}"#);
    let (refused, _) = tokio::join!(rest.post("/auth/send-code", &phones[1]), invalid);
    let refused = refused.unwrap_err();
    assert_eq!((refused.status(), refused.refusal().unwrap().fields()), (422, vec!["phone_number".to_owned()]));
    let (refused, _) = tokio::join!(rest.post("/auth/send-code", &phones[2]), serve_one(&listener, 500, "oops"));
    let refused = refused.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "sms_unavailable"));
    assert!(refused.refusal().unwrap().retry_after_s.is_some());
    drop(listener);
    let refused = rest.post("/auth/send-code", &phones[2]).await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "sms_unavailable"));
    for private in [code.as_str(), "20255501", "secret-of-the-account"] {
        assert!(!node.has_logged(private), "{private} is nobody's business");
    }
}
