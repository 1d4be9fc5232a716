//! What a client can ask for over a socket, the same through both doors, and how a refusal reads on the wire.
//! Parsing checks shapes alone; whether somebody may do it is for the services.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conversations::places;
use crate::error::{Error, ErrorCode, Result};
use crate::id::{ConversationId, MessageId, Seq};
use crate::rest::Failure;

/// Conversations that one `resume` may name.
pub const MAX_KNOWN: usize = 10_000;

/// A client → server event of the contract.
#[derive(Clone, Debug)]
pub enum Command {
    /// `join:conversation`: this conversation is open on this device.
    Join {
        /// Which.
        conversation_id: ConversationId,
        /// Named by its bare id instead of an object: the shipped app.
        bare: bool,
    },
    /// `leave:conversation`: it no longer is.
    Leave {
        /// Which.
        conversation_id: ConversationId,
    },
    /// `message:sent`: the JSON body of `POST /messages`, in either spelling, not looked into yet.
    Send(Box<RawValue>),
    /// `message:delivered`: it has reached this device.
    Delivered {
        /// Which.
        message_id: MessageId,
    },
    /// `message:read`: read up to this message.
    Read {
        /// Which.
        message_id: MessageId,
        /// Where, if the client says so.
        conversation_id: Option<ConversationId>,
    },
    /// `typing:start`.
    TypingStart {
        /// Where.
        conversation_id: ConversationId,
    },
    /// `typing:stop`.
    TypingStop {
        /// Where.
        conversation_id: ConversationId,
    },
    /// `resume`: send what I missed.
    Resume {
        /// The highest row of each log that the client has.
        known: HashMap<ConversationId, Seq>,
    },
}

/// An object or a bare id: what most commands carry.
#[derive(Deserialize, Default)]
struct Subject {
    #[serde(rename = "conversationId")]
    conversation: Option<ConversationId>,
    #[serde(rename = "conversation_id")]
    conversation_snake: Option<ConversationId>,
    #[serde(rename = "messageId")]
    message: Option<MessageId>,
    #[serde(rename = "message_id")]
    message_snake: Option<MessageId>,
}

impl Subject {
    fn parse(data: &str) -> Result<Self> {
        serde_json::from_str(data).map_err(|cause| Error::bad_request(format!("data is not what this event takes: {}", reason(&cause))))
    }

    fn conversation(&self) -> Option<ConversationId> {
        self.conversation_snake.or(self.conversation)
    }

    fn message(&self) -> Option<MessageId> {
        self.message_snake.or(self.message)
    }
}

/// The first words of a parser's complaint, without the place in the text and without the text itself.
fn reason(cause: &serde_json::Error) -> &'static str {
    match cause.classify() {
        serde_json::error::Category::Data => "a field is missing or has the wrong type, or an id is no UUID",
        _ => "it is not valid JSON",
    }
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// `NotFound` for an unknown event, `Invalid` or `BadRequest` for data that does not fit.
    pub fn parse(event: &str, data: Option<&RawValue>) -> Result<Self> {
        let text = data.map_or("null", RawValue::get).trim();
        let conversation = |text: &str| {
            let missing = || Error::invalid("conversationId", "conversationId is required");
            if text.starts_with('"') {
                bare(text, "conversationId")
            } else {
                Subject::parse(text_or_empty(text))?.conversation().ok_or_else(missing)
            }
        };
        let no_message = || Error::invalid("messageId", "messageId is required");
        Ok(match event {
            "join:conversation" => Self::Join { conversation_id: conversation(text)?, bare: text.starts_with('"') },
            "leave:conversation" => Self::Leave { conversation_id: conversation(text)? },
            "message:sent" => match data {
                Some(body) if text.starts_with('{') => Self::Send(body.to_owned()),
                _ => return Err(Error::bad_request("message:sent takes an object")),
            },
            "message:delivered" if text.starts_with('"') => Self::Delivered { message_id: bare(text, "messageId")? },
            "message:delivered" => Self::Delivered { message_id: Subject::parse(text_or_empty(text))?.message().ok_or_else(no_message)? },
            "message:read" if text.starts_with('"') => Self::Read { message_id: bare(text, "messageId")?, conversation_id: None },
            "message:read" => {
                let subject = Subject::parse(text_or_empty(text))?;
                Self::Read { message_id: subject.message().ok_or_else(no_message)?, conversation_id: subject.conversation() }
            }
            "typing:start" => Self::TypingStart { conversation_id: conversation(text)? },
            "typing:stop" => Self::TypingStop { conversation_id: conversation(text)? },
            "resume" => Self::Resume { known: known(text)? },
            _ => return Err(Error::new(ErrorCode::NotFound, "there is no such event")),
        })
    }

    /// Whether it counts as a send for the limits.
    pub fn is_send(&self) -> bool {
        matches!(self, Self::Send(_))
    }

    /// Its event's name, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join:conversation",
            Self::Leave { .. } => "leave:conversation",
            Self::Send(_) => "message:sent",
            Self::Delivered { .. } => "message:delivered",
            Self::Read { .. } => "message:read",
            Self::TypingStart { .. } => "typing:start",
            Self::TypingStop { .. } => "typing:stop",
            Self::Resume { .. } => "resume",
        }
    }

    /// Whether it changes something that outlives the socket.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Delivered { .. } | Self::Read { .. })
    }
}

