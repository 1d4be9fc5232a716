//! How what nodes tell each other becomes bytes: a version, then MessagePack with names, so that a field may come and
//! go while old and new nodes run side by side. What cannot be read is from a newer node, or from somebody else: it is
//! skipped and counted, never guessed at.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte; a newer one is not read.
const VERSION: u8 = 1;

/// Bytes that this node does not understand.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    /// Of another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// Not what they should be.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] rmp_serde::decode::Error),
    /// There are none.
    #[error("it is empty")]
    Short,
}

/// One value.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, rmp_serde::encode::Error> {
    let mut bytes = vec![VERSION];
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())?;
    Ok(bytes.into())
}

/// One value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Foreign> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rmp_serde::from_slice(rest)?),
        Some((&version, _)) => Err(Foreign::Version(version)),
        None => Err(Foreign::Short),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{Envelope, Event, EventKind, Faceless, LooseEvent, MessageRef, Origin, RowEvent, Step};
    use crate::id::{ConversationId, MessageId, SessionId, SocketId, UserId};

    fn row() -> RowEvent {
        let (one, other) = (UserId::fresh(), UserId::fresh());
        let event = Event { kind: EventKind::MessageReceived, data: Bytes::from_static(br#"{"content":"hello"}"#) };
        RowEvent {
            conversation_id: ConversationId::fresh(),
            seq: 7,
            audience: [one, other].into(),
            is_large: true,
            target_seq: Some(3),
            introduces: [other].into(),
            refreshes: true,
            faceless: Some(Faceless { users: [one].into(), event: event.clone() }),
            event: Some(event),
            message: Some(MessageRef { message_id: MessageId::fresh(), sender_id: one }),
            step: Some(Step { n: 5, total: 6, at: Timestamp(1_769_860_800_123) }),
            origin: Origin { session_id: Some(SessionId::fresh()), socket_id: Some(SocketId::fresh()) },
            posted: true,
            again: false,
        }
    }

    #[test]
    fn envelopes_come_back_as_they_went() {
        let user_id = UserId::fresh();
        let loose = LooseEvent {
            audience: [user_id].into(),
            event: Event::new(EventKind::TypingStart, &"x").unwrap(),
            origin: Origin::default(),
            receipt_of: Some(MessageId::fresh()),
        };
        for envelope in [
            Envelope::Row(row()),
            Envelope::Loose(loose),
            Envelope::Refresh { user_id, conversation_id: ConversationId::fresh(), origin: Origin::default() },
            Envelope::Visibility { user_id, other: None },
            Envelope::Revoked { user_id, session_id: Some(SessionId::fresh()), except: None, late: false },
        ] {
            assert_eq!(decode::<Envelope>(&encode(&envelope).unwrap()).unwrap(), envelope);
        }
    }

    #[test]
    fn fields_may_come_and_go() {
        #[derive(Serialize)]
        struct Newer {
            seq: i64,
            added: Vec<u8>,
        }
        #[derive(Deserialize)]
        struct Older {
            seq: i64,
            #[serde(default)]
            ended: Option<bool>,
        }
        let older: Older = decode(&encode(&Newer { seq: 5, added: vec![1] }).unwrap()).unwrap();
        assert_eq!((older.seq, older.ended), (5, None));
    }

    #[test]
    fn what_is_foreign_is_said_to_be() {
        #[derive(Serialize)]
        enum Tomorrow {
            Hologram { user_id: UserId },
        }
        let hologram = encode(&Tomorrow::Hologram { user_id: UserId::fresh() }).unwrap();
        assert!(matches!(decode::<Envelope>(&hologram), Err(Foreign::Unreadable(_))));
        assert!(matches!(decode::<Envelope>(&[]), Err(Foreign::Short)));
        assert!(matches!(decode::<Envelope>(b"{\"kind\":1}"), Err(Foreign::Version(b'{'))));
        let whole = encode(&Envelope::Row(row())).unwrap();
        for cut in 1..whole.len() {
            assert!(decode::<Envelope>(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
}
