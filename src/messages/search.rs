//! Searching messages: the conversations of the caller, newest message first, within a bounded amount of work.
//! What the index proposes is read again and matched here (`candidates.rs` finds it); this file merges the conversations
//! by time and says where the next page goes on.

use std::collections::BinaryHeap;
use std::time::Duration;

use futures_util::future::try_join_all;
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::across::Memberships;
use super::candidates::{Candidates, Next, Place, Work, place_of};
use super::words::Query;
use super::{Message, Messages, TermMatch, search_block_of};
use crate::error::{Error, Result};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Body, LogRow, Membership};
use crate::page::{Cursor, Page};

/// Conversations that one page searches at most: those with the latest activity.
pub const MAX_CONVERSATIONS: usize = 200;
/// Partitions of the index that one page looks into at most, unless a single conversation has more.
const MAX_LOOKUPS: i64 = 2_000;
/// Conversations that are opened side by side.
const SIDE_BY_SIDE: usize = 16;
/// A page ends when this much time has passed, with what was found.
const TIME: Duration = Duration::from_millis(1_500);
/// A page ends when this many rows have been read, with what was found.
const ROWS: usize = 6_000;
const CURSOR: &str = "search";

/// What was found, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct FoundMessages {
    /// The messages of this page.
    pub messages: Vec<Message>,
    /// How many were found so far, with the pages before.
    pub total: usize,
    /// To be sent as `cursor` to go on; null when everything was searched. A page that has one may be short, or empty.
    pub next_cursor: Option<String>,
}

impl poem_openapi::types::Example for FoundMessages {
    fn example() -> Self {
        Self { messages: vec![Message::example()], total: 1, next_cursor: None }
    }
}

/// A conversation's place in the caller's list: when it was last active, then which.
type Activity = (i64, ConversationId);

fn activity(membership: &Membership) -> Activity {
    (membership.head.at.0, membership.conversation_id)
}

/// Where a search through all conversations goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The group of conversations comes after this one.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    start: Option<Activity>,
    /// The group ends with this one.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none", default)]
    end: Option<Activity>,
    /// Within the group everything from here on is known.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none", default)]
    after: Option<Place>,
    /// Found by the pages before.
    #[serde(rename = "f")]
    found: usize,
}

impl Messages {
    /// Messages of people with every word of `text`, the last one as a prefix, whatever case and accents.
    ///
    /// # Errors
    /// `Invalid`: a query that is too long, a bad cursor; `NotFound`, `Forbidden`: the conversation;
    /// `Unavailable`: too many searches at once.
    pub async fn search(&self, caller: UserId, text: &str, conversation: Option<ConversationId>, page: &Page) -> Result<FoundMessages> {
        let _place = self.searches.enter()?;
        let query = Query::parse(text)?;
        if let Some(id) = conversation {
            let (_, membership) = self.membership(caller, id).await?;
            let Some(query) = query else { return Ok(nothing()) };
            return self.search_one(caller, &query, membership, page).await;
        }
        let progress = page.after::<Progress>(CURSOR)?.unwrap_or_default();
        let Some(query) = query else { return Ok(nothing()) };
        self.search_all(caller, &query, progress, page).await
    }

    async fn search_one(&self, caller: UserId, query: &Query, membership: Membership, page: &Page) -> Result<FoundMessages> {
        let id = membership.conversation_id;
        let cursor = format!("{CURSOR}-{id}");
        let (before, found) = page.after::<(Seq, usize)>(&cursor)?.unwrap_or((membership.head.seq + 1, 0));
        let lookups = query.lookups();
        let work = Work::new(TIME, ROWS);
        let mut candidates = Candidates::new(self, &lookups, &membership, before);
        let mut hits = Vec::with_capacity(page.limit);
        let mut goes_on = None;
        loop {
            match candidates.next(&work).await? {
                Next::End => break,
                Next::Spent => {
                    goes_on = Some(candidates.frontier());
                    break;
                }
                Next::Row(row) if self.is_hit(caller, query, &row).await? => {
                    if hits.len() == page.limit {
                        goes_on = Some(row.seq + 1);
                        break;
                    }
                    hits.push(*row);
                }
                Next::Row(_) => {}
            }
        }
        let total = found.saturating_add(hits.len());
        let memberships = Memberships::from([(id, membership)]);
        let messages = self.views_across(caller, &memberships, hits).await?;
        let next_cursor = goes_on.map(|before| Cursor::new(&cursor, &(before, total)).into_text());
        Ok(FoundMessages { messages, total, next_cursor })
    }

