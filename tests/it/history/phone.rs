//! A person's phone over the one client: REST or a socket to write, live events, `resume` and `/sync` to catch up.
//! It notes what it sees in the order in which it sees it, and trusts its connection no more than a real one would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use loadtest::socket::{CallError, Emitter, Event, Events, Options};
use loadtest::{Auth, Door, RestError};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use urge::id::{ConversationId, MessageId, Seq, UserId};

use super::workload::Client;
use super::{Outcome, Sight, Told, View};
use crate::support::Person;

/// How long a node holds live events back for a `resume` (docs/API.md).
const RESUME_WAIT: Duration = Duration::from_millis(250);

/// A person's phone.
pub struct Phone {
    person: Person,
    /// How it is connected, if it is; without a door it asks `/sync` now and then.
    door: Option<Door>,
    /// Whether there is a node to talk to.
    up: watch::Receiver<bool>,
    eyes: Arc<Mutex<Eyes>>,
    line: tokio::sync::Mutex<Option<Line>>,
    /// How often it has resumed in time for the promise of order.
    in_time: AtomicUsize,
}

/// What it has seen, and how far that reaches.
struct Eyes {
    known: BTreeMap<ConversationId, Seq>,
    sights: Vec<Sight>,
}

/// A connection.
struct Line {
    emitter: Emitter,
    reading: JoinHandle<()>,
}

impl Phone {
    pub fn new(
        person: &Person,
        door: Option<Door>,
        conversations: impl Iterator<Item = ConversationId>,
        up: watch::Receiver<bool>,
    ) -> Self {
        let known: BTreeMap<_, _> = conversations.map(|conversation| (conversation, 0)).collect();
        let sights = vec![Sight::Connected { known: known.clone() }];
        let eyes = Arc::new(Mutex::new(Eyes { known, sights }));
        Self { person: person.clone(), door, up, eyes, line: tokio::sync::Mutex::default(), in_time: AtomicUsize::new(0) }
    }

    async fn wait_for_node(&self) {
        let _ = self.up.clone().wait_for(|up| *up).await;
    }

    /// Drops the connection, reads what had come over it, and fetches everything that it lacks.
    /// False when the node could not say.
    pub async fn sync(&self) -> bool {
        let mut line = self.line.lock().await;
        hang_up(&mut line).await;
        self.wait_for_node().await;
        self.fetch().await
    }

    /// Drops the connection and comes back, over its door or by a sync.
    pub async fn reconnect(&self) {
        let Some(door) = self.door else {
            self.sync().await;
            return;
        };
        let mut line = self.line.lock().await;
        hang_up(&mut line).await;
        self.wait_for_node().await;
        let rest = &self.person.rest;
        let options = Options::new(&rest.base(), door, Auth::Token(self.person.account.access_token.clone()));
        let began = Instant::now();
        let Ok(socket) = options.connect().await else { return };
        let (emitter, mut events) = socket.split();
        let known = self.eyes.lock().known.clone();
        let resumed = emitter.resume(&json!(known)).await;
        if resumed.is_ok_and(|answer| answer["recovered"] == true) {
            let in_time = began.elapsed() < RESUME_WAIT;
            let mut came: Vec<_> = events.drain().iter().filter_map(told_by).collect();
            if in_time {
                self.in_time.fetch_add(1, Ordering::Relaxed);
            } else {
                // The node may have waited for the resume in vain. A live event can have overtaken it then, and be one
                // that this phone has, or one from behind the replay; but nothing comes twice over this connection.
                came.retain(|told| known.get(&told.conversation).is_none_or(|known| told.change_seq > *known));
                came.sort_by_key(|told| told.change_seq);
            }
            let mut eyes = self.eyes.lock();
            eyes.sights.push(Sight::Connected { known });
            for told in came {
                eyes.see(told);
            }
            drop(eyes);
            let reading = tokio::spawn(read(events, Arc::clone(&self.eyes)));
            *line = Some(Line { emitter, reading });
        } else {
            // Too much was missed, or the node went away: what it lacks is fetched, and the next blink connects again.
            let _ = emitter.abort().await;
            self.wait_for_node().await;
            self.fetch().await;
        }
    }

    async fn fetch(&self) -> bool {
        let mut known = self.eyes.lock().known.clone();
        self.eyes.lock().sights.push(Sight::Connected { known: known.clone() });
        let mut cursor = Value::Null;
        loop {
            let mut body = json!({"known": known});
            let goes_on = !cursor.is_null();
            if goes_on {
                body["cursor"] = cursor.take();
            }
            let Ok(answer) = self.person.rest.post("/sync", &body).await else { return false };
            let mut eyes = self.eyes.lock();
            let mut more = false;
            for entry in answer["conversations"].as_array().unwrap() {
                let conversation = parse(&entry["id"]);
                let seq = entry["upTo"].as_i64().unwrap();
                eyes.sights.extend(entry["messages"].as_array().unwrap().iter().map(|message| Sight::Told(told(message))));
                eyes.sights.push(Sight::UpTo { conversation, seq });
                eyes.known.insert(conversation, seq);
                more |= entry["more"] == true;
            }
            cursor = answer["next_cursor"].clone();
            if cursor.is_null() {
                // A cursor goes on with the `known` that it began with; the next round begins with what is known now.
                known.clone_from(&eyes.known);
                if !more {
                    return true;
                }
            }
        }
    }

