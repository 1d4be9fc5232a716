//! The service behind `/messages`: what its use cases share. Each use case stands in a file of its own:
//! `send.rs`, `change.rs` (edit, delete), `history.rs`; marks are `receipts.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::send::quoted;
use super::view::{self, Author};
use super::{Message, MessageStatus, MessageStore, Receipts};
use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::{Appender, Body, Content, ConversationState, LogReader, LogRow, LogStore, Member, MemberState, Membership};
use crate::settings::Settings;
use crate::task::Gate;
use crate::users::{Seen, Users};

/// Searches that may be under way on a node.
const SEARCHES: usize = 16;
/// Sends that may be under way on a node: what one commit after the other works off within a request's deadline.
const SENDS: usize = 2_048;
/// As many may be for longer than this. At the rate that a node keeps up, each is done before its sender may send the next
/// (ten a second): what he sends then is refused, and does not pile up in his connection, to be done when nobody waits any more.
const STANDING_SENDS: usize = 512;
const SENDS_PATIENCE: Duration = Duration::from_millis(500);
/// Pages of histories that may be under way on a node: as many as the readers work off within a request's deadline.
const HISTORIES: usize = 1_024;

/// Everything one can do with messages.
#[derive(Clone)]
pub struct Messages {
    pub(super) appender: Appender,
    pub(super) reader: LogReader,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) store: Arc<dyn MessageStore>,
    pub(super) users: Arc<Users>,
    pub(super) settings: Arc<Settings>,
    pub(super) receipts: Arc<Receipts>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) searches: Gate,
    pub(super) sends: Gate,
    pub(super) histories: Gate,
}

/// A message that the caller may see, with what is known of its conversation.
pub(super) struct Visible {
    pub row: LogRow,
    pub state: Arc<ConversationState>,
    pub membership: Membership,
}

impl Messages {
    /// The service on these parts.
    pub fn new(
        appender: Appender,
        log: Arc<dyn LogStore>,
        store: Arc<dyn MessageStore>,
        users: Arc<Users>,
        settings: Arc<Settings>,
        receipts: Arc<Receipts>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        Self {
            appender,
            reader: LogReader::new(Arc::clone(&log)),
            log,
            store,
            users,
            settings,
            receipts,
            bus,
            searches: Gate::new("search", SEARCHES),
            sends: Gate::for_bursts("send", SENDS, STANDING_SENDS, SENDS_PATIENCE),
            histories: Gate::new("history", HISTORIES),
        }
    }

    /// The marks of these conversations.
    pub fn receipts(&self) -> &Arc<Receipts> {
        &self.receipts
    }

    /// One message.
    ///
    /// # Errors
    /// `NotFound`: none, or cleared or removed from the caller's view; `Forbidden`: somebody else's conversation.
    pub async fn get(&self, caller: UserId, id: MessageId) -> Result<Message> {
        let Visible { row, state, membership } = self.visible(caller, id).await?;
        self.view(caller, &state, &membership, row).await
    }

    /// A message that the caller may see.
    pub(super) async fn visible(&self, caller: UserId, id: MessageId) -> Result<Visible> {
        let found = self.located(caller, id).await?;
        let (conversation, seq) = (found.row.conversation_id, found.row.seq);
        if seq <= found.membership.cleared_seq || !self.store.hidden_in(caller, conversation, seq, seq).await?.is_empty() {
            return Err(missing());
        }
        Ok(found)
    }

    /// A message of a conversation of the caller, whether he still sees it or not.
    pub(super) async fn located(&self, caller: UserId, id: MessageId) -> Result<Visible> {
        let row = self.reader.find(id).await?.filter(|row| row.body.is_shown()).ok_or_else(missing)?;
        let (state, membership) = self.membership(caller, row.conversation_id).await?;
        Ok(Visible { row, state, membership })
    }

    /// The caller's membership with its head.
    ///
    /// # Errors
    /// `NotFound`: no such conversation; `Forbidden`: not, or no longer, a participant.
    pub async fn membership(&self, caller: UserId, id: ConversationId) -> Result<(Arc<ConversationState>, Membership)> {
        let read = async || Ok::<_, Error>(self.log.membership(caller, id).await?.filter(|found| found.state == MemberState::Active));
        let mut membership = read().await?;
        if membership.is_none() {
            // Whoever let him in may not have lived to write that down; who learns of it does.
            self.appender.state(id).await?.record()?;
            membership = read().await?;
        }
        let refused = || Error::forbidden("you are not a participant of this conversation");
        let mut membership = membership.ok_or_else(refused)?;
        if membership.large {
            membership.head = self.log.conversation(id).await?.map(|record| record.head).unwrap_or_default();
        }
        // After it, so that it is not older.
        let state = self.appender.state_upto(id, membership.head.seq).await?;
        state.record()?;
        // Nor may whoever put him out have lived to.
        let is_out = |member: &Member| member.state != MemberState::Active && member.change_seq > membership.change_seq;
        if state.members.get(&caller).is_some_and(is_out) {
            return Err(refused());
        }
        Ok((state, membership))
    }

