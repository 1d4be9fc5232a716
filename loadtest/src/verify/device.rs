//! A device that listens: it connects to any node, says how far it has everything, is told what it missed, then what comes, and
//! comes back when it is cut off. What it sees is noted in the order in which it saw it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::note_reason;
use super::{Nodes, PATIENCE, PAUSE};
use crate::rest::{Account, RestError};
use crate::socket::{Auth, Door, Emitter, Event, Events, Options};

/// How long a node holds live events back for a `resume` (docs/API.md), from when it has let the device in, and says so.
const RESUME_WAIT: Duration = Duration::from_millis(250);
/// What those words may take until this device has read them: they go through two tasks there and one here, each of which waits for its
/// turn where much else is done. The way back needs none: what was answered within the rest was asked within it.
const ON_ITS_WAY: Duration = Duration::from_millis(75);

/// The pauses before each try of the app to come back, milliseconds.
const AS_THE_APP_MS: [u64; 5] = [500, 1_000, 1_500, 2_000, 3_000];

/// A message as a device was told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// Of the message.
    pub id: String,
    /// Its place in the log.
    pub seq: i64,
    /// What it says.
    pub content: String,
}

/// What a device has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order in which it was told.
    pub told: Vec<Told>,
    pub ids: HashSet<String>,
    /// The last row of which it was told, or to which it has everything.
    pub reached: watch::Sender<i64>,
    /// Told by a connection that was open.
    pub delivered: usize,
    /// Told when it came back.
    pub resumed: usize,
    /// Told again.
    pub doubled: Vec<Told>,
    /// Told after a later one.
    pub late: Vec<Told>,
    /// How often it has connected.
    pub connections: usize,
    /// Why connections ended that it had not dropped, each reason once, the first ones.
    pub why_ended: Vec<String>,
    /// The longest that it was away.
    pub longest_away: Duration,
    /// It has tried as often as the app does, and stays away.
    pub gave_up: bool,
    /// How often its `resume` came in the time for which the node holds live events back for it, by its door.
    pub resumes_in_time: BTreeMap<Door, usize>,
    /// How often so late that the node may not have.
    pub late_resumes: usize,
    /// How often a node did not bring it up to date, and it fetched what it lacked.
    pub fetches: usize,
    /// Its connection, while it has one and is up to date.
    pub emitter: watch::Sender<Option<Emitter>>,
}

impl Seen {
    /// It is told of this.
    pub fn see(&mut self, told: Told, live: bool) {
        let reached = *self.reached.borrow();
        if !self.ids.insert(told.id.clone()) {
            return self.doubled.push(told);
        }
        if told.seq <= reached {
            self.late.push(told.clone());
        }
        *(if live { &mut self.delivered } else { &mut self.resumed }) += 1;
        self.has_up_to(told.seq);
        self.told.push(told);
    }

    fn has_up_to(&self, seq: i64) {
        self.reached.send_if_modified(|reached| std::mem::replace(reached, seq.max(*reached)) < seq);
    }

    fn known(&self) -> i64 {
        *self.reached.borrow()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    nodes: Arc<Nodes>,
    account: Account,
    door: Door,
    conversation: Arc<str>,
    seen: Arc<Mutex<Seen>>,
}

impl Device {
    pub fn new(nodes: Arc<Nodes>, account: Account, door: Door, conversation: Arc<str>, seen: Arc<Mutex<Seen>>) -> Self {
        Self { nodes, account, door, conversation, seen }
    }

    /// Listens until told to stop; drops its connection this often.
    pub async fn listen(self, blink: Option<Duration>, as_app: bool, mut stop: watch::Receiver<bool>) {
        let mut left = None::<Instant>;
        while !*stop.borrow() {
            let pauses = if as_app && left.is_some() { &AS_THE_APP_MS[..] } else { &[] };
            let connected = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                connected = self.come_back(pauses) => connected,
            };
            let away = left.map_or(Duration::ZERO, |left| left.elapsed());
            let Some((emitter, mut events)) = connected else {
                self.seen.lock().gave_up = true;
                return;
            };
            {
                let mut seen = self.seen.lock();
                seen.longest_away = seen.longest_away.max(away);
            }
            let lasting = async {
                match blink {
                    Some(blink) => sleep(blink).await,
                    None => std::future::pending().await,
                }
            };
            let reading = async {
                loop {
                    match events.next().await {
                        Ok(event) => {
                            if let Some(told) = self.told_by(&event) {
                                self.seen.lock().see(told, true);
                            }
                        }
                        Err(close) => return close,
                    }
                }
            };
            tokio::select! {
                close = reading => note_reason(&mut self.seen.lock().why_ended, format!("{:?}: {close}", self.door)),
                () = lasting => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            left = Some(Instant::now());
            self.seen.lock().emitter.send_replace(None);
            let _ = emitter.abort().await;
            // What had come over it is read to its end.
            while let Ok(Ok(event)) = timeout(PATIENCE, events.next()).await {
                if let Some(told) = self.told_by(&event) {
                    self.seen.lock().see(told, true);
                }
            }
        }
    }

