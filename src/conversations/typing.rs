//! Who is typing now, as the views ask it. The gateway hears it; the question stands here so that nothing that shows
//! conversations has to import sockets.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::id::{ConversationId, UserId};

/// The question that views ask; cheap, answered from memory.
pub trait Typing: Send + Sync + 'static {
    /// Who is typing in this conversation on any node. Blocks are for whoever notes it.
    fn typing_in(&self, conversation: ConversationId) -> Vec<UserId>;
}

/// Nobody types for longer than this after the last sign of it: whoever was to tell that he stopped may have ended.
const LASTS: Duration = Duration::from_secs(10);
/// Conversations beyond this many are looked through for typing that has ended.
const SWEEP: usize = 10_000;

/// The people who are typing, kept by whoever holds it.
#[derive(Debug, Default)]
pub struct TypingSet(RwLock<Typists>);

#[derive(Debug, Default)]
struct Typists {
    conversations: HashMap<ConversationId, BTreeMap<UserId, Instant>>,
    /// How many were left by the last look for typing that has ended.
    swept: usize,
}

impl TypingSet {
    /// Notes that the user types in this conversation, or stopped.
    pub fn set(&self, conversation: ConversationId, user: UserId, typing: bool) {
        self.set_at(conversation, user, typing, Instant::now());
    }

    fn set_at(&self, conversation: ConversationId, user: UserId, typing: bool, now: Instant) {
        let mut typists = self.0.write();
        let Typists { conversations, swept } = &mut *typists;
        if typing {
            if conversations.len() >= SWEEP.max(*swept * 2) {
                conversations.retain(|_, users| users.values().any(|until| *until > now));
                *swept = conversations.len();
            }
            conversations.entry(conversation).or_default().insert(user, now + LASTS);
        } else if let Some(users) = conversations.get_mut(&conversation) {
            users.remove(&user);
            if users.is_empty() {
                conversations.remove(&conversation);
            }
        }
    }

    fn typing_at(&self, conversation: ConversationId, now: Instant) -> Vec<UserId> {
        let typists = self.0.read();
        let users = typists.conversations.get(&conversation).into_iter().flatten();
        users.filter(|(_, until)| **until > now).map(|(user, _)| *user).collect()
    }
}

impl Typing for TypingSet {
    fn typing_in(&self, conversation: ConversationId) -> Vec<UserId> {
        self.typing_at(conversation, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_types_for_ever() {
        let (typing, now, id, user) = (TypingSet::default(), Instant::now(), ConversationId::fresh(), UserId::fresh());
        typing.set_at(id, user, true, now);
        assert_eq!(typing.typing_at(id, now), [user]);
        assert!(typing.typing_at(id, now + LASTS).is_empty());
        typing.set_at(id, user, false, now);
        assert!(typing.typing_at(id, now).is_empty());
        for _ in 0..SWEEP {
            typing.set_at(ConversationId::fresh(), user, true, now);
        }
        typing.set_at(id, user, true, now + LASTS);
        assert_eq!(typing.0.read().conversations.len(), 1);
    }
}
