//! Telling: how rows and events of any kind go from the hub to the seats of those who may know.
//! Order is the lanes' business; here is who gets what, and what differs by recipient.

use std::sync::Arc;

use tokio::time::Instant;

use super::hub::Hub;
use super::seat::{Place, Seat};
use super::socket::{CloseReason, Mark, Outgoing};
use crate::event::{Event, EventKind, LooseEvent, Origin, RowEvent};
use crate::id::{ConversationId, Seq, SessionId, UserId};
use crate::log::LARGE_ABOVE;

impl Hub {
    pub(super) fn needs_views(&self, row: &RowEvent) -> bool {
        row.introduces.iter().any(|user| self.shared.seats.has(*user))
            || ((row.refreshes || row.target_seq.is_some()) && row.audience.iter().any(|user| self.shared.seats.has(*user)))
    }

    pub(super) async fn tell_with_views(&self, row: &RowEvent) {
        for user in row.introduces.iter().copied().filter(|user| self.shared.seats.has(*user)) {
            let place = Some((row.conversation_id, row.seq));
            self.tell_view(EventKind::ConversationCreated, user, row.conversation_id, Origin::default(), place).await;
        }
        match row.target_seq {
            Some(target) => self.tell_change(row, target).await,
            None => self.tell(row),
        }
        if row.refreshes {
            for user in row.audience.iter().copied().filter(|user| self.shared.seats.has(*user)) {
                self.tell_view(EventKind::ConversationUpdated, user, row.conversation_id, Origin::default(), None).await;
            }
        }
    }

    /// A row's own event, to everybody who may know.
    pub(super) fn tell(&self, row: &RowEvent) {
        if let Some(outgoing) = outgoing_of(row) {
            for user in row.audience.iter() {
                self.shared.seats.send(*user, Some((row.conversation_id, row.seq)), &outgoing, row.origin);
            }
        }
    }

    /// A change of an earlier row, to those who have not cleared that one.
    pub(super) async fn tell_change(&self, row: &RowEvent, target: Seq) {
        let Some(outgoing) = outgoing_of(row) else { return };
        for user in row.audience.iter().copied().filter(|user| self.shared.seats.has(*user)) {
            match self.shared.log.membership(user, row.conversation_id).await {
                Ok(Some(membership)) if membership.cleared_seq >= target => {}
                Ok(_) => self.shared.seats.send(user, Some((row.conversation_id, row.seq)), &outgoing, row.origin),
                Err(error) => {
                    tracing::warn!(%error, "what a user has cleared could not be read; he is told");
                    self.shared.seats.send(user, Some((row.conversation_id, row.seq)), &outgoing, row.origin);
                }
            }
        }
    }

    pub(super) async fn tell_view(&self, kind: EventKind, user: UserId, id: ConversationId, origin: Origin, place: Option<Place>) {
        match self.shared.views.view_for(user, id).await {
            Ok(Some(data)) => self.shared.seats.send(user, place, &Outgoing::new(Event { kind, data }, None), origin),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a conversation could not be shown; its members see it when they sync"),
        }
    }

    pub(super) fn tell_loose(&self, loose: LooseEvent) {
        let now = Instant::now();
        match loose.receipt_of.and_then(|message| self.shared.holds.until(message, now)) {
            Some((message, until)) => {
                if self.shared.holds.wait(message, until, loose) {
                    let hub = self.clone();
                    self.shared.tasks.spawn(async move {
                        tokio::time::sleep_until(until).await;
                        hub.shared.holds.release(message, |loose| hub.tell_loose_now(&loose));
                    });
                }
            }
            None => self.tell_loose_now(&loose),
        }
    }

    pub(super) fn tell_loose_now(&self, loose: &LooseEvent) {
        let outgoing = Outgoing::new(loose.event.clone(), None);
        for user in loose.audience.iter() {
            self.shared.seats.send(*user, None, &outgoing, loose.origin);
        }
    }

    pub(super) fn refresh(&self, user: UserId, id: ConversationId, origin: Origin) {
        let concerns = |seat: &Arc<Seat>| origin.socket_id != Some(seat.socket.id) && origin.session_id != Some(seat.socket.session_id);
        if self.shared.seats.of(user).iter().any(concerns) {
            let hub = self.clone();
            self.shared.tasks.spawn(async move { hub.tell_view(EventKind::ConversationUpdated, user, id, origin, None).await });
        }
    }

    pub(super) fn revoke(&self, user: UserId, session: Option<SessionId>, except: Option<SessionId>) {
        for seat in self.shared.seats.of(user) {
            let its = seat.socket.session_id;
            if session.is_none_or(|session| session == its) && except != Some(its) {
                seat.socket.close(CloseReason::Revoked);
            }
        }
    }
}

/// A row's event, ready to be shared by all sockets.
pub(super) fn outgoing_of(row: &RowEvent) -> Option<Arc<Outgoing>> {
    let event = row.event.clone()?;
    let mark = row.message.filter(|_| event.kind == EventKind::MessageReceived).map(|message| Mark {
        conversation_id: row.conversation_id,
        seq: row.seq,
        message_id: message.message_id,
        sender_id: message.sender_id,
        is_large: row.audience.len() > LARGE_ABOVE,
    });
    Some(Outgoing::new(event, mark))
}
