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
    /// There are none, or not enough.
    #[error("it is cut off")]
    Short,
}

/// One value.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, rmp_serde::encode::Error> {
    Ok(join(&[&part(value)?]))
}

/// A value as it goes into [`join`]: what several nodes are told is written once.
pub fn part<T: Serialize>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(value)
}

/// Values one after the other.
pub fn join(parts: &[&[u8]]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    bytes.push(VERSION);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.into()
}

/// One value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Foreign> {
    Parts::open(bytes)?.next()
}

/// Values that were joined.
pub struct Parts<'a>(rmp_serde::Deserializer<rmp_serde::decode::ReadReader<&'a [u8]>>);

impl<'a> Parts<'a> {
    /// Looks at the version.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Foreign> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rmp_serde::Deserializer::new(rest))),
            Some((&version, _)) => Err(Foreign::Version(version)),
            None => Err(Foreign::Short),
        }
    }

    /// The next one.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<T, Foreign> {
        Ok(T::deserialize(&mut self.0)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use serde::Deserialize;

    use super::*;
    use crate::event::{Envelope, Event, EventKind, Faceless, LooseEvent, MessageRef, Origin, RowEvent};
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
            Envelope::Revoked { user_id, session_id: Some(SessionId::fresh()), except: None },
        ] {
            assert_eq!(decode::<Envelope>(&encode(&envelope).unwrap()).unwrap(), envelope);
        }
    }

    #[test]
    fn several_values_share_what_is_written_once() {
        let envelope = part(&Envelope::Row(row())).unwrap();
        let to: Arc<[UserId]> = [UserId::fresh()].into();
        let bytes = join(&[&part(&to).unwrap(), &envelope]);
        let mut parts = Parts::open(&bytes).unwrap();
        assert_eq!(parts.next::<Arc<[UserId]>>().unwrap(), to);
        assert!(matches!(parts.next::<Envelope>().unwrap(), Envelope::Row(_)));
        assert!(matches!(parts.next::<Envelope>(), Err(Foreign::Unreadable(_))), "there is no third");
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
