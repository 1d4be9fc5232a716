//! All that a client can be told, and the envelopes that carry it between nodes.
//! An event's data is the JSON of the contract, made once by its feature; the doors only wrap the bytes.
//! Nothing in it differs by recipient, a picture apart that is hidden from some: what does (a conversation as somebody sees
//! it) is fetched by the node that delivers.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, SessionId, SocketId, UserId};

/// The names of the contract's "server → client" table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A new message.
    #[serde(rename = "message:received")]
    MessageReceived,
    /// A message was edited.
    #[serde(rename = "message:updated")]
    MessageUpdated,
    /// A message was deleted for everyone.
    #[serde(rename = "message:deleted")]
    MessageDeleted,
    /// A message's status became DELIVERED.
    #[serde(rename = "message:delivered")]
    MessageDelivered,
    /// A message's status became READ.
    #[serde(rename = "message:read")]
    MessageRead,
    /// One person's marks; `/ws` alone.
    #[serde(rename = "receipts")]
    Receipts,
    /// A conversation is new to this user.
    #[serde(rename = "conversation:created")]
    ConversationCreated,
    /// A conversation changed for this user.
    #[serde(rename = "conversation:updated")]
    ConversationUpdated,
    /// Somebody types.
    #[serde(rename = "typing:start")]
    TypingStart,
    /// Somebody stopped typing.
    #[serde(rename = "typing:stop")]
    TypingStop,
    /// Somebody came online.
    #[serde(rename = "user:online")]
    UserOnline,
    /// Somebody went offline.
    #[serde(rename = "user:offline")]
    UserOffline,
    /// A group was deleted.
    #[serde(rename = "group:deleted")]
    GroupDeleted,
}

impl EventKind {
    /// Every kind, for tables and documents.
    pub const ALL: [Self; 13] = [
        Self::MessageReceived,
        Self::MessageUpdated,
        Self::MessageDeleted,
        Self::MessageDelivered,
        Self::MessageRead,
        Self::Receipts,
        Self::ConversationCreated,
        Self::ConversationUpdated,
        Self::TypingStart,
        Self::TypingStop,
        Self::UserOnline,
        Self::UserOffline,
        Self::GroupDeleted,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageReceived => "message:received",
            Self::MessageUpdated => "message:updated",
            Self::MessageDeleted => "message:deleted",
            Self::MessageDelivered => "message:delivered",
            Self::MessageRead => "message:read",
            Self::Receipts => "receipts",
            Self::ConversationCreated => "conversation:created",
            Self::ConversationUpdated => "conversation:updated",
            Self::TypingStart => "typing:start",
            Self::TypingStop => "typing:stop",
            Self::UserOnline => "user:online",
            Self::UserOffline => "user:offline",
            Self::GroupDeleted => "group:deleted",
        }
    }

    /// Whether a slow socket may lose it: the next one, or nothing, makes up for it.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Self::TypingStart | Self::TypingStop | Self::UserOnline | Self::UserOffline)
    }
}

/// Something to tell clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// Its `data` of the contract, as JSON.
    pub data: Bytes,
}

impl Event {
    /// The event with this data.
    ///
    /// # Errors
    /// None in practice: the wire objects always serialise.
    pub fn new<T: Serialize>(kind: EventKind, data: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { kind, data: serde_json::to_vec(data)?.into() })
    }
}

/// Where a change came from, so that it is not told to the socket (or the posting device) that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The login that sent it by REST.
    pub session_id: Option<SessionId>,
    /// The socket that sent it.
    pub socket_id: Option<SocketId>,
}

/// The message in a `message:received`, for marks and for receipts that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRef {
    /// Its id.
    pub message_id: MessageId,
    /// Who wrote it.
    pub sender_id: UserId,
}

/// What a row adds to a conversation of which it changes nothing but the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Messages of people up to this row.
    pub n: i64,
    /// Messages of people and of the system up to it.
    pub total: i64,
    /// When it was written.
    pub at: Timestamp,
}

