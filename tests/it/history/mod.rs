//! The history checker: what clients asked, what they were answered, what they were told, and the log that is left.
//! [`checker::judge`] says whether the one fits the other; the workloads make histories worth judging.
//! Times are ticks of one counter for the whole test: they order, they do not measure.

mod broken_node;
mod checker;
mod handmade;
mod over_log;
mod over_node;
mod phone;
mod views;
mod village;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{LogReader, LogRow, LogStore};

/// What a client wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// The content is a sender's own, once for each message that he means: a retry says the same again.
    Send {
        content: String,
        client_message_id: Option<String>,
    },
    /// The content is used once.
    Edit {
        message: MessageId,
        content: String,
    },
    Delete {
        message: MessageId,
    },
    /// Has read up to here.
    Mark {
        seq: Seq,
    },
    /// Asks how far he has read.
    LookAtMark,
}

/// What a client was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It is done: the message, and its place. For marks the place alone counts.
    Answered { message: MessageId, seq: Seq },
    /// It was not done and never will be.
    Refused,
    /// No answer: done, not done, or still to be done.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub user: UserId,
    pub conversation: ConversationId,
    pub call: Call,
    pub outcome: Outcome,
    /// When it was called.
    pub from: u64,
    /// When the outcome was known.
    pub until: u64,
}

impl Operation {
    /// How many of these were answered.
    pub fn count_answered(operations: &[Self]) -> usize {
        operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Answered { .. })).count()
    }

    /// What is known of it when the node died after `last_certain`, and before `first_lost`: nothing when it began later.
    pub fn cut_off(&self, last_certain: u64, first_lost: u64) -> Option<Self> {
        let outcome = if self.until < last_certain { self.outcome } else { Outcome::Unknown };
        (self.from < first_lost).then(|| Self { outcome, ..self.clone() })
    }
}

/// A message as a client was told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub conversation: ConversationId,
    pub message: MessageId,
    pub seq: Seq,
    pub change_seq: Seq,
    pub content: String,
    pub is_deleted: bool,
}

/// Something that a client saw, in the order in which it saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// A new connection. The client has said that it has everything up to these rows; a conversation that is not named
    /// goes on wherever the next event is.
    Connected { known: BTreeMap<ConversationId, Seq> },
    /// A live event, a replayed one, or a message of a sync.
    Told(Told),
    /// The server says that this was everything up to here.
    UpTo { conversation: ConversationId, seq: Seq },
}

/// What one client (one device) saw.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub user: UserId,
    /// Its own messages it knows from their answers, and need not be told.
    pub sends: bool,
    pub sights: Vec<Sight>,
}

/// How far somebody has read, by what is stored in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FinalMark {
    pub user: UserId,
    pub conversation: ConversationId,
    pub read_seq: Seq,
    /// The head of his membership.
    pub head_seq: Seq,
}

/// Everything that is known of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub members: BTreeMap<ConversationId, Vec<UserId>>,
    pub operations: Vec<Operation>,
    pub views: Vec<View>,
    pub logs: BTreeMap<ConversationId, Vec<LogRow>>,
    pub marks: Vec<FinalMark>,
}

impl History {
    /// Adds what is left in this store.
    pub async fn read(&mut self, store: &Arc<dyn LogStore>) {
        let reader = LogReader::new(Arc::clone(store));
        for (conversation, members) in &self.members {
            self.logs.insert(*conversation, reader.after(*conversation, 0, usize::MAX >> 1).await.unwrap());
            for user in members {
                let membership = store.membership(*user, *conversation).await.unwrap().unwrap();
                let (read_seq, head_seq) = (membership.read_seq, membership.head.seq);
                self.marks.push(FinalMark { user: *user, conversation: *conversation, read_seq, head_seq });
            }
        }
    }
}

/// A way in which a history is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    LogHasNoGap,
    CountsAddUp,
    MessageOnce,
    AnsweredIsStored,
    SameIdSameMessage,
    OnlyWhatWasSent,
    RefusedStaysOut,
    AnswerOrder,
    LastChangeStands,
    MarksStand,
    HeadsReachTheEnd,
    ToldWhatIsThere,
    ToldInOrder,
    ToldWithoutGap,
    EverybodyHasEverything,
}

/// One violation, with the facts that prove it.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: Rule,
    pub facts: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.facts)
    }
}

/// Where operations are noted as they happen.
#[derive(Debug, Default)]
pub struct Recorder {
    ticks: AtomicU64,
    operations: Mutex<Vec<Operation>>,
    noted: watch::Sender<usize>,
}

impl Recorder {
    /// The next tick.
    pub fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes a call that began at `from` and whose outcome is known now.
    pub fn note(&self, user: UserId, conversation: ConversationId, call: Call, outcome: Outcome, from: u64) {
        let until = self.tick();
        self.operations.lock().push(Operation { user, conversation, call, outcome, from, until });
        self.noted.send_modify(|count| *count += 1);
    }

    /// How many operations have been noted, to wait for more.
    pub fn noted(&self) -> watch::Receiver<usize> {
        self.noted.subscribe()
    }

    /// The last message that was answered in a conversation, whoever sent it.
    pub fn latest(&self, conversation: ConversationId) -> Option<(MessageId, Seq)> {
        self.operations.lock().iter().rev().find_map(|operation| match (&operation.call, operation.outcome) {
            (Call::Send { .. }, Outcome::Answered { message, seq }) if operation.conversation == conversation => Some((message, seq)),
            _ => None,
        })
    }

    /// What was noted.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations.into_inner()
    }
}

/// Fails the test with the first violations, each with its facts.
pub fn accept(history: &History) {
    let violations = checker::judge(history);
    let shown: Vec<_> = violations.iter().take(12).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations, the first:\n{}", violations.len(), shown.join("\n"));
}

/// The rules that a history breaks.
pub fn broken(history: &History) -> BTreeSet<Rule> {
    checker::judge(history).iter().map(|violation| violation.rule).collect()
}

/// Fails the test unless the history breaks this rule, whatever else it breaks.
pub fn expect_violation(history: &History, rule: Rule) {
    let found = broken(history);
    assert!(found.contains(&rule), "expected {rule:?}, found {found:?}");
}