    async fn search_all(&self, caller: UserId, query: &Query, progress: Progress, page: &Page) -> Result<FoundMessages> {
        let lookups = query.lookups();
        let memberships = self.memberships(caller).await?;
        let (group, end, has_more) = group(self.by_activity(&memberships).await?, &progress, lookups.len());
        let (hits, after) = self.search_group(caller, query, &lookups, &group, progress.after, page.limit).await?;
        let found = progress.found.saturating_add(hits.len());
        let next = match after {
            Some(after) => Some(Progress { start: progress.start, end, after: Some(after), found }),
            None if has_more => Some(Progress { start: end, end: None, after: None, found }),
            None => None,
        };
        let messages = self.views_across(caller, &memberships, hits).await?;
        Ok(FoundMessages { messages, total: found, next_cursor: next.map(|next| Cursor::new(CURSOR, &next).into_text()) })
    }

    /// The conversations with something to see, the latest active first.
    async fn by_activity(&self, memberships: &Memberships) -> Result<Vec<Membership>> {
        let mut all: Vec<Membership> = memberships.values().cloned().collect();
        let large: Vec<_> = all.iter().filter(|membership| membership.large).map(|membership| membership.conversation_id).collect();
        let mut heads = std::collections::HashMap::with_capacity(large.len());
        for part in large.chunks(SIDE_BY_SIDE) {
            let records = try_join_all(part.iter().map(|id| self.log.conversation(*id))).await?;
            heads.extend(part.iter().zip(records).filter_map(|(id, record)| Some((*id, record?.head))));
        }
        for membership in &mut all {
            if let Some(head) = heads.get(&membership.conversation_id) {
                membership.head = *head;
            }
        }
        all.retain(|membership| membership.head.seq > membership.cleared_seq);
        all.sort_unstable_by_key(|membership| std::cmp::Reverse(activity(membership)));
        Ok(all)
    }

    /// The newest hits of these conversations after a place, at most `limit`, and the place from which there may be more.
    async fn search_group(
        &self,
        caller: UserId,
        query: &Query,
        lookups: &[TermMatch],
        group: &[Membership],
        after: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<LogRow>, Option<Place>)> {
        let work = Work::new(TIME, ROWS);
        let open = |membership| Candidates::new(self, lookups, membership, membership.head.seq + 1);
        let mut all: Vec<Candidates<'_>> = group.iter().map(open).collect();
        let mut waiting: Vec<Option<Box<LogRow>>> = Vec::with_capacity(all.len());
        let mut newest = BinaryHeap::with_capacity(all.len());
        for part in all.chunks_mut(SIDE_BY_SIDE) {
            for next in try_join_all(part.iter_mut().map(|candidates| candidates.next_after(after, &work))).await? {
                match next {
                    Next::Row(row) => {
                        newest.push((place_of(&row), waiting.len()));
                        waiting.push(Some(row));
                    }
                    Next::End => waiting.push(None),
                    // Not one place is known from which to go on.
                    Next::Spent => return Err(Error::unavailable("the search takes too long now, try again in a moment")),
                }
            }
        }
        let mut hits = Vec::with_capacity(limit);
        let mut known = after;
        while let Some((place, index)) = newest.pop() {
            if let Some(row) = waiting[index].take()
                && self.is_hit(caller, query, &row).await?
            {
                if hits.len() == limit {
                    return Ok((hits, known));
                }
                hits.push(*row);
            }
            known = Some(place);
            match all[index].next(&work).await? {
                Next::Row(row) => {
                    newest.push((place_of(&row), index));
                    waiting[index] = Some(row);
                }
                Next::End => {}
                Next::Spent => return Ok((hits, known)),
            }
        }
        Ok((hits, None))
    }

