//! Which conversations have rows that the search index does not know yet: told with every row on a node that is alone, read by
//! the indexer. Among several nodes growths do that, and here stands at most that everything is to be looked at.
//! It is a hint and no record: what is lost with the node is found again by `LogStore::unindexed`.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::ConversationId;

/// Conversations that wait; beyond it the indexer looks for itself.
const LIMIT: usize = 65_536;

/// The conversations that wait for the indexer, each once.
#[derive(Debug, Default)]
pub struct IndexQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

/// What has been touched since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The conversations.
    pub conversations: HashSet<ConversationId>,
    /// There were more than were kept: all conversations are to be looked at.
    pub overflown: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.conversations.is_empty() && !self.overflown
    }
}

impl IndexQueue {
    /// Notes that the conversation's log has grown. Costs next to nothing and never waits.
    pub fn touched(&self, id: ConversationId) {
        let mut touched = self.waiting.lock();
        if touched.conversations.len() < LIMIT {
            touched.conversations.insert(id);
        } else if !touched.conversations.contains(&id) {
            touched.overflown = true;
        }
        drop(touched);
        self.arrived.notify_one();
    }

    /// Notes that nobody knows what was touched: all conversations are to be looked at.
    pub fn touched_unknown(&self) {
        self.waiting.lock().overflown = true;
        self.arrived.notify_one();
    }

    /// Waits until something was touched, and takes it.
    pub async fn take(&self) -> Waiting {
        loop {
            let touched = std::mem::take(&mut *self.waiting.lock());
            if !touched.is_empty() {
                return touched;
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_touched_often_is_taken_once() {
        let queue = IndexQueue::default();
        let (a, b) = (ConversationId::fresh(), ConversationId::fresh());
        for id in [a, b, a, a] {
            queue.touched(id);
        }
        assert_eq!(queue.take().await, Waiting { conversations: HashSet::from([a, b]), overflown: false });
        queue.touched(b);
        assert_eq!(queue.take().await.conversations, HashSet::from([b]));
    }

    #[tokio::test]
    async fn too_many_are_not_kept_but_known_of() {
        let queue = IndexQueue::default();
        for _ in 0..=LIMIT {
            queue.touched(ConversationId::fresh());
        }
        let touched = queue.take().await;
        assert!(touched.overflown);
        assert_eq!(touched.conversations.len(), LIMIT);
    }
}
