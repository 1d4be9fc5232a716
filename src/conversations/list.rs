//! The list of conversations: one partition read, sorted in memory, and a page of point reads for what is shown.
//! The archived ones are the same list with the other half of the rows.

use std::cmp::Reverse;

use super::{Conversation, Conversations, LISTED_PARTICIPANTS};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{ConversationId, UserId};
use crate::log::{MemberState, Membership};
use crate::page::{Cursor, Page};

const CURSOR: &str = "conversations";
const ARCHIVED_CURSOR: &str = "archived";

/// A page of somebody's conversations, newest activity first.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The page.
    pub conversations: Vec<Conversation>,
    /// All in the list.
    pub total: usize,
    /// Where it goes on.
    pub next: Option<Cursor>,
}

/// Whether the conversation is in its member's list: hidden ones come back with the next message, not with an edit.
pub fn is_listed(membership: &Membership) -> bool {
    let shown = membership.hidden_seq == 0 || membership.head.message_seq > membership.hidden_seq;
    membership.state == MemberState::Active && shown
}

impl Conversations {
    /// The caller's conversations, or those that he archived; newest activity first.
    ///
    /// # Errors
    /// `Invalid`: a bad cursor.
    pub async fn list(&self, caller: UserId, archived: bool, page: &Page) -> Result<Listed> {
        let _place = self.lists.enter()?;
        let kind = if archived { ARCHIVED_CURSOR } else { CURSOR };
        let after: Option<(i64, ConversationId)> = page.after(kind)?;
        let mut memberships = self.parts.log.memberships(caller).await?;
        memberships.retain(|membership| membership.archived == archived && membership.state == MemberState::Active);
        self.heads.complete(&mut memberships).await?;
        memberships.retain(is_listed);
        let total = memberships.len();
        let place = |membership: &Membership| (Reverse(membership.head.at), membership.conversation_id);
        memberships.sort_unstable_by_key(place);
        let start = match after {
            Some((at, id)) => memberships.partition_point(|membership| place(membership) <= (Reverse(Timestamp(at)), id)),
            None => page.offset.min(total),
        };
        let more = total > start + page.limit;
        memberships.truncate(start + page.limit);
        let shown = memberships.split_off(start);
        let last = shown.last().filter(|_| more);
        let next = last.map(|last| Cursor::new(kind, &(last.head.at.0, last.conversation_id)));
        Ok(Listed { conversations: self.views(caller, shown, LISTED_PARTICIPANTS).await?, total, next })
    }
}