fn text_or_empty(text: &str) -> &str {
    if text == "null" { "{}" } else { text }
}

fn bare<T: std::str::FromStr>(text: &str, field: &str) -> Result<T> {
    let id: Option<String> = serde_json::from_str(text).ok();
    id.and_then(|id| id.parse().ok()).ok_or_else(|| Error::invalid(field, format!("{field} is not a UUID")))
}

fn known(text: &str) -> Result<HashMap<ConversationId, Seq>> {
    #[derive(Deserialize)]
    struct Resume {
        known: Option<serde_json::Map<String, Value>>,
    }
    let resume: Resume = serde_json::from_str(text_or_empty(text))
        .map_err(|cause| Error::invalid("known", format!("known is a map of conversation ids to numbers: {}", reason(&cause))))?;
    let known = places(resume.known.unwrap_or_default());
    if known.len() > MAX_KNOWN {
        return Err(Error::invalid("known", format!("known names more than {MAX_KNOWN} conversations: call /sync")));
    }
    Ok(known)
}

/// How a refusal reads in an ack or an `error` event: as in REST, and `retryAfter` in seconds.
pub fn failure(error: &Error) -> Value {
    let mut failure = serde_json::to_value(Failure::from(error)).unwrap_or_default();
    if let Some(after) = error.retry_after {
        failure["retryAfter"] = json!(after.as_millis().div_ceil(1000) as u64);
    }
    failure
}

/// Commands that may come at once before the rates hold.
const BURST: f32 = 50.0;
/// Sends a second.
const SENDS_PER_S: f32 = 10.0;
/// Other commands a second.
const OTHERS_PER_S: f32 = 20.0;
/// Refusals within any [`REFUSAL_WINDOW`] that close the socket.
const MAX_REFUSALS: usize = 200;
/// See [`MAX_REFUSALS`].
const REFUSAL_WINDOW: Duration = Duration::from_secs(10);

/// One socket's limits: token buckets for sends and for other commands, and a count of refusals.
#[derive(Debug)]
pub struct Throttle {
    enabled: bool,
    sends: f32,
    others: f32,
    refilled: Instant,
    /// When the last ones were; a socket that is never refused anything has no memory of it.
    refusals: VecDeque<Instant>,
}

impl Throttle {
    /// Full buckets; `enabled` false lets everything through.
    pub fn new(enabled: bool, now: Instant) -> Self {
        Self { enabled, sends: BURST, others: BURST, refilled: now, refusals: VecDeque::new() }
    }

