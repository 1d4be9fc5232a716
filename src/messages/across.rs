//! Lists of messages from several conversations: each conversation's messages are viewed together, and the order is kept.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;

use super::{Message, Messages};
use crate::error::Result;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{LogRow, MemberState, Membership, unless_spoilt};

/// The conversations that somebody takes part in now.
pub(super) type Memberships = HashMap<ConversationId, Membership>;

impl Messages {
    /// The conversations of the caller: those that he has left are not among them.
    pub(super) async fn memberships(&self, caller: UserId) -> Result<Memberships> {
        let memberships = self.log.memberships(caller).await?;
        let active = memberships.into_iter().filter(|membership| membership.state == MemberState::Active);
        Ok(active.map(|membership| (membership.conversation_id, membership)).collect())
    }

    /// Rows of these conversations as the caller sees them, in the order in which they are given; none of conversations that cannot be read.
    pub(super) async fn views_across(&self, caller: UserId, memberships: &Memberships, rows: Vec<LogRow>) -> Result<Vec<Message>> {
        let order: Vec<MessageId> = rows.iter().map(|row| row.message_id).collect();
        let mut groups: BTreeMap<ConversationId, Vec<LogRow>> = BTreeMap::new();
        for row in rows {
            groups.entry(row.conversation_id).or_default().push(row);
        }
        let groups = groups.into_iter().filter_map(|(id, rows)| Some((memberships.get(&id)?, rows)));
        let views = groups.map(|(membership, rows)| async move {
            let id = membership.conversation_id;
            let views = async { self.views(caller, &*self.appender.state(id).await?, membership, rows).await };
            unless_spoilt(id, views.await)
        });
        let views = try_join_all(views).await?;
        let mut by_id: HashMap<MessageId, Message> = views.into_iter().flatten().flatten().map(|message| (message.id, message)).collect();
        Ok(order.iter().filter_map(|id| by_id.remove(id)).collect())
    }
}
