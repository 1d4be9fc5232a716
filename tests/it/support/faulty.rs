//! Backends that go wrong the way real ones do: [`Faulty`] wraps a store or a bus and spoils its answers at random.
//! It breaks no promise of the traits (an error means "perhaps done", an envelope may be lost), so nothing that is built
//! on them may break. The seed is printed; `URGE_TEST_SEED` repeats it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::task::TaskTracker;
use urge::bus::{Bus, BusError, Subscription};
use urge::clock::Timestamp;
use urge::event::Envelope;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{
    Cleared, ConversationRecord, Flags, Head, Insert, Location, LogRow, LogStore, Member, MemberMark, Membership, OwnMark, Rewrite,
    Rewritten, Whole, WholeAppend,
};
use urge::store::{StoreError, StoreResult};

/// The seed of a run: `URGE_TEST_SEED`, or a fresh one.
pub fn seed() -> u64 {
    std::env::var("URGE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random)
}

/// What can go wrong, and in how many of ten thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Store: an error, and nothing was done. Bus: refused.
    pub refused: u32,
    /// Store: an error, and it was done.
    pub unanswered: u32,
    /// An error, and it will be done in a moment. Bus: delivered later, no error.
    pub late: u32,
    /// A read answers as it would have earlier.
    pub stale: u32,
    /// The answer takes a while.
    pub stalled: u32,
    /// The answer never comes: the caller's deadline ends it. Store only.
    pub hung: u32,
    /// Done twice; the second answer is the one that comes.
    pub doubled: u32,
    /// An append goes step by step, as on a store that has no transactions across partitions.
    pub stepwise: u32,
    /// Bus: lost without an error.
    pub dropped: u32,
    /// Bus: changes places with the next one.
    pub swapped: u32,
    /// Bus: down for the next few calls.
    pub down: u32,
}

impl Odds {
    /// Everything that a store can do to its callers.
    pub const STORE: Self = Self {
        refused: 200,
        unanswered: 200,
        late: 200,
        stale: 300,
        stalled: 100,
        hung: 2,
        doubled: 200,
        stepwise: 5_000,
        dropped: 0,
        swapped: 0,
        down: 0,
    };
    /// Everything that a bus can do.
    pub const BUS: Self = Self {
        refused: 100,
        unanswered: 0,
        late: 200,
        stale: 0,
        stalled: 100,
        hung: 0,
        doubled: 200,
        stepwise: 0,
        dropped: 200,
        swapped: 200,
        down: 20,
    };
}

/// One fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Refused,
    Unanswered,
    Late,
    Stale,
    Stalled,
    Hung,
    Doubled,
    Stepwise,
    Dropped,
    Swapped,
    Down,
}

/// The dice, shared by everything that a test wraps; they can be put away.
pub struct Faults {
    odds: Odds,
    rng: Mutex<StdRng>,
    calm: AtomicBool,
    calls: AtomicU64,
    counts: Mutex<HashMap<Fault, u64>>,
    late: TaskTracker,
}

impl Faults {
    /// Dice with this seed, which the caller has printed.
    pub fn new(seed: u64, odds: Odds) -> Arc<Self> {
        Arc::new(Self {
            odds,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            counts: Mutex::default(),
            late: TaskTracker::new(),
        })
    }

