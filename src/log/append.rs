//! The one way into a log: one append in flight per conversation and node, and what waits goes together.
//! Here are the queues and what callers see; `batch.rs` is the protocol itself. Safety never depends on the queue:
//! any number of nodes may append at once, and the log's conditional inserts decide.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::turns::Turns;
use super::{Body, Content, ConversationState, LogReader, LogRow, LogStore};
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::event::{Envelope, Origin, RowEvent};
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::StoreResult;
use crate::task::Tasks;

/// Rows that one conditional insert carries at most.
pub(super) const BATCH_ROWS: usize = 64;
/// Bytes of content after which no further row is added: a condition is agreed on by all replicas, several times.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Appends that may wait in one conversation; more are refused at once.
const QUEUE_LIMIT: usize = 1_024;
/// An append that takes longer is given up; what it did is found by the next one.
const DEADLINE: Duration = Duration::from_secs(3);
/// Members of all cached conversations together.
const CACHED_MEMBERS: u64 = 2_000_000;

/// Whether a row may be appended behind this state.
pub type Permit = Arc<dyn Fn(&ConversationState) -> Result<()> + Send + Sync>;
/// What becomes of a row: its new content, or `None` when nothing is to be done.
pub type Revise = Arc<dyn Fn(&ConversationState, &LogRow) -> Result<Option<Content>> + Send + Sync>;

/// A row that somebody wants appended.
#[derive(Clone)]
pub struct Proposal {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// The row's id; the same again means the same row.
    pub message_id: MessageId,
    /// Whether an earlier attempt may have been made: then it is looked for.
    pub may_exist: bool,
    /// Who wants it.
    pub sender_id: UserId,
    /// What it says.
    pub body: Body,
    /// Checked against all rows before it.
    pub permit: Permit,
    /// Who is not told.
    pub origin: Origin,
    /// Sent by POST.
    pub posted: bool,
}

/// A row that somebody wants changed.
#[derive(Clone)]
pub struct Change {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// Which row.
    pub target_seq: Seq,
    /// Who wants it.
    pub sender_id: UserId,
    /// [`Body::Edited`] or [`Body::Deleted`]: what the log says of it.
    pub notice: Body,
    /// What becomes of it.
    pub revise: Revise,
    /// Who is not told.
    pub origin: Origin,
}

/// A row that is in the log, acknowledged.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The message as it stands.
    pub row: LogRow,
    /// False when an earlier attempt had appended it, or there was nothing to change.
    pub fresh: bool,
}

/// A row that is stored, on its way to whoever may know of it.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The row.
    pub row: LogRow,
    /// The row that it is about, for edits and deletions.
    pub target: Option<LogRow>,
    /// Who may know.
    pub audience: Arc<[UserId]>,
    /// Of a conversation too large for receipts.
    pub is_large: bool,
    /// To whom the conversation is new with it.
    pub introduces: Arc<[UserId]>,
    /// Who is not told.
    pub origin: Origin,
    /// Sent by POST.
    pub posted: bool,
    /// Told once more, because its sender tried once more.
    pub again: bool,
}

/// Who tells the clients. Rows of one conversation come in order from one node, and some may come again.
#[async_trait]
pub trait Announce: Send + Sync + 'static {
    /// Puts the rows on their way; failing to is not failing to append.
    async fn announce(&self, announcements: Vec<Announcement>);

    /// Tells workers that the log goes to `seq`: before anybody is told that his row is in it. May be done again.
    async fn enqueue(&self, _id: ConversationId, _seq: Seq) -> StoreResult<()> {
        Ok(())
    }

    /// A row that another node has appended and announced is known here now.
    fn took_in(&self, _row: &LogRow) {}

    /// Whether other nodes append to the same logs.
    fn has_others(&self) -> bool {
        false
    }
}

pub(super) type Reply = oneshot::Sender<Result<Posted>>;

enum Job {
    Append(Proposal, Reply),
    Change(Change, Reply),
}

/// Appends to logs; shared by everybody on a node.
#[derive(Clone)]
pub struct Appender {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub store: Arc<dyn LogStore>,
    pub reader: LogReader,
    pub clock: SharedClock,
    pub announce: Arc<dyn Announce>,
    pub loading: Turns,
    states: Cache<ConversationId, Arc<ConversationState>>,
    queues: Mutex<HashMap<ConversationId, VecDeque<Job>>>,
    tasks: Tasks,
}

impl Appender {
    /// An appender on this store; its work in flight is spawned on `tasks`, which shutdown waits for.
    pub fn new(store: Arc<dyn LogStore>, clock: SharedClock, announce: Arc<dyn Announce>, tasks: Tasks) -> Self {
        let states = Cache::builder()
            .max_capacity(CACHED_MEMBERS)
            .weigher(|_, state: &Arc<ConversationState>| 4 + u32::try_from(state.members.len()).unwrap_or(u32::MAX - 4))
            .build();
        let reader = LogReader::new(Arc::clone(&store));
        let (loading, queues) = (Turns::default(), Mutex::new(HashMap::new()));
        Self { shared: Arc::new(Shared { store, reader, clock, announce, loading, states, queues, tasks }) }
    }