    /// The places of messages above `cleared_seq` that the caller has removed from his own view.
    pub async fn hidden(&self, caller: UserId, id: ConversationId, cleared_seq: Seq) -> Result<HashSet<Seq>> {
        Ok(self.store.hidden_in(caller, id, cleared_seq + 1, Seq::MAX).await?.into_iter().collect())
    }

    pub(super) async fn view(&self, caller: UserId, state: &ConversationState, membership: &Membership, row: LogRow) -> Result<Message> {
        let mut views = self.views(caller, state, membership, vec![row]).await?;
        views.pop().ok_or_else(|| Error::not_found("there is no such message"))
    }

    /// Rows as the caller sees them, in their order; rows that are no messages are left out.
    pub async fn views(
        &self,
        caller: UserId,
        state: &ConversationState,
        membership: &Membership,
        mut rows: Vec<LogRow>,
    ) -> Result<Vec<Message>> {
        let Some(first) = rows.iter().map(|row| row.seq).min() else { return Ok(Vec::new()) };
        let last = rows.iter().map(|row| row.seq).max().unwrap_or(first);
        let stars: HashSet<Seq> = self.store.stars_in(caller, state.id, first, last).await?.into_iter().collect();
        let statuses = self.receipts.statuses(caller, state, membership, &rows).await?;
        quote_anew(&self.reader, &mut rows).await?;
        let authors = authors(&self.users, &rows, caller).await?;
        let author_of = |user| authors.get(&user).cloned().unwrap_or_default();
        let messages = rows.into_iter().zip(statuses).filter_map(|(row, status)| {
            let starred = stars.contains(&row.seq);
            view::message(row, status, Some(starred), author_of)
        });
        Ok(messages.collect())
    }

    /// A row that was just appended by its sender, as he sees it: nobody has it yet.
    pub(super) async fn fresh_view(&self, row: LogRow) -> Result<Message> {
        let named = named(&self.users, &row).await?;
        let message = told(row, &named).ok_or_else(|| Error::not_found("there is no such message"))?;
        Ok(Message { is_starred: Some(false), ..message })
    }
}

fn missing() -> Error {
    Error::not_found("there is no such message")
}

/// Who is named when everybody is told of a row.
pub(super) type Named = Vec<(UserId, Author)>;

/// Who wrote this row, and what it answers to, as everybody sees them.
pub(super) async fn named(users: &Users, row: &LogRow) -> Result<Named> {
    let mut named = Named::with_capacity(2);
    for id in people_in(row) {
        if let Some(card) = users.card(id).await? {
            named.push((id, Author { name: Some(card.name().to_owned()), avatar_url: card.public_avatar().map(str::to_owned) }));
        }
    }
    Ok(named)
}

/// A row as everybody may be told of it: nothing in it differs by recipient.
pub(super) fn told(row: LogRow, named: &Named) -> Option<Message> {
    let author = |user| named.iter().find(|(id, _)| *id == user).map(|(_, author)| author.clone());
    view::message(row, MessageStatus::Sent, None, |user| author(user).unwrap_or_default())
}

/// Who wrote this row, and what it answers to.
fn people_in(row: &LogRow) -> impl Iterator<Item = UserId> + use<> {
    let quoted = match &row.body {
        Body::Message(content) => content.reply_to.as_ref().map(|reply| reply.sender_id),
        _ => None,
    };
    std::iter::once(row.sender_id).chain(quoted)
}

/// Puts into answers what the messages answered to say now: a deleted one must not live on in its quotes.
pub(super) async fn quote_anew(reader: &LogReader, rows: &mut [LogRow]) -> Result<()> {
    let quotes = rows.iter().enumerate().filter_map(|(index, row)| match &row.body {
        Body::Message(Content { reply_to: Some(reply), .. }) if reply.seq > 0 => Some((index, row.conversation_id, reply.seq)),
        _ => None,
    });
    let found = quotes.map(|(index, id, seq)| async move { Ok::<_, Error>((index, reader.row(id, seq).await?)) });
    for (index, original) in try_join_all(found.collect::<Vec<_>>()).await? {
        if let (Body::Message(content), Some(original)) = (&mut rows[index].body, original)
            && let (Some(reply), Some(text)) = (&mut content.reply_to, quoted(&original))
        {
            reply.content = text;
        }
    }
    Ok(())
}

/// Who wrote these rows, and what they answer to, as `caller` sees them.
async fn authors(users: &Users, rows: &[LogRow], caller: UserId) -> Result<HashMap<UserId, Author>> {
    let ids: HashSet<UserId> = rows.iter().flat_map(people_in).collect();
    let seen = users.seen(caller, &ids.into_iter().collect::<Vec<_>>()).await?;
    let author = |seen: Seen| Author { name: Some(seen.card.name().to_owned()), avatar_url: seen.avatar_url };
    Ok(seen.into_iter().map(|(id, seen)| (id, author(seen))).collect())
}
