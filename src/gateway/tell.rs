//! Telling: how rows and events of any kind go from the hub to the seats of those who may know.
//! Order is the lanes' business; here is who gets what, and what differs by recipient.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::hub::{Hub, LOOKS};
use super::order::FIRST_PAUSE;
use super::seat::{Place, Seat};
use super::socket::{Mark, Outgoing};
use crate::event::{Event, EventKind, LooseEvent, Origin, RowEvent};
use crate::id::{ConversationId, Seq, UserId};

/// How long a conversation that cannot be shown is read again: the row that brings it waits meanwhile, and those behind it.
const TRIED_FOR: Duration = Duration::from_secs(1);

/// Counts a conversation that was not shown to one of its members, or who had been.
fn left_out(kind: EventKind, reason: &'static str) {
    metrics::counter!("urge_hub_views_left_out_total", "event" => kind.name(), "reason" => reason).increment(1);
}

impl Hub {
    /// Whether telling a row takes a look at the store.
    pub(super) fn needs_store(&self, row: &RowEvent) -> bool {
        let is_here = |users: &[UserId]| users.iter().any(|user| self.shared.seats.has(*user));
        is_here(&row.introduces) || (row.target_seq.is_some() && is_here(&row.audience))
    }

    /// A row with what has to be read for it: to whom the conversation is new is told of that first.
    pub(super) async fn tell_with_store(&self, row: &RowEvent) {
        let (id, place) = (row.conversation_id, Some((row.conversation_id, row.seq)));
        let until = Instant::now() + TRIED_FOR;
        let created = |user| self.tell_view(EventKind::ConversationCreated, user, id, Origin::default(), place, until);
        stream::iter(self.here(&row.introduces)).for_each_concurrent(LOOKS, created).await;
        match row.target_seq {
            Some(target) => self.tell_change(row, target).await,
            None => self.tell(row),
        }
    }

    /// Tells the others, in the background, what has become of the conversation, if the row changed it.
    pub(super) fn refresh_members(&self, row: &RowEvent) {
        if !row.refreshes {
            return;
        }
        let others: Vec<UserId> = self.here(&row.audience).into_iter().filter(|user| !row.introduces.contains(user)).collect();
        if !others.is_empty() {
            let (hub, id) = (self.clone(), row.conversation_id);
            self.shared.tasks.spawn(async move {
                stream::iter(others).for_each_concurrent(LOOKS, |user| hub.refresh_now(user, id, Origin::default())).await;
            });
        }
    }

    fn here(&self, users: &[UserId]) -> Vec<UserId> {
        users.iter().copied().filter(|user| self.shared.seats.has(*user)).collect()
    }

    /// A row's own event, to everybody who may know.
    pub(super) fn tell(&self, row: &RowEvent) {
        if let Some(outgoing) = outgoing_of(row) {
            for user in row.audience.iter() {
                self.shared.seats.send(*user, Some((row.conversation_id, row.seq)), outgoing.of(*user), row.origin);
            }
        }
    }

    /// A change of an earlier row, to those who still see that one.
    async fn tell_change(&self, row: &RowEvent, target: Seq) {
        let Some(outgoing) = outgoing_of(row) else { return };
        let told = |user| {
            let outgoing = &outgoing;
            async move {
                let sees = {
                    let _place = self.shared.looks.acquire().await;
                    self.shared.views.sees(user, row.conversation_id, target).await
                };
                let sees = sees.unwrap_or_else(|error| {
                    tracing::warn!(%error, "whether a user still sees a message could not be read; he is told of its change");
                    true
                });
                if sees {
                    self.shared.seats.send(user, Some((row.conversation_id, row.seq)), outgoing.of(user), row.origin);
                }
            }
        };
        stream::iter(self.here(&row.audience)).for_each_concurrent(LOOKS, told).await;
    }

    async fn tell_view(&self, kind: EventKind, user: UserId, id: ConversationId, origin: Origin, place: Option<Place>, until: Instant) {
        // What came later is told after it: counted here too, it would be unread twice.
        let upto = place.map(|(_, seq)| seq);
        let mut pause = FIRST_PAUSE;
        let view = loop {
            let view = {
                let _place = self.shared.looks.acquire().await;
                self.shared.views.view_for(user, id, upto).await
            };
            match &view {
                Err(error) if error.retry_after.is_some() && Instant::now() < until && !self.shared.tasks.is_stopping() => {
                    self.rest(&mut pause).await;
                }
                _ => break view,
            }
        };
        match view {
            Ok(Some(data)) => self.shared.seats.send(user, place, &Outgoing::new(Event { kind, data }, None), origin),
            Ok(None) => left_out(kind, "gone"),
            Err(error) => {
                tracing::warn!(%error, "a conversation could not be shown; its members see it when they sync");
                left_out(kind, "failed");
            }
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
            self.shared.tasks.spawn(async move { hub.refresh_now(user, id, origin).await });
        }
    }

    /// Tells a user once more how he sees a conversation, if that is being found out: it may be older than what he was
    /// shown meanwhile.
    pub(super) fn refresh_again(&self, user: UserId, id: ConversationId) {
        if self.shared.refreshes.is_under_way((user, id)) {
            self.refresh(user, id, Origin::default());
        }
    }

    /// Tells a user how he sees a conversation now. What is asked for while that is being found out is found out anew, once:
    /// so the last that he hears is the last that is true.
    async fn refresh_now(&self, user: UserId, id: ConversationId, origin: Origin) {
        let everybody = |one, other| if one == other { one } else { Origin::default() };
        let Some(mut round) = self.shared.refreshes.ask((user, id), origin, everybody) else { return };
        while let Some(origin) = round.next() {
            self.tell_view(EventKind::ConversationUpdated, user, id, origin, None, Instant::now() + TRIED_FOR).await;
        }
    }
}

/// A row's event, ready to be shared by all sockets.
pub(super) struct RowOutgoing<'a> {
    plain: Arc<Outgoing>,
    faceless: Option<(&'a [UserId], Arc<Outgoing>)>,
}

impl RowOutgoing<'_> {
    /// What this user is told.
    pub fn of(&self, user: UserId) -> &Arc<Outgoing> {
        match &self.faceless {
            Some((users, faceless)) if users.contains(&user) => faceless,
            _ => &self.plain,
        }
    }
}

/// What is told of a row, if anything.
pub(super) fn outgoing_of(row: &RowEvent) -> Option<RowOutgoing<'_>> {
    let event = row.event.clone()?;
    let mark = row.message.filter(|_| event.kind == EventKind::MessageReceived).map(|message| Mark {
        conversation_id: row.conversation_id,
        seq: row.seq,
        message_id: message.message_id,
        sender_id: message.sender_id,
        is_large: row.is_large,
    });
    let faceless = row.faceless.as_ref().map(|faceless| (&*faceless.users, Outgoing::new(faceless.event.clone(), mark)));
    Some(RowOutgoing { plain: Outgoing::new(event, mark), faceless })
}