    /// Appends a row. `Ok`: it is stored, the heads say so, the clients are being told and workers will be.
    /// `Unavailable`: perhaps it is, and the same proposal again finds out. A caller that goes away cancels nothing.
    pub async fn append(&self, proposal: Proposal) -> Result<Posted> {
        let (sender, receiver) = oneshot::channel();
        self.submit(proposal.conversation_id, Job::Append(proposal, sender))?;
        receiver.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Changes a row and appends the notice of it, with the promises of [`Appender::append`].
    pub async fn change(&self, change: Change) -> Result<Posted> {
        let (sender, receiver) = oneshot::channel();
        self.submit(change.conversation_id, Job::Change(change, sender))?;
        receiver.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// The conversation as it stands, also when another node has changed it a moment ago.
    pub async fn state(&self, id: ConversationId) -> StoreResult<Arc<ConversationState>> {
        self.shared.load_whole(id).await
    }

    /// The same for one who has just read that the log goes to `head`: nothing is read where that is known already.
    pub async fn state_upto(&self, id: ConversationId, head: Seq) -> StoreResult<Arc<ConversationState>> {
        self.shared.load_upto(id, head).await
    }

    /// The conversation as this node knows it, read from the store when it does not: for what is asked often and may be a little old.
    pub async fn known(&self, id: ConversationId) -> StoreResult<Arc<ConversationState>> {
        self.shared.load(id).await
    }

    /// Before somebody is answered that what he wants of a conversation is so already: whoever made it so may not have lived to
    /// move all heads and to tell of it.
    pub async fn redo(&self, id: ConversationId) -> StoreResult<()> {
        self.shared.redo_whole(id).await
    }

    /// Before a sender is answered with this row of an earlier attempt without an append: the same for that row.
    ///
    /// # Errors
    /// `Unavailable`: try again.
    pub async fn redo_row(&self, row: &LogRow, origin: Origin) -> Result<()> {
        match tokio::time::timeout(DEADLINE, self.shared.redo_row(row, origin)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(unanswered()),
        }
    }

    /// Takes in what another node says that it has appended: a message right behind what is known here, which is stored and
    /// projected by now. Anything else is learnt from the log.
    pub fn note(&self, envelope: &Envelope) {
        if let Envelope::Row(RowEvent { conversation_id, seq, step: Some(step), .. }) = envelope
            && let Some(state) = self.shared.cached(*conversation_id)
            && state.head.seq + 1 == *seq
        {
            self.shared.remember(Arc::new(state.moved(*seq, *step)));
        }
    }

    /// What [`Appender::append`] told about rows after `after`, again: for hubs that missed some. At most `limit` rows.
    pub async fn announcements(&self, id: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<Announcement>> {
        self.shared.announcements(id, after, limit).await
    }

    fn submit(&self, id: ConversationId, job: Job) -> Result<()> {
        let mut queues = self.shared.queues.lock();
        match queues.get_mut(&id) {
            Some(queue) if queue.len() >= QUEUE_LIMIT => Err(Error::unavailable("this conversation is too busy, try again in a moment")),
            Some(queue) => {
                queue.push_back(job);
                Ok(())
            }
            None => {
                queues.insert(id, VecDeque::from([job]));
                drop(queues);
                let shared = Arc::clone(&self.shared);
                self.shared.tasks.spawn(async move { shared.drain(id).await });
                Ok(())
            }
        }
    }
}

impl Shared {
    /// Works off a conversation's queue; the queue is there exactly as long as somebody does.
    async fn drain(self: Arc<Self>, id: ConversationId) {
        let _queue = Abandoned { shared: &self, id };
        loop {
            let mut appends = Vec::new();
            let mut change = None;
            {
                let mut queues = self.queues.lock();
                let Some(queue) = queues.get_mut(&id) else { return };
                while appends.len() < BATCH_ROWS {
                    match queue.pop_front() {
                        Some(Job::Append(proposal, reply)) => appends.push((proposal, reply)),
                        Some(Job::Change(wanted, reply)) if appends.is_empty() => {
                            change = Some((wanted, reply));
                            break;
                        }
                        Some(job) => {
                            queue.push_front(job);
                            break;
                        }
                        None => break,
                    }
                }
                if appends.is_empty() && change.is_none() {
                    queues.remove(&id);
                    return;
                }
            }
            // Giving up in the middle is like crashing there: the protocol allows it anywhere, and whoever waits is told "perhaps".
            let done = match change {
                Some((change, reply)) => tokio::time::timeout(DEADLINE, self.change(change, reply)).await,
                None => tokio::time::timeout(DEADLINE, self.append(id, appends)).await,
            };
            if done.is_err() {
                tracing::warn!(conversation = %id, "an append was given up at its deadline");
                self.forget(id);
            }
        }
    }

    pub fn cached(&self, id: ConversationId) -> Option<Arc<ConversationState>> {
        self.states.get(&id)
    }

    /// Keeps the state that goes further.
    pub fn remember(&self, state: Arc<ConversationState>) {
        self.states.entry(state.id).and_upsert_with(|old| match old {
            Some(old) if old.value().head.seq > state.head.seq => old.into_value(),
            _ => state,
        });
    }

    pub fn forget(&self, id: ConversationId) {
        self.states.invalidate(&id);
    }
}

/// A queue whose worker panicked is dropped with everybody who waits in it: they are told "perhaps", and the next one
/// begins a new queue. Without this the conversation would wait for ever.
struct Abandoned<'a> {
    shared: &'a Shared,
    id: ConversationId,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.forget(self.id);
            self.shared.queues.lock().remove(&self.id);
        }
    }
}

fn unanswered() -> Error {
    Error::unavailable("the message may not have been stored, try again with the same client_message_id")
}
