//! POST /sync: exactly what a client lacks, told by places in logs and by no clock, so that nothing can arrive late.
//! Answers go by conversation id, which activity does not move: whatever happens between two pages, every
//! conversation that had changed when the first was asked for is on one of them.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Deserializer, Serialize};

use super::list::is_listed;
use super::view::Entry;
use super::{Conversation, Conversations, LISTED_PARTICIPANTS};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Body, ConversationState, LogRow, MemberState, Membership, bucket_of, unless_spoilt};
use crate::messages::Message;
use crate::page::{Cursor, DEFAULT_LIMIT, Page, saturating};

/// Most conversations that a client can say it knows.
pub const MAX_KNOWN: usize = 10_000;
/// Rows of one log, and so messages of one conversation, in one answer.
const MAX_ROWS: usize = 100;
/// Messages of a conversation that the client does not know.
const NEWEST: usize = DEFAULT_LIMIT;
/// Rows that are looked through for them.
const LOOK_BACK_ROWS: usize = 1_024;
/// Conversations that are read at once.
const AT_ONCE: usize = 8;
/// Content after which an answer ends and a cursor goes on.
const ENOUGH_BYTES: usize = 1024 * 1024;
const CURSOR: &str = "sync";

/// What a client has.
#[derive(Clone, Debug, Default, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct Sync {
    /// The highest row of each conversation's log that the client has: the `changeSeq` of its last live event, or the
    /// last `upTo`. Up to 10,000; conversations that are missing here come with their newest page. Entries that cannot be
    /// read count as missing.
    #[serde(deserialize_with = "known")]
    pub known: HashMap<ConversationId, Seq>,
    /// Conversations in one answer: 50 unless said, at most 100.
    #[serde(deserialize_with = "saturating")]
    pub limit: Option<i64>,
    /// `next_cursor` of the answer before; `known` is sent again with it.
    pub cursor: Option<String>,
}

impl Example for Sync {
    fn example() -> Self {
        Self { known: HashMap::from([(Conversation::example().id, 41)]), limit: None, cursor: None }
    }
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<HashMap<ConversationId, Seq>, D::Error> {
    serde_json::Map::deserialize(deserializer).map(places)
}

/// Places as clients keep them, for /sync and `resume`: one that is null or nonsense is one that the client does not have.
pub fn places(entries: serde_json::Map<String, serde_json::Value>) -> HashMap<ConversationId, Seq> {
    entries.into_iter().filter_map(|(id, seq)| Some((id.parse().ok()?, seq.as_i64()?))).collect()
}

/// What is new in one conversation.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct SyncEntry {
    /// Which.
    pub id: ConversationId,
    /// What `known` is to say from now on.
    pub up_to: Seq,
    /// There is more: ask again with `upTo`.
    pub more: bool,
    /// The last row of the log, as far as the caller may know.
    pub last_seq: Seq,
    /// The caller has read up to here.
    pub read_seq: Seq,
    /// Everybody else has read up to here; 0 in a group above 64.
    pub peer_read_seq: Seq,
    /// Everybody else's devices have everything up to here; 0 in a group above 64.
    pub peer_delivered_seq: Seq,
    /// Messages of people that the caller has not read.
    pub unread_count: i64,
    /// ACTIVE, or how the caller's part in it ended.
    pub state: MemberState,
    /// The caller sees nothing at or below this row.
    pub cleared_seq: Seq,
    /// The conversation as the caller sees it now; null once he has left or was removed.
    pub conversation: Option<Conversation>,
    /// New and changed messages as they are now, by `changeSeq`.
    pub messages: Vec<Message>,
}

/// What is new.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Synced {
    /// Only those with something new.
    pub conversations: Vec<SyncEntry>,
    /// To be sent as `cursor`, with the same `known`, for the conversations after these; null at the end.
    pub next_cursor: Option<String>,
    /// The server's time, for the client's interest alone.
    pub server_time: Timestamp,
}

impl Example for Synced {
    fn example() -> Self {
        let conversation = Conversation::example();
        let entry = SyncEntry {
            id: conversation.id,
            up_to: 42,
            more: false,
            last_seq: 42,
            read_seq: 41,
            peer_read_seq: 40,
            peer_delivered_seq: 41,
            unread_count: 1,
            state: MemberState::Active,
            cleared_seq: 0,
            conversation: Some(conversation),
            messages: Vec::new(),
        };
        Self { conversations: vec![entry], next_cursor: None, server_time: Timestamp(1_769_860_800_123) }
    }
}

