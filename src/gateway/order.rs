//! The lanes at work: rows go out in the order of their log, without a gap and once. A row that is missing is waited for
//! a moment, then read from the store; so are rows that only the heads tell of. What is told to whom is `tell.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::hub::Hub;
use super::lane::{Lane, Missing, Step};
use super::registry::shard;
use super::seat::Seat;
use super::tell::outgoing_of;
use crate::error::{Error, Result};
use crate::event::RowEvent;
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Announce as _, ConversationState, Member, MemberState, Membership, unless_spoilt};

/// How long a row that is missing may still be on its way: its writer moves the heads before he tells of it. Read from
/// the store it would also go to the socket that sent it, which has the answer.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// Rows read at a time to fill a gap.
const FILL_ROWS: Seq = 256;
/// A fill that failed is tried again after this, doubled each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Users whose heads are read side by side when all are.
const REPAIRS: usize = 16;
/// Lanes beyond this many are looked through for ones that nobody needs.
const SWEEP_LANES: usize = 100_000;

/// A lane's worker. One that panics leaves out the row that it was telling, and the lane to the next: without this the
/// conversation would be silent until the node starts again.
struct Worker<'a> {
    hub: &'a Hub,
    id: ConversationId,
    /// It has the lane for itself.
    is_at_work: bool,
    telling: Option<Seq>,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.is_at_work {
            let step = match self.hub.shared.lanes[shard(self.id.0)].lock().get_mut(&self.id) {
                Some(lane) => lane.abandoned(self.telling),
                None => Step::Rest,
            };
            self.hub.go_on(self.id, step);
        }
    }
}

/// Users whose heads could not be read.
struct Failed {
    /// Those for whom waiting may help.
    again: Vec<UserId>,
    /// There are others, for whom it does not.
    any_for_good: bool,
}