/// A row of a log on its way to sockets: told in order of `seq`, without a gap, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowEvent {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// Its place.
    pub seq: Seq,
    /// Who may know.
    pub audience: Arc<[UserId]>,
    /// Of a conversation too large for receipts.
    pub is_large: bool,
    /// The row that an edit or deletion is about: who has cleared it is not told.
    pub target_seq: Option<Seq>,
    /// To whom the conversation is new with this row: they get `conversation:created` first.
    pub introduces: Arc<[UserId]>,
    /// To whom the conversation itself changed with this row: they get `conversation:updated` after it.
    pub refreshes: bool,
    /// What to tell; a row may be silent.
    pub event: Option<Event>,
    /// What those are told instead from whom the sender hides his picture.
    pub faceless: Option<Faceless>,
    /// The new message, if it is one.
    pub message: Option<MessageRef>,
    /// How far the log has come with it, if it changes nothing else of the conversation.
    #[serde(default)]
    pub step: Option<Step>,
    /// Who is not told.
    pub origin: Origin,
    /// Sent by POST: its sender's receipts wait until the app has the answer.
    pub posted: bool,
    /// Told once more, because its sender tried once more: an old row, of use only to who waits for it.
    pub again: bool,
}

/// A row's event without its sender's picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faceless {
    /// Whom the sender has blocked.
    pub users: Arc<[UserId]>,
    /// What they are told.
    pub event: Event,
}

/// An event that belongs to no place in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LooseEvent {
    /// Who may know.
    pub audience: Arc<[UserId]>,
    /// What to tell.
    pub event: Event,
    /// Who is not told.
    pub origin: Origin,
    /// The message whose receipt it is: it waits as long as that one's sender does.
    pub receipt_of: Option<MessageId>,
}

/// What the bus carries to the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Envelope {
    /// A row, in its order.
    Row(RowEvent),
    /// An event out of any order.
    Loose(LooseEvent),
    /// The conversation changed for this person alone: he gets `conversation:updated` with his own view of it.
    Refresh {
        /// Who.
        user_id: UserId,
        /// Which.
        conversation_id: ConversationId,
        /// Who is not told.
        origin: Origin,
    },
    /// What this person lets others see of him has changed, or a block between him and the other was set or ended:
    /// nothing that was read of it before is believed any more, and who is shown as online to whom is found out anew.
    Visibility {
        /// Whose.
        user_id: UserId,
        /// Toward whom; toward everybody when absent.
        other: Option<UserId>,
    },
    /// These logins have ended: their sockets close.
    Revoked {
        /// Whose.
        user_id: UserId,
        /// Which one; all of them when absent.
        session_id: Option<SessionId>,
        /// Which one goes on, when all others end.
        except: Option<SessionId>,
        /// It is told long after: of all logins, those that began since go on.
        #[serde(default)]
        late: bool,
    },
    /// The sender has learnt late that these are on the node that this goes to: rows may not have been sent there. Their heads are to
    /// be read.
    Overlooked {
        /// Who; all who are there when absent.
        users: Option<Arc<[UserId]>>,
    },
    /// Said by the bus of this node alone: for a while envelopes may have been lost. What they said is to be read from the store.
    #[serde(skip)]
    Missed {
        /// Revocations may be among them.
        logins: bool,
    },
    /// Said by the bus of this node alone: the user has left another node, and has sockets on none now, but perhaps on this one.
    #[serde(skip)]
    Left {
        /// Who.
        user_id: UserId,
        /// What others were told of it.
        parting: Parting,
    },
    /// Said by the bus of each node alone: a node has ended. Of its users, who may be none, who comes to no other one is to be told of
    /// as offline, by one of the nodes.
    #[serde(skip)]
    Orphans {
        /// Those who had sockets on no other node, but perhaps on this one.
        users: Arc<[UserId]>,
        /// When it was heard last.
        gone_at: Timestamp,
    },
    /// Said by the bus of this node alone: these type on another node, or no longer. Whom that concerns is told by that node; here it is
    /// for whoever asks for a conversation.
    #[serde(skip)]
    Typing(Arc<[Typist]>),
    /// Said by the bus of this node alone: the others took it for dead, and told that its users are offline.
    #[serde(skip)]
    Buried,
}

/// That somebody types, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typist {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// Whether he types.
    pub types: bool,
}

/// What others were told when a user left a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// That he is offline.
    Told,
    /// Nothing: that node knew him to be on another one.
    Left,
    /// Nothing, each node having taken the other for the one who tells: this one is to.
    Untold,
}
