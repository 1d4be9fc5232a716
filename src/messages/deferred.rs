//! Marks that are moved in the background: deliveries, which are written together, and whatever the store kept from being
//! done, which is tried again until it is done, or the node stops. At most one for each person and conversation; no
//! conversation waits for another one.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::marking::Wanted;
use super::receipts::{MAX_TURNS, Marks, Receipts, Turn};
use crate::error::{Error, Result};
use crate::id::{ConversationId, Seq, UserId};

/// Deliveries are written this long after the first of them.
const DELIVERY_PAUSE: Duration = Duration::from_millis(25);
/// They are tried again after this when the store is away.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Moving the marks of one conversation is given up after this, and tried again: a partition that cannot be read is asked for ever.
const LIMIT: Duration = Duration::from_secs(3);
/// Conversations whose marks are moved side by side.
const AT_A_TIME: usize = 512;
/// Those among them that have failed before: they leave room for the others.
const AGAIN_AT_A_TIME: usize = AT_A_TIME / 2;

/// Whose marks, and where.
type Key = (UserId, ConversationId);

/// Marks of one person in one conversation that wait to be moved.
#[derive(Default)]
struct Delivery {
    marks: Marks,
    turns: Vec<Turn>,
    /// Some messages below the marks are not among the turns: the log is to be asked.
    unknown: bool,
}

impl Delivery {
    fn of(marks: Marks, turns: Vec<Turn>) -> Self {
        Self { marks, unknown: turns.is_empty(), turns }
    }

    fn add(&mut self, other: Self) {
        self.marks = self.marks.max(other.marks);
        self.unknown |= other.unknown || self.turns.len() + other.turns.len() > MAX_TURNS;
        if !self.unknown {
            self.turns.extend(other.turns);
        }
    }
}

/// The marks of one conversation that wait to be moved, while others perhaps are.
#[derive(Default)]
struct Waiting {
    deliveries: HashMap<UserId, Delivery>,
    is_under_way: bool,
    /// It has failed: not before this again.
    again: Option<Instant>,
}

/// All that wait.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: HashMap<ConversationId, Waiting>,
    /// Somebody is going to move them.
    is_awaited: bool,
}

/// Marks of one conversation that are moved together.
type Together = (ConversationId, Vec<(UserId, Delivery)>);

impl Deferred {
    /// What is to be moved now, if anything is still to be; when the node stops, whatever is left.
    fn next(&mut self, stopping: bool) -> Option<Vec<Together>> {
        self.is_awaited = !self.waiting.is_empty();
        let (now, mut due) = (Instant::now(), Vec::new());
        let under_way = self.waiting.values().filter(|one| one.is_under_way);
        let mut room = AT_A_TIME.saturating_sub(under_way.clone().count());
        let mut room_again = AGAIN_AT_A_TIME.saturating_sub(under_way.filter(|one| one.again.is_some()).count());
        for (id, one) in &mut self.waiting {
            let is_due = !one.is_under_way && one.again.is_none_or(|again| stopping || again <= now);
            if room == 0 || !is_due || (one.again.is_some() && room_again == 0) {
                continue;
            }
            room -= 1;
            room_again -= usize::from(one.again.is_some());
            one.is_under_way = true;
            due.push((*id, one.deliveries.drain().collect()));
        }
        self.is_awaited.then_some(due)
    }

    /// The marks of a conversation have been moved.
    fn moved(&mut self, id: ConversationId) {
        let Some(one) = self.waiting.get_mut(&id) else { return };
        (one.is_under_way, one.again) = (false, None);
        if one.deliveries.is_empty() {
            self.waiting.remove(&id);
        }
    }

    /// They have not, and are to be.
    fn failed(&mut self, (id, deliveries): Together) {
        let one = self.waiting.entry(id).or_default();
        (one.is_under_way, one.again) = (false, Some(Instant::now() + RETRY_PAUSE));
        for (user, delivery) in deliveries {
            one.deliveries.entry(user).or_default().add(delivery);
        }
    }
}

/// Whoever was going to move marks panicked: the next one that comes begins anew.
struct Ended<'a>(&'a Mutex<Deferred>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut deferred = self.0.lock();
            deferred.is_awaited = false;
            deferred.waiting.values_mut().for_each(|one| one.is_under_way = false);
        }
    }
}