impl Hub {
    pub(super) fn arrive(&self, row: RowEvent) {
        if row.posted
            && let Some(message) = row.message
        {
            self.shared.holds.hold(message.message_id, Instant::now());
        }
        let id = row.conversation_id;
        let begins = row.seq == 1 || row.audience.iter().all(|user| !self.shared.seats.has(*user) || row.introduces.contains(user));
        // A row that is told again says nothing of where to begin, unless somebody here knows his heads and not this conversation.
        let begins = begins && (!row.again || row.introduces.iter().any(|user| self.knows_heads(*user)));
        let mut worker = Worker { hub: self, id, is_at_work: false, telling: None };
        let mut lanes = self.shared.lanes[shard(id.0)].lock();
        let mut step = lanes.entry(id).or_default().arrive(row, begins);
        // The usual case, an expected row that needs nothing from the store, is told under the lock: order costs nothing.
        while let Step::Tell(row) = step {
            if self.needs_store(&row) {
                step = Step::Tell(row);
                break;
            }
            (worker.is_at_work, worker.telling) = (true, Some(row.seq));
            self.tell(&row);
            worker.is_at_work = false;
            let Some(lane) = lanes.get_mut(&id) else { return };
            lane.told(row.seq);
            step = lane.next();
            self.refresh_members(&row);
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
        let mut worker = Worker { hub: self, id, is_at_work: true, telling: None };
        let mut pause = FIRST_PAUSE;
        loop {
            let waited = matches!(step, Step::Wait);
            worker.is_at_work = !waited;
            match step {
                Step::Rest => return,
                Step::Wait => self.sleep(ON_ITS_WAY).await,
                Step::Tell(row) => self.tell_in_turn(&mut worker, &row).await,
                Step::Locate(row) => match self.shared.appender.state(id).await {
                    Ok(state) => {
                        let first = self.first_needed(&state, row);
                        if let Some(lane) = self.shared.lanes[shard(id.0)].lock().get_mut(&id) {
                            lane.begin(first);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, conversation = %id, "a conversation could not be read yet");
                        self.rest(&mut pause).await;
                    }
                },
                Step::Fill(missing) => match self.fill(&mut worker, missing).await {
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
            step = if waited { lane.overdue() } else { lane.next() };
        }
    }

    async fn sleep(&self, time: Duration) {
        let _ = self.shared.tasks.stopping().run_until_cancelled(tokio::time::sleep(time)).await;
    }

    /// Waits before something is tried again, and longer the next time.
    pub(super) async fn rest(&self, pause: &mut Duration) {
        self.sleep(*pause).await;
        *pause = (*pause * 2).min(LAST_PAUSE);
    }

    /// Tells a row, which counts as told before anybody looks at the conversation that it changed.
    async fn tell_in_turn(&self, worker: &mut Worker<'_>, row: &RowEvent) {
        worker.telling = Some(row.seq);
        self.tell_with_store(row).await;
        if let Some(lane) = self.shared.lanes[shard(worker.id.0)].lock().get_mut(&worker.id) {
            lane.told(row.seq);
        }
        worker.telling = None;
        self.refresh_members(row);
    }

    /// The first row that somebody here needs of a conversation whose rows never went out here. A seat whose heads were
    /// read while the conversation was not among them is new to it, and needs everything since; who is about to read
    /// the heads needs nothing that is before them. `otherwise`: nobody is new to it.
    fn first_needed(&self, state: &ConversationState, otherwise: Seq) -> Seq {
        let new_to_it = |member: &&Member| member.state == MemberState::Active && self.knows_heads(member.user_id);
        let first = state.members.values().filter(new_to_it).map(|member| member.joined_seq).min();
        first.unwrap_or(otherwise).min(otherwise)
    }

    fn knows_heads(&self, user: UserId) -> bool {
        self.shared.seats.of(user).iter().any(|seat| seat.knows_heads())
    }

    /// Tells rows that did not come by the bus. False: the store does not have them yet.
    async fn fill(&self, worker: &mut Worker<'_>, missing: Missing) -> Result<bool> {
        let Missing { from, upto, by_heads } = missing;
        let limit = usize::try_from((upto - from + 1).clamp(0, FILL_ROWS)).unwrap_or(0);
        let missed = self.shared.appender.announcements(worker.id, from - 1, limit).await?;
        let found = missed.first().is_some_and(|missed| missed.row.seq == from);
        if found {
            metrics::counter!("urge_hub_gap_fills_total").increment(1);
            if by_heads {
                metrics::counter!("urge_hub_heads_repaired_total").increment(1);
            }
            for (missed, seq) in missed.into_iter().zip(from..=upto) {
                if missed.row.seq != seq {
                    break;
                }
                let row = self.shared.announcer.row_event(missed).await;
                self.tell_in_turn(worker, &row).await;
            }
        }
        Ok(found)
    }

    /// Compares this node's lanes with a user's heads: rows that never came are read from the store, if anybody here needs them.
    /// Lanes that it begins have begun when it returns.
    pub(super) async fn ensure(&self, user: UserId, memberships: &[Membership]) -> Result<()> {
        let mut ensured = Ok(());
        for membership in memberships.iter().filter(|membership| membership.state == MemberState::Active) {
            // One that cannot be read keeps nobody from the others.
            let one = unless_spoilt(membership.conversation_id, self.ensure_one(user, membership).await);
            ensured = ensured.and(one.map(|_| ()));
        }
        ensured
    }

    async fn ensure_one(&self, user: UserId, membership: &Membership) -> Result<()> {
        let (id, head) = (membership.conversation_id, membership.head.seq);
        let (has_begun, lags) = {
            let mut lanes = self.shared.lanes[shard(id.0)].lock();
            let lane = lanes.entry(id).or_default();
            (lane.has_begun(), lane.lags(head))
        };
        let mut members = None;
        let first = match membership.peer_id {
            _ if has_begun && !lags => head + 1,
            // Between two people it takes no look at the members.
            Some(peer) if !self.knows_heads(peer) && !self.knows_heads(user) => head + 1,
            _ => {
                let state = members.insert(self.shared.appender.state(id).await?);
                self.first_needed(state, head + 1)
            }
        };
        // Asked again under the lane's lock: who has read the heads since finds what is left out by `catch_up`.
        let is_needed = || match (&members, membership.peer_id) {
            (None, Some(peer)) => self.knows_heads(peer) || self.knows_heads(user),
            (Some(state), _) => state.active().iter().any(|member| self.knows_heads(*member)),
            (None, None) => true,
        };
        let mut lanes = self.shared.lanes[shard(id.0)].lock();
        let lane = lanes.entry(id).or_default();
        lane.begin(first);
        // Rows are not sent to a node that has nobody: of what was written meanwhile none has come.
        if lags && self.shared.announcer.has_others() && !is_needed() {
            lane.skip_to(head + 1);
        }
        let step = lane.ensure(head);
        drop(lanes);
        self.go_on(id, step);
        Ok(())
    }

    /// What was told before somebody came is not told to him, though it may still be on its way here: his client asks for it by a
    /// `resume`, or reads the history.
    pub(super) fn leave_out_the_past(&self, seat: &Seat, memberships: &[Membership]) {
        for membership in memberships.iter().filter(|membership| membership.state == MemberState::Active) {
            let (id, head) = (membership.conversation_id, membership.head.seq);
            let lags = self.shared.lanes[shard(id.0)].lock().get(&id).is_some_and(|lane| lane.has_begun() && lane.lags(head));
            if lags || seat.holds_row_of(id) {
                seat.skip_upto(id, head);
            }
        }
    }

    /// Gives a socket that has just come, and is held, what was before a lane began and behind the heads that its user was
    /// found with: a lane that others began, by heads which a writer was about to move, or did not live to move for all.
    pub(super) async fn catch_up(&self, seat: &Seat, memberships: &[Membership]) -> Result<()> {
        let user = seat.socket.user_id;
        for membership in memberships.iter().filter(|membership| membership.state == MemberState::Active) {
            let id = membership.conversation_id;
            let begun_after = self.shared.lanes[shard(id.0)].lock().get(&id).map_or(0, Lane::begun_after);
            let has = membership.head.seq.max(membership.joined_seq - 1).max(membership.cleared_seq);
            if begun_after > has {
                metrics::counter!("urge_hub_heads_repaired_total").increment(1);
                let rows = self.replay(user, id, has.max(begun_after - FILL_ROWS), begun_after).await;
                let Some(rows) = unless_spoilt(id, rows)? else { continue };
                let outgoing = rows.iter().filter_map(|row| Some((row.seq, Arc::clone(outgoing_of(row)?.of(user)))));
                seat.send_first(id, outgoing.collect());
            }
        }
        Ok(())
    }

    /// Whether rows of this log up to `head` have not all gone out here yet, for all that is known.
    pub(super) fn lags(&self, id: ConversationId, head: Seq) -> bool {
        self.shared.lanes[shard(id.0)].lock().get(&id).is_none_or(|lane| lane.lags(head))
    }

    /// Reads the heads of everybody here again, and forgets lanes that nobody here needs. Asked for while it is at it, it does so
    /// once more.
    pub async fn repair(&self) {
        let Some(mut round) = self.shared.repairs.ask((), (), |(), ()| ()) else { return };
        while round.next().is_some() {
            self.repair_all().await;
        }
    }

    async fn repair_all(&self) {
        let needed = Mutex::new(HashSet::new());
        let sweeps = self.shared.lanes.iter().map(|lanes| lanes.lock().len()).sum::<usize>() > SWEEP_LANES;
        if sweeps {
            for lanes in &self.shared.lanes {
                lanes.lock().values_mut().for_each(Lane::unused);
            }
        }
        let (mut users, mut pause, mut is_whole) = (self.shared.seats.users(), FIRST_PAUSE, true);
        loop {
            let failed = self.repair_users(users, sweeps.then_some(&needed)).await;
            is_whole &= !failed.any_for_good;
            if failed.again.is_empty() {
                break;
            }
            // The next round is of everybody: those who cannot be read must not keep the others waiting.
            if self.shared.repairs.is_asked(()) || self.shared.tasks.is_stopping() {
                is_whole = false;
                break;
            }
            self.rest(&mut pause).await;
            users = failed.again;
        }
        if sweeps && is_whole && !self.shared.tasks.is_stopping() {
            let needed = needed.into_inner();
            for lanes in &self.shared.lanes {
                lanes.lock().retain(|id, lane| needed.contains(id) || lane.was_used());
            }
        }
    }

    /// Reads the heads of those of these users again who are here. Named while it is at it, they are read after that, once.
    pub(super) async fn repair_some(&self, users: HashSet<UserId>) {
        let both = |mut one: HashSet<UserId>, other| {
            one.extend(other);
            one
        };
        let Some(mut round) = self.shared.repairs_of_some.ask((), users, both) else { return };
        let mut pause = FIRST_PAUSE;
        while let Some(users) = round.next() {
            let here = users.into_iter().filter(|user| self.shared.seats.has(*user)).collect();
            let failed = self.repair_users(here, None).await;
            if failed.again.is_empty() {
                pause = FIRST_PAUSE;
            } else if !self.shared.tasks.is_stopping() {
                self.rest(&mut pause).await;
                round.again(failed.again.into_iter().collect(), both);
            }
        }
    }

    /// Reads the heads of these users again, once; `needed` is told of their conversations.
    async fn repair_users(&self, users: Vec<UserId>, needed: Option<&Mutex<HashSet<ConversationId>>>) -> Failed {
        let repaired = futures_util::stream::iter(users).map(async |user| {
            let repaired = async {
                let memberships = self.memberships(user).await?;
                self.ensure(user, &memberships).await?;
                if let Some(needed) = needed {
                    needed.lock().extend(memberships.into_iter().map(|membership| membership.conversation_id));
                }
                Ok::<_, Error>(())
            };
            repaired.await.err().map(|error| (user, error))
        });
        let failed: Vec<_> = repaired.buffer_unordered(REPAIRS).filter_map(async |failed| failed).collect().await;
        if let Some((_, error)) = failed.first() {
            tracing::warn!(%error, users = failed.len(), "heads could not be read; they are read again");
        }
        // What waiting does not mend is left to the next time.
        let (again, left): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(_, error)| error.retry_after.is_some());
        Failed { again: again.into_iter().map(|(user, _)| user).collect(), any_for_good: !left.is_empty() }
    }

    /// Reads one user's heads again.
    pub(super) async fn repair_user(&self, user: UserId) -> Result<()> {
        self.ensure(user, &self.memberships(user).await?).await
    }
}
