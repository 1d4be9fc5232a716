//! The service behind `/conversations` and `/sync`: what its use cases share. Each use case stands in a file of its own:
//! `create.rs`, `list.rs`, `flags.rs`, `clear.rs`, `members.rs`, `sync.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::heads::Heads;
use super::typing::Typing;
use super::view::{self, Entry};
use super::{Conversation, VIEWED_PARTICIPANTS};
use crate::bus::Bus;
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::event::{Envelope, Origin};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Appender, ConversationState, Head, LogReader, LogRow, LogStore, Membership, unless_spoilt};
use crate::messages::{Message, MessageStore, Messages};
use crate::settings::Settings;
use crate::task::Gate;
use crate::users::Users;

/// Rows that are looked through for a last message that its owner has not removed from his view.
const LOOK_BACK_ROWS: usize = 1_024;
/// Lists and syncs that may be under way on a node: as many as the readers work off within a request's deadline.
const LISTS: usize = 512;
/// Rows read at a time on the way back.
const STEP_ROWS: usize = 64;

/// What the service stands on.
#[derive(Clone)]
pub struct Parts {
    /// The way into logs.
    pub appender: Appender,
    /// Memberships and heads.
    pub log: Arc<dyn LogStore>,
    /// What people removed from their view.
    pub hidden: Arc<dyn MessageStore>,
    /// Messages and marks.
    pub messages: Messages,
    /// People.
    pub users: Arc<Users>,
    /// Blocks.
    pub settings: Arc<Settings>,
    /// Who is typing.
    pub typing: Arc<dyn Typing>,
    /// How a person's other devices hear of his changes.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: SharedClock,
}

/// Everything one can do with conversations.
pub struct Conversations {
    pub(super) parts: Parts,
    pub(super) reader: LogReader,
    pub(super) heads: Heads,
    pub(super) lists: Gate,
}

impl Conversations {
    /// The service on these parts.
    pub fn new(parts: Parts) -> Self {
        let (reader, heads) = (LogReader::new(Arc::clone(&parts.log)), Heads::new(Arc::clone(&parts.log)));
        Self { parts, reader, heads, lists: Gate::new("list", LISTS) }
    }

    /// A conversation as this member sees it now: the answer of GET and the data of `conversation:created/updated`.
    ///
    /// # Errors
    /// `NotFound`: no such conversation; `Forbidden`: not, or no longer, a participant.
    pub async fn view_for(&self, caller: UserId, id: ConversationId) -> Result<Conversation> {
        self.view_upto(caller, id, None).await
    }

    /// The same for one whom the row `upto` let in, with nothing that was said after it: he is told of that one by one, and
    /// counts it himself.
    ///
    /// # Errors
    /// As [`Conversations::view_for`].
    pub async fn view_upto(&self, caller: UserId, id: ConversationId, upto: Option<Seq>) -> Result<Conversation> {
        let (state, mut membership) = self.parts.messages.membership(caller, id).await?;
        if let Some(upto) = upto.filter(|upto| *upto < membership.head.seq) {
            let row = self.reader.row(id, upto).await?.ok_or_else(|| Error::not_found("there is no such conversation"))?;
            // What was before the row he does not see.
            membership.head = Head::default().after(&row);
        }
        let (last, unread) = tokio::try_join!(self.last_message(caller, &state, &membership), self.unread(caller, &membership))?;
        let entry = Entry { state, membership, last, unread };
        let mut views = self.show(caller, vec![entry], VIEWED_PARTICIPANTS).await?;
        views.pop().ok_or_else(|| Error::not_found("there is no such conversation"))
    }

    /// These of the caller's conversations as he sees them, in their order; those that cannot be read are left out. Each is as of its
    /// membership's head at least, which of large ones is a second old at most.
    pub(super) async fn views(&self, caller: UserId, memberships: Vec<Membership>, participants: usize) -> Result<Vec<Conversation>> {
        let entries = try_join_all(memberships.into_iter().map(|membership| async move {
            let id = membership.conversation_id;
            let entry = async {
                let state = self.parts.appender.state_upto(id, membership.head.seq).await?;
                let (last, unread) = tokio::try_join!(self.last_message(caller, &state, &membership), self.unread(caller, &membership))?;
                Ok::<_, Error>(Entry { state, membership, last, unread })
            };
            unless_spoilt(id, entry.await)
        }))
        .await?;
        self.show(caller, entries.into_iter().flatten().collect(), participants).await
    }

