//! One event on its way to any number of sockets: encoded at most once per protocol, its bytes shared by all.

use std::sync::{Arc, OnceLock};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::socketio::dialect;
use crate::event::{Event, EventKind};
use crate::id::{ConversationId, MessageId, Seq, UserId};

/// The message in a frame, to be marked as delivered once the frame is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// Its place there.
    pub seq: Seq,
    /// Its id.
    pub message_id: MessageId,
    /// Who wrote it.
    pub sender_id: UserId,
    /// Whether so many may read it that marks are kept, and nobody is told of each.
    pub is_large: bool,
}

/// One event on its way to any number of sockets. Encoded at most once per protocol, when the first socket needs it.
#[derive(Debug)]
pub struct Outgoing {
    /// What to tell.
    pub event: Event,
    /// Set for `message:received`.
    pub mark: Option<Mark>,
    /// Whose presence it is, for `user:online` and `user:offline`.
    about: Option<UserId>,
    websocket: OnceLock<Utf8Bytes>,
    socketio: OnceLock<Utf8Bytes>,
    socketio_bare: OnceLock<Utf8Bytes>,
}

impl Outgoing {
    /// The event, ready to be shared.
    pub fn new(event: Event, mark: Option<Mark>) -> Arc<Self> {
        let about = dialect::presence_of(&event);
        let (websocket, socketio, socketio_bare) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { event, mark, about, websocket, socketio, socketio_bare })
    }

    /// Whose presence it is, if it is presence.
    pub fn about(&self) -> Option<UserId> {
        self.about
    }

    /// Whether a slow socket may lose it.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.event.kind.is_ephemeral()
    }

    /// What it takes up in an outbox, in bytes; an estimate made without encoding.
    pub(super) fn weight(&self) -> usize {
        self.event.data.len() + 64
    }

    /// The frame of `/ws`: `{"event": name, "data": …}`.
    pub fn websocket(&self) -> Utf8Bytes {
        let encode = || format!(r#"{{"event":"{}","data":{}}}"#, self.event.kind.name(), String::from_utf8_lossy(&self.event.data)).into();
        self.websocket.get_or_init(encode).clone()
    }

    /// The Engine.IO message of Socket.IO, `42[name, …]`, in the app's dialect.
    pub fn socketio(&self) -> Utf8Bytes {
        self.socketio.get_or_init(|| dialect::encode(&self.event).into()).clone()
    }

    /// The same for a socket that joined a conversation by its bare id.
    pub fn socketio_bare(&self) -> Utf8Bytes {
        match self.event.kind {
            EventKind::MessageDelivered => self.socketio_bare.get_or_init(|| dialect::encode_bare(&self.event).into()).clone(),
            _ => self.socketio(),
        }
    }
}