    async fn emitter(&self) -> Option<Emitter> {
        self.line.lock().await.as_ref().map(|line| line.emitter.clone())
    }

    /// How often it has resumed so soon that it was told everything in order, live events last.
    pub fn resumed_in_time(&self) -> usize {
        self.in_time.load(Ordering::Relaxed)
    }

    pub fn view(&self) -> View {
        // A socket is not told of what it sent itself; a sync is.
        View { user: self.user(), sends: self.door.is_some(), sights: self.eyes.lock().sights.clone() }
    }

    pub fn user(&self) -> UserId {
        self.person.id().parse().unwrap()
    }
}

async fn hang_up(line: &mut Option<Line>) {
    if let Some(Line { emitter, reading }) = line.take() {
        let _ = emitter.abort().await;
        reading.await.unwrap();
    }
}

async fn read(mut events: Events, eyes: Arc<Mutex<Eyes>>) {
    while let Ok(event) = events.next().await {
        if let Some(told) = told_by(&event) {
            eyes.lock().see(told);
        }
    }
}

fn told_by(event: &Event) -> Option<Told> {
    matches!(event.name.as_str(), "message:received" | "message:updated" | "message:deleted").then(|| told(&event.json()))
}

impl Eyes {
    fn see(&mut self, told: Told) {
        self.known.insert(told.conversation, told.change_seq);
        self.sights.push(Sight::Told(told));
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn told(message: &Value) -> Told {
    Told {
        conversation: parse(&message["conversationId"]),
        message: parse(&message["id"]),
        seq: message["seq"].as_i64().unwrap(),
        change_seq: message["changeSeq"].as_i64().unwrap(),
        content: message["content"].as_str().unwrap().to_owned(),
        is_deleted: message["isDeleted"] == true,
    }
}

/// What an answer means: a 4xx is final, whatever else went wrong may have happened.
fn outcome(answer: Result<Value, RestError>, done: impl FnOnce(&Value) -> Outcome) -> Outcome {
    match answer {
        Ok(value) => done(&value),
        Err(error) if (400..500).contains(&error.status()) && error.status() != 429 => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}

fn sent(message: &Value) -> Outcome {
    Outcome::Answered { message: parse(&message["id"]), seq: message["seq"].as_i64().unwrap() }
}

#[async_trait]
impl Client for Phone {
    async fn send(&self, conversation: ConversationId, content: &str, client_message_id: Option<&str>) -> Outcome {
        self.wait_for_node().await;
        let Some(emitter) = self.emitter().await else {
            let answer = self.person.rest.send_text(&conversation.to_string(), content, client_message_id).await;
            return outcome(answer, sent);
        };
        let mut draft = json!({"conversationId": conversation, "content": content, "messageType": "TEXT"});
        if let Some(name) = client_message_id {
            draft["clientMessageId"] = name.into();
        }
        match emitter.call("message:sent", &draft).await {
            Ok(message) => sent(&message),
            Err(CallError::Refused(error))
                if !["unavailable", "internal_error", "rate_limited"].iter().any(|code| error["code"] == *code) =>
            {
                Outcome::Refused
            }
            Err(_) => Outcome::Unknown,
        }
    }

    async fn edit(&self, _: ConversationId, message: MessageId, seq: Seq, content: &str) -> Outcome {
        self.wait_for_node().await;
        outcome(self.person.rest.edit(&message.to_string(), content).await, |_| Outcome::Answered { message, seq })
    }

    async fn delete(&self, _: ConversationId, message: MessageId, seq: Seq) -> Outcome {
        self.wait_for_node().await;
        outcome(self.person.rest.delete_message(&message.to_string()).await, |_| Outcome::Answered { message, seq })
    }

    async fn mark(&self, conversation: ConversationId, message: MessageId, seq: Seq) -> Outcome {
        self.wait_for_node().await;
        let body = json!({"message_ids": [message], "conversation_id": conversation});
        outcome(self.person.rest.post("/messages/read", &body).await, |_| Outcome::Answered { message, seq })
    }

    async fn look_at_mark(&self, conversation: ConversationId) -> Outcome {
        self.wait_for_node().await;
        let answer = self.person.rest.conversation(&conversation.to_string()).await;
        let seen = |conversation: &Value| Outcome::Answered { message: MessageId::fresh(), seq: conversation["readSeq"].as_i64().unwrap() };
        // Nothing is told by a look that fails.
        if let outcome @ Outcome::Answered { .. } = outcome(answer, seen) { outcome } else { Outcome::Unknown }
    }

    async fn blink(&self) {
        self.reconnect().await;
    }
}