    /// Whether this row is what is looked for, as it stands now, and the caller has not hidden it.
    async fn is_hit(&self, caller: UserId, query: &Query, row: &LogRow) -> Result<bool> {
        let matches = match &row.body {
            Body::Message(content) => row.deleted_at.is_none() && !content.is_encrypted && query.matches(&content.content),
            _ => false,
        };
        Ok(matches && self.store.hidden_in(caller, row.conversation_id, row.seq, row.seq).await?.is_empty())
    }
}

/// The conversations that this page searches, the last of them, and whether there are more after it.
/// Their end is fixed by the first page of the group: none is searched twice, however active they are meanwhile.
fn group(all: Vec<Membership>, progress: &Progress, words: usize) -> (Vec<Membership>, Option<Activity>, bool) {
    let mut lookups = 0;
    let mut group = Vec::new();
    let mut rest = all.into_iter().skip_while(|membership| progress.start.is_some_and(|start| activity(membership) >= start)).peekable();
    while let Some(membership) = rest.peek() {
        let blocks = search_block_of(membership.head.seq) - search_block_of(membership.cleared_seq + 1) + 1;
        lookups += blocks * words as i64;
        let belongs = match progress.end {
            Some(end) => activity(membership) >= end,
            None => group.is_empty() || (group.len() < MAX_CONVERSATIONS && lookups <= MAX_LOOKUPS),
        };
        if !belongs {
            break;
        }
        group.extend(rest.next());
    }
    let end = progress.end.or_else(|| group.last().map(activity));
    (group, end, rest.peek().is_some())
}

fn nothing() -> FoundMessages {
    FoundMessages { messages: Vec::new(), total: 0, next_cursor: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::log::{ConversationKind, Head, MemberState, Role};

    /// A conversation that was last active then, with so many rows.
    fn membership(at: i64, rows: Seq) -> Membership {
        Membership {
            conversation_id: ConversationId::fresh(),
            kind: ConversationKind::Group,
            large: false,
            peer_id: None,
            state: MemberState::Active,
            role: Role::Member,
            change_seq: 1,
            joined_seq: 1,
            head: Head { seq: rows, at: Timestamp(at), ..Head::default() },
            read_seq: 0,
            read_n: 0,
            peer_read_seq: 0,
            peer_delivered_seq: 0,
            cleared_seq: 0,
            cleared_n: 0,
            cleared_total: 0,
            hidden_seq: 0,
            muted: false,
            archived: false,
            favourite: false,
            flags_at: Timestamp(0),
        }
    }

    #[test]
    fn groups_follow_each_other_and_keep_their_end() {
        let mut all: Vec<_> = (0..450).rev().map(|at| membership(at, 10)).collect();
        let (first, end, more) = group(all.clone(), &Progress::default(), 2);
        assert_eq!((first.len(), end, more), (MAX_CONVERSATIONS, Some(activity(&all[199])), true));
        // A conversation from far below has become active: the group is as it was, with it, and the next one without.
        let mut active = all.pop().unwrap_or_else(|| membership(0, 10));
        active.head.at = Timestamp(1_000);
        all.insert(0, active);
        let (again, same, _) = group(all.clone(), &Progress { end, ..Progress::default() }, 2);
        assert_eq!((again.len(), same), (MAX_CONVERSATIONS + 1, end));
        let (second, end, more) = group(all.clone(), &Progress { start: end, ..Progress::default() }, 2);
        assert_eq!((second.len(), second[0].conversation_id, more), (MAX_CONVERSATIONS, all[201].conversation_id, true));
        let (third, _, more) = group(all, &Progress { start: end, ..Progress::default() }, 2);
        assert_eq!((third.len(), more), (49, false));
    }

    #[test]
    fn long_conversations_make_small_groups() {
        let long = membership(9, 100_000_000);
        let all = vec![long.clone(), membership(8, 10), membership(7, 10)];
        let (first, end, more) = group(all.clone(), &Progress::default(), 2);
        assert_eq!((first.len(), more), (1, true));
        let (second, _, more) = group(all, &Progress { start: end, ..Progress::default() }, 2);
        assert_eq!((second.len(), more), (2, false));
    }
}
