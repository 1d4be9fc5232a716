//! Marks that are moved in the background: deliveries, which are written together, and whatever the store kept from being
//! done, which is tried again until it is done, or the node stops. At most one for each person and conversation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::marking::Wanted;
use super::receipts::{MAX_TURNS, Marks, Receipts, Turn};
use crate::error::{Error, Result};
use crate::id::{ConversationId, Seq, UserId};

/// Deliveries are written this long after the first of them.
const DELIVERY_PAUSE: Duration = Duration::from_millis(25);
/// They are tried again after this when the store is away.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Conversations whose marks are moved side by side.
const AT_A_TIME: usize = 512;

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

/// All that wait.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: HashMap<Key, Delivery>,
    /// Somebody is going to move them.
    is_awaited: bool,
}

/// Whoever was going to move marks panicked: the next one that comes begins anew.
struct Ended<'a>(&'a Mutex<Deferred>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().is_awaited = false;
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
            let marked = receipts.mark(id, vec![Wanted { user, marks, known: None }]).await;
            if marked.as_ref().is_err_and(|error| error.retry_after.is_some()) {
                receipts.defer((user, id), Delivery::of(marks, Vec::new()));
            }
            marked
        };
        self.tasks.carry_out(marking).await
    }

    fn defer(self: &Arc<Self>, key: Key, delivery: Delivery) {
        let mut deferred = self.deferred.lock();
        let is_awaited = std::mem::replace(&mut deferred.is_awaited, true);
        deferred.waiting.entry(key).or_default().add(delivery);
        if !is_awaited {
            let receipts = Arc::clone(self);
            self.tasks.spawn(async move { receipts.work_off().await });
        }
    }

    /// Moves marks, a pause apart, until there are none to move.
    async fn work_off(self: Arc<Self>) {
        let _ended = Ended(&self.deferred);
        let stopping = self.tasks.stopping();
        let mut pause = DELIVERY_PAUSE;
        loop {
            let _ = stopping.run_until_cancelled(tokio::time::sleep(pause)).await;
            let waiting = {
                let mut deferred = self.deferred.lock();
                if deferred.waiting.is_empty() {
                    deferred.is_awaited = false;
                    return;
                }
                std::mem::take(&mut deferred.waiting)
            };
            let mut by_conversation: HashMap<ConversationId, Vec<(UserId, Delivery)>> = HashMap::new();
            for ((user, id), delivery) in waiting {
                by_conversation.entry(id).or_default().push((user, delivery));
            }
            // Side by side, so that they share commits.
            let moved = stream::iter(by_conversation).map(async |(id, deliveries)| self.work_one_off(id, deliveries).await);
            let failed = moved.buffer_unordered(AT_A_TIME).filter_map(async |failed| failed).collect::<Vec<_>>().await;
            pause = DELIVERY_PAUSE;
            if let Some((.., error)) = failed.first() {
                tracing::warn!(%error, conversations = failed.len(), "marks were not moved, or not told; they are tried again");
                pause = RETRY_PAUSE;
            }
            if !stopping.is_cancelled() {
                let mut deferred = self.deferred.lock();
                for (id, deliveries, _) in failed {
                    for (user, delivery) in deliveries {
                        deferred.waiting.entry((user, id)).or_default().add(delivery);
                    }
                }
            }
        }
    }

    /// Gives back what is to be tried again.
    async fn work_one_off(
        &self,
        id: ConversationId,
        deliveries: Vec<(UserId, Delivery)>,
    ) -> Option<(ConversationId, Vec<(UserId, Delivery)>, Error)> {
        let wanted = |(user, delivery): &(UserId, Delivery)| {
            let known = (!delivery.unknown).then(|| delivery.turns.clone());
            Wanted { user: *user, marks: delivery.marks, known }
        };
        match self.mark(id, deliveries.iter().map(wanted).collect()).await {
            Err(error) if error.retry_after.is_some() => Some((id, deliveries, error)),
            Err(error) => {
                tracing::debug!(%error, "a mark is none any more");
                None
            }
            Ok(_) => None,
        }
    }
}
