//! Who reads a conversation that is not known yet: one at a time. The others wait, and find it known.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::id::ConversationId;

type Turns = HashMap<ConversationId, Arc<tokio::sync::Mutex<()>>>;

/// The conversations that are being read.
#[derive(Default)]
pub(super) struct Loading(Mutex<Turns>);

/// Somebody's turn; it ends when it is dropped.
pub(super) struct Turn<'a> {
    loading: &'a Loading,
    id: ConversationId,
    held: Option<OwnedMutexGuard<()>>,
}

impl Loading {
    /// Waits until it is the caller's turn to read this conversation.
    pub async fn turn(&self, id: ConversationId) -> Turn<'_> {
        let turn = Arc::clone(self.0.lock().entry(id).or_default());
        // Also of those who do not live to have their turn, the last one tidies up.
        let mut waiting = Turn { loading: self, id, held: None };
        waiting.held = Some(turn.lock_owned().await);
        waiting
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut turns = self.loading.0.lock();
        if turns.get(&self.id).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn one_reads_and_nothing_is_left_behind() {
        let (loading, one, other) = (Loading::default(), ConversationId::fresh(), ConversationId::fresh());
        let first = loading.turn(one).await;
        let mut second = Box::pin(loading.turn(one));
        let mut third = Box::pin(loading.turn(one));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(loading.turn(other).await);
        drop(second);
        drop(first);
        drop(third.await);
        assert!(loading.0.lock().is_empty());
    }
}