    /// From now on nothing goes wrong; returns once everything late has happened.
    pub async fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.late.close();
        self.late.wait().await;
        self.late.reopen();
    }

    /// Things go wrong again.
    pub fn storm(&self) {
        self.calm.store(false, Ordering::SeqCst);
    }

    /// How often each fault struck.
    pub fn counts(&self) -> HashMap<Fault, u64> {
        self.counts.lock().clone()
    }

    fn roll(&self, fates: &[(Fault, u32)]) -> Option<Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.calm.load(Ordering::SeqCst) {
            return None;
        }
        let mut dice = self.rng.lock().random_range(0..10_000);
        for (fault, odds) in fates {
            if dice < *odds {
                *self.counts.lock().entry(*fault).or_default() += 1;
                return Some(*fault);
            }
            dice -= odds;
        }
        None
    }

    fn up_to(&self, limit: u64) -> u64 {
        self.rng.lock().random_range(0..=limit)
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(self.up_to(40))).await;
    }

    /// Makes a write, or seems to.
    async fn write<T, F>(self: &Arc<Self>, write: impl Fn() -> F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let odds = &self.odds;
        let fault = self.roll(&[
            (Fault::Refused, odds.refused),
            (Fault::Unanswered, odds.unanswered),
            (Fault::Late, odds.late),
            (Fault::Stalled, odds.stalled),
            (Fault::Hung, odds.hung),
            (Fault::Doubled, odds.doubled),
        ]);
        match fault {
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::Unanswered) => write().await.and(Err(lost())),
            Some(Fault::Late) => {
                let (faults, write) = (Arc::clone(self), write());
                self.late.spawn(async move {
                    faults.pause().await;
                    let _ = write.await;
                });
                Err(lost())
            }
            Some(Fault::Stalled) => {
                self.pause().await;
                write().await
            }
            Some(Fault::Hung) => {
                write().await?;
                std::future::pending().await
            }
            Some(Fault::Doubled) => {
                write().await?;
                write().await
            }
            _ => write().await,
        }
    }

    /// Reads, or fails to.
    async fn read<T>(&self, read: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        match self.roll(&[(Fault::Refused, self.odds.refused), (Fault::Stalled, self.odds.stalled)]) {
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::Stalled) => {
                self.pause().await;
                read.await
            }
            _ => read.await,
        }
    }

    fn is_stale(&self) -> bool {
        self.roll(&[(Fault::Stale, self.odds.stale)]).is_some()
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the test lost the answer".into())
}

/// A backend with [`Faults`].
pub struct Faulty<B: ?Sized> {
    backend: Arc<B>,
    faults: Arc<Faults>,
    /// Conversations as they were read before.
    records: Mutex<HashMap<ConversationId, Option<ConversationRecord>>>,
    /// How far logs went when they were read before.
    ends: Mutex<HashMap<ConversationId, Seq>>,
    /// The envelope that lets the next one pass, and for how many calls the bus is down.
    held: Mutex<(Option<Envelope>, u64)>,
}

impl<B: ?Sized> Faulty<B> {
    /// Spoils this backend.
    pub fn new(backend: Arc<B>, faults: Arc<Faults>) -> Self {
        Self { backend, faults, records: Mutex::default(), ends: Mutex::default(), held: Mutex::default() }
    }
}

/// A write whose arguments are owned, so that it can be made twice, or later than its caller is there.
macro_rules! write {
    ($self:ident, [$($owned:ident),*] $method:ident($($argument:expr),*)) => {{
        let backend = Arc::clone(&$self.backend);
        $self.faults.write(move || {
            let backend = Arc::clone(&backend);
            $(let $owned = $owned.clone();)*
            async move { backend.$method($($argument),*).await }
        }).await
    }};
}

#[async_trait]
impl LogStore for Faulty<dyn LogStore> {
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert> {
        let rows = rows.to_vec();
        write!(self, [rows] insert_rows(&rows))
    }

    async fn append_whole(&self, append: &WholeAppend) -> StoreResult<Whole> {
        if self.faults.roll(&[(Fault::Stepwise, self.faults.odds.stepwise)]).is_some() {
            return Ok(Whole::Unsupported);
        }
        let append = append.clone();
        write!(self, [append] append_whole(&append))
    }

    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten> {
        write!(self, [rewrite] rewrite_row(&rewrite))
    }

