//! What the server says of itself, in the words of each door: `authenticated`, acks and errors.
//! Events that all sockets share are encoded by [`super::Outgoing`].

use serde::Serialize;
use serde_json::Value;

use super::Door;
use crate::id::UserId;

/// The longest ack id that is echoed, in bytes of JSON.
pub const MAX_ACK_ID: usize = 64;

/// The id that an ack repeats: the JSON of `id` on `/ws`, digits on Socket.IO.
pub type AckId = Box<str>;

#[derive(Serialize)]
struct Authenticated {
    #[serde(rename = "userId")]
    user_id: UserId,
}

/// The server's own event `name` with this data.
pub fn event(door: Door, name: &str, data: &Value) -> String {
    match door {
        Door::WebSocket => format!(r#"{{"event":"{name}","data":{data}}}"#),
        Door::SocketIo => format!(r#"42["{name}",{data}]"#),
    }
}

/// `authenticated {userId}`.
pub fn authenticated(door: Door, user_id: UserId) -> String {
    event(door, "authenticated", &serde_json::json!(Authenticated { user_id }))
}

/// The ack of a command that was carried out; `data` is JSON.
pub fn ack(door: Door, id: &str, data: &[u8]) -> String {
    let data = if data.is_empty() { "null".into() } else { String::from_utf8_lossy(data) };
    match door {
        Door::WebSocket => format!(r#"{{"event":"ack","id":{id},"data":{data}}}"#),
        Door::SocketIo => format!("43{id}[{data}]"),
    }
}

/// The ack of a command that was not; on Socket.IO it is one argument, `{"error": …}`.
pub fn refusal(door: Door, id: &str, failure: &Value) -> String {
    match door {
        Door::WebSocket => format!(r#"{{"event":"ack","id":{id},"error":{failure}}}"#),
        Door::SocketIo => format!(r#"43{id}[{{"error":{failure}}}]"#),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn both_doors_speak_json() {
        let user = UserId::fresh();
        let ws = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let sio = |text: String, prefix: &str| serde_json::from_str::<Value>(text.strip_prefix(prefix).unwrap()).unwrap();
        assert_eq!(ws(authenticated(Door::WebSocket, user)), json!({"event": "authenticated", "data": {"userId": user}}));
        assert_eq!(sio(authenticated(Door::SocketIo, user), "42"), json!(["authenticated", {"userId": user}]));
        assert_eq!(ws(ack(Door::WebSocket, "7", b"{}")), json!({"event": "ack", "id": 7, "data": {}}));
        assert_eq!(sio(ack(Door::SocketIo, "7", b""), "437"), json!([null]));
        assert_eq!(
            ws(refusal(Door::WebSocket, "\"a\"", &json!({"code": "x"}))),
            json!({"event": "ack", "id": "a", "error": {"code": "x"}})
        );
        assert_eq!(sio(refusal(Door::SocketIo, "0", &json!({"code": "x"})), "430"), json!([{"error": {"code": "x"}}]));
    }
}
