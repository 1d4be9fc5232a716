//! The hub: this node's sockets by user, and the delivery of what the bus brings to them. Rows go out in the order of
//! their log, without a gap, once ([`super::lane`]); what the bus lost is read from the store. One serialisation a protocol.
//! It knows no protocol and decides nothing about who may know what: envelopes carry their audience.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::hold::Holds;
use super::lane::{Lane, Step};
use super::registry::{Registry, shard};
use super::socket::CloseReason;
use crate::bus::Subscription;
use crate::conversations::Conversations;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Envelope, RowEvent};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Appender, LogStore, MemberState, Membership};
use crate::messages::Announcer;
use crate::task::Tasks;

/// Rows read at a time to fill a gap.
const FILL_ROWS: usize = 256;
/// A fill that failed is tried again after this, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Lanes beyond this many are looked through for ones that nobody needs.
const SWEEP_LANES: usize = 100_000;

/// A conversation as one of its members sees it: what `conversation:created` and `conversation:updated` carry.
#[async_trait]
pub trait ConversationViews: Send + Sync + 'static {
    /// The JSON of the wire object; none when the user cannot see it.
    async fn view_for(&self, user: UserId, conversation: ConversationId) -> Result<Option<Bytes>>;
}

#[async_trait]
impl ConversationViews for Conversations {
    async fn view_for(&self, user: UserId, conversation: ConversationId) -> Result<Option<Bytes>> {
        match Conversations::view_for(self, user, conversation).await {
            Ok(view) => Ok(Some(serde_json::to_vec(&view).map_err(Error::internal)?.into())),
            Err(error) if matches!(error.code, ErrorCode::Forbidden | ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
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
        let lanes = (0..super::registry::SHARDS).map(|_| Mutex::default()).collect();
        let holds = Holds::default();
        Self { shared: Arc::new(Shared { seats, lanes, holds, appender, announcer, log, views, tasks }) }
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
            note(&envelope);
            self.take(Arc::unwrap_or_clone(envelope));
        }
    }

    /// Takes one envelope; never waits.
    pub fn take(&self, envelope: Envelope) {
        match envelope {
            Envelope::Row(row) => self.arrive(row),
            Envelope::Loose(event) => self.tell_loose(event),
            Envelope::Refresh { user_id, conversation_id, origin } => self.refresh(user_id, conversation_id, origin),
            Envelope::Revoked { user_id, session_id, except } => self.revoke(user_id, session_id, except),
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

    fn arrive(&self, row: RowEvent) {
        if row.posted
            && let Some(message) = row.message
        {
            self.shared.holds.hold(message.message_id, Instant::now());
        }
        let id = row.conversation_id;
        let begins = row.seq == 1 || row.audience.iter().all(|user| !self.shared.seats.has(*user) || row.introduces.contains(user));
        let mut lanes = self.shared.lanes[shard(id.0)].lock();
        let mut step = lanes.entry(id).or_default().arrive(row, begins);
        // The usual case, an expected row that needs nothing from the store, is told under the lock: order costs nothing.
        while let Step::Tell(row) = step {
            if self.needs_views(&row) {
                step = Step::Tell(row);
                break;
            }
            self.tell(&row);
            let Some(lane) = lanes.get_mut(&id) else { return };
            lane.told(row.seq);
            step = lane.next();
        }
        drop(lanes);
        self.go_on(id, step);
    }

    /// Does a lane's slow steps in the background, if it has any.
    fn go_on(&self, id: ConversationId, step: Step) {
        if !matches!(step, Step::Rest) {
            let hub = self.clone();
            self.shared.tasks.spawn(async move { hub.work(id, step).await });
        }
    }

    async fn work(&self, id: ConversationId, mut step: Step) {
        let mut pause = FIRST_PAUSE;
        loop {
            match step {
                Step::Rest => return,
                Step::Tell(row) => {
                    self.tell_with_views(&row).await;
                    self.told(id, row.seq);
                }
                Step::Locate(row) => match self.first_needed(id, row).await {
                    Ok(first) => {
                        if let Some(lane) = self.shared.lanes[shard(id.0)].lock().get_mut(&id) {
                            lane.begin(first);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, conversation = %id, "a conversation could not be read yet");
                        self.rest(&mut pause).await;
                    }
                },
                Step::Fill(from) => match self.fill(id, from).await {
                    Ok(true) => pause = FIRST_PAUSE,
                    // A replica that lacks the rows, or a store that is away: the lane waits, nothing is skipped.
                    not_yet => {
                        if let Err(error) = not_yet {
                            tracing::warn!(%error, conversation = %id, "missed rows could not be read yet");
                        }
                        self.rest(&mut pause).await;
                    }
                },
            }
            if self.shared.tasks.is_stopping() {
                return;
            }
            let mut lanes = self.shared.lanes[shard(id.0)].lock();
            let Some(lane) = lanes.get_mut(&id) else { return };
            step = lane.next();
        }
    }

    async fn rest(&self, pause: &mut Duration) {
        let _ = self.shared.tasks.stopping().run_until_cancelled(tokio::time::sleep(*pause)).await;
        *pause = (*pause * 2).min(LAST_PAUSE);
    }

    /// The first row that somebody here needs of a conversation whose rows never went out here. A seat whose heads were
    /// read while the conversation was not among them is new to it, and needs everything since; who is about to read
    /// the heads needs nothing that is before them. `otherwise`: nobody is new to it.
    async fn first_needed(&self, id: ConversationId, otherwise: Seq) -> Result<Seq> {
        let state = self.shared.appender.state(id).await?;
        let new_to_it = |member: &&crate::log::Member| member.state == MemberState::Active && self.knows_heads(member.user_id);
        let first = state.members.values().filter(new_to_it).map(|member| member.joined_seq).min();
        Ok(first.unwrap_or(otherwise).min(otherwise))
    }

    fn knows_heads(&self, user: UserId) -> bool {
        self.shared.seats.of(user).iter().any(|seat| seat.knows_heads())
    }

    /// Tells rows that did not come by the bus. False: the store does not have them yet.
    async fn fill(&self, id: ConversationId, from: Seq) -> Result<bool> {
        let upto = self.shared.lanes[shard(id.0)].lock().get(&id).map_or(0, Lane::known_upto);
        let mut missed = self.shared.appender.announcements(id, from - 1, FILL_ROWS).await?;
        missed.retain(|missed| missed.row.seq <= upto);
        let found = missed.first().is_some_and(|missed| missed.row.seq == from);
        if found {
            metrics::counter!("urge_hub_gap_fills_total").increment(1);
            for (missed, seq) in missed.into_iter().zip(from..) {
                if missed.row.seq != seq {
                    break;
                }
                let row = self.shared.announcer.row_event(missed).await;
                self.tell_with_views(&row).await;
                self.told(id, seq);
            }
        }
        Ok(found)
    }

    fn told(&self, id: ConversationId, seq: Seq) {
        if let Some(lane) = self.shared.lanes[shard(id.0)].lock().get_mut(&id) {
            lane.told(seq);
        }
    }

    /// A user's memberships with the heads of large conversations read too.
    pub(super) async fn memberships(&self, user: UserId) -> Result<Vec<Membership>> {
        let mut memberships = self.shared.log.memberships(user).await?;
        for membership in memberships.iter_mut().filter(|membership| membership.large && membership.state == MemberState::Active) {
            if let Some(record) = self.shared.log.conversation(membership.conversation_id).await? {
                membership.head = record.head;
            }
        }
        Ok(memberships)
    }

    /// Compares this node's lanes with a user's heads: rows that never came are read from the store.
    /// Returns how many conversations lagged. Lanes that it begins have begun when it returns.
    pub(super) async fn ensure(&self, user: UserId, memberships: &[Membership]) -> Result<usize> {
        let mut lagging = 0;
        for membership in memberships.iter().filter(|membership| membership.state == MemberState::Active) {
            let (id, head) = (membership.conversation_id, membership.head.seq);
            let has_begun = self.shared.lanes[shard(id.0)].lock().entry(id).or_default().has_begun();
            let first = match membership.peer_id {
                _ if has_begun => head + 1,
                // Between two people it takes no look at the members.
                Some(peer) if !self.knows_heads(peer) && !self.knows_heads(user) => head + 1,
                _ => self.first_needed(id, head + 1).await?,
            };
            let mut lanes = self.shared.lanes[shard(id.0)].lock();
            let lane = lanes.entry(id).or_default();
            lane.begin(first);
            let step = lane.ensure(head);
            drop(lanes);
            lagging += usize::from(matches!(step, Step::Fill(_)));
            self.go_on(id, step);
        }
        Ok(lagging)
    }

    /// Whether rows of this log up to `head` have not all gone out here yet.
    pub(super) fn lags(&self, id: ConversationId, head: Seq) -> bool {
        self.shared.lanes[shard(id.0)].lock().get(&id).is_some_and(|lane| lane.lags(head))
    }

    /// Reads the heads of everybody here again, and forgets lanes that nobody here needs.
    pub async fn repair(&self) {
        if let Err(error) = self.repair_all().await {
            tracing::warn!(%error, "heads could not be read; they are read again later");
        }
    }

    async fn repair_all(&self) -> Result<()> {
        let mut needed = std::collections::HashSet::new();
        let mut repaired = 0;
        let sweeps = self.shared.lanes.iter().map(|lanes| lanes.lock().len()).sum::<usize>() > SWEEP_LANES;
        if sweeps {
            for lanes in &self.shared.lanes {
                lanes.lock().values_mut().for_each(Lane::unused);
            }
        }
        for user in self.shared.seats.users() {
            let memberships = self.memberships(user).await?;
            repaired += self.ensure(user, &memberships).await?;
            if sweeps {
                needed.extend(memberships.into_iter().map(|membership| membership.conversation_id));
            }
        }
        if repaired > 0 {
            metrics::counter!("urge_hub_heads_repaired_total").increment(repaired as u64);
        }
        if sweeps {
            for lanes in &self.shared.lanes {
                lanes.lock().retain(|id, lane| needed.contains(id) || lane.was_used());
            }
        }
        Ok(())
    }

    /// Reads one user's heads again.
    pub(super) async fn repair_user(&self, user: UserId) -> Result<()> {
        let lagging = self.ensure(user, &self.memberships(user).await?).await?;
        if lagging > 0 {
            metrics::counter!("urge_hub_heads_repaired_total").increment(lagging as u64);
        }
        Ok(())
    }

    /// Tells all sockets to connect elsewhere, in `batches` with `pause` between them.
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
        self.shared.views.view_for(user, id).await
    }
}
