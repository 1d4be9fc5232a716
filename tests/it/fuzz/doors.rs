//! Frames of both doors, payloads of long-polling, handshakes, cursors and tokens.

use bolero::check;
use serde_json::value::RawValue;
use urge::error::ErrorCode;
use urge::gateway::Command;
use urge::gateway::socketio::engine::{self, Handshake};
use urge::gateway::socketio::packet;
use urge::gateway::websocket::Frame;
use urge::id::ConversationId;
use urge::page::Cursor;

use super::compose;
use crate::support::{People, TestServer};

/// Every command of a client.
const EVENTS: [&str; 9] = [
    "join:conversation",
    "leave:conversation",
    "message:sent",
    "message:delivered",
    "message:read",
    "typing:start",
    "typing:stop",
    "resume",
    "authenticate",
];

const JSON: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "1",
    "-1",
    "1e400",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\u{1e}",
    "\"event\":",
    "\"data\":",
    "\"id\":",
    "\"conversationId\":",
    "\"conversation_id\":",
    "\"messageId\":",
    "\"content\":",
    "\"known\":",
    "\"token\":",
    "\"0190f3f0-7f6c-7c3e-9a55-0b1f6f7f9a11\"",
    "\"message:sent\"",
    "\"resume\"",
    "\"join:conversation\"",
    "\"typing:start\"",
    "42",
    "420",
    "40",
    "41",
    "44",
    "2probe",
    "b",
    "/chat,",
    "{}",
    "\"x\"",
];

#[test]
fn frames_of_the_plain_door() {
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &JSON);
        if let Ok(frame) = Frame::parse(&text) {
            let _ = Command::parse(&frame.event, frame.data);
        }
    });
}

#[test]
fn commands() {
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &JSON);
        let Ok(data) = serde_json::from_str::<Box<RawValue>>(&text) else { return };
        for event in EVENTS {
            let _ = Command::parse(event, Some(&data));
        }
    });
}

#[test]
fn packets_of_engine_io_and_socket_io() {
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &JSON);
        let parts: Vec<&str> = engine::packets(&text).collect();
        assert_eq!(parts.join("\u{1e}"), text, "a payload is cut without loss");
        for part in parts {
            if let Some(engine::Packet::Message(message)) = engine::Packet::parse(part) {
                let _ = packet::Packet::parse(message);
            }
        }
    });
}

#[test]
fn handshakes() {
    let pieces = ["EIO=", "4", "3", "&", "=", "transport=", "polling", "websocket", "sid=", "%00", "%", "j=1", "b64=1", "t="];
    check!().for_each(|bytes: &[u8]| {
        let _ = Handshake::parse(&compose(bytes, &pieces));
    });
}

#[test]
fn cursors() {
    check!().for_each(|bytes: &[u8]| {
        let pieces = ["eyJ", "WyJ", "bGlzdCIs", "MTIz", "XQ", "=", "-", "_"];
        match Cursor::from_text(compose(bytes, &pieces)).open::<(i64, ConversationId)>("list") {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code, ErrorCode::Invalid),
        }
    });
}

#[test]
fn cursors_come_back_as_they_went() {
    check!().with_type::<(i64, u128)>().for_each(|(number, id)| {
        let place = (*number, ConversationId(uuid::Uuid::from_u128(*id)));
        let cursor = Cursor::from_text(Cursor::new("list", &place).into_text());
        assert_eq!(cursor.open::<(i64, ConversationId)>("list").unwrap(), place);
        assert!(cursor.open::<(i64, ConversationId)>("other").is_err(), "a cursor is good for its own list alone");
    });
}

#[test]
fn tokens() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let people = People::of(runtime.block_on(TestServer::start()));
    let token = runtime.block_on(people.person("Ada")).token;
    let auth = std::sync::Arc::clone(&people.server.services.auth);
    assert!(runtime.block_on(auth.authenticate(&token)).is_ok());
    let check = std::panic::AssertUnwindSafe(|bytes: &[u8]| {
        // A good token with a few bytes replaced, at places that the input names.
        let mut forged = token.clone().into_bytes();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % forged.len();
            forged[at] = change[2] & 0x7f;
        }
        let forged = String::from_utf8(forged).unwrap();
        if forged != token {
            let refusal = runtime.block_on(auth.authenticate(&forged)).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Unauthenticated, "{forged}");
        }
    });
    check!().for_each(move |bytes: &[u8]| {
        let check = &check;
        (check.0)(bytes);
    });
}
