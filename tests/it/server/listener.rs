//! The listener under clients that are slow, many or gone.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use urge::config::Config;

use crate::support::{PATIENCE, TestServer};

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// Everything until the node closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the node did not close the connection");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.server.header_timeout = Duration::from_millis(100)).await;
    let mut silent = connect(&server).await;
    assert_eq!(rest(&mut silent).await, "");
    let mut slow = connect(&server).await;
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop().await;
}

/// Asks for `/health` on a connection that stays, and reads the answer.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let whole = async {
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
    };
    timeout(PATIENCE, whole).await.expect("no answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_over_the_limit_wait_and_are_not_lost() {
    let server = TestServer::with(|config| config.server.max_connections = 1).await;
    let mut first = connect(&server).await;
    ask(&mut first).await;
    let mut second = connect(&server).await;
    second.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    // The node is awake and answers whom it serves; the one in the queue it does not.
    for _ in 0..20 {
        ask(&mut first).await;
    }
    let early = second.try_read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock, "it was answered over the limit");
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test]
async fn stopping_finishes_what_has_begun_and_takes_nothing_new() {
    let server = TestServer::start().await;
    let (address, sms) = (server.address, std::sync::Arc::clone(&server.sms));
    let mut idle = connect(&server).await;
    ask(&mut idle).await;
    // Who has just connected: his request is on its way.
    let mut fresh = connect(&server).await;
    // A request whose body is still on its way: the node asks for it, so it has begun.
    let body = r#"{"phone_number": "+12025550101"}"#;
    let mut begun = connect(&server).await;
    let head = "POST /auth/send-code HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue";
    begun.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    timeout(PATIENCE, begun.read_exact(&mut asked)).await.unwrap().unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&asked));

    let stopping = tokio::spawn(server.stop());
    assert_eq!(rest(&mut idle).await, "", "who says nothing is sent away");
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it goes on taking connections");
    fresh.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = rest(&mut fresh).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!stopping.is_finished(), "it waits for what has begun");
    begun.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut begun).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(sms.count("+12025550101"), 1);
    stopping.await.unwrap();
}

/// Holds the answer of a raw connection to the envelope.
fn refusal(answer: &str, status: &str, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n") && head.contains("\r\nconnection: close"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["success"], &body["code"]), (&false.into(), &code.into()));
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()) && body["detail"] == body["message"], "{body}");
}

/// What the engine answers by itself: bytes, status, code.
fn unparsed() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let get = "GET /health HTTP/1.1\r\nhost: x\r\n";
    let headers = "x-many: 1\r\n".repeat(200);
    vec![
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400", "bad_request"),
        (b"GET\r\n\r\n".to_vec(), "400", "bad_request"),
        (b"\0\0\0\0\r\n\r\n".to_vec(), "400", "bad_request"),
        (format!("{get}content-length: x\r\n\r\n").into_bytes(), "400", "bad_request"),
        (format!("{get}transfer-encoding: gzip\r\n\r\n").into_bytes(), "400", "bad_request"),
        (format!("{get}{headers}\r\n").into_bytes(), "431", "too_large"),
        (format!("{get}x-long: {}\r\n\r\n", "x".repeat(200_000)).into_bytes(), "431", "too_large"),
    ]
}

#[tokio::test]
async fn what_cannot_be_parsed_is_refused_with_the_envelope() {
    let server = TestServer::start().await;
    for (nonsense, status, code) in unparsed() {
        let mut stream = connect(&server).await;
        // It may not be read to its end.
        let _ = stream.write_all(&nonsense).await;
        refusal(&rest(&mut stream).await, status, code);
        // On a connection that was good so far it is the same.
        let mut stream = connect(&server).await;
        for _ in 0..2 {
            ask(&mut stream).await;
        }
        let _ = stream.write_all(&nonsense).await;
        refusal(&rest(&mut stream).await, status, code);
    }
    assert_eq!(server.get("/health").await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn our_own_refusals_leave_as_they_are() {
    let server = TestServer::start().await;
    let mut stream = connect(&server).await;
    let login = |body: &str, rest: &str| {
        let head = format!("POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{rest}");
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    };
    // One after the other, and then two at once and nonsense behind them.
    for _ in 0..2 {
        stream.write_all(login("{", "").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-request-id: "), "{answer}");
    }
    stream.write_all(format!("{}{}GET\r\n\r\n", login("{", ""), login("[", "")).as_bytes()).await.unwrap();
    let answers = rest(&mut stream).await;
    let answers: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
    let [first, second, last] = answers[..] else { panic!("{answers:?}") };
    assert!([first, second].iter().all(|answer| answer.starts_with("400 ") && answer.contains("x-request-id: ")), "{answers:?}");
    refusal(&format!("HTTP/1.1 {last}"), "400", "bad_request");
    assert!(!last.contains("x-request-id"), "{last}");
    server.stop().await;
}

#[tokio::test]
async fn who_asks_and_never_reads_is_cut_off() {
    let server = TestServer::with(|config| config.server.write_timeout = Duration::from_millis(300)).await;
    let mut stream = connect(&server).await;
    // Answers pile up until nothing more fits between the two; then the node reads no more requests, and waits.
    let asking = async { while stream.write_all(&b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100)).await.is_ok() {} };
    timeout(2 * PATIENCE, asking).await.expect("it is waited for without end");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nurge_connections_stalled_total "), "{metrics}");
    server.stop().await;
}

/// A connection from this address of the machine.
async fn connect_from(source: &str, server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn one_address_does_not_get_all_connections() {
    let limited = |config: &mut Config| (config.rate_limit, config.server.connections_per_network) = (true, 3);
    let server = TestServer::with(limited).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&server).await;
        ask(&mut stream).await;
        taken.push(stream);
    }
    let refused = rest(&mut connect(&server).await).await;
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after: 1"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["success"], &body["code"]), (&false.into(), &"rate_limited".into()));
    assert_eq!(body["detail"], body["message"]);
    ask(&mut connect_from("127.0.0.2", &server).await).await;

    taken.pop();
    let again = async {
        loop {
            let mut stream = connect(&server).await;
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            // One that is turned away may see its connection reset.
            let _ = stream.read_to_end(&mut answer).await;
            if answer.starts_with(b"HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("its place is not given back");
    drop(taken);
    server.stop().await;

    let behind_proxies = TestServer::with(|config| {
        limited(config);
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let mut proxied = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&behind_proxies).await;
        ask(&mut stream).await;
        proxied.push(stream);
    }
    drop(proxied);
    behind_proxies.stop().await;
}