    pub(super) async fn show(&self, caller: UserId, entries: Vec<Entry>, participants: usize) -> Result<Vec<Conversation>> {
        let members: Vec<_> = entries.iter().map(|entry| view::first_members(&entry.state, participants)).collect();
        let ids: HashSet<UserId> = members
            .iter()
            .flatten()
            .map(|member| member.user_id)
            .chain(entries.iter().filter_map(|entry| entry.membership.peer_id))
            .collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let people = self.parts.users.seen(caller, &ids).await?;
        let show = |(entry, members): (Entry, Vec<_>)| {
            let typing = self.parts.typing.typing_in(entry.membership.conversation_id).into_iter().filter(|user| *user != caller).collect();
            view::conversation(entry, &members, &people, typing)
        };
        Ok(entries.into_iter().zip(members).map(show).collect())
    }

    /// The newest message that the member sees.
    pub(super) async fn last_message(&self, caller: UserId, state: &ConversationState, membership: &Membership) -> Result<Option<Message>> {
        let row = self.last_row(caller, membership).await?;
        let rows = row.into_iter().collect();
        Ok(self.parts.messages.views(caller, state, membership, rows).await?.pop())
    }

    async fn last_row(&self, caller: UserId, membership: &Membership) -> Result<Option<LogRow>> {
        let (id, last, cleared) = (membership.conversation_id, membership.head.message_seq, membership.cleared_seq);
        if last <= cleared {
            return Ok(None);
        }
        // Mostly nothing is hidden and it is the one row.
        if self.hidden(caller, id, last, last).await?.is_empty() {
            return Ok(self.reader.row(id, last).await?);
        }
        let mut before = last;
        let mut looked = 0;
        while looked < LOOK_BACK_ROWS && before > cleared + 1 {
            let rows = self.reader.before(id, before, STEP_ROWS).await?;
            let Some(first) = rows.last().map(|row| row.seq) else { break };
            let hidden = self.hidden(caller, id, first, before).await?;
            (before, looked) = (first, looked + rows.len());
            if let Some(row) = rows.into_iter().find(|row| row.body.is_shown() && row.seq > cleared && !hidden.contains(&row.seq)) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// How many messages of people the member has not read; what he removed from his view is not among them.
    pub(super) async fn unread(&self, caller: UserId, membership: &Membership) -> Result<i64> {
        let unread = membership.unread();
        if unread == 0 {
            return Ok(0);
        }
        let (id, first) = (membership.conversation_id, membership.read_seq.max(membership.cleared_seq) + 1);
        let hidden = self.parts.hidden.hidden_unread(caller, id, first, membership.head.seq).await?;
        Ok((unread - hidden).max(0))
    }

    /// What the caller removed from his view between these rows, both included.
    pub(super) async fn hidden(&self, caller: UserId, id: ConversationId, from: Seq, to: Seq) -> Result<HashSet<Seq>> {
        Ok(self.parts.hidden.hidden_in(caller, id, from, to).await?.into_iter().collect())
    }

    /// Whether the caller still sees this row of the log, which he once could.
    pub async fn sees(&self, caller: UserId, id: ConversationId, seq: Seq) -> Result<bool> {
        let membership = self.parts.log.membership(caller, id).await?;
        let is_cleared = membership.is_some_and(|membership| membership.cleared_seq >= seq);
        Ok(!is_cleared && self.hidden(caller, id, seq, seq).await?.is_empty())
    }

    /// Tells the caller's other devices that the conversation changed for him. They find out by themselves if the bus is away.
    pub(super) async fn refresh(&self, user_id: UserId, conversation_id: ConversationId, origin: Origin) {
        if let Err(error) = self.parts.bus.publish(Envelope::Refresh { user_id, conversation_id, origin }).await {
            tracing::debug!(%error, "a person's other devices were not told of his change");
        }
    }

    /// What these people are called.
    pub(super) async fn names(&self, ids: &[UserId]) -> Result<HashMap<UserId, String>> {
        let cards = self.parts.users.cards(ids).await?;
        Ok(cards.into_iter().map(|(id, card)| (id, card.name().to_owned())).collect())
    }
}
