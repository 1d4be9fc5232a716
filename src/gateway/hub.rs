//! The hub: this node's sockets by user, and the delivery of what the bus brings to them. Rows go out in the order of
//! their log, without a gap, once (`order.rs`); what the bus lost is read from the store. One serialisation a protocol.
//! It knows no protocol and decides nothing about who may know what: envelopes carry their audience.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::hold::Holds;
use super::lane::Lane;
use super::registry::{Registry, SHARDS};
use super::rounds::Rounds;
use super::socket::CloseReason;
use crate::bus::Subscription;
use crate::conversations::Conversations;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Envelope, Origin, RowEvent};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Appender, LogStore, MemberState, Membership, unless_spoilt};
use crate::messages::Announcer;
use crate::task::Tasks;

/// Looks at the store, for somebody's view of something, that the hub takes at once.
pub(super) const LOOKS: usize = 16;

/// A conversation as one of its members sees it: what `conversation:created` and `conversation:updated` carry.
#[async_trait]
pub trait ConversationViews: Send + Sync + 'static {
    /// The JSON of the wire object, as of the row `upto` or of now; none when the user cannot see it.
    async fn view_for(&self, user: UserId, conversation: ConversationId, upto: Option<Seq>) -> Result<Option<Bytes>>;

    /// Whether the user still sees this row, which he once could: neither cleared nor removed from his view.
    async fn sees(&self, user: UserId, conversation: ConversationId, seq: Seq) -> Result<bool>;
}