/// The rows of a log that a client lacks, as messages.
struct Missed {
    rows: Vec<LogRow>,
    up_to: Seq,
    more: bool,
}

impl Conversations {
    /// What the caller lacks. Its messages count as delivered to him.
    ///
    /// # Errors
    /// `Invalid`: too many known conversations, a bad cursor.
    pub async fn sync(&self, caller: UserId, command: Sync) -> Result<Synced> {
        let _place = self.lists.enter()?;
        let Sync { known, limit, cursor } = command;
        if known.len() > MAX_KNOWN {
            return Err(Error::invalid("known", format!("known can name {MAX_KNOWN} conversations")));
        }
        let server_time = self.parts.clock.now();
        let page = Page::new(limit, None, cursor);
        let after: Option<ConversationId> = page.after(CURSOR).map_err(|_| Error::invalid("cursor", "not a cursor of /sync"))?;
        let mut memberships = self.parts.log.memberships(caller).await?;
        memberships.retain(|membership| after.is_none_or(|after| membership.conversation_id > after));
        self.heads.complete_fresh(&mut memberships).await?;
        memberships.retain(|membership| lacks(membership, known.get(&membership.conversation_id).copied()));
        memberships.sort_unstable_by_key(|membership| membership.conversation_id);
        let found = memberships.len();
        memberships.truncate(page.limit);
        let mut conversations: Vec<SyncEntry> = Vec::with_capacity(memberships.len());
        let (mut bytes, mut looked_at) = (0, 0);
        for chunk in memberships.chunks(AT_ONCE) {
            let entries = chunk.iter().map(async |membership| {
                let id = membership.conversation_id;
                unless_spoilt(id, self.entry(caller, membership.clone(), known.get(&id).copied()).await)
            });
            looked_at += chunk.len();
            for entry in try_join_all(entries).await?.into_iter().flatten() {
                bytes += entry.messages.iter().map(|message| message.content.len()).sum::<usize>();
                conversations.push(entry);
            }
            if bytes >= ENOUGH_BYTES {
                break;
            }
        }
        // Also after one that could not be read.
        let last = memberships[..looked_at].last().filter(|_| looked_at < found);
        let next_cursor = last.map(|last| Cursor::new(CURSOR, &last.conversation_id).into_text());
        Ok(Synced { conversations, next_cursor, server_time })
    }

    async fn entry(&self, caller: UserId, membership: Membership, known: Option<Seq>) -> Result<SyncEntry> {
        let id = membership.conversation_id;
        let state = self.parts.appender.state_upto(id, membership.head.seq).await?;
        let Missed { rows, up_to, more } = match known {
            Some(known) => self.missed(caller, &membership, known).await?,
            None => self.newest(caller, &membership).await?,
        };
        let messages = self.parts.messages.views(caller, &state, &membership, rows).await?;
        let (peer_read_seq, peer_delivered_seq) = self.peer_marks(caller, &state, &membership).await?;
        let is_active = membership.state == MemberState::Active;
        let unread = if is_active { self.unread(caller, &membership).await? } else { 0 };
        let conversation = if is_active {
            if let Some(newest) = messages.iter().filter(|message| message.sender_id != caller).map(|message| message.seq).max() {
                self.parts.messages.receipts().deliver(caller, id, newest, Vec::new());
            }
            let last = self.last_message(caller, &state, &membership).await?;
            let entry = Entry { state, membership: membership.clone(), last, unread };
            self.show(caller, vec![entry], LISTED_PARTICIPANTS).await?.pop()
        } else {
            None
        };
        Ok(SyncEntry {
            id,
            up_to,
            more,
            last_seq: end_of(&membership),
            read_seq: membership.read_seq.max(membership.cleared_seq),
            peer_read_seq,
            peer_delivered_seq,
            unread_count: unread,
            state: membership.state,
            cleared_seq: membership.cleared_seq,
            conversation,
            messages,
        })
    }

