//! One at a time for each conversation: who reads one that is not known yet, for the others wait, and find it known; who
//! moves marks, for what two turn is told once. No conversation waits for another one.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::id::ConversationId;

type Taken = HashMap<ConversationId, Arc<tokio::sync::Mutex<()>>>;

/// The conversations in which somebody has his turn.
#[derive(Default)]
pub(crate) struct Turns(Mutex<Taken>);

/// Somebody's turn; it ends when it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    id: ConversationId,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until it is the caller's turn in this conversation.
    pub async fn turn(&self, id: ConversationId) -> Turn<'_> {
        let turn = Arc::clone(self.0.lock().entry(id).or_default());
        // Also of those who do not live to have their turn, the last one tidies up.
        let mut waiting = Turn { turns: self, id, held: None };
        waiting.held = Some(turn.lock_owned().await);
        waiting
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut turns = self.turns.0.lock();
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
    async fn one_has_his_turn_and_nothing_is_left_behind() {
        let (turns, one, other) = (Turns::default(), ConversationId::fresh(), ConversationId::fresh());
        let first = turns.turn(one).await;
        let mut second = Box::pin(turns.turn(one));
        let mut third = Box::pin(turns.turn(one));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(turns.turn(other).await);
        drop(second);
        drop(first);
        drop(third.await);
        assert!(turns.0.lock().is_empty());
    }
}
