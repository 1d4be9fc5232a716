//! Bodies that are none: not JSON, of another type, packed, too large, broken off.

use std::io::Write as _;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::good::Stage;
use crate::support::document::{Operation, operations};
use crate::support::{Human, PATIENCE, TestServer, failure};

const LIMIT_BYTES: usize = 1024 * 1024;

/// The calls that read a body, with an id of nothing where one belongs: no body gets as far as being looked up.
fn readers() -> Vec<Operation> {
    operations().into_iter().filter(|operation| operation.fields.is_some()).collect()
}

async fn send(server: &TestServer, caller: &Human, call: &Operation, headers: &[(&str, &str)], body: &[u8]) -> reqwest::Response {
    let route = call.with_id("0197a5a3-0000-7000-8000-000000000000");
    let (method, path) = route.split_once(' ').unwrap();
    let mut request = server.request(method.parse::<Method>().unwrap(), path).body(body.to_vec());
    if call.needs_login {
        request = request.bearer_auth(&caller.token);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn what_is_no_json_object_is_refused_by_every_call() {
    let stage = Stage::set().await;
    let (server, ada) = (&stage.people.server, &stage.ada);
    let deep = "[".repeat(100_000);
    for call in readers() {
        let bodies: [(&str, &[u8]); 7] = [
            ("broken off", b"{\"a\": "),
            ("more behind it", b"{} {}"),
            ("a byte order mark", b"\xef\xbb\xbf{}"),
            ("UTF-16", b"\xff\xfe{\0}\0"),
            ("a form", b"a=b"),
            ("a bare word", b"{a: 1}"),
            ("very deep", deep.as_bytes()),
        ];
        for (what, body) in bodies {
            let refused = send(server, ada, &call, &[JSON], body).await;
            assert_eq!(refused.status(), 400, "{}: {what}", call.route());
            failure(refused, 400, "bad_request").await;
        }
        for other in ["[]", "\"x\"", "7", "true"] {
            let refused = send(server, ada, &call, &[JSON], other.as_bytes()).await;
            assert_eq!(refused.status(), 422, "{}: {other}", call.route());
            assert_eq!(failure(refused, 422, "validation_error").await["detail"][0]["loc"], json!(["body"]));
        }
    }
    stage.people.server.stop().await;
}

#[tokio::test]
async fn another_type_and_a_packed_body_are_415() {
    let stage = Stage::set().await;
    let (server, ada) = (&stage.people.server, &stage.ada);
    for call in readers() {
        for types in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"] {
            failure(send(server, ada, &call, &[("content-type", types)], b"{}").await, 415, "unsupported_media_type").await;
        }
        for coding in ["gzip", "deflate", "br", "gzip, identity"] {
            let refused = send(server, ada, &call, &[JSON, ("content-encoding", coding)], b"\x1f\x8b\x08\0\0\0\0\0").await;
            failure(refused, 415, "unsupported_media_type").await;
        }
    }
    // What changes nothing is understood: a type without a subtype of its own, no coding, no type at all.
    let profile = operations().into_iter().find(|call| call.id == "update_profile").unwrap();
    for headers in [&[JSON, ("content-encoding", "identity")][..], &[("content-type", "application/json; charset=UTF-8")], &[]] {
        assert_eq!(send(server, ada, &profile, headers, b"{\"bio\": \"x\"}").await.status(), 200, "{headers:?}");
    }
    stage.people.server.stop().await;
}

/// Writes these bytes to a connection of its own and returns the answer. An answer may come before all is written.
async fn answer_to(server: &TestServer, bytes: &[u8]) -> String {
    let (mut reads, mut writes) = TcpStream::connect(server.address).await.unwrap().into_split();
    let written = bytes.to_vec();
    let writing = tokio::spawn(async move {
        let _ = writes.write_all(&written).await;
        writes
    });
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    let whole = async {
        while !std::str::from_utf8(&answer).is_ok_and(|text| text.contains("\r\n\r\n{") && text.ends_with('}')) {
            match reads.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(n) => answer.extend_from_slice(&chunk[..n]),
            }
        }
    };
    timeout(PATIENCE, whole).await.expect("no answer");
    writing.abort();
    String::from_utf8(answer).unwrap()
}

fn head(call: &Operation, caller: &Human, more: &str) -> Vec<u8> {
    let route = call.with_id("0197a5a3-0000-7000-8000-000000000000");
    let login = if call.needs_login { format!("authorization: Bearer {}\r\n", caller.token) } else { String::new() };
    format!("{route} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{login}{more}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let stage = Stage::set().await;
    let (server, ada) = (&stage.people.server, &stage.ada);
    let refused = async |call: Operation| {
        // It says so itself, and not a byte of it need come.
        let announced = answer_to(server, &head(&call, ada, &format!("content-length: {}", LIMIT_BYTES + 1))).await;
        let mut chunked = head(&call, ada, "transfer-encoding: chunked");
        for _ in 0..=16 {
            write!(chunked, "{:x}\r\n", LIMIT_BYTES / 16).unwrap();
            chunked.extend(std::iter::repeat_n(b' ', LIMIT_BYTES / 16));
            chunked.extend(b"\r\n");
        }
        let streamed = answer_to(server, &chunked).await;
        for answer in [announced, streamed] {
            assert!(answer.starts_with("HTTP/1.1 413"), "{}: {answer}", call.route());
            let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!((&body["success"], &body["code"], &body["detail"]), (&json!(false), &json!("too_large"), &body["message"]));
        }
    };
    join_all(readers().into_iter().map(refused)).await;
    // A client that writes all of it before it reads a word gets the answer too.
    for call in readers() {
        failure(send(server, ada, &call, &[JSON], &vec![b' '; 2 * LIMIT_BYTES]).await, 413, "too_large").await;
    }
    // A body of just the limit is read.
    let padded = format!("{{\"bio\": \"x\"{}}}", " ".repeat(LIMIT_BYTES - 12));
    assert_eq!(padded.len(), LIMIT_BYTES);
    let profile = operations().into_iter().find(|call| call.id == "update_profile").unwrap();
    assert_eq!(send(server, ada, &profile, &[JSON], padded.as_bytes()).await.status(), 200);
    stage.people.server.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_no_trace() {
    let stage = Stage::set().await;
    let (server, ada) = (&stage.people.server, &stage.ada);
    let send = operations().into_iter().find(|call| call.id == "send_message").unwrap();
    let body = json!({"conversation_id": stage.conversation, "content": "half"}).to_string();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&head(&send, ada, &format!("content-length: {}", body.len()))).await.unwrap();
    stream.write_all(&body.as_bytes()[..body.len() - 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is waited for without end").unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    let history = stage.people.get(ada, &format!("GET /conversations/{}/messages", stage.conversation)).await;
    assert_eq!(history["total"], 1);
    stage.people.server.stop().await;
}