    /// What the rows after `known` are about, each message once and as it is now.
    async fn missed(&self, caller: UserId, membership: &Membership, known: Seq) -> Result<Missed> {
        let (id, end) = (membership.conversation_id, end_of(membership));
        let start = known.max(membership.cleared_seq).max(0);
        let mut log = self.reader.after(id, start, MAX_ROWS).await?;
        log.retain(|row| row.seq <= end);
        let up_to = match log.last() {
            Some(row) => row.seq,
            // A replica that lacks rows which the head tells of must not pass for a log without them.
            None if start < end => return Err(Error::unavailable("some messages could not be read yet, try again in a moment")),
            None => start,
        };
        let mut changed: HashMap<Seq, Seq> = HashMap::new();
        for notice in log.iter().filter(|row| matches!(row.body, Body::Edited | Body::Deleted)) {
            if let Some(target) = notice.target_seq.filter(|target| *target > membership.cleared_seq) {
                changed.insert(target, notice.seq);
            }
        }
        let older: Vec<Seq> = changed.keys().copied().filter(|target| *target <= start).collect();
        let older = try_join_all(older.into_iter().map(|target| self.reader.row(id, target))).await?;
        let mut skipped = false;
        let mut rows: Vec<LogRow> = log.into_iter().chain(older.into_iter().flatten()).filter(|row| row.body.is_shown()).collect();
        rows.retain_mut(|row| {
            // Of two notices the log's own numbers say which came last; the row may have been written before its notice.
            row.change_seq = row.change_seq.max(changed.get(&row.seq).copied().unwrap_or(0));
            // Changed again behind this answer: it comes with that change, once. Row and notice are written in one
            // breath only within a bucket; across buckets the notice may not be there yet, and twice is better than never.
            let later = row.change_seq > up_to && bucket_of(row.change_seq) == bucket_of(row.seq);
            skipped |= later;
            !later
        });
        self.without_hidden(caller, id, &mut rows).await?;
        rows.sort_unstable_by_key(|row| row.change_seq);
        Ok(Missed { rows, up_to, more: up_to < end || skipped })
    }

    /// The newest page of a conversation that the client does not have.
    async fn newest(&self, caller: UserId, membership: &Membership) -> Result<Missed> {
        let (id, up_to, cleared) = (membership.conversation_id, end_of(membership), membership.cleared_seq);
        let mut rows: Vec<LogRow> = Vec::with_capacity(NEWEST);
        let (mut before, mut looked) = (up_to + 1, 0);
        while rows.len() < NEWEST && before > cleared + 1 && looked < LOOK_BACK_ROWS {
            let mut step = self.reader.before(id, before, NEWEST + 8).await?;
            let Some(first) = step.last().map(|row| row.seq) else { break };
            (before, looked) = (first, looked + step.len());
            step.retain(|row| row.body.is_shown() && row.seq > cleared);
            self.without_hidden(caller, id, &mut step).await?;
            rows.append(&mut step);
        }
        rows.truncate(NEWEST);
        rows.sort_unstable_by_key(|row| row.change_seq);
        Ok(Missed { rows, up_to, more: false })
    }

    async fn without_hidden(&self, caller: UserId, id: ConversationId, rows: &mut Vec<LogRow>) -> Result<()> {
        let (Some(first), Some(last)) = (rows.iter().map(|row| row.seq).min(), rows.iter().map(|row| row.seq).max()) else {
            return Ok(());
        };
        let hidden = self.hidden(caller, id, first, last).await?;
        rows.retain(|row| !hidden.contains(&row.seq));
        Ok(())
    }

    /// How far everybody else has read and received.
    async fn peer_marks(&self, caller: UserId, state: &ConversationState, membership: &Membership) -> Result<(Seq, Seq)> {
        if membership.peer_id.is_some() {
            return Ok((membership.peer_read_seq, membership.peer_delivered_seq));
        }
        if state.is_large() || membership.state != MemberState::Active {
            return Ok((0, 0));
        }
        let members = self.reader.active_members(state.id).await?;
        let others = || members.iter().filter(|member| member.user_id != caller);
        let read = others().map(|member| member.read_seq).min().unwrap_or(0);
        let delivered = others().map(|member| member.delivered_seq.max(member.read_seq)).min().unwrap_or(0);
        Ok((read, delivered))
    }
}

/// The last row that the caller may know of: who has gone knows how he went, and nothing after it.
fn end_of(membership: &Membership) -> Seq {
    match membership.state {
        MemberState::Active => membership.head.seq,
        MemberState::Left | MemberState::Removed => membership.change_seq,
    }
}

/// Whether a client that has the log up to `known` lacks something.
fn lacks(membership: &Membership, known: Option<Seq>) -> bool {
    match known {
        // Out of the list by the caller's own wish: nothing of it is his until the next message.
        Some(known) if membership.state == MemberState::Active => end_of(membership) > known && is_listed(membership),
        Some(known) => end_of(membership) > known,
        None => is_listed(membership),
    }
}
