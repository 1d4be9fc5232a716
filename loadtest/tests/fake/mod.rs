//! A server written by hand that does to messages exactly what it is told: a known delay, a stall, deliveries left out, doubled, swapped.
//! It counts what it did, so that the harness's report can be held against it. It knows the few calls that the harness makes, and `/ws`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// What is done to messages. A zero does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Between a command and its ack, which goes together with the deliveries.
    pub delay: Duration,
    /// Each message keeps the server busy for so long: it bears one over this a second.
    pub service: Duration,
    /// Every so-manieth delivery is left out.
    pub drop_every: u64,
    /// Every so-manieth comes twice.
    pub double_every: u64,
    /// Every so-manieth waits until its receiver's next one has gone.
    pub swap_every: u64,
    /// Every so-manieth message is refused.
    pub refuse_every: u64,
    /// Every so-manieth message is delivered and never answered.
    pub silence_every: u64,
    /// After so many messages, nothing happens
    pub stall_after: u64,
    /// for so long.
    pub stall: Duration,
    /// A `resume` is told what its client lacks, by place; who comes back hears nothing before it.
    pub keeps: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    pub messages: AtomicU64,
    pub deliveries: AtomicU64,
    pub dropped: AtomicU64,
    pub doubled: AtomicU64,
    pub swapped: AtomicU64,
    pub refused: AtomicU64,
    pub silenced: AtomicU64,
}

impl Done {
    pub fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }
}

/// A message on its way.
struct Passing {
    due: Instant,
    sender: usize,
    conversation: usize,
    draft: Value,
    answer: Answer,
}

/// Who waits for its answer.
enum Answer {
    Socket { outbox: mpsc::UnboundedSender<String>, id: Value },
    Post(oneshot::Sender<(u16, Value)>),
}

#[derive(Default)]
struct Person {
    outbox: Option<mpsc::UnboundedSender<String>>,
    /// Waits for the next.
    held: Option<String>,
    /// Everything that was for him, for his `resume`: conversation, place, frame.
    kept: Vec<(String, u64, String)>,
    /// He has come back, and has not said yet what he has.
    is_resuming: bool,
    was_here: bool,
}

struct Conversation {
    members: Vec<usize>,
    seq: u64,
}

#[derive(Default)]
struct World {
    people: Vec<Person>,
    conversations: Vec<Conversation>,
    directs: HashMap<(usize, usize), usize>,
}

/// See the module.
pub struct Fake {
    faults: Faults,
    pub done: Done,
    world: Mutex<World>,
    passing: mpsc::UnboundedSender<Passing>,
}

/// Starts it; the address is `http://127.0.0.1:port`.
pub async fn start(faults: Faults) -> (String, Arc<Fake>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (passing, waiting) = mpsc::unbounded_channel();
    let fake = Arc::new(Fake { faults, done: Done::default(), world: Mutex::default(), passing });
    let accepting = Arc::clone(&fake);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(Arc::clone(&accepting).connection(stream));
        }
    });
    tokio::spawn(Arc::clone(&fake).pass(waiting));
    (url, fake)
}

fn every(number: u64, every: u64) -> bool {
    every > 0 && number.is_multiple_of(every)
}

fn next(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst) + 1
}

fn person_of(token: &str) -> usize {
    token.strip_prefix("token-").unwrap().parse().unwrap()
}

impl Fake {
    /// Answers and delivers, one message after the other, each when its delay is over.
    async fn pass(self: Arc<Self>, mut waiting: mpsc::UnboundedReceiver<Passing>) {
        let mut free = Instant::now();
        while let Some(passing) = waiting.recv().await {
            // Counted, not slept one by one: timers are too coarse for that.
            free = free.max(passing.due) + self.faults.service;
            sleep_until(free).await;
            let number = next(&self.done.messages);
            if number == self.faults.stall_after {
                tokio::time::sleep(self.faults.stall).await;
            }
            self.settle(number, passing);
        }
    }

    fn settle(&self, number: u64, passing: Passing) {
        if every(number, self.faults.refuse_every) {
            next(&self.done.refused);
            let error = json!({"success": false, "code": "unavailable", "message": "no", "detail": "no"});
            return match passing.answer {
                Answer::Socket { outbox, id } => drop(outbox.send(json!({"event": "ack", "id": id, "error": error}).to_string())),
                Answer::Post(answer) => drop(answer.send((503, error))),
            };
        }
        let (message, members) = {
            let mut world = self.world.lock();
            let conversation = &mut world.conversations[passing.conversation];
            conversation.seq += 1;
            let message = json!({
                "id": format!("m{}-{}", passing.conversation, conversation.seq),
                "seq": conversation.seq,
                "changeSeq": conversation.seq,
                "conversationId": format!("c{}", passing.conversation),
                "content": passing.draft["content"],
            });
            (message, conversation.members.clone())
        };
        if every(number, self.faults.silence_every) {
            next(&self.done.silenced);
        } else {
            match passing.answer {
                Answer::Socket { outbox, id } => drop(outbox.send(json!({"event": "ack", "id": id, "data": message}).to_string())),
                Answer::Post(answer) => drop(answer.send((200, message.clone()))),
            }
        }
        let frame = json!({"event": "message:received", "data": message}).to_string();
        for member in members.into_iter().filter(|member| *member != passing.sender) {
            self.deliver(member, &frame);
        }
    }

