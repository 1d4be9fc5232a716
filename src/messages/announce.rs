//! How a row of the log becomes something to tell: the event of each kind of row, made once, for all recipients.
//! The appender calls it after each append, and the hub when it finds that it missed rows.

use std::sync::Arc;

use async_trait::async_trait;

use super::receipts::status_for_all;
use super::service::{named, quote_anew, told};
use super::{Message, MessageStatus};
use crate::bus::{Bus, Growth};
use crate::event::{Envelope, Event, EventKind, Faceless, MessageRef, RowEvent, Step};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Announce, Announcement, Body, LogReader, LogRow, LogStore};
use crate::outbox::Growths;
use crate::store::StoreResult;
use crate::users::Users;

/// Sees each row that was appended: the search index, and receipts, which a change of members may turn. Must not wait.
pub type Appended = Arc<dyn Fn(&LogRow) + Send + Sync>;

/// Puts rows on the bus.
#[derive(Clone)]
pub struct Announcer {
    users: Arc<Users>,
    reader: LogReader,
    bus: Arc<dyn Bus>,
    appended: Appended,
    growths: Arc<Growths>,
}

#[async_trait]
impl Announce for Announcer {
    async fn announce(&self, announcements: Vec<Announcement>) {
        for announcement in announcements {
            self.took_in(&announcement.row);
            let row = self.row_event(announcement).await;
            if let Err(error) = self.bus.publish(Envelope::Row(row)).await {
                metrics::counter!("urge_bus_publish_failures_total").increment(1);
                tracing::warn!(%error, "an event was not published; hubs will find it in the log");
            }
        }
    }

    async fn enqueue(&self, conversation_id: ConversationId, seq: Seq) -> StoreResult<()> {
        self.growths.tell(Growth { conversation_id, seq }).await
    }

    fn took_in(&self, row: &LogRow) {
        (self.appended)(row);
    }

    fn has_others(&self) -> bool {
        self.bus.has_others()
    }
}

impl Announcer {
    /// Announces on this bus and tells workers through `growths`; `appended` is called for each row.
    pub fn new(users: Arc<Users>, log: Arc<dyn LogStore>, bus: Arc<dyn Bus>, growths: Arc<Growths>, appended: Appended) -> Self {
        Self { users, reader: LogReader::new(log), bus, appended, growths }
    }

    /// The row as the hubs take it. Rows that say nothing to clients still have their place.
    pub async fn row_event(&self, announcement: Announcement) -> RowEvent {
        let Announcement { row, target, audience, is_large, introduces, origin, posted, again } = announcement;
        let (conversation_id, seq, target_seq) = (row.conversation_id, row.seq, row.target_seq);
        let refreshes = matches!(row.body, Body::Members(_) | Body::Profile(_));
        let message = row.body.is_counted().then_some(MessageRef { message_id: row.message_id, sender_id: row.sender_id });
        let step = message.is_some().then_some(Step { n: row.n, total: row.total, at: row.created_at });
        let told_row = match (&row.body, target) {
            (Body::Edited, Some(target)) => Some((EventKind::MessageUpdated, target)),
            (Body::Deleted, Some(target)) => Some((EventKind::MessageDeleted, target)),
            (Body::Created(_) | Body::Edited | Body::Deleted | Body::Unreadable, _) => None,
            (Body::Message(_) | Body::Members(_) | Body::Profile(_), _) => Some((EventKind::MessageReceived, row)),
        };
        let (event, faceless) = match told_row {
            Some((kind, row)) => {
                let sender = row.sender_id;
                let message = self.message(kind, row, is_large).await.map(|message| Message { change_seq: seq, ..message });
                match message {
                    Some(message) => (event(kind, &message), self.faceless(kind, sender, message, &audience).await),
                    None => (None, None),
                }
            }
            None => (None, None),
        };
        RowEvent {
            conversation_id,
            seq,
            audience,
            is_large,
            target_seq,
            introduces,
            refreshes,
            event,
            faceless,
            message,
            step,
            origin,
            posted,
            again,
        }
    }

    async fn message(&self, kind: EventKind, mut row: LogRow, is_large: bool) -> Option<Message> {
        // A new message quotes what was read a moment ago; a changed one may quote what has been deleted since.
        if kind == EventKind::MessageUpdated
            && let Err(error) = quote_anew(&self.reader, std::slice::from_mut(&mut row)).await
        {
            tracing::warn!(%error, "a quoted message could not be read");
        }
        // Better a message without its sender's name than none.
        let unnamed = |error| tracing::warn!(%error, "a sender's name could not be read");
        let named = named(&self.users, &row).await.map_err(unnamed).unwrap_or_default();
        // Nobody has a new message yet; what becomes of an old one must not take its status back.
        let status = if kind == EventKind::MessageReceived || is_large { MessageStatus::Sent } else { self.status(&row).await };
        told(row, &named).map(|message| Message { status, ..message })
    }

    /// The status of a message as its sender sees it.
    async fn status(&self, row: &LogRow) -> MessageStatus {
        match self.reader.active_members(row.conversation_id).await {
            Ok(members) => status_for_all(&members, row),
            Err(error) => {
                tracing::warn!(%error, "the status of a message could not be read");
                MessageStatus::Sent
            }
        }
    }

    /// The event for those whom the sender has blocked.
    async fn faceless(&self, kind: EventKind, sender: UserId, message: Message, audience: &[UserId]) -> Option<Faceless> {
        message.sender_avatar.as_ref()?;
        let users = self.users.blocked_among(sender, audience).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "whom a sender has blocked could not be read: nobody is shown his picture");
            audience.into()
        });
        if users.is_empty() {
            return None;
        }
        Some(Faceless { users, event: event(kind, &Message { sender_avatar: None, ..message })? })
    }
}

fn event(kind: EventKind, message: &Message) -> Option<Event> {
    Event::new(kind, message).inspect_err(|error| tracing::error!(%error, "a message could not be serialised")).ok()
}
