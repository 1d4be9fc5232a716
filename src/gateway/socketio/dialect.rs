//! The app's dialect: everything in which the shipped app differs from the documented events, in this one place.
//! `message:received` carries the snake_case spellings too. A socket that joined a conversation by its bare id gets
//! `message:delivered` as the bare message id, and the presence of the DIRECT peer joined last alone.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{Event, EventKind};
use crate::gateway::Outgoing;
use crate::id::{MessageId, UserId};

/// What is particular about one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    bare: bool,
    peer: Option<UserId>,
}

impl Dialect {
    /// It joined a conversation by its bare id; `peer` is the other person of a DIRECT one. A group leaves the last peer.
    pub fn joined(&mut self, peer: Option<UserId>) {
        self.bare = true;
        self.peer = peer.or(self.peer);
    }

    /// Whether it ever joined by a bare id.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// Whether this socket is told. `receipts` are for `/ws` alone.
    pub fn wants(&self, outgoing: &Outgoing) -> bool {
        match outgoing.event.kind {
            EventKind::Receipts => false,
            EventKind::UserOnline | EventKind::UserOffline if self.bare => outgoing.about() == self.peer,
            _ => true,
        }
    }
}

/// Whose presence an event tells, if it does.
pub fn presence_of(event: &Event) -> Option<UserId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Presence {
        user_id: UserId,
    }
    match event.kind {
        EventKind::UserOnline | EventKind::UserOffline => {
            serde_json::from_slice::<Presence>(&event.data).ok().map(|presence| presence.user_id)
        }
        _ => None,
    }
}

/// The Socket.IO packet of an event, with the Engine.IO type before it: `42["name",data]`.
pub fn encode(event: &Event) -> String {
    let doubled = (event.kind == EventKind::MessageReceived).then(|| doubled(&event.data)).flatten();
    match doubled {
        Some(data) => packet(event.kind, &data),
        None => packet(event.kind, &String::from_utf8_lossy(&event.data)),
    }
}

/// The same for `message:delivered` to a socket that joined by a bare id: the bare message id.
pub fn encode_bare(event: &Event) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Delivered {
        message_id: MessageId,
    }
    match serde_json::from_slice::<Delivered>(&event.data) {
        Ok(delivered) => packet(event.kind, &format!("\"{}\"", delivered.message_id)),
        Err(_) => encode(event),
    }
}

fn packet(kind: EventKind, data: &str) -> String {
    format!(r#"42["{}",{data}]"#, kind.name())
}

/// The object with the snake_case spelling of every camelCase key beside it; its values are copied as they stand.
fn doubled(data: &[u8]) -> Option<String> {
    let Fields(fields) = serde_json::from_slice(data).ok()?;
    let mut text = String::with_capacity(data.len() * 2);
    text.push('{');
    let mut put = |key: &str, value: &RawValue| {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(key);
        text.push_str("\":");
        text.push_str(value.get());
    };
    for (key, value) in &fields {
        put(key, value);
        let snake = snake(key);
        if snake != *key && !fields.iter().any(|(other, _)| *other == snake) {
            put(&snake, value);
        }
    }
    text.push('}');
    Some(text)
}

fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The top-level fields of an object. Keys with escapes are refused: ours have none.
struct Fields<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(32);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_received_message_has_both_spellings() {
        let data = serde_json::json!({"id": "a", "conversationId": "b", "replyTo": {"senderName": "Zoë"}, "type": "TEXT", "content": "conversationId"});
        let text = encode(&Event::new(EventKind::MessageReceived, &data).unwrap());
        let (name, value): (String, serde_json::Value) = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        assert_eq!(name, "message:received");
        assert_eq!(value["conversation_id"], "b");
        assert_eq!(value["conversationId"], "b");
        assert_eq!(value["reply_to"]["senderName"], "Zoë");
        assert_eq!(value.as_object().unwrap().len(), 7);
        let updated = encode(&Event::new(EventKind::MessageUpdated, &data).unwrap());
        assert!(!updated.contains("conversation_id"));
    }

    #[test]
    fn a_spelling_that_is_there_is_not_doubled() {
        let text = doubled(br#"{"messageType":"TEXT","message_type":"TEXT"}"#).unwrap();
        assert_eq!(text, r#"{"messageType":"TEXT","message_type":"TEXT"}"#);
    }

    #[test]
    fn who_joined_by_a_bare_id_hears_of_the_last_peer_alone_and_gets_bare_receipts() {
        let (a, b, message) = (UserId::fresh(), UserId::fresh(), MessageId::fresh());
        let online = |user: UserId| Outgoing::new(Event::new(EventKind::UserOnline, &serde_json::json!({"userId": user})).unwrap(), None);
        let mut dialect = Dialect::default();
        assert!(dialect.wants(&online(a)) && dialect.wants(&online(b)));
        dialect.joined(Some(a));
        assert!(dialect.wants(&online(a)) && !dialect.wants(&online(b)));
        dialect.joined(None);
        assert!(dialect.wants(&online(a)));
        let data = serde_json::json!({"messageId": message, "userId": a});
        let delivered = Outgoing::new(Event::new(EventKind::MessageDelivered, &data).unwrap(), None);
        assert_eq!(delivered.socketio_bare().as_str(), format!(r#"42["message:delivered","{message}"]"#));
        assert!(delivered.socketio().as_str().starts_with(r#"42["message:delivered",{"#));
    }
}
