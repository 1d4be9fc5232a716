//! How what nodes tell each other becomes bytes: a version, then MessagePack with names, so that a field may come and
//! go while old and new nodes run side by side. What cannot be read is from a newer node, or from somebody else: it is
//! skipped and counted, never guessed at. What goes to one node has a number before it, of a fixed size, so that it is encoded
//! once for all nodes.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::id::NodeId;

/// The first byte; a newer one is not read.
const VERSION: u8 = 1;
/// The first byte of what has a number.
const NUMBERED: u8 = 2;
/// The second byte then: a value follows; or nothing, it only says how far the numbers have come.
const NEXT: u8 = 1;
const UPTO: u8 = 2;
/// Both, the sender and the number.
const HEADER: usize = 2 + 16 + 8;

/// Bytes that this node does not understand.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    /// Of another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// Not what they should be.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] rmp_serde::decode::Error),
    /// Of a kind that has a number, but is not known.
    #[error("kind {0} is not known")]
    Kind(u8),
    /// There are too few.
    #[error("it is too short")]
    Short,
}

/// What has come from one node to another.
#[derive(Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Who sent it.
    pub from: NodeId,
    /// The how-manieth it is of those from there to here, from 1; of a tail, how many there have been.
    pub number: u64,
    /// The value, encoded; none in a tail.
    pub value: Option<Bytes>,
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

/// An encoded value with its number.
pub fn numbered(from: NodeId, number: u64, value: &[u8]) -> Bytes {
    with_header(NEXT, from, number, value)
}

/// How far the numbers have come.
pub fn upto(from: NodeId, number: u64) -> Bytes {
    with_header(UPTO, from, number, &[])
}

fn with_header(kind: u8, from: NodeId, number: u64, value: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER + value.len());
    bytes.put_slice(&[NUMBERED, kind]);
    bytes.put_slice(from.0.as_bytes());
    bytes.put_u64(number);
    bytes.put_slice(value);
    bytes.freeze()
}

/// What has a number.
pub fn read_numbered(bytes: &Bytes) -> Result<Numbered, Foreign> {
    match bytes.first() {
        Some(&NUMBERED) => {}
        Some(&version) => return Err(Foreign::Version(version)),
        None => return Err(Foreign::Short),
    }
    let ([_, kind, ids @ ..], rest) = bytes.split_first_chunk::<HEADER>().ok_or(Foreign::Short)?;
    let (from, number) = ids.split_first_chunk().ok_or(Foreign::Short)?;
    let from = NodeId(Uuid::from_bytes(*from));
    let number = number.try_into().map(u64::from_be_bytes).map_err(|_| Foreign::Short)?;
    match *kind {
        NEXT => Ok(Numbered { from, number, value: Some(bytes.slice_ref(rest)) }),
        UPTO => Ok(Numbered { from, number, value: None }),
        kind => Err(Foreign::Kind(kind)),
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
            Envelope::Overlooked { users: Some([user_id].into()) },
            Envelope::Overlooked { users: None },
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

    #[test]
    fn what_has_a_number_comes_back_with_it() {
        let (from, value) = (NodeId::fresh(), encode(&Envelope::Row(row())).unwrap());
        let bytes = numbered(from, u64::MAX - 1, &value);
        assert_eq!(bytes.len(), HEADER + value.len());
        assert_eq!(read_numbered(&bytes).unwrap(), Numbered { from, number: u64::MAX - 1, value: Some(value) });
        assert_eq!(read_numbered(&upto(from, 7)).unwrap(), Numbered { from, number: 7, value: None });
    }

    #[test]
    fn what_has_no_number_or_another_kind_of_it_is_foreign() {
        let value = encode(&Envelope::Row(row())).unwrap();
        assert!(matches!(read_numbered(&value), Err(Foreign::Version(VERSION))));
        let bytes = numbered(NodeId::fresh(), 1, &value);
        assert!(matches!(decode::<Envelope>(&bytes), Err(Foreign::Version(NUMBERED))));
        let newer = [&[NUMBERED, 9], &bytes[2..]].concat().into();
        assert!(matches!(read_numbered(&newer), Err(Foreign::Kind(9))));
        for cut in 0..HEADER {
            assert!(matches!(read_numbered(&bytes.slice(..cut)), Err(Foreign::Short)), "cut at {cut}");
        }
    }
}
