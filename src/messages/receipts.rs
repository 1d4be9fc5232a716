//! Who has received and read what: marks per person, and the events of messages whose status they turn.
//! Marks are monotone, so any of this may happen twice. A DIRECT conversation's marks stand at the peer too;
//! in groups up to [`crate::log::LARGE_ABOVE`] a message turns when the last one has it; above, marks are only kept.
//! How marks are moved is `marking.rs`, what is done of it in the background `deferred.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use serde_json::json;

use super::MessageStatus;
use super::deferred::Deferred;
use super::marking::Untold;
use crate::bus::Bus;
use crate::clock::{SharedClock, Timestamp};
use crate::error::Result;
use crate::event::{Envelope, Event, EventKind, LooseEvent, Origin};
use crate::id::{ConversationId, IdMap, MessageId, Seq, UserId};
use crate::log::{Appender, ConversationState, LogReader, LogRow, LogStore, Member, MemberMark, MemberState, Membership, Turns};
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

    /// The furthest place of both.
    pub fn upto(self) -> Seq {
        self.delivered.max(self.read)
    }

    /// How far a message is with somebody who has these marks.
    pub fn status_of(self, seq: Seq) -> MessageStatus {
        status_of(self.delivered, self.read, seq)
    }
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
    pub(super) settings: Arc<Settings>,
    pub(super) bus: Arc<dyn Bus>,
    clock: SharedClock,
    pub(super) tasks: Tasks,
    pub(super) marks: Cache<(UserId, ConversationId), Marks>,
    own: Cache<(UserId, ConversationId), OwnRows>,
    pub(super) deferred: Mutex<Deferred>,
    pub(super) untold: Mutex<HashMap<(UserId, ConversationId), Untold>>,
    large: Mutex<IdMap<ConversationId, IdMap<UserId, Marks>>>,
    /// Marks of one conversation are moved and told one after the other.
    pub(super) in_turn: Turns,
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
            in_turn: Turns::default(),
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
    pub(super) fn are_own(&self, user: UserId, id: ConversationId, first: Seq, end: Seq) -> bool {
        end <= first || self.own.get(&(user, id)).is_some_and(|own| (first..end).all(|seq| own.0.contains(&seq)))
    }

    /// How far this is known to have reached his devices, and to have been told, if that is remembered.
    pub(super) fn known_delivered(&self, key: (UserId, ConversationId)) -> Option<Seq> {
        self.marks.get(&key).map(|marks| marks.delivered)
    }

    /// Tells the senders of these messages, ascending, what has become of them: of the newest, if there are many.
    pub(super) async fn tell_turned(&self, id: ConversationId, mut turned: Vec<Risen>) {
        for Risen { turn, status, by } in turned.split_off(turned.len().saturating_sub(MAX_EVENTS)) {
            let kind = if status == MessageStatus::Read { EventKind::MessageRead } else { EventKind::MessageDelivered };
            let data = json!({"messageId": turn.message_id, "conversationId": id, "userId": by});
            self.publish(Arc::new([turn.sender_id]), kind, &data, Some(turn.message_id)).await;
        }
    }

    pub(super) async fn publish(&self, audience: Arc<[UserId]>, kind: EventKind, data: &serde_json::Value, receipt_of: Option<MessageId>) {
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
    pub(super) fn mark_large(&self, user: UserId, id: ConversationId, wanted: Marks) {
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
                    .map(|(user_id, marks)| MemberMark { user_id, delivered_seq: marks.delivered, read_seq: marks.read, peer: None })
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
