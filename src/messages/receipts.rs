//! Who has received and read what: marks per person, and the events of messages whose status they turn.
//! Marks are monotone, so any of this may happen twice. A DIRECT conversation's marks stand at the peer too;
//! in groups up to [`crate::log::LARGE_ABOVE`] a message turns when the last one has it; above, marks are only kept.
//! What is done of it in the background is `deferred.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use serde_json::json;

use super::MessageStatus;
use super::deferred::Deferred;
use crate::bus::Bus;
use crate::clock::{SharedClock, Timestamp};
use crate::error::Result;
use crate::event::{Envelope, Event, EventKind, LooseEvent, Origin};
use crate::id::{ConversationId, IdMap, MessageId, Seq, UserId};
use crate::log::{Appender, ConversationState, LogReader, LogRow, LogStore, Member, MemberMark, MemberState, Membership};
use crate::settings::Settings;
use crate::task::Tasks;

/// Events that one mark sends at most: the newest.
const MAX_EVENTS: usize = 50;
/// Rows that one mark looks through at most.
pub(super) const MAX_TURNS: usize = 1_000;
/// A member's marks in a large conversation are written this often.
const LARGE_INTERVAL: Duration = Duration::from_secs(5);
/// Members of one conversation whose marks are written together.
const MARKS_A_WRITE: usize = 256;
/// Marks kept in memory.
const KEPT_MARKS: u64 = 200_000;
const STRIPES: usize = 64;

/// A message that a mark passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub message_id: MessageId,
    /// Who wrote it.
    pub sender_id: UserId,
}

/// A message whose status has risen.
pub(super) struct Risen {
    pub turn: Turn,
    pub status: MessageStatus,
    /// Whose mark, or whose leaving, made it rise.
    pub by: UserId,
}

/// How far somebody has received and read a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub delivered: Seq,
    pub read: Seq,
}

impl Marks {
    /// The further of both.
    pub fn max(self, other: Self) -> Self {
        Self { delivered: self.delivered.max(other.delivered), read: self.read.max(other.read) }
    }

    /// How far a message is with somebody who has these marks.
    fn status_of(self, seq: Seq) -> MessageStatus {
        status_of(self.delivered, self.read, seq)
    }
}

/// Marks that are being moved, or were perhaps: the store may have them, and not everybody was told.
#[derive(Clone, Copy)]
struct Untold {
    /// Up to these everybody was.
    told: Marks,
    /// Up to these this node has tried.
    tried: Marks,
}

/// The places of the messages that a person wrote last: without them every answer of the other would ask the log whose
/// the rows before it are.
#[derive(Clone, Copy, Default)]
struct OwnRows([Seq; 4]);

impl OwnRows {
    fn with(mut self, seq: Seq) -> Self {
        self.0.rotate_right(1);
        self.0[0] = seq;
        self
    }
}

/// The marks service.
pub struct Receipts {
    pub(super) log: Arc<dyn LogStore>,
    pub(super) reader: LogReader,
    pub(super) appender: Appender,
    settings: Arc<Settings>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
    pub(super) tasks: Tasks,
    marks: Cache<(UserId, ConversationId), Marks>,
    own: Cache<(UserId, ConversationId), OwnRows>,
    pub(super) deferred: Mutex<Deferred>,
    untold: Mutex<HashMap<(UserId, ConversationId), Untold>>,
    large: Mutex<IdMap<ConversationId, IdMap<UserId, Marks>>>,
    stripes: Vec<tokio::sync::Mutex<()>>,
}

