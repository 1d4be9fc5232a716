//! A store and a bus that break one of their promises, to show that the history checker notices. Everything else they do
//! as told, and with no lie at all everything: so that the same run without it shows the lie to be what was noticed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use urge::bus::{Bus, BusError, Subscription};
use urge::clock::Timestamp;
use urge::event::{Envelope, LooseEvent, RowEvent};
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{
    Cleared, ConversationRecord, Flags, Head, Insert, Location, LogRow, LogStore, Member, MemberMark, Membership, OwnMark, Rewrite,
    Rewritten, Whole, WholeAppend,
};
use urge::store::StoreResult;

/// The promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Locations are neither kept nor found: appending goes on as if there were no floor.
    NoLocations,
    /// Rows are said to be there so long before they are inserted.
    AnswersBeforeCommit(Duration),
    /// An insert that was refused is said to be done.
    RefusalsUntold,
    /// A change that was refused is said to be done.
    ChangesUntold,
    /// Read marks are not written.
    MarksForgotten,
    /// Heads are not written.
    HeadsForgotten,
}

/// A lie is told this often, not each time: a log that is nothing but damage would stop the workload.
const STRIKES_EVERY: u64 = 8;

/// A store with one [`Lie`], or none.
pub struct Sabotaged {
    store: Arc<dyn LogStore>,
    lie: Option<Lie>,
    calls: AtomicU64,
}

impl Sabotaged {
    pub fn new(store: Arc<dyn LogStore>, lie: Option<Lie>) -> Self {
        Self { store, lie, calls: AtomicU64::new(0) }
    }
}

fn strikes(calls: &AtomicU64) -> bool {
    calls.fetch_add(1, Ordering::Relaxed) % STRIKES_EVERY == STRIKES_EVERY - 1
}

#[async_trait]
impl LogStore for Sabotaged {
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert> {
        let [first, ..] = rows else { return Ok(Insert::Applied) };
        let strikes = first.seq > 1 && strikes(&self.calls);
        match self.lie {
            Some(Lie::AnswersBeforeCommit(by)) if strikes => {
                if let Some(row) = self.store.row(first.conversation_id, first.seq).await? {
                    return Ok(Insert::Exists(Box::new(row)));
                }
                let (store, rows) = (Arc::clone(&self.store), rows.to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(by).await;
                    let _ = store.insert_rows(&rows).await;
                });
                Ok(Insert::Applied)
            }
            Some(Lie::RefusalsUntold) => match self.store.insert_rows(rows).await? {
                Insert::Exists(row) if row.message_id != first.message_id && rows.len() == 1 => Ok(Insert::Applied),
                answer => Ok(answer),
            },
            _ => self.store.insert_rows(rows).await,
        }
    }

    /// Step by step, so that each step can be broken.
    async fn append_whole(&self, _: &WholeAppend) -> StoreResult<Whole> {
        Ok(Whole::Unsupported)
    }

    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten> {
        match self.store.rewrite_row(rewrite).await? {
            Rewritten::Refused { .. } if self.lie == Some(Lie::ChangesUntold) => Ok(Rewritten::Applied),
            answer => Ok(answer),
        }
    }

    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>> {
        if self.lie == Some(Lie::NoLocations) { Ok(None) } else { self.store.location(message).await }
    }

    async fn put_locations(&self, messages: &[MessageId], location: &Location) -> StoreResult<()> {
        if self.lie == Some(Lie::NoLocations) { Ok(()) } else { self.store.put_locations(messages, location).await }
    }

    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()> {
        if self.lie == Some(Lie::HeadsForgotten) { Ok(()) } else { self.store.advance_heads(id, head, members, own).await }
    }

    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()> {
        if self.lie == Some(Lie::MarksForgotten) { Ok(()) } else { self.store.mark_read(user, id, seq, n).await }
    }

    async fn rows_after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.store.rows_after(conversation, after, limit).await
    }

    async fn rows_before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.store.rows_before(conversation, before, limit).await
    }

    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        self.store.row(conversation, seq).await
    }

    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>> {
        self.store.conversation(id).await
    }

    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()> {
        self.store.put_conversation(id, record, seq).await
    }

    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()> {
        self.store.mark_large(id, members).await
    }

    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        self.store.mark_indexed(id, seq).await
    }

    async fn unindexed(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<ConversationId>> {
        self.store.unindexed(after, limit).await
    }

    async fn members(&self, id: ConversationId, after: Option<UserId>, limit: usize) -> StoreResult<Vec<Member>> {
        self.store.members(id, after, limit).await
    }

    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>> {
        self.store.member(id, user).await
    }

    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()> {
        self.store.put_members(id, record, changes, cleared).await
    }

    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()> {
        self.store.mark_members(id, marks, at).await
    }

    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>> {
        self.store.memberships(user).await
    }

    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>> {
        self.store.membership(user, id).await
    }

    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()> {
        self.store.clear(user, id, cleared).await
    }

    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()> {
        self.store.hide(user, id, seq).await
    }

    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()> {
        self.store.set_flags(user, id, flags, at).await
    }

    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, at: Timestamp) -> StoreResult<bool> {
        self.store.turn_favourite(user, id, to, at).await
    }
}