    async fn rows_after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        let mut rows = self.faults.read(self.backend.rows_after(conversation, after, limit)).await?;
        if self.faults.is_stale() {
            let end = self.ends.lock().get(&conversation).copied().unwrap_or(0);
            rows.retain(|row| row.seq <= end);
        } else if let Some(last) = rows.last() {
            self.ends.lock().insert(conversation, last.seq);
        }
        Ok(rows)
    }

    async fn rows_before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.faults.read(self.backend.rows_before(conversation, before, limit)).await
    }

    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        self.faults.read(self.backend.row(conversation, seq)).await
    }

    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>> {
        self.faults.read(self.backend.location(message)).await
    }

    async fn put_location(&self, message: MessageId, location: &Location) -> StoreResult<()> {
        let location = *location;
        write!(self, [] put_location(message, &location))
    }

    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>> {
        if self.faults.is_stale()
            && let Some(earlier) = self.records.lock().get(&id)
        {
            return Ok(earlier.clone());
        }
        let record = self.faults.read(self.backend.conversation(id)).await?;
        self.records.lock().insert(id, record.clone());
        Ok(record)
    }

    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()> {
        let record = record.clone();
        write!(self, [record] put_conversation(id, &record, seq))
    }

    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()> {
        let members = members.to_vec();
        write!(self, [members] mark_large(id, &members))
    }

    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()> {
        let (head, members, own) = (*head, members.to_vec(), own.to_vec());
        write!(self, [members, own] advance_heads(id, &head, &members, &own))
    }

    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        write!(self, [] mark_indexed(id, seq))
    }

    async fn unindexed(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<ConversationId>> {
        self.faults.read(self.backend.unindexed(after, limit)).await
    }

    async fn members(&self, id: ConversationId, after: Option<UserId>, limit: usize) -> StoreResult<Vec<Member>> {
        self.faults.read(self.backend.members(id, after, limit)).await
    }

    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>> {
        self.faults.read(self.backend.member(id, user)).await
    }

    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()> {
        let (record, changes, cleared) = (record.clone(), changes.to_vec(), *cleared);
        write!(self, [record, changes] put_members(id, &record, &changes, &cleared))
    }

    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()> {
        let marks = marks.to_vec();
        write!(self, [marks] mark_members(id, &marks, at))
    }

    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>> {
        self.faults.read(self.backend.memberships(user)).await
    }

    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>> {
        self.faults.read(self.backend.membership(user, id)).await
    }

    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()> {
        write!(self, [] mark_read(user, id, seq, n))
    }

    async fn mark_peer(&self, user: UserId, id: ConversationId, delivered: Seq, read: Option<Seq>) -> StoreResult<()> {
        write!(self, [] mark_peer(user, id, delivered, read))
    }

    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()> {
        let cleared = *cleared;
        write!(self, [] clear(user, id, &cleared))
    }

    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()> {
        write!(self, [] hide(user, id, seq))
    }

    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()> {
        let flags = *flags;
        write!(self, [] set_flags(user, id, &flags, at))
    }

    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, at: Timestamp) -> StoreResult<bool> {
        write!(self, [] turn_favourite(user, id, to, at))
    }
}

#[async_trait]
impl Bus for Faulty<dyn Bus> {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let odds = &self.faults.odds;
        let fault = self.faults.roll(&[
            (Fault::Refused, odds.refused),
            (Fault::Late, odds.late),
            (Fault::Stalled, odds.stalled),
            (Fault::Doubled, odds.doubled),
            (Fault::Dropped, odds.dropped),
            (Fault::Swapped, odds.swapped),
            (Fault::Down, odds.down),
        ]);
        let (passed, is_down) = {
            let mut held = self.held.lock();
            if fault == Some(Fault::Down) {
                held.1 = 20;
            } else if self.faults.calm.load(Ordering::SeqCst) {
                held.1 = 0;
            }
            let is_down = held.1 > 0;
            held.1 = held.1.saturating_sub(1);
            (if is_down { None } else { held.0.take() }, is_down)
        };
        if is_down || fault == Some(Fault::Refused) {
            return Err(BusError("the test took the bus down".into()));
        }
        match fault {
            Some(Fault::Late) => {
                let (faults, bus, envelope) = (Arc::clone(&self.faults), Arc::clone(&self.backend), envelope);
                self.faults.late.spawn(async move {
                    faults.pause().await;
                    let _ = bus.publish(envelope).await;
                });
            }
            Some(Fault::Stalled) => {
                self.faults.pause().await;
                self.backend.publish(envelope).await?;
            }
            Some(Fault::Doubled) => {
                self.backend.publish(envelope.clone()).await?;
                self.backend.publish(envelope).await?;
            }
            Some(Fault::Dropped) => {}
            Some(Fault::Swapped) => self.held.lock().0 = Some(envelope),
            _ => self.backend.publish(envelope).await?,
        }
        if let Some(passed) = passed {
            self.backend.publish(passed).await?;
        }
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        self.backend.subscribe()
    }

    fn is_up(&self) -> bool {
        self.held.lock().1 == 0 && self.backend.is_up()
    }
}
