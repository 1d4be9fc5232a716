//! The append protocol (docs/adr/0001): what makes a message that was acknowledged stored once, whatever dies in between.
//! Head, *then* location; floor; scan; permit; insert at the next place if it is free; heads; announcement; event; answer.
//! `tests/it/model` explores these steps exhaustively under the same names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::append::{Announcement, BATCH_BYTES, BATCH_ROWS, Posted, Proposal, Reply, Shared};
use super::store::{Insert, OwnMark};
use super::{Body, ConversationState, LARGE_ABOVE, Location, LogRow, MemberState, bucket_of};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::fail_point;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::{StoreError, StoreResult};

/// Pause before the same statement is tried again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// A proposal with everybody who waits for it: a retry that meets its first attempt in the queue shares its fate.
pub(super) struct Waiting {
    pub proposal: Proposal,
    pub replies: Vec<Reply>,
}

impl Waiting {
    pub fn answer(self, answer: &Result<Posted>) {
        for reply in self.replies {
            let _ = reply.send(answer.clone());
        }
    }
}

impl Shared {
    /// Steps 1-6 for a batch: every proposal is answered, appended or not.
    pub async fn append(&self, id: ConversationId, batch: Vec<(Proposal, Reply)>) {
        let mut waiting: Vec<Waiting> = Vec::with_capacity(batch.len());
        for (proposal, reply) in batch {
            match waiting.iter_mut().find(|other| other.proposal.message_id == proposal.message_id) {
                Some(other) => other.replies.push(reply),
                None => waiting.push(Waiting { proposal, replies: vec![reply] }),
            }
        }
        if let Err(error) = self.append_waiting(id, &mut waiting).await {
            self.forget(id);
            let error = Err(Error::from(error));
            for one in waiting {
                one.answer(&error);
            }
        }
    }

    async fn append_waiting(&self, id: ConversationId, waiting: &mut Vec<Waiting>) -> StoreResult<()> {
        let mut state = (*self.load(id).await?).clone();
        self.append_whole(&mut state, waiting).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        // 1. The head, then the locations: a message that is not located now cannot stand at or before this head.
        let floors = self.floors(&state, waiting).await?;
        // 3. The rows after a known floor may hold the message already.
        let mut index = 0;
        for floor in floors {
            let found = match floor {
                Some(floor) if floor < state.head.seq => self.scan(&state, floor, waiting[index].proposal.message_id).await?,
                _ => None,
            };
            match found {
                Some(row) => {
                    let one = waiting.remove(index);
                    self.redo(&state, &row, one.proposal.origin).await?;
                    one.answer(&Ok(Posted { row, fresh: false }));
                }
                None => index += 1,
            }
        }
        // A stale state is safe for what it permits, for the insert fails behind it, but not for what it refuses.
        if waiting.iter().any(|one| (one.proposal.permit)(&state).is_err()) {
            let others = self.catch_up(&mut state).await?;
            self.answer_found(&state, waiting, others).await?;
            if state.record.is_some() {
                self.remember(Arc::new(state.clone()));
            }
        }
        while !waiting.is_empty() {
            self.insert(&mut state, waiting).await?;
        }
        Ok(())
    }

    /// Step 2: the floors of earlier attempts; where there was none a new one, written and waited for.
    async fn floors(&self, state: &ConversationState, waiting: &[Waiting]) -> StoreResult<Vec<Option<Seq>>> {
        let floor = async |Waiting { proposal, .. }: &Waiting| -> StoreResult<Option<Seq>> {
            if !proposal.may_exist {
                return Ok(None);
            }
            Ok(begin(|| self.store.location(proposal.message_id)).await?.map(|location| location.floor_seq))
        };
        let floors = try_join_all(waiting.iter().map(floor)).await?;
        let new = waiting.iter().zip(&floors).filter(|(_, floor)| floor.is_none());
        let new: Vec<MessageId> = new.map(|(one, _)| one.proposal.message_id).collect();
        if !new.is_empty() {
            let location = Location { conversation_id: state.id, floor_seq: state.head.seq };
            begin(|| self.store.put_locations(&new, &location)).await?;
            fail_point::reached("append.located");
        }
        Ok(floors)
    }

    pub(super) async fn scan(&self, state: &ConversationState, floor: Seq, message: MessageId) -> StoreResult<Option<LogRow>> {
        let mut after = floor;
        while after < state.head.seq {
            let rows = persist(|| self.whole_rows(state.id, after, state.head.seq)).await?;
            let last = rows.last().map_or(state.head.seq, |row| row.seq);
            if let Some(row) = rows.into_iter().find(|row| row.message_id == message) {
                return Ok(Some(row));
            }
            after = last;
        }
        Ok(None)
    }