/// The promise of a bus that is broken in a way which no reader of the log can see and mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusLie {
    /// A row comes with nothing to tell: its place counts as told.
    EventsDropped,
    /// The same of all rows from some time on: no later one shows that anything is missing.
    Silence,
    /// Two rows that follow each other come in each other's place.
    RowsSwapped,
    /// The last row is told once more when nothing has followed it for so long.
    ToldAgain(Duration),
}

/// How many rows go out before [`BusLie::Silence`].
const SILENT_AFTER: u64 = 100;

/// A bus with one [`BusLie`], or none.
pub struct SabotagedBus {
    bus: Arc<dyn Bus>,
    lie: Option<BusLie>,
    /// Those that went out.
    rows: Arc<AtomicU64>,
    /// Rows that wait for the one behind them.
    held: Mutex<HashMap<ConversationId, RowEvent>>,
    /// Rows that wait to be let go, while that is so.
    late: Mutex<Option<Vec<RowEvent>>>,
}

impl SabotagedBus {
    pub fn new(bus: Arc<dyn Bus>, lie: Option<BusLie>) -> Self {
        Self { bus, lie, rows: Arc::default(), held: Mutex::default(), late: Mutex::default() }
    }

    /// From now on rows come only when they are let go.
    pub fn hold_back(&self) {
        *self.late.lock() = Some(Vec::new());
    }

    /// What was held back comes, and what follows at once.
    pub async fn let_go(&self) {
        let late = self.late.lock().take();
        for row in late.into_iter().flatten() {
            self.bus.publish(Envelope::Row(row)).await.unwrap();
        }
    }

    /// Tells of it again after this time, past the order of the log, unless another one has followed.
    fn tell_again(&self, row: &RowEvent, after: Duration) {
        let Some(event) = row.event.clone() else { return };
        let told_again = LooseEvent { audience: Arc::clone(&row.audience), event, origin: row.origin, receipt_of: None };
        let (bus, rows, count) = (Arc::clone(&self.bus), Arc::clone(&self.rows), self.rows.load(Ordering::Relaxed));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if rows.load(Ordering::Relaxed) == count {
                let _ = bus.publish(Envelope::Loose(told_again)).await;
            }
        });
    }

    /// What goes on instead of this row.
    fn instead_of(&self, row: RowEvent) -> Vec<RowEvent> {
        if let Some(late) = &mut *self.late.lock() {
            late.push(row);
            return Vec::new();
        }
        let strikes = row.event.is_some() && strikes(&self.rows);
        match self.lie {
            Some(BusLie::EventsDropped) if strikes => vec![RowEvent { event: None, message: None, ..row }],
            Some(BusLie::Silence) if self.rows.load(Ordering::Relaxed) > SILENT_AFTER => {
                vec![RowEvent { event: None, message: None, ..row }]
            }
            Some(BusLie::RowsSwapped) => {
                let mut held = self.held.lock();
                match held.remove(&row.conversation_id) {
                    Some(before) if before.seq + 1 == row.seq => {
                        vec![RowEvent { seq: before.seq, ..row.clone() }, RowEvent { seq: row.seq, ..before }]
                    }
                    Some(before) => vec![before, row],
                    None if strikes => {
                        held.insert(row.conversation_id, row);
                        Vec::new()
                    }
                    None => vec![row],
                }
            }
            Some(BusLie::ToldAgain(after)) => {
                self.tell_again(&row, after);
                vec![row]
            }
            _ => vec![row],
        }
    }
}

#[async_trait]
impl Bus for SabotagedBus {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let Envelope::Row(row) = envelope else { return self.bus.publish(envelope).await };
        for row in self.instead_of(row) {
            self.bus.publish(Envelope::Row(row)).await?;
        }
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        self.bus.subscribe()
    }

    fn is_up(&self) -> bool {
        self.bus.is_up()
    }
}
