//! Stars: what somebody marked to find it again, for himself alone. A star shows as long as its message does:
//! not when that was deleted, cleared or hidden, nor when its owner has left the conversation.

use std::cmp::Reverse;

use futures_util::future::try_join_all;
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::{Message, Messages, Star};
use crate::error::{Error, Result};
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::LogRow;
use crate::page::{Cursor, Page};

/// Stars that one person may have.
pub const MAX_STARS: usize = 2_000;
const CURSOR: &str = "starred";

/// A page of starred messages, the latest star first.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Starred {
    /// The messages.
    pub messages: Vec<Message>,
    /// How many there are.
    pub total: usize,
    /// The page's size, as taken.
    pub limit: usize,
    /// There are more.
    pub has_more: bool,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl poem_openapi::types::Example for Starred {
    fn example() -> Self {
        let message = Message { is_starred: Some(true), ..Message::example() };
        Self { messages: vec![message], total: 1, limit: 50, has_more: false, next_cursor: None }
    }
}

/// A star's place in the list: when, then which.
type Place = (i64, ConversationId, Seq);

fn place(star: &Star) -> Place {
    (star.starred_at.0, star.conversation_id, star.seq)
}

impl Messages {
    /// Stars a message; again is the same.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the message; `BadRequest`: it is deleted, or there are [`MAX_STARS`] already.
    pub async fn star(&self, caller: UserId, id: MessageId) -> Result<()> {
        let row = self.visible(caller, id).await?.row;
        if row.deleted_at.is_some() {
            return Err(Error::bad_request("a deleted message cannot be starred"));
        }
        if !self.store.stars_in(caller, row.conversation_id, row.seq, row.seq).await?.is_empty() {
            return Ok(());
        }
        if self.store.stars(caller, MAX_STARS).await?.len() >= MAX_STARS {
            return Err(Error::bad_request(format!("you have starred {MAX_STARS} messages, as many as one can: unstar some first")));
        }
        let star = Star { conversation_id: row.conversation_id, seq: row.seq, starred_at: self.receipts.now() };
        Ok(self.store.put_star(caller, &star).await?)
    }

    /// Takes a star away; one that is not there is as good.
    ///
    /// # Errors
    /// `NotFound`: no such message; `Forbidden`: somebody else's conversation.
    pub async fn unstar(&self, caller: UserId, id: MessageId) -> Result<()> {
        let row = self.located(caller, id).await?.row;
        Ok(self.store.remove_star(caller, row.conversation_id, row.seq).await?)
    }

    /// The caller's starred messages, the latest star first.
    pub async fn starred(&self, caller: UserId, page: &Page) -> Result<Starred> {
        let after = page.after::<Place>(CURSOR)?;
        let memberships = self.memberships(caller).await?;
        // Two stars at once may have passed the limit: what is stored is shown.
        let mut stars = self.store.stars(caller, MAX_STARS * 2).await?;
        stars.retain(|star| memberships.get(&star.conversation_id).is_some_and(|membership| star.seq > membership.cleared_seq));
        stars.sort_unstable_by_key(|star| Reverse(place(star)));
        let mut total = stars.len();
        let begin = match after {
            Some(after) => stars.partition_point(|star| place(star) >= after),
            None => page.offset.min(total),
        };
        let mut found: Vec<(Place, LogRow)> = Vec::with_capacity(page.limit + 1);
        for part in stars[begin..].chunks(page.limit + 1) {
            let shown = try_join_all(part.iter().map(|star| self.shown(caller, star))).await?;
            total -= shown.iter().filter(|row| row.is_none()).count();
            found.extend(part.iter().zip(shown).filter_map(|(star, row)| Some((place(star), row?))));
            // One more than the page: it says that there is more.
            if found.len() > page.limit {
                break;
            }
        }
        let has_more = found.len() > page.limit;
        found.truncate(page.limit);
        let next_cursor = found.last().filter(|_| has_more).map(|(place, _)| Cursor::new(CURSOR, place).into_text());
        let rows = found.into_iter().map(|(_, row)| row).collect();
        let messages = self.views_across(caller, &memberships, rows).await?;
        Ok(Starred { messages, total, limit: page.limit, has_more, next_cursor })
    }

    /// The message of a star, if it still shows. The star of one that was deleted or hidden goes, for that does not come
    /// back; a row that is not found may only not have been found.
    async fn shown(&self, caller: UserId, star: &Star) -> Result<Option<LogRow>> {
        let Star { conversation_id, seq, .. } = *star;
        let Some(row) = self.reader.row(conversation_id, seq).await? else { return Ok(None) };
        let shows = row.body.is_shown() && row.deleted_at.is_none();
        if shows && self.store.hidden_in(caller, conversation_id, seq, seq).await?.is_empty() {
            return Ok(Some(row));
        }
        self.store.remove_star(caller, conversation_id, seq).await?;
        Ok(None)
    }
}
