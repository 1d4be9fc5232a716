//! How a row of the log becomes something to tell: the event of each kind of row, made once, for all recipients.
//! The appender calls it after each append, and the hub when it finds that it missed rows.

use std::sync::Arc;

use async_trait::async_trait;

use super::Message;
use super::service::{named, quote_anew, told};
use crate::bus::Bus;
use crate::event::{Envelope, Event, EventKind, MessageRef, RowEvent};
use crate::id::{ConversationId, Seq};
use crate::log::{Announce, Announcement, Body, LogReader, LogRow, LogStore};
use crate::users::Users;

/// Told of conversations that have new rows: the search index.
pub type Touched = Arc<dyn Fn(ConversationId) + Send + Sync>;

/// Puts rows on the bus.
#[derive(Clone)]
pub struct Announcer {
    users: Arc<Users>,
    reader: LogReader,
    bus: Arc<dyn Bus>,
    touched: Touched,
}

#[async_trait]
impl Announce for Announcer {
    async fn announce(&self, announcements: Vec<Announcement>) {
        for announcement in announcements {
            (self.touched)(announcement.row.conversation_id);
            let row = self.row_event(announcement).await;
            if let Err(error) = self.bus.publish(Envelope::Row(row)).await {
                metrics::counter!("urge_bus_publish_failures_total").increment(1);
                tracing::warn!(%error, "an event was not published; hubs will find it in the log");
            }
        }
    }
}

impl Announcer {
    /// Announces on this bus; `touched` is called for each row.
    pub fn new(users: Arc<Users>, log: Arc<dyn LogStore>, bus: Arc<dyn Bus>, touched: Touched) -> Self {
        Self { users, reader: LogReader::new(log), bus, touched }
    }

    /// The row as the hubs take it. Rows that say nothing to clients still have their place.
    pub async fn row_event(&self, announcement: Announcement) -> RowEvent {
        let Announcement { row, target, audience, introduces, origin, posted, again } = announcement;
        let (conversation_id, seq, target_seq) = (row.conversation_id, row.seq, row.target_seq);
        let refreshes = matches!(row.body, Body::Members(_) | Body::Profile(_));
        let message = row.body.is_counted().then_some(MessageRef { message_id: row.message_id, sender_id: row.sender_id });
        let told_row = match (&row.body, target) {
            (Body::Edited, Some(target)) => Some((EventKind::MessageUpdated, target)),
            (Body::Deleted, Some(target)) => Some((EventKind::MessageDeleted, target)),
            (Body::Created(_) | Body::Edited | Body::Deleted, _) => None,
            (Body::Message(_) | Body::Members(_) | Body::Profile(_), _) => Some((EventKind::MessageReceived, row)),
        };
        let event = match told_row {
            Some((kind, row)) => self.event(kind, row, seq).await,
            None => None,
        };
        RowEvent { conversation_id, seq, audience, target_seq, introduces, refreshes, event, message, origin, posted, again }
    }

    async fn event(&self, kind: EventKind, mut row: LogRow, change_seq: Seq) -> Option<Event> {
        // A new message quotes what was read a moment ago; a changed one may quote what has been deleted since.
        if kind == EventKind::MessageUpdated
            && let Err(error) = quote_anew(&self.reader, std::slice::from_mut(&mut row)).await
        {
            tracing::warn!(%error, "a quoted message could not be read");
        }
        // Better a message without its sender's name than none.
        let unnamed = |error| tracing::warn!(%error, "a sender's name could not be read");
        let named = named(&self.users, &row).await.map_err(unnamed).unwrap_or_default();
        let message = told(row, &named).map(|message| Message { change_seq, ..message })?;
        Event::new(kind, &message).inspect_err(|error| tracing::error!(%error, "a message could not be serialised")).ok()
    }
}
