//! Pages of a conversation's messages: rows of the log that are messages, not cleared and not removed from the caller's view.
//! Every page is a bounded walk along one partition; the places of edits are stepped over.

use std::collections::HashSet;

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::{Message, Messages};
use crate::error::{Error, Result};
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::{LogRow, Membership};
use crate::page::{Cursor, Page};

/// Rows that one request walks along at most; the cursor goes on from there.
const WALK_ROWS: usize = 4_000;
/// Rows read at a time.
const STEP_ROWS: usize = 128;
const CURSOR: &str = "messages";

/// Which messages of a conversation.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Older than this message.
    pub before: Option<MessageId>,
    /// Newer than this message.
    pub after: Option<MessageId>,
    /// Older than this place.
    pub before_seq: Option<Seq>,
    /// Newer than this place.
    pub after_seq: Option<Seq>,
}

/// A page of messages, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct History {
    /// The messages.
    pub messages: Vec<Message>,
    /// All messages that the caller can see in this conversation.
    pub total: i64,
    /// The page size that was used.
    pub limit: usize,
    /// There are more in the direction of reading.
    pub has_more: bool,
    /// Goes on in the direction of reading.
    pub next_cursor: Option<String>,
}

impl poem_openapi::types::Example for History {
    fn example() -> Self {
        Self { messages: vec![Message::example()], total: 1, limit: 50, has_more: false, next_cursor: None }
    }
}

/// Where a walk is and where it goes.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Place {
    #[serde(rename = "b")]
    Before(Seq),
    #[serde(rename = "a")]
    After(Seq),
}

impl Messages {
    /// A page: the newest one, or before or after a place; its messages count as delivered to the caller.
    ///
    /// # Errors
    /// `NotFound`/`Forbidden`: the conversation; `Invalid`: `before` or `after` is no message of it, or the cursor is bad.
    pub async fn history(&self, caller: UserId, id: ConversationId, query: &HistoryQuery, page: &Page) -> Result<History> {
        let _place = self.histories.enter()?;
        let (state, membership) = self.membership(caller, id).await?;
        let hidden = self.hidden(caller, id, membership.cleared_seq).await?;
        let place = match page.after::<Place>(CURSOR)? {
            Some(place) => place,
            None => self.place(id, query).await?,
        };
        let beyond = membership.head.seq + 1;
        let place = match place {
            Place::Before(seq) => Place::Before(seq.clamp(1, beyond)),
            Place::After(seq) => Place::After(seq.clamp(0, beyond)),
        };
        let skip = if page.cursor.is_some() { 0 } else { page.offset };
        let (rows, next) = self.walk(&membership, place, &hidden, skip, page.limit).await?;
        let newest_of_others = rows.iter().rev().find(|row| row.sender_id != caller && row.body.is_counted());
        if let Some(row) = newest_of_others {
            self.receipts.deliver(caller, id, row.seq, Vec::new());
        }
        Ok(History {
            messages: self.views(caller, &state, &membership, rows).await?,
            total: (membership.head.total - membership.cleared_total - hidden.len() as i64).max(0),
            limit: page.limit,
            has_more: next.is_some(),
            next_cursor: next.map(|place| Cursor::new(CURSOR, &place).into_text()),
        })
    }

    async fn place(&self, id: ConversationId, query: &HistoryQuery) -> Result<Place> {
        if let Some(message) = query.before {
            return Ok(Place::Before(self.seq_of(id, message, "before").await?));
        }
        if let Some(message) = query.after {
            return Ok(Place::After(self.seq_of(id, message, "after").await?));
        }
        Ok(match (query.before_seq, query.after_seq) {
            (Some(seq), _) => Place::Before(seq),
            (None, Some(seq)) => Place::After(seq),
            (None, None) => Place::Before(Seq::MAX),
        })
    }

    async fn seq_of(&self, id: ConversationId, message: MessageId, field: &str) -> Result<Seq> {
        let row = self.reader.find(message).await?.filter(|row| row.conversation_id == id);
        row.map(|row| row.seq).ok_or_else(|| Error::invalid_at("query", field, format!("{field} is no message of this conversation")))
    }

    /// `limit` visible rows from `place` on, after `skip` others, ascending, and where it goes on if it does.
    async fn walk(
        &self,
        membership: &Membership,
        place: Place,
        hidden: &HashSet<Seq>,
        mut skip: usize,
        limit: usize,
    ) -> Result<(Vec<LogRow>, Option<Place>)> {
        let id = membership.conversation_id;
        let visible = |row: &LogRow| row.body.is_shown() && row.seq > membership.cleared_seq && !hidden.contains(&row.seq);
        let mut found: Vec<LogRow> = Vec::with_capacity(limit + 1);
        let (mut at, mut walked, mut ended) = (place, 0, false);
        while found.len() <= limit && !ended && walked < WALK_ROWS {
            let step = STEP_ROWS.min(limit + skip + 8);
            let rows = match at {
                Place::Before(seq) => self.reader.before(id, seq, step).await?,
                Place::After(seq) => self.reader.after(id, seq.max(membership.cleared_seq), step).await?,
            };
            walked += rows.len();
            let last = rows.last().map(|row| row.seq);
            for row in rows.into_iter().filter(visible) {
                // One more than the page is taken: it says that there is more.
                if skip > 0 {
                    skip -= 1;
                } else if found.len() <= limit && row.seq <= membership.head.seq {
                    found.push(row);
                }
            }
            (at, ended) = match (at, last) {
                (Place::Before(_), Some(seq)) => (Place::Before(seq), seq <= membership.cleared_seq + 1),
                (Place::After(_), Some(seq)) => (Place::After(seq), seq >= membership.head.seq),
                (at, None) => (at, true),
            };
        }
        let next = if found.len() > limit {
            found.truncate(limit);
            let last = found.last().map_or(0, |row| row.seq);
            Some(if matches!(at, Place::Before(_)) { Place::Before(last) } else { Place::After(last) })
        } else if ended {
            None
        } else {
            Some(at)
        };
        if matches!(place, Place::Before(_)) {
            found.reverse();
        }
        Ok((found, next))
    }
}