    /// Connects, after each of these pauses at most; without any at once, and again and again.
    async fn come_back(&self, pauses: &[u64]) -> Option<(Emitter, Events)> {
        if pauses.is_empty() {
            loop {
                if let Some(connected) = self.connect().await {
                    return Some(connected);
                }
                sleep(PAUSE).await;
            }
        }
        for pause in pauses {
            sleep(Duration::from_millis(*pause)).await;
            if let Some(connected) = self.connect().await {
                return Some(connected);
            }
        }
        None
    }

    async fn connect(&self) -> Option<(Emitter, Events)> {
        let mut options = Options::new(&self.nodes.any().base(), self.door, Auth::Token(self.account.access_token.clone()));
        options.timeout = PATIENCE;
        let (emitter, mut events) = options.connect().await.ok()?.split();
        let let_in = Instant::now();
        let known = self.seen.lock().known();
        let resumed = emitter.resume(&json!({&*self.conversation: known})).await;
        let answered = let_in.elapsed();
        if !resumed.is_ok_and(|answer| answer["recovered"] == true) {
            // Too much was missed, or the node went away: what it lacks is fetched.
            self.seen.lock().fetches += 1;
            let _ = emitter.abort().await;
            let _ = timeout(PATIENCE, catch_up(&self.nodes, &self.account, &self.conversation, &self.seen)).await;
            return None;
        }
        let mut came: Vec<Told> = events.drain().iter().filter_map(|event| self.told_by(event)).collect();
        let is_late = answered + ON_ITS_WAY >= RESUME_WAIT;
        if is_late {
            // The node may have waited for the resume in vain. A live event can have overtaken it then, and be one that this
            // device has, or one from behind the replay; but nothing comes twice over this connection.
            came.retain(|told| told.seq > known);
            came.sort_by_key(|told| told.seq);
        }
        let mut seen = self.seen.lock();
        for told in came {
            seen.see(told, false);
        }
        seen.connections += 1;
        if is_late {
            seen.late_resumes += 1;
        } else {
            *seen.resumes_in_time.entry(self.door).or_default() += 1;
        }
        seen.emitter.send_replace(Some(emitter.clone()));
        drop(seen);
        Some((emitter, events))
    }

    fn told_by(&self, event: &Event) -> Option<Told> {
        if event.name != "message:received" {
            return None;
        }
        let message = event.json();
        (message["conversationId"] == *self.conversation).then(|| told(&message))
    }
}

/// Fetches what a device lacks by `/sync`, from any node.
pub async fn catch_up(nodes: &Nodes, account: &Account, conversation: &str, seen: &Mutex<Seen>) -> Result<(), RestError> {
    let mut known = seen.lock().known();
    let mut cursor = Value::Null;
    loop {
        let mut body = json!({"known": {conversation: known}});
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let body = &body;
        let answer = nodes.ask(|rest| {
            let rest = rest.as_account(account);
            async move { rest.post("/sync", body).await }
        });
        let answer = answer.await?;
        let mut more = false;
        for entry in answer["conversations"].as_array().into_iter().flatten().filter(|entry| entry["id"] == *conversation) {
            let mut seen = seen.lock();
            for message in entry["messages"].as_array().into_iter().flatten() {
                // A sync brings one's own too, which no socket need have told.
                if message["senderId"] != *account.user_id {
                    seen.see(told(message), false);
                }
            }
            seen.has_up_to(entry["upTo"].as_i64().unwrap_or(0));
            more |= entry["more"] == true;
        }
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            known = seen.lock().known();
            if !more {
                return Ok(());
            }
        }
    }
}

/// A message on the wire.
pub fn told(message: &Value) -> Told {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    Told { id: text("id"), seq: message["seq"].as_i64().unwrap_or(0), content: text("content") }
}
