//! Heads of large conversations: no membership carries them, so lists read them from the conversation.
//! One read a conversation and second, however many of its members open their list at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use moka::future::Cache;

use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::log::{Head, LogStore, MemberState, Membership, unless_spoilt};

/// How old a head in a list may be.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// Conversations whose head is kept.
const KEPT: u64 = 10_000;
/// Heads that one list reads at once.
const AT_ONCE: usize = 32;

/// The heads.
pub(super) struct Heads {
    log: Arc<dyn LogStore>,
    kept: Cache<ConversationId, (ConversationId, Head)>,
}

impl Heads {
    pub fn new(log: Arc<dyn LogStore>) -> Self {
        Self { log, kept: Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build() }
    }

    /// Puts the heads of large conversations into these memberships: at most a second old.
    pub async fn complete(&self, memberships: &mut [Membership]) -> Result<()> {
        let ids = large(memberships);
        let mut heads = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(AT_ONCE) {
            let read = chunk.iter().map(async |id| unless_spoilt(*id, self.kept(*id).await));
            heads.extend(try_join_all(read).await?.into_iter().flatten());
        }
        put(memberships, &heads);
        Ok(())
    }

    /// The same, read now: whoever asks what he lacks must not be told of a second ago.
    pub async fn complete_fresh(&self, memberships: &mut [Membership]) -> Result<()> {
        let ids = large(memberships);
        let mut heads = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(AT_ONCE) {
            let read = chunk.iter().map(async |id| unless_spoilt(*id, self.read(*id).await));
            heads.extend(try_join_all(read).await?.into_iter().flatten());
        }
        put(memberships, &heads);
        Ok(())
    }

    async fn kept(&self, id: ConversationId) -> Result<(ConversationId, Head)> {
        self.kept.try_get_with(id, self.read(id)).await.map_err(|error: Arc<Error>| (*error).clone())
    }

    async fn read(&self, id: ConversationId) -> Result<(ConversationId, Head)> {
        Ok((id, self.log.conversation(id).await?.map(|record| record.head).unwrap_or_default()))
    }
}

fn large(memberships: &[Membership]) -> Vec<ConversationId> {
    memberships.iter().filter(|membership| is_on_demand(membership)).map(|membership| membership.conversation_id).collect()
}

/// Who has gone keeps the head of then.
fn is_on_demand(membership: &Membership) -> bool {
    membership.large && membership.state == MemberState::Active
}

fn put(memberships: &mut [Membership], heads: &HashMap<ConversationId, Head>) {
    for membership in memberships.iter_mut().filter(|membership| is_on_demand(membership)) {
        if let Some(head) = heads.get(&membership.conversation_id) {
            membership.head = *head;
        }
    }
}