    fn deliver(&self, member: usize, frame: &str) {
        let mut world = self.world.lock();
        let person = &mut world.people[member];
        if self.faults.keeps {
            // A socket that its client has dropped may be there still: whether a frame has arrived only the client knows.
            let message: Value = serde_json::from_str(frame).unwrap();
            let (conversation, seq) = (message["data"]["conversationId"].as_str().unwrap(), message["data"]["seq"].as_u64().unwrap());
            person.kept.push((conversation.to_owned(), seq, frame.to_owned()));
            if person.is_resuming {
                return;
            }
        }
        let number = next(&self.done.deliveries);
        if every(number, self.faults.drop_every) {
            next(&self.done.dropped);
            return;
        }
        if every(number, self.faults.swap_every) && person.held.is_none() {
            person.held = Some(frame.to_owned());
            return;
        }
        let Some(outbox) = &person.outbox else { return };
        let _ = outbox.send(frame.to_owned());
        if every(number, self.faults.double_every) {
            next(&self.done.doubled);
            let _ = outbox.send(frame.to_owned());
        }
        if let Some(held) = person.held.take() {
            next(&self.done.swapped);
            let _ = outbox.send(held);
        }
    }

    /// Lets go of what still waits for a next one that will not come.
    pub fn release(&self) {
        for person in &mut self.world.lock().people {
            if let (Some(outbox), Some(held)) = (&person.outbox, person.held.take()) {
                let _ = outbox.send(held);
            }
        }
    }

    /// How many have registered.
    pub fn people(&self) -> usize {
        self.world.lock().people.len()
    }

    /// Looks at the request's head without taking it, and leads to the right door.
    async fn connection(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = vec![0; 4096];
        let mut length = 0;
        while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.readable().await.is_err() {
                return;
            }
            length = stream.peek(&mut head).await.unwrap_or(0);
            if length == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        if head.to_lowercase().contains("upgrade: websocket") {
            self.socket(stream, person_of(&bearer(&head).unwrap())).await;
        } else {
            while self.request(&mut stream).await.is_some() {}
        }
    }

    async fn socket(self: Arc<Self>, stream: TcpStream, person: usize) {
        let Ok(socket) = accept_async(stream).await else { return };
        let (mut write, mut read) = socket.split();
        let (outbox, mut waiting) = mpsc::unbounded_channel::<String>();
        let _ = outbox.send(json!({"event": "authenticated", "data": {"userId": format!("u{person}")}}).to_string());
        {
            let mut world = self.world.lock();
            let known = &mut world.people[person];
            known.is_resuming = known.was_here && self.faults.keeps;
            known.was_here = true;
            known.outbox = Some(outbox.clone());
        }
        let writer = tokio::spawn(async move {
            while let Some(text) = waiting.recv().await {
                if write.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        });
        while let Some(Ok(Message::Text(text))) = read.next().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["event"] == "resume" {
                let mut world = self.world.lock();
                let known = &frame["data"]["known"];
                let mut sent = 0;
                for (conversation, seq, frame) in &world.people[person].kept {
                    if *seq > known[conversation].as_u64().unwrap_or(0) {
                        sent += 1;
                        let _ = outbox.send(frame.clone());
                    }
                }
                world.people[person].is_resuming = false;
                let answer = json!({"event": "ack", "id": frame["id"], "data": {"recovered": true, "sent": sent}});
                let _ = outbox.send(answer.to_string());
            } else {
                let answer = Answer::Socket { outbox: outbox.clone(), id: frame["id"].clone() };
                self.take(person, frame["data"].clone(), answer);
            }
        }
        let mut world = self.world.lock();
        if world.people[person].outbox.as_ref().is_some_and(|current| current.same_channel(&outbox)) {
            world.people[person].outbox = None;
        }
        writer.abort();
    }

    fn take(&self, sender: usize, draft: Value, answer: Answer) {
        let conversation = draft["conversationId"].as_str().unwrap()[1..].parse().unwrap();
        let _ = self.passing.send(Passing { due: Instant::now() + self.faults.delay, sender, conversation, draft, answer });
    }

    /// One request of REST; none when the connection has ended.
    async fn request(&self, stream: &mut TcpStream) -> Option<()> {
        let (head, body) = read_request(stream).await?;
        let path = head.split(' ').nth(1)?.to_owned();
        let person = bearer(&head).map(|token| person_of(&token));
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let (status, answer) = match path.as_str() {
            "/" => (200, json!({"name": "fake", "version": "0"})),
            "/api/auth/me" => {
                let known = person.filter(|person| *person < self.world.lock().people.len());
                known.map_or((401, json!({"success": false})), |person| (200, json!({"id": format!("u{person}")})))
            }
            "/api/auth/register" => {
                let mut world = self.world.lock();
                let person = world.people.len();
                world.people.push(Person::default());
                (200, json!({"user": {"id": format!("u{person}")}, "access_token": format!("token-{person}"), "refresh_token": "r"}))
            }
            "/api/conversations" => (200, json!({"id": format!("c{}", self.create(person?, &body))})),
            "/api/messages" => {
                let (answer, answered) = oneshot::channel();
                self.take(person?, body, Answer::Post(answer));
                answered.await.ok()?
            }
            _ => (404, json!({"success": false})),
        };
        let text = answer.to_string();
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.ok()
    }

    fn create(&self, person: usize, body: &Value) -> usize {
        let mut world = self.world.lock();
        let others = body["participant_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()[1..].parse().unwrap());
        let members: Vec<usize> = others.chain([person]).collect();
        let next = world.conversations.len();
        if body["type"] == "DIRECT" {
            let key = (members[0].min(members[1]), members[0].max(members[1]));
            if let Some(known) = world.directs.get(&key) {
                return *known;
            }
            world.directs.insert(key, next);
        }
        world.conversations.push(Conversation { members, seq: 1 });
        next
    }
}

fn bearer(head: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
    })
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}
