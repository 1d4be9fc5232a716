//! Who is typing now, as the views ask it. The gateway hears and expires it; the question stands here so that
//! nothing that shows conversations has to import sockets.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;

use crate::id::{ConversationId, UserId};

/// The question that views ask; cheap, answered from memory.
pub trait Typing: Send + Sync + 'static {
    /// Who is typing in this conversation on any node. Blocks are for whoever notes it.
    fn typing_in(&self, conversation: ConversationId) -> Vec<UserId>;
}

/// The people who are typing, kept by whoever holds it.
#[derive(Debug, Default)]
pub struct TypingSet(RwLock<HashMap<ConversationId, BTreeSet<UserId>>>);

impl TypingSet {
    /// Notes that the user types in this conversation, or stopped.
    pub fn set(&self, conversation: ConversationId, user: UserId, typing: bool) {
        let mut conversations = self.0.write();
        if typing {
            conversations.entry(conversation).or_default().insert(user);
        } else if let Some(users) = conversations.get_mut(&conversation) {
            users.remove(&user);
            if users.is_empty() {
                conversations.remove(&conversation);
            }
        }
    }
}

impl Typing for TypingSet {
    fn typing_in(&self, conversation: ConversationId) -> Vec<UserId> {
        self.0.read().get(&conversation).map(|users| users.iter().copied().collect()).unwrap_or_default()
    }
}
