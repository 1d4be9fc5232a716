//! Identifiers: a newtype for each noun, so that a user's id never stands where a message's belongs.
//! Fresh ids are UUIDv7; derived ones (the DIRECT conversation of two users, a message with a client id)
//! are UUIDv5, so that every node and every retry computes the same. An id carries no order: [`Seq`] does.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::str::FromStr;

use poem_openapi::NewType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place of a row in the log of its conversation: 1, 2, 3 … without a gap.
pub type Seq = i64;

/// Names of ids derived by UUIDv5 live in this namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f2d_0a53_61b7_5c1e_9a44_7d1b_70c0_55e3);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, NewType)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id (UUIDv7).
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u128(self.0.as_u128());
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A person's account.
    UserId
);
id!(
    /// A conversation, DIRECT or GROUP.
    ConversationId
);
id!(
    /// A row of a conversation's log; for a message row, the message.
    MessageId
);
id!(
    /// A login: what access and refresh tokens are bound to.
    SessionId
);
id!(
    /// One socket of one session on one node.
    SocketId
);
id!(
    /// One run of one node: fresh at every start.
    NodeId
);

/// A map by an id that this server made and no client can choose: its own random bits are the hash.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// The low half of a UUID, random in v7 and v5. Not for what clients choose: they could make it collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Ids write themselves whole; anything else still hashes, if badly.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        // The low bits are random already; the product spreads them to the high ones, where the variant is the same in all.
        self.0 = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl ConversationId {
    /// The one DIRECT conversation of two people, the same whoever asks.
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut name = [0_u8; 38];
        name[..6].copy_from_slice(b"direct");
        name[6..22].copy_from_slice(low.0.as_bytes());
        name[22..].copy_from_slice(high.0.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }
}

impl MessageId {
    /// The id of the message that `sender` calls `client_message_id` in this conversation: a retry derives the same.
    pub fn derived(sender: UserId, conversation: ConversationId, client_message_id: &str) -> Self {
        let mut name = Vec::with_capacity(39 + client_message_id.len());
        name.extend_from_slice(b"message");
        name.extend_from_slice(sender.0.as_bytes());
        name.extend_from_slice(conversation.0.as_bytes());
        name.extend_from_slice(client_message_id.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// The id of the copy of `original` that `sender` forwards to this conversation under this name: again is the same.
    pub fn forwarded(sender: UserId, conversation: ConversationId, client_message_id: &str, original: Self) -> Self {
        let mut name = Vec::with_capacity(55 + client_message_id.len());
        name.extend_from_slice(b"forward");
        name.extend_from_slice(sender.0.as_bytes());
        name.extend_from_slice(conversation.0.as_bytes());
        name.extend_from_slice(original.0.as_bytes());
        name.extend_from_slice(client_message_id.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_conversation_does_not_depend_on_who_asks() {
        let (a, b, c) = (UserId::fresh(), UserId::fresh(), UserId::fresh());
        assert_eq!(ConversationId::direct(a, b), ConversationId::direct(b, a));
        assert_ne!(ConversationId::direct(a, b), ConversationId::direct(a, c));
    }

    #[test]
    fn a_client_message_id_is_its_senders_in_its_conversation() {
        let (a, b, c) = (UserId::fresh(), UserId::fresh(), ConversationId::fresh());
        assert_eq!(MessageId::derived(a, c, "1"), MessageId::derived(a, c, "1"));
        assert_ne!(MessageId::derived(a, c, "1"), MessageId::derived(b, c, "1"));
        assert_ne!(MessageId::derived(a, c, "1"), MessageId::derived(a, c, "2"));
        let (one, two) = (MessageId::fresh(), MessageId::fresh());
        assert_eq!(MessageId::forwarded(a, c, "1", one), MessageId::forwarded(a, c, "1", one));
        assert_ne!(MessageId::forwarded(a, c, "1", one), MessageId::forwarded(a, c, "1", two));
        assert_ne!(MessageId::forwarded(a, c, "1", one), MessageId::forwarded(a, c, "2", one));
    }
}