    /// Takes one command's token.
    ///
    /// # Errors
    /// `RateLimited` when there is none.
    pub fn admit(&mut self, is_send: bool, now: Instant) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f32();
        self.refilled = now;
        self.sends = (self.sends + elapsed * SENDS_PER_S).min(BURST);
        self.others = (self.others + elapsed * OTHERS_PER_S).min(BURST);
        let bucket = if is_send { &mut self.sends } else { &mut self.others };
        if *bucket >= 1.0 {
            *bucket -= 1.0;
            return Ok(());
        }
        let mut error = Error::new(ErrorCode::RateLimited, "too many commands: slow down");
        error.retry_after = Some(Duration::from_secs(1));
        Err(error)
    }

    /// Counts a refusal; true when it was one too many and the socket shall close.
    pub fn refuse(&mut self, now: Instant) -> bool {
        if !self.enabled {
            return false;
        }
        while self.refusals.front().is_some_and(|first| now.saturating_duration_since(*first) >= REFUSAL_WINDOW) {
            self.refusals.pop_front();
        }
        // Never more than these: the socket closes.
        if self.refusals.len() < MAX_REFUSALS {
            self.refusals.push_back(now);
        }
        self.refusals.len() >= MAX_REFUSALS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(event: &str, data: &str) -> Result<Command> {
        let raw: Box<RawValue> = serde_json::from_str(data).unwrap();
        Command::parse(event, Some(&raw))
    }

    #[test]
    fn conversations_are_named_by_object_in_either_spelling_or_by_bare_id() {
        let id = ConversationId::fresh();
        for (data, is_bare) in [(json!({"conversationId": id}), false), (json!({"conversation_id": id}), false), (json!(id), true)] {
            match parse("join:conversation", &data.to_string()).unwrap() {
                Command::Join { conversation_id, bare } => assert!(conversation_id == id && bare == is_bare),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(parse("join:conversation", "null").unwrap_err().code, ErrorCode::Invalid);
        assert_eq!(parse("join:conversation", "\"x\"").unwrap_err().code, ErrorCode::Invalid);
        assert_eq!(parse("typing:start", "[1]").unwrap_err().code, ErrorCode::BadRequest);
        assert!(Command::parse("leave:conversation", None).is_err());
    }

    #[test]
    fn messages_are_named_likewise() {
        let (id, place) = (MessageId::fresh(), ConversationId::fresh());
        assert!(
            matches!(parse("message:delivered", &json!(id).to_string()).unwrap(), Command::Delivered { message_id } if message_id == id)
        );
        let read = parse("message:read", &json!({"messageId": id, "conversationId": place}).to_string()).unwrap();
        assert!(matches!(read, Command::Read { message_id, conversation_id: Some(c) } if message_id == id && c == place));
        assert_eq!(parse("message:read", "{}").unwrap_err().message, "messageId is required");
    }

    #[test]
    fn a_body_is_kept_as_it_is() {
        let Command::Send(body) = parse("message:sent", r#"{"content" :  "a"}"#).unwrap() else { panic!() };
        assert_eq!(body.get(), r#"{"content" :  "a"}"#);
        assert!(parse("message:sent", "\"a\"").is_err());
    }

    #[test]
    fn resume_takes_a_map() {
        let id = ConversationId::fresh();
        let Command::Resume { known } = parse("resume", &json!({"known": {id.to_string(): 7}}).to_string()).unwrap() else { panic!() };
        assert_eq!(known[&id], 7);
        assert!(matches!(Command::parse("resume", None).unwrap(), Command::Resume { known } if known.is_empty()));
        let odd = parse("resume", r#"{"known": {"x": 1, "0190f3f0-7f6c-7c3e-9a55-0b1f6f7f9a11": null}}"#).unwrap();
        assert!(matches!(odd, Command::Resume { known } if known.is_empty()), "as in /sync");
        assert!(parse("resume", r#"{"known": [1]}"#).is_err());
    }

    #[test]
    fn unknown_events_are_said_to_be_unknown() {
        assert_eq!(parse("shout", "{}").unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn bursts_pass_then_the_rate_holds() {
        let start = Instant::now();
        let mut throttle = Throttle::new(true, start);
        assert!((0..50).all(|_| throttle.admit(true, start).is_ok()));
        assert_eq!(throttle.admit(true, start).unwrap_err().code, ErrorCode::RateLimited);
        assert!((0..50).all(|_| throttle.admit(false, start).is_ok()), "other commands have a bucket of their own");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..50).filter(|_| throttle.admit(true, later).is_ok()).count(), 10);
        assert_eq!((0..50).filter(|_| throttle.admit(false, later).is_ok()).count(), 20);
    }

    #[test]
    fn refusals_add_up_within_ten_seconds() {
        let start = Instant::now();
        let mut throttle = Throttle::new(true, start);
        assert!((0..199).all(|_| !throttle.refuse(start)));
        assert!(throttle.refuse(start));
        let mut throttle = Throttle::new(true, start);
        assert_eq!(throttle.refusals.capacity(), 0, "most sockets are never refused anything");
        assert!((0..199).all(|_| !throttle.refuse(start)));
        assert!(!throttle.refuse(start + REFUSAL_WINDOW));
        // Any ten seconds count, not those that began with the first of them.
        let mut throttle = Throttle::new(true, start);
        let at = |tenths: u32| start + REFUSAL_WINDOW * tenths / 10;
        assert!((0..100).all(|_| !throttle.refuse(at(0))));
        assert!((0..99).all(|_| !throttle.refuse(at(9))));
        assert!((0..100).all(|_| !throttle.refuse(at(10))), "the first hundred are forgotten");
        assert!(throttle.refuse(at(18)));
        assert!(!throttle.refuse(at(30)));
        let mut off = Throttle::new(false, start);
        assert!((0..1000).all(|_| off.admit(true, start).is_ok() && !off.refuse(start)));
    }
}