impl Receipts {
    /// Everything up to `upto` has reached a device of `user`; `turns` names the messages if the caller knows them all.
    /// Returns at once; what is delivered within a short pause is written together, or every message would cost
    /// further commits of its own.
    pub fn deliver(self: &Arc<Self>, user: UserId, id: ConversationId, upto: Seq, turns: Vec<Turn>) {
        let key = (user, id);
        if turns.is_empty() && self.known_delivered(key).is_some_and(|delivered| delivered >= upto) {
            return;
        }
        self.defer(key, Delivery::of(Marks { delivered: upto, read: 0 }, turns));
    }

    /// Everything up to `upto` has reached this person, or was read too: he says so, and hears how many messages turned READ.
    /// What the store keeps from being done now is done later, also when he is told that it was not, or has gone.
    pub(super) async fn mark_upto(self: &Arc<Self>, user: UserId, id: ConversationId, upto: Seq, read: bool) -> Result<usize> {
        let (receipts, marks) = (Arc::clone(self), Marks { delivered: upto, read: if read { upto } else { 0 } });
        let marking = async move {
            let marked = receipts.mark_in_time(id, vec![Wanted { user, marks, known: None }]).await;
            if marked.as_ref().is_err_and(|error| error.retry_after.is_some()) {
                receipts.defer((user, id), Delivery::of(marks, Vec::new()));
            }
            marked
        };
        self.tasks.carry_out(marking).await
    }

    fn defer(self: &Arc<Self>, (user, id): Key, delivery: Delivery) {
        let mut deferred = self.deferred.lock();
        let is_awaited = std::mem::replace(&mut deferred.is_awaited, true);
        deferred.waiting.entry(id).or_default().deliveries.entry(user).or_default().add(delivery);
        if !is_awaited {
            let receipts = Arc::clone(self);
            self.tasks.spawn(async move { receipts.work_off().await });
        }
    }

    /// Moves marks, a pause apart, until there are none to move.
    async fn work_off(self: Arc<Self>) {
        let _ended = Ended(&self.deferred);
        let stopping = self.tasks.stopping();
        let mut under_way = FuturesUnordered::new();
        let (mut failures, mut told) = (0_usize, None::<Instant>);
        loop {
            let mut pause = pin!(tokio::time::sleep(DELIVERY_PAUSE));
            loop {
                let (together, failed) = tokio::select! {
                    () = &mut pause => break,
                    Some(ended) = under_way.next() => ended,
                };
                let mut deferred = self.deferred.lock();
                match failed {
                    Some(error) if !stopping.is_cancelled() => {
                        deferred.failed(together);
                        drop(deferred);
                        failures += 1;
                        // Not for each: the store may be away for all of them.
                        if told.is_none_or(|told| told.elapsed() >= RETRY_PAUSE) {
                            let failures = std::mem::take(&mut failures);
                            tracing::warn!(%error, failures, "marks were not moved, or not told; they are tried again");
                            told = Some(Instant::now());
                        }
                    }
                    _ => deferred.moved(together.0),
                }
            }
            let next = self.deferred.lock().next(stopping.is_cancelled());
            let Some(next) = next else { return };
            // Side by side, so that they share commits.
            under_way.extend(next.into_iter().map(|together| self.work_one_off(together)));
        }
    }

    /// Gives back what was to be moved, and why it is to be tried again if it is.
    async fn work_one_off(&self, (id, deliveries): Together) -> (Together, Option<Error>) {
        let wanted = |(user, delivery): &(UserId, Delivery)| {
            let known = (!delivery.unknown).then(|| delivery.turns.clone());
            Wanted { user: *user, marks: delivery.marks, known }
        };
        let failed = match self.mark_in_time(id, deliveries.iter().map(wanted).collect()).await {
            Err(error) if error.retry_after.is_some() => Some(error),
            Err(error) => {
                tracing::debug!(%error, "a mark is none any more");
                None
            }
            Ok(_) => None,
        };
        ((id, deliveries), failed)
    }

    /// Given up in the middle is like failed there: the same again does, and tells, what was not.
    async fn mark_in_time(&self, id: ConversationId, wanted: Vec<Wanted>) -> Result<usize> {
        let marked = tokio::time::timeout(LIMIT, self.mark(id, wanted)).await;
        marked.unwrap_or_else(|_| Err(Error::unavailable("the marks could not be moved in time, try again in a moment")))
    }
}
