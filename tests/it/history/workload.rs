//! What people do with a messenger, many at once, with clients that do not trust their connection: sends are repeated
//! under their client_message_id until answered, sometimes at two doors at a time, sometimes long after the answer.
//! The same workload runs over whatever implements [`Client`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use urge::id::{ConversationId, MessageId, Seq, UserId};

use super::{Call, Outcome, Recorder};

/// What a client waits before it tries again over a connection that it does not make itself.
const BEFORE_RETRY: Duration = Duration::from_millis(20);

/// One device of one person. Calls may be made at the same time.
#[async_trait]
pub trait Client: Send + Sync + 'static {
    /// Sends a message.
    async fn send(&self, conversation: ConversationId, content: &str, client_message_id: Option<&str>) -> Outcome;
    /// Edits a message of this person.
    async fn edit(&self, conversation: ConversationId, message: MessageId, seq: Seq, content: &str) -> Outcome;
    /// Deletes a message of this person for everyone.
    async fn delete(&self, conversation: ConversationId, message: MessageId, seq: Seq) -> Outcome;
    /// Has read up to this message.
    async fn mark(&self, conversation: ConversationId, message: MessageId, seq: Seq) -> Outcome;
    /// How far this person has read.
    async fn look_at_mark(&self, conversation: ConversationId) -> Outcome;
    /// Loses its connection, or its node.
    async fn blink(&self);
}

/// What one client does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Operations of each client.
    pub operations: usize,
    /// Where it may write.
    pub conversations: Vec<ConversationId>,
}

/// A message that a client knows to be its own.
struct Own {
    conversation: ConversationId,
    message: MessageId,
    seq: Seq,
    content: String,
    client_message_id: Option<String>,
    is_deleted: bool,
}

/// Tells contents apart, whoever sends them.
static CONTENTS: AtomicU64 = AtomicU64::new(1);

/// A client at work.
pub struct Worker {
    user: UserId,
    client: Arc<dyn Client>,
    recorder: Arc<Recorder>,
    /// How often a message is sent before it is given up.
    tries: usize,
    rng: StdRng,
    own: Vec<Own>,
}

impl Worker {
    pub fn new(user: UserId, client: Arc<dyn Client>, recorder: Arc<Recorder>, tries: usize, seed: u64) -> Self {
        Self { user, client, recorder, tries, rng: StdRng::seed_from_u64(seed), own: Vec::new() }
    }

    /// Whose device it is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Does everything that is planned.
    pub async fn work(&mut self, plan: &Plan) {
        for _ in 0..plan.operations {
            let conversation = plan.conversations[self.rng.random_range(0..plan.conversations.len())];
            match self.rng.random_range(0..100) {
                0..50 => self.send(conversation, true).await,
                50..62 => self.send(conversation, false).await,
                62..68 => self.send_at_two_doors(conversation).await,
                68..74 => self.send_once_more().await,
                74..84 => self.edit().await,
                84..86 => self.delete().await,
                86..92 => self.mark(conversation).await,
                92..97 => self.look_at_mark(conversation).await,
                _ => self.client.blink().await,
            }
        }
    }

    /// Sends until answered: so that heads and sockets learn of whatever is in the log.
    pub async fn close(&mut self, conversation: ConversationId) {
        self.send(conversation, true).await;
    }

    async fn send(&mut self, conversation: ConversationId, named: bool) {
        let (content, name) = fresh(named);
        for _ in 0..self.tries {
            let outcome = self.try_to_send(conversation, &content, name.as_deref()).await;
            self.remember(conversation, &content, name.as_deref(), outcome);
            // Without an id of one's own, trying again would be another message.
            if outcome != Outcome::Unknown || name.is_none() {
                return;
            }
            self.client.blink().await;
        }
    }

    async fn try_to_send(&self, conversation: ConversationId, content: &str, name: Option<&str>) -> Outcome {
        attempt(self.user, &*self.client, &self.recorder, conversation, content, name).await
    }

    async fn send_at_two_doors(&mut self, conversation: ConversationId) {
        let (content, name) = fresh(true);
        let attempt = || self.try_to_send(conversation, &content, name.as_deref());
        let (one, other) = tokio::join!(attempt(), attempt());
        let outcome = if one == Outcome::Unknown { other } else { one };
        self.remember(conversation, &content, name.as_deref(), outcome);
    }

    /// An old message under its old client_message_id.
    async fn send_once_more(&mut self) {
        let Some(at) = self.any() else { return };
        let Own { conversation, content, client_message_id: Some(name), .. } = &self.own[at] else { return };
        self.try_to_send(*conversation, content, Some(name)).await;
    }

    fn remember(&mut self, conversation: ConversationId, content: &str, name: Option<&str>, outcome: Outcome) {
        let Outcome::Answered { message, seq } = outcome else { return };
        let (content, client_message_id) = (content.to_owned(), name.map(str::to_owned));
        self.own.push(Own { conversation, message, seq, content, client_message_id, is_deleted: false });
    }

    fn any(&mut self) -> Option<usize> {
        if self.own.is_empty() { None } else { Some(self.rng.random_range(0..self.own.len())) }
    }

    async fn edit(&mut self) {
        let Some(at) = self.any() else { return };
        let Own { conversation, message, seq, is_deleted: false, .. } = self.own[at] else { return };
        let (content, _) = fresh(false);
        let from = self.recorder.tick();
        let outcome = self.client.edit(conversation, message, seq, &content).await;
        self.recorder.note(self.user, conversation, Call::Edit { message, content }, outcome, from);
    }

    async fn delete(&mut self) {
        let Some(at) = self.any() else { return };
        let Own { conversation, message, seq, is_deleted: false, .. } = self.own[at] else { return };
        self.own[at].is_deleted = true;
        let from = self.recorder.tick();
        let outcome = self.client.delete(conversation, message, seq).await;
        self.recorder.note(self.user, conversation, Call::Delete { message }, outcome, from);
    }

    async fn mark(&mut self, conversation: ConversationId) {
        let Some((message, seq)) = self.recorder.latest(conversation) else { return };
        let from = self.recorder.tick();
        let outcome = self.client.mark(conversation, message, seq).await;
        self.recorder.note(self.user, conversation, Call::Mark { seq }, outcome, from);
    }

    async fn look_at_mark(&mut self, conversation: ConversationId) {
        let from = self.recorder.tick();
        let outcome = self.client.look_at_mark(conversation).await;
        self.recorder.note(self.user, conversation, Call::LookAtMark, outcome, from);
    }
}

/// One attempt at a message, noted.
async fn attempt(
    user: UserId,
    client: &dyn Client,
    recorder: &Recorder,
    conversation: ConversationId,
    content: &str,
    name: Option<&str>,
) -> Outcome {
    let from = recorder.tick();
    let outcome = client.send(conversation, content, name).await;
    let call = Call::Send { content: content.to_owned(), client_message_id: name.map(str::to_owned) };
    recorder.note(user, conversation, call, outcome, from);
    outcome
}

/// Sends a message until it is answered, over whatever connection others bring about.
pub async fn insist(user: UserId, client: &dyn Client, recorder: &Recorder, conversation: ConversationId) {
    let (content, name) = fresh(true);
    while attempt(user, client, recorder, conversation, &content, name.as_deref()).await == Outcome::Unknown {
        tokio::time::sleep(BEFORE_RETRY).await;
    }
}

fn fresh(named: bool) -> (String, Option<String>) {
    let n = CONTENTS.fetch_add(1, Ordering::Relaxed);
    (format!("content {n}"), named.then(|| format!("client id {n}")))
}
