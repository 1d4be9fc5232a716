//! Receipts of a message that was sent by POST wait until the app has had time to read the answer: it replaces its own
//! temporary id by the one in there, and a receipt for an id that it does not know yet would be lost on it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::event::LooseEvent;
use crate::id::MessageId;

/// From the row's event, which is a moment before the answer, to the first receipt.
pub const RECEIPTS_WAIT: Duration = Duration::from_millis(700);
/// Messages remembered at most; the oldest no longer hold anything.
const MAX_HOLDS: usize = 65_536;

/// The messages whose receipts wait, and the receipts.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<MessageId, Hold>>);

struct Hold {
    until: Instant,
    waiting: Vec<LooseEvent>,
}

impl Holds {
    /// A message was posted now.
    pub fn hold(&self, message: MessageId, now: Instant) {
        let mut holds = self.0.lock();
        if holds.len() >= MAX_HOLDS {
            holds.retain(|_, hold| hold.until > now || !hold.waiting.is_empty());
        }
        if holds.len() < MAX_HOLDS {
            holds.entry(message).or_insert(Hold { until: now + RECEIPTS_WAIT, waiting: Vec::new() });
        }
    }

    /// Until when this message's receipts wait, if they do.
    pub fn until(&self, message: MessageId, now: Instant) -> Option<(MessageId, Instant)> {
        let mut holds = self.0.lock();
        let hold = holds.get(&message)?;
        if hold.until > now || !hold.waiting.is_empty() {
            return Some((message, hold.until));
        }
        holds.remove(&message);
        None
    }

    /// Keeps a receipt. True for the first one: its bringer releases them all.
    pub fn wait(&self, message: MessageId, until: Instant, receipt: LooseEvent) -> bool {
        let mut holds = self.0.lock();
        let hold = holds.entry(message).or_insert(Hold { until, waiting: Vec::new() });
        hold.waiting.push(receipt);
        hold.waiting.len() == 1
    }

    /// Hands the receipts that waited to `tell`, in order; a later one of the same message finds them told.
    pub fn release(&self, message: MessageId, mut tell: impl FnMut(LooseEvent)) {
        let mut holds = self.0.lock();
        if let Some(hold) = holds.remove(&message) {
            hold.waiting.into_iter().for_each(&mut tell);
        }
    }
}