    /// Steps 4-6 for as many as fit into one conditional insert. On return some of `waiting` are answered, or the state
    /// has learned of rows that others appended.
    async fn insert(&self, state: &mut ConversationState, waiting: &mut Vec<Waiting>) -> StoreResult<()> {
        // 4. Permission, against every row before.
        let mut index = 0;
        while index < waiting.len() {
            let proposal = &waiting[index].proposal;
            let refused = match (&proposal.body, state.record.is_some()) {
                (Body::Created(_), true) => Some(
                    self.reader
                        .row(state.id, 1)
                        .await?
                        .map_or_else(|| Err(Error::not_found("there is no such conversation")), |row| Ok(Posted { row, fresh: false })),
                ),
                _ => (proposal.permit)(state).err().map(Err),
            };
            match refused {
                Some(answer) => waiting.remove(index).answer(&answer),
                None => index += 1,
            }
        }
        let rows = self.rows_for(state, waiting);
        let Some(first) = rows.first() else { return Ok(()) };
        self.grow_large(state, &rows).await?;
        // 5. An unknown outcome is tried again at the same place: never at the next, or it might stand twice.
        let taken = match begin(|| self.store.insert_rows(&rows)).await? {
            Insert::Applied => false,
            // Our own row after a lost answer. In a batch that says nothing of the others: another attempt of the first
            // may stand there alone, so the log is asked.
            Insert::Exists(row) if rows.len() == 1 && *row == *first => false,
            Insert::Exists(_) => true,
        };
        if taken {
            metrics::counter!("urge_log_append_conflicts_total").increment(1);
            let others = self.catch_up(state).await?;
            self.answer_found(state, waiting, others).await?;
            return Ok(());
        }
        // 6. Heads, announcement, event, answer.
        fail_point::reached("append.inserted");
        metrics::histogram!("urge_log_append_rows").record(rows.len() as f64);
        let origins: Vec<_> = waiting.iter().take(rows.len()).map(|one| (one.proposal.origin, one.proposal.posted)).collect();
        self.settle(state, &rows, None, &origins).await?;
        self.remember(Arc::new(state.clone()));
        for (one, row) in waiting.drain(..rows.len()).zip(rows) {
            one.answer(&Ok(Posted { row, fresh: true }));
        }
        Ok(())
    }

    /// The rows that the first of `waiting` become: consecutive, in one bucket. A row that changes who may write, or that
    /// begins the log, goes alone, so that every permission was checked against all rows before.
    pub(super) fn rows_for(&self, state: &ConversationState, waiting: &[Waiting]) -> Vec<LogRow> {
        let now = self.clock.now().max(state.last_at);
        let mut head = state.head;
        let bucket = bucket_of(head.seq + 1);
        let (mut rows, mut bytes) = (Vec::with_capacity(waiting.len().min(BATCH_ROWS)), 0);
        for Waiting { proposal, .. } in waiting {
            let alone = !matches!(proposal.body, Body::Message(_));
            let seq = head.seq + 1;
            let is_full = rows.len() >= BATCH_ROWS || bytes >= BATCH_BYTES;
            if is_full || bucket_of(seq) != bucket || (alone && !rows.is_empty()) {
                break;
            }
            if let Body::Message(content) = &proposal.body {
                bytes += content.content.len();
            }
            let row = LogRow {
                conversation_id: state.id,
                seq,
                message_id: proposal.message_id,
                sender_id: proposal.sender_id,
                n: head.n + i64::from(proposal.body.is_counted()),
                total: head.total + i64::from(proposal.body.is_shown()),
                target_seq: None,
                body: proposal.body.clone(),
                created_at: now,
                updated_at: now,
                deleted_at: None,
                version: 0,
                change_seq: seq,
                change_id: proposal.message_id,
            };
            head = head.after(&row);
            rows.push(row);
            if alone {
                break;
            }
        }
        rows
    }

    /// A conversation that outgrows [`LARGE_ABOVE`] says so before the row that makes it: no reader trusts a head that
    /// is no longer written.
    async fn grow_large(&self, state: &mut ConversationState, rows: &[LogRow]) -> StoreResult<()> {
        let [LogRow { body: Body::Members(change), .. }] = rows else { return Ok(()) };
        let is_member = |user: &UserId| state.members.get(user).is_some_and(|member| member.state == MemberState::Active);
        let joining = change.members.iter().filter(|(user, member, _)| *member == MemberState::Active && !is_member(user)).count();
        if state.is_large() || state.active().len() + joining <= LARGE_ABOVE {
            return Ok(());
        }
        persist(|| self.store.mark_large(state.id, state.active())).await?;
        if let Some(record) = &mut state.record {
            Arc::make_mut(record).large = true;
        }
        Ok(())
    }

