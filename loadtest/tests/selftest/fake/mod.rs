//! A server written by hand that does to messages exactly what it is told: a known delay, a stall, deliveries left out, doubled, swapped.
//! It counts what it did, so that the harness's report can be held against it. It knows the few calls that the harness makes (`rest`),
//! and the doors that it goes through (`doors`), all of which lead to the same messages.

mod doors;
mod rest;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use doors::{Outbox, Poll};

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
    Socket { outbox: Outbox, id: Value },
    Post(oneshot::Sender<Result<Value, Value>>),
}

#[derive(Default)]
struct Person {
    outbox: Option<Outbox>,
    /// Waits for the next.
    held: Option<Value>,
    /// Everything that was for him, for his `resume`.
    kept: Vec<Value>,
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
    /// Sessions of long-polling by their ids.
    polls: HashMap<String, Arc<Poll>>,
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
            return passing.answer.give(Err(error));
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
            passing.answer.give(Ok(message.clone()));
        }
        for member in members.into_iter().filter(|member| *member != passing.sender) {
            self.deliver(member, &message);
        }
    }

    fn deliver(&self, member: usize, message: &Value) {
        let mut world = self.world.lock();
        let person = &mut world.people[member];
        if self.faults.keeps {
            // A socket that its client has dropped may be there still: whether a message has arrived only the client knows.
            person.kept.push(message.clone());
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
            person.held = Some(message.clone());
            return;
        }
        let Some(outbox) = &person.outbox else { return };
        outbox.received(message);
        if every(number, self.faults.double_every) {
            next(&self.done.doubled);
            outbox.received(message);
        }
        if let Some(held) = person.held.take() {
            next(&self.done.swapped);
            outbox.received(&held);
        }
    }

    /// Lets go of what still waits for a next one that will not come.
    pub fn release(&self) {
        for person in &mut self.world.lock().people {
            if let (Some(outbox), Some(held)) = (&person.outbox, person.held.take()) {
                outbox.received(&held);
            }
        }
    }

    /// Waits until there have been so many messages.
    pub async fn messages(&self, count: u64) {
        while Done::count(&self.done.messages) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many have registered.
    pub fn people(&self) -> usize {
        self.world.lock().people.len()
    }

    /// Somebody is there: what is for him goes to this outbox from now on.
    fn enter(&self, person: usize, outbox: &Outbox) {
        outbox.event("authenticated", &json!({"userId": format!("u{person}")}));
        let mut world = self.world.lock();
        let known = &mut world.people[person];
        known.is_resuming = known.was_here && self.faults.keeps;
        known.was_here = true;
        known.outbox = Some(outbox.clone());
    }

    /// He has gone, unless he has come back another way.
    fn leave(&self, person: usize, outbox: &Outbox) {
        let current = &mut self.world.lock().people[person].outbox;
        if current.as_ref().is_some_and(|current| current.is(outbox)) {
            *current = None;
        }
    }

    /// What somebody asks for through a door.
    fn command(&self, person: usize, outbox: &Outbox, name: &str, id: Value, data: Value) {
        match name {
            "resume" => {
                let known = |message: &Value| data["known"][message["conversationId"].as_str().unwrap()].as_u64().unwrap_or(0);
                let person = &mut self.world.lock().people[person];
                let missed: Vec<_> = person.kept.iter().filter(|message| message["seq"].as_u64().unwrap() > known(message)).collect();
                for message in &missed {
                    outbox.received(message);
                }
                outbox.ack(&id, &Ok(json!({"recovered": true, "sent": missed.len()})));
                person.is_resuming = false;
            }
            "message:sent" => self.take(person, data, Answer::Socket { outbox: outbox.clone(), id }),
            other => panic!("the harness asks for {other}"),
        }
    }

    fn take(&self, sender: usize, draft: Value, answer: Answer) {
        let conversation = draft["conversationId"].as_str().unwrap()[1..].parse().unwrap();
        let _ = self.passing.send(Passing { due: Instant::now() + self.faults.delay, sender, conversation, draft, answer });
    }
}

impl Answer {
    fn give(self, answer: Result<Value, Value>) {
        match self {
            Self::Socket { outbox, id } => outbox.ack(&id, &answer),
            // The caller may have gone.
            Self::Post(waiting) => drop(waiting.send(answer)),
        }
    }
}