impl Receipts {
    /// The service on these parts; work in flight is spawned on `tasks`.
    pub fn new(
        log: Arc<dyn LogStore>,
        appender: Appender,
        settings: Arc<Settings>,
        bus: Arc<dyn Bus>,
        clock: SharedClock,
        tasks: Tasks,
    ) -> Self {
        Self {
            reader: LogReader::new(Arc::clone(&log)),
            log,
            appender,
            settings,
            bus,
            clock,
            tasks,
            marks: Cache::new(KEPT_MARKS),
            own: Cache::new(KEPT_MARKS),
            deferred: Mutex::default(),
            untold: Mutex::default(),
            large: Mutex::default(),
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }

    /// The time that marks and stars are stamped with.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A message of this person's own has got this place: he has it.
    pub(super) fn wrote(&self, user: UserId, id: ConversationId, seq: Seq) {
        let own = self.own.get(&(user, id)).unwrap_or_default();
        self.own.insert((user, id), own.with(seq));
    }

    /// Whether each row from `first` to before `end` is one of this person's own messages, as far as this node remembers.
    fn are_own(&self, user: UserId, id: ConversationId, first: Seq, end: Seq) -> bool {
        end <= first || self.own.get(&(user, id)).is_some_and(|own| (first..end).all(|seq| own.0.contains(&seq)))
    }

    /// How far this is known to have reached his devices, and to have been told, if that is remembered.
    pub(super) fn known_delivered(&self, key: (UserId, ConversationId)) -> Option<Seq> {
        self.marks.get(&key).map(|marks| marks.delivered)
    }

    /// Moves a person's marks and tells of the messages whose status that turns; returns how many turned READ. `known`: the
    /// messages on the way, if the caller knows them all. After an error that passes, the same again tells what was not told.
    pub(super) async fn mark(&self, user: UserId, id: ConversationId, wanted: Marks, known: Option<Vec<Turn>>) -> Result<usize> {
        let marked = self.try_mark(user, id, wanted, known).await;
        if marked.as_ref().is_err_and(|error| error.retry_after.is_none()) {
            // It would be no better the next time.
            self.untold.lock().remove(&(user, id));
        }
        marked
    }

    async fn try_mark(&self, user: UserId, id: ConversationId, wanted: Marks, known: Option<Vec<Turn>>) -> Result<usize> {
        let key = (user, id);
        let state = self.appender.state(id).await?;
        let joined_seq = state.member(user)?.joined_seq;
        let shows = wanted.read == 0 || self.settings.privacy(user).await?.show_read_receipts;
        let peer = state.peer(user);
        if let Some(peer) = peer
            && self.settings.is_blocked_either(user, peer).await?
        {
            self.untold.lock().remove(&key);
            return Ok(0);
        }
        let upto = wanted.delivered.max(wanted.read);
        let wanted = Marks { delivered: upto, read: if shows { wanted.read } else { 0 } };
        if state.is_large() {
            self.mark_large(user, id, wanted);
            return Ok(0);
        }
        let _in_turn = self.stripe(id).lock().await;
        let there = self.marks_of(user, id).await?;
        let untold = self.untold.lock().get(&key).copied();
        let Untold { told, tried } = untold.unwrap_or(Untold { told: there, tried: there });
        let ours = tried.max(wanted);
        let new = ours.max(there);
        if new == there && untold.is_none() {
            return Ok(0);
        }
        // Once the store has the marks, nothing but this says that they are still to be told: they may be there after an error too.
        self.untold.lock().insert(key, Untold { told, tried: ours });
        // The peer's view first: should the second write fail, the next mark does both again.
        if let Some(peer) = peer {
            self.log.mark_peer(peer, id, new.delivered, Some(new.read)).await?;
        }
        let mark = MemberMark { user_id: user, delivered_seq: new.delivered, read_seq: new.read };
        self.log.mark_members(id, &[mark], self.clock.now()).await?;
        // What was written while he was no member does not wait for him.
        let from = if new.read > told.read { told.read.min(told.delivered) } else { told.delivered }.max(joined_seq - 1);
        let mut turns = match known {
            // Only if nothing of others can lie between the last mark and them: what came while nobody was connected turns too.
            Some(turns)
                if wanted.read == 0
                    && untold.is_none()
                    && turns.iter().map(|turn| turn.seq).min().is_some_and(|first| self.are_own(user, id, from + 1, first)) =>
            {
                turns.into_iter().filter(|turn| turn.seq > from && turn.sender_id != user).collect()
            }
            _ => self.turns(user, id, from, untold.map_or(upto, |_| ours.delivered.max(ours.read))).await?,
        };
        // What is further by now than this node has ever tried, another one has moved, and told of.
        turns.retain(|turn| there.status_of(turn.seq) <= ours.status_of(turn.seq));
        // Not before the write: of two members whose marks two nodes move at a time, one at least must see the other's.
        let others = if peer.is_some() { Vec::new() } else { self.reader.active_members(id).await? };
        let others: Vec<_> = others.into_iter().map(|member| self.as_told(id, member)).collect();
        let read = self.tell(user, id, &state, (told, new), &others, turns).await;
        self.untold.lock().remove(&key);
        self.marks.insert(key, new);
        Ok(read)
    }

    /// A member as the others know him: what is still to be told of him turns messages when it is told, once.
    fn as_told(&self, id: ConversationId, member: Member) -> Member {
        match self.untold.lock().get(&(member.user_id, id)) {
            Some(Untold { told, .. }) => {
                Member { delivered_seq: member.delivered_seq.min(told.delivered), read_seq: member.read_seq.min(told.read), ..member }
            }
            None => member,
        }
    }

    async fn marks_of(&self, user: UserId, id: ConversationId) -> Result<Marks> {
        // Another node may have moved them since: what was read there must not be delivered anew.
        if !self.bus.has_others()
            && let Some(marks) = self.marks.get(&(user, id))
        {
            return Ok(marks);
        }
        let member = self.log.member(id, user).await?;
        Ok(member.map_or(Marks::default(), |member| Marks { delivered: member.delivered_seq, read: member.read_seq }))
    }

    /// Messages of others in (`from`, `upto`], ascending; the newest if there are too many.
    async fn turns(&self, user: UserId, id: ConversationId, from: Seq, upto: Seq) -> Result<Vec<Turn>> {
        let limit = usize::try_from(upto - from).unwrap_or(0).min(MAX_TURNS);
        let rows = self.reader.before(id, upto + 1, limit).await?;
        let of_others = |row: &LogRow| row.seq > from && row.sender_id != user && row.body.is_counted();
        let turn = |row: LogRow| Turn { seq: row.seq, message_id: row.message_id, sender_id: row.sender_id };
        Ok(rows.into_iter().rev().filter(of_others).map(turn).collect())
    }

    async fn tell(
        &self,
        user: UserId,
        id: ConversationId,
        state: &ConversationState,
        (old, new): (Marks, Marks),
        others: &[Member],
        turns: Vec<Turn>,
    ) -> usize {
        let mut turned = Vec::new();
        for turn in turns {
            let others = || others.iter().filter(|member| member.user_id != user && concerns(member, turn.sender_id, turn.seq));
            let rest = others().map(|member| status_of(member.delivered_seq, member.read_seq, turn.seq)).min();
            let rest = rest.unwrap_or(MessageStatus::Read);
            let before = old.status_of(turn.seq).min(rest);
            let after = new.status_of(turn.seq).min(rest);
            if after > before {
                turned.push(Risen { turn, status: after, by: user });
            }
        }
        let read = turned.iter().filter(|turned| turned.status == MessageStatus::Read).count();
        self.tell_turned(id, turned).await;
        let audience: Arc<[UserId]> = state.active().iter().copied().filter(|member| *member != user).collect();
        let data = json!({"conversationId": id, "userId": user, "deliveredSeq": new.delivered, "readSeq": new.read});
        self.publish(audience, EventKind::Receipts, &data, None).await;
        read
    }

    /// Tells the senders of these messages, ascending, what has become of them: of the newest, if there are many.
    pub(super) async fn tell_turned(&self, id: ConversationId, mut turned: Vec<Risen>) {
        for Risen { turn, status, by } in turned.split_off(turned.len().saturating_sub(MAX_EVENTS)) {
            let kind = if status == MessageStatus::Read { EventKind::MessageRead } else { EventKind::MessageDelivered };
            let data = json!({"messageId": turn.message_id, "conversationId": id, "userId": by});
            self.publish(Arc::new([turn.sender_id]), kind, &data, Some(turn.message_id)).await;
        }
    }

    async fn publish(&self, audience: Arc<[UserId]>, kind: EventKind, data: &serde_json::Value, receipt_of: Option<MessageId>) {
        let Ok(event) = Event::new(kind, data) else { return };
        let envelope = Envelope::Loose(LooseEvent { audience, event, origin: Origin::default(), receipt_of });
        if let Err(error) = self.bus.publish(envelope).await {
            tracing::warn!(%error, "a receipt was not published");
        }
    }

    /// A message of a large conversation has reached a device: kept until [`Receipts::write_large`]. Nobody is told.
    pub fn deliver_large(&self, user: UserId, id: ConversationId, upto: Seq) {
        self.mark_large(user, id, Marks { delivered: upto, read: 0 });
    }

    /// Keeps the marks of a large conversation for a while, so that a busy group does not write one a message and member.
    fn mark_large(&self, user: UserId, id: ConversationId, wanted: Marks) {
        let mut large = self.large.lock();
        let marks = large.entry(id).or_default().entry(user).or_default();
        *marks = marks.max(wanted);
    }

    /// Writes the marks of large conversations now and then, until `stopping`, and a last time then.
    pub async fn write_large(self: Arc<Self>) {
        loop {
            let stopped = tokio::time::timeout(LARGE_INTERVAL, self.tasks.stopping().cancelled_owned()).await.is_ok();
            let large = std::mem::take(&mut *self.large.lock());
            for (id, marks) in large {
                let marks: Vec<_> = marks
                    .into_iter()
                    .map(|(user_id, marks)| MemberMark { user_id, delivered_seq: marks.delivered, read_seq: marks.read })
                    .collect();
                for marks in marks.chunks(MARKS_A_WRITE) {
                    if let Err(error) = self.log.mark_members(id, marks, self.clock.now()).await {
                        tracing::warn!(%error, "marks of a large conversation were not written; they are tried again");
                        for mark in marks {
                            self.mark_large(mark.user_id, id, Marks { delivered: mark.delivered_seq, read: mark.read_seq });
                        }
                    }
                }
            }
            if stopped {
                return;
            }
        }
    }

    /// The status of each row as `caller` sees it.
    pub(super) async fn statuses(
        &self,
        caller: UserId,
        state: &ConversationState,
        membership: &Membership,
        rows: &[LogRow],
    ) -> Result<Vec<MessageStatus>> {
        if state.is_large() {
            return Ok(vec![MessageStatus::Sent; rows.len()]);
        }
        if state.is_direct() {
            let status = |row: &LogRow| {
                if row.sender_id == caller {
                    status_of(membership.peer_delivered_seq, membership.peer_read_seq, row.seq)
                } else {
                    status_of(row.seq, membership.read_seq, row.seq)
                }
            };
            return Ok(rows.iter().map(status).collect());
        }
        let members = self.reader.active_members(state.id).await?;
        Ok(rows.iter().map(|row| status_for_all(&members, row)).collect())
    }

    /// Marks of one conversation are moved and told one after the other.
    pub(super) fn stripe(&self, id: ConversationId) -> &tokio::sync::Mutex<()> {
        &self.stripes[id.0.as_bytes()[15] as usize % STRIPES]
    }
}

/// Whether a message of `sender` at `seq` waits for this member.
pub(super) fn concerns(member: &Member, sender: UserId, seq: Seq) -> bool {
    member.user_id != sender && member.state == MemberState::Active && member.joined_seq <= seq
}

/// The status that a row has when all these members are counted: what its sender sees.
pub(super) fn status_for_all(members: &[Member], row: &LogRow) -> MessageStatus {
    let others = members.iter().filter(|member| concerns(member, row.sender_id, row.seq));
    others.map(|member| status_of(member.delivered_seq, member.read_seq, row.seq)).min().unwrap_or(MessageStatus::Sent)
}

/// How far a message is with somebody who has these marks.
pub(super) fn status_of(delivered: Seq, read: Seq, seq: Seq) -> MessageStatus {
    if read >= seq {
        MessageStatus::Read
    } else if delivered >= seq {
        MessageStatus::Delivered
    } else {
        MessageStatus::Sent
    }
}