    /// Step 6 for rows that are in the log: projections, heads, announcement, event. All of it may be done again.
    pub(super) async fn settle(
        &self,
        state: &mut ConversationState,
        rows: &[LogRow],
        target: Option<&LogRow>,
        origins: &[(Origin, bool)],
    ) -> StoreResult<()> {
        let mut announcements = Vec::with_capacity(rows.len());
        let mut touched = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let projection = state.apply(row);
            if let Some(record) = &state.record {
                if projection.record {
                    persist(|| self.store.put_conversation(state.id, record, row.seq)).await?;
                    fail_point::reached("settle.recorded");
                }
                if !projection.members.is_empty() {
                    persist(|| self.store.put_members(state.id, record, &projection.members, &projection.cleared)).await?;
                    fail_point::reached("settle.projected");
                    touched.extend(projection.members.iter().map(|member| member.user_id));
                }
            }
            let (origin, posted) = origins.get(index).copied().unwrap_or_default();
            let target = match (target, row.target_seq) {
                (Some(target), _) => Some(target.clone()),
                (None, Some(seq)) => self.reader.row(state.id, seq).await?,
                (None, None) => None,
            };
            announcements.push(Announcement {
                row: row.clone(),
                target,
                audience: state.audience_of(row),
                is_large: state.is_large(),
                introduces: projection.introduces.into(),
                origin,
                posted,
                again: false,
            });
        }
        let mut heads: Vec<_> = if state.is_large() { Vec::new() } else { state.active().to_vec() };
        for user in touched {
            if !heads.contains(&user) {
                heads.push(user);
            }
        }
        let own = own_marks(rows);
        persist(|| self.store.advance_heads(state.id, &state.head, &heads, &own)).await?;
        fail_point::reached("settle.headed");
        self.announce.announce(announcements).await;
        fail_point::reached("settle.announced");
        self.enqueue(state.id, state.head.seq).await?;
        fail_point::reached("settle.enqueued");
        Ok(())
    }

    /// What workers are told, once a batch: after the announcement, which must not wait for it.
    pub(super) async fn enqueue(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        persist(|| self.announce.enqueue(id, seq)).await
    }

    pub async fn announcements(&self, id: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<Announcement>> {
        let rows = self.reader.after(id, after, limit).await?;
        let mut state = self.load(id).await?;
        // A state that is kept may lack rows, those on their way to it too: who may know of a row is for the rows to say.
        if let Some(last) = rows.last().map(|row| row.seq).filter(|last| *last > state.head.seq) {
            for row in self.reader.between(id, state.head.seq, last).await? {
                if row.seq == state.head.seq + 1 {
                    Arc::make_mut(&mut state).apply(&row);
                }
            }
        }
        let targets = try_join_all(rows.iter().map(|row| async {
            match row.target_seq {
                Some(seq) => self.reader.row(id, seq).await,
                None => Ok(None),
            }
        }))
        .await?;
        Ok(rows.into_iter().zip(targets).map(|(row, target)| announcement_of(&state, row, target)).collect())
    }
}

/// How far the writers of these rows have read with them.
pub(super) fn own_marks(rows: &[LogRow]) -> Vec<OwnMark> {
    let mut own: Vec<OwnMark> = Vec::new();
    for row in rows.iter().filter(|row| row.body.is_counted()) {
        match own.iter_mut().find(|mark| mark.user_id == row.sender_id) {
            Some(mark) => (mark.seq, mark.n) = (row.seq, row.n),
            None => own.push(OwnMark { user_id: row.sender_id, seq: row.seq, n: row.n }),
        }
    }
    own
}

/// What is told of a row that was told before, or should have been.
pub(super) fn announcement_of(state: &ConversationState, row: LogRow, target: Option<LogRow>) -> Announcement {
    let joined_with = |user: &&UserId| state.members.get(user).is_some_and(|member| member.joined_seq == row.seq);
    let audience = state.audience_of(&row);
    let introduces = audience.iter().filter(joined_with).copied().collect();
    let is_large = state.is_large();
    Announcement { audience, is_large, introduces, target, origin: Origin::default(), posted: false, again: false, row }
}

/// As [`persist`] while nothing is written: a store that is full says so at once, for it did nothing, and waiting in its
/// line again would only hold up those behind.
pub(super) async fn begin<T, F>(mut statement: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    match statement().await {
        Err(StoreError::Unavailable(_)) => persist(statement).await,
        answer => answer,
    }
}

/// Repeats the same statement until it answers, after pauses, for no store tells when it is back; the deadline of the append
/// ends it. Every statement here may be repeated.
pub(super) async fn persist<T, F>(mut statement: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match statement().await {
            Err(StoreError::Full | StoreError::Unavailable(_)) => {
                metrics::counter!("urge_log_retries_total").increment(1);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            answer => return answer,
        }
    }
}