#[async_trait]
impl ConversationViews for Conversations {
    async fn view_for(&self, user: UserId, conversation: ConversationId, upto: Option<Seq>) -> Result<Option<Bytes>> {
        match self.view_upto(user, conversation, upto).await {
            Ok(view) => Ok(Some(serde_json::to_vec(&view).map_err(Error::internal)?.into())),
            Err(error) if matches!(error.code, ErrorCode::Forbidden | ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn sees(&self, user: UserId, conversation: ConversationId, seq: Seq) -> Result<bool> {
        Conversations::sees(self, user, conversation, seq).await
    }
}

/// The sockets of this node.
#[derive(Clone)]
pub struct Hub {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub seats: Registry,
    pub lanes: Vec<Mutex<HashMap<ConversationId, Lane>>>,
    pub holds: Holds,
    pub refreshes: Rounds<(UserId, ConversationId), Origin>,
    pub repairs: Rounds<(), ()>,
    pub repairs_of_some: Rounds<(), HashSet<UserId>>,
    pub looks: Semaphore,
    pub appender: Appender,
    pub announcer: Announcer,
    pub log: Arc<dyn LogStore>,
    pub views: Arc<dyn ConversationViews>,
    pub tasks: Tasks,
}

impl Hub {
    /// A hub without sockets.
    pub fn new(
        appender: Appender,
        announcer: Announcer,
        log: Arc<dyn LogStore>,
        views: Arc<dyn ConversationViews>,
        sockets_per_user: usize,
        tasks: Tasks,
    ) -> Self {
        let seats = Registry::new(sockets_per_user);
        let lanes = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (holds, refreshes, repairs, repairs_of_some) = (Holds::default(), Rounds::default(), Rounds::default(), Rounds::default());
        let looks = Semaphore::new(LOOKS);
        Self {
            shared: Arc::new(Shared {
                seats,
                lanes,
                holds,
                refreshes,
                repairs,
                repairs_of_some,
                looks,
                appender,
                announcer,
                log,
                views,
                tasks,
            }),
        }
    }

    /// Delivers what the bus brings, until it ends or the node stops; `note` sees each envelope first.
    pub async fn run(&self, mut envelopes: Subscription, note: impl Fn(&Envelope) + Send) {
        let stopping = self.shared.tasks.stopping();
        loop {
            let envelope = tokio::select! {
                envelope = envelopes.recv() => envelope,
                () = stopping.cancelled() => None,
            };
            let Some(envelope) = envelope else { return };
            // One that makes it panic costs nobody the others.
            let taken = std::panic::catch_unwind(AssertUnwindSafe(|| {
                note(&envelope);
                self.take(Arc::unwrap_or_clone(envelope));
            }));
            if taken.is_err() {
                tracing::error!("an envelope was not delivered: it made the hub panic");
            }
        }
    }

    /// Takes one envelope; never waits.
    pub fn take(&self, envelope: Envelope) {
        match envelope {
            Envelope::Row(row) => self.arrive(row),
            Envelope::Loose(event) => self.tell_loose(event),
            Envelope::Refresh { user_id, conversation_id, origin } => self.refresh(user_id, conversation_id, origin),
            Envelope::Missed { .. } => {
                let hub = self.clone();
                self.shared.tasks.spawn(async move { hub.repair().await });
            }
            Envelope::Overlooked { users } => {
                let hub = self.clone();
                self.shared.tasks.spawn(async move {
                    match users {
                        Some(users) => hub.repair_some(users.iter().copied().collect()).await,
                        None => hub.repair().await,
                    }
                });
            }
            // Whom that concerns `Sessions::note` has found out.
            Envelope::Visibility { .. }
            | Envelope::Left { .. }
            | Envelope::Orphans { .. }
            | Envelope::Buried
            | Envelope::Typing(_)
            | Envelope::Revoked { .. } => {}
        }
    }

    /// The sockets here.
    pub(super) fn seats(&self) -> &Registry {
        &self.shared.seats
    }

    /// Sockets here.
    pub fn sockets(&self) -> usize {
        self.shared.seats.sockets()
    }

    /// A user's memberships with the heads of large conversations read too.
    pub(super) async fn memberships(&self, user: UserId) -> Result<Vec<Membership>> {
        let mut memberships = self.shared.log.memberships(user).await?;
        for membership in memberships.iter_mut().filter(|membership| membership.large && membership.state == MemberState::Active) {
            let id = membership.conversation_id;
            if let Some(record) = unless_spoilt(id, self.shared.log.conversation(id).await)?.flatten() {
                membership.head = record.head;
            }
        }
        Ok(memberships)
    }

    /// Tells all sockets to connect elsewhere, in `batches` with `pause` between them, so that not all come to the others at once.
    pub async fn drain(&self, batches: usize, pause: Duration) {
        let mut seats: Vec<_> = self.shared.seats.users().into_iter().flat_map(|user| self.shared.seats.of(user)).collect();
        let size = seats.len().div_ceil(batches.max(1)).max(1);
        while !seats.is_empty() {
            let rest = seats.split_off(size.min(seats.len()));
            for seat in seats {
                seat.socket.close(CloseReason::Draining);
            }
            seats = rest;
            if !seats.is_empty() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The log's rows after `after` as events for `user`: what a resume replays. At most `limit` rows.
    pub(super) async fn replay(&self, user: UserId, id: ConversationId, after: Seq, upto: Seq) -> Result<Vec<RowEvent>> {
        let limit = usize::try_from(upto - after).unwrap_or(0);
        let mut rows = Vec::with_capacity(limit);
        let missed = self.shared.appender.announcements(id, after, limit).await?;
        // A replica may lack rows that the head tells of: the client must not be told that it has everything.
        if missed.last().map_or(after, |missed| missed.row.seq) < upto {
            return Err(Error::unavailable("some messages could not be read yet, try again in a moment"));
        }
        for missed in missed {
            if missed.row.seq <= upto && missed.audience.contains(&user) {
                rows.push(self.shared.announcer.row_event(missed).await);
            }
        }
        Ok(rows)
    }

    /// A conversation as the user sees it.
    pub(super) async fn view(&self, user: UserId, id: ConversationId) -> Result<Option<Bytes>> {
        self.shared.views.view_for(user, id, None).await
    }
}
