//! Moving marks: of one person, or of several in one conversation together, and telling what that turns. A group whose
//! members get a message at once costs a node three statements instead of four a member.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;

use super::MessageStatus;
use super::receipts::{MAX_TURNS, Marks, Receipts, Risen, Turn, concerns, status_of};
use crate::error::Result;
use crate::event::EventKind;
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{ConversationState, LogRow, Member, MemberMark};
use crate::store::StoreResult;

/// What somebody's marks are to become, if they are not that far yet.
pub(super) struct Wanted {
    /// Whose.
    pub user: UserId,
    /// How far.
    pub marks: Marks,
    /// The messages on the way, if the caller knows them all.
    pub known: Option<Vec<Turn>>,
}

/// Marks that are being moved, or were perhaps: the store may have them, and not everybody was told.
#[derive(Clone, Copy)]
pub(super) struct Untold {
    /// Up to these everybody was.
    told: Marks,
    /// Up to these this node has tried.
    tried: Marks,
}

/// Somebody's marks on their way.
struct Moving {
    user: UserId,
    /// What others know.
    told: Marks,
    /// What this node wants, or has tried before.
    ours: Marks,
    /// What the store has.
    there: Marks,
    /// Up to here it is looked for what they turn.
    upto: Seq,
    /// They were tried before.
    again: bool,
    known: Option<Vec<Turn>>,
}

impl Moving {
    /// What the store is to have.
    fn aim(&self) -> Marks {
        self.ours.max(self.there)
    }
}

/// A member whose marks are not being moved now.
struct Other {
    member: Member,
    /// This node has still to tell of him.
    untold: Option<Untold>,
}

impl Other {
    /// How far a message is with him as everybody knows it: what is still to be told of him turns it when that is told, once.
    /// What is further than this node has ever tried, another one has moved and told of: nobody will tell it again.
    fn status_of(&self, seq: Seq) -> MessageStatus {
        let there = status_of(self.member.delivered_seq, self.member.read_seq, seq);
        match self.untold {
            Some(Untold { told, tried }) if there <= tried.status_of(seq) => there.min(told.status_of(seq)),
            _ => there,
        }
    }
}

impl Receipts {
    /// Moves marks and tells of the messages whose status that turns; returns how many turned READ. After an error that passes
    /// the same again tells what was not told. Of several people those are passed over whose marks are none any more.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: nobody of these is a member.
    pub(super) async fn mark(&self, id: ConversationId, wanted: Vec<Wanted>) -> Result<usize> {
        let users: Vec<UserId> = wanted.iter().map(|one| one.user).collect();
        let marked = self.try_mark(id, wanted).await;
        if marked.as_ref().is_err_and(|error| error.retry_after.is_none()) {
            // It would be no better the next time.
            self.forget_untold(id, &users);
        }
        marked
    }

    async fn try_mark(&self, id: ConversationId, wanted: Vec<Wanted>) -> Result<usize> {
        let upto = wanted.iter().map(|one| one.marks.upto()).max().unwrap_or(0);
        let state = self.state_upto(id, upto).await?;
        let (mut willing, mut refused) = (Vec::with_capacity(wanted.len()), None);
        for one in wanted {
            match self.allowed(&state, one.user, one.marks).await {
                Ok(Some(marks)) => willing.push(Wanted { marks, ..one }),
                Ok(None) => self.forget_untold(id, &[one.user]),
                Err(error) if error.retry_after.is_some() => return Err(error),
                Err(error) => {
                    self.forget_untold(id, &[one.user]);
                    refused.get_or_insert(error);
                }
            }
        }
        if let (true, Some(error)) = (willing.is_empty(), refused) {
            return Err(error);
        }
        if state.is_large() {
            for Wanted { user, marks, .. } in willing {
                self.mark_large(user, id, marks);
            }
            return Ok(0);
        }
        let _in_turn = self.in_turn.turn(id).await;
        let users: Vec<UserId> = willing.iter().map(|one| one.user).collect();
        let there = self.marks_of(id, &users).await?;
        let moving: Vec<Moving> = willing
            .into_iter()
            .filter_map(|one| {
                let there = there.get(&one.user).copied().unwrap_or_default();
                self.begin(id, one, there)
            })
            .collect();
        if moving.is_empty() {
            return Ok(0);
        }
        let mark = |one: &Moving| {
            let Marks { delivered, read } = one.aim();
            MemberMark { user_id: one.user, delivered_seq: delivered, read_seq: read, peer: state.peer(one.user) }
        };
        let marks: Vec<MemberMark> = moving.iter().map(mark).collect();
        self.log.mark_members(id, &marks, self.now()).await?;
        let mut turns: BTreeMap<Seq, (Turn, Vec<&Moving>)> = BTreeMap::new();
        for one in &moving {
            for turn in self.turns_of(&state, one).await? {
                turns.entry(turn.seq).or_insert_with(|| (turn, Vec::new())).1.push(one);
            }
        }
        // Not before the write: of two members whose marks two nodes move at a time, one at least must see the other's.
        let others = if state.is_direct() { Vec::new() } else { self.reader.active_members(id).await? };
        let others = self.others(id, others);
        let turned: Vec<Risen> = turns.into_values().filter_map(|(turn, movers)| risen(turn, &movers, &others)).collect();
        let read = turned.iter().filter(|turned| turned.status == MessageStatus::Read).count();
        self.tell_turned(id, turned).await;
        for one in &moving {
            let audience: Arc<[UserId]> = state.active().iter().copied().filter(|member| *member != one.user).collect();
            let data = json!({"conversationId": id, "userId": one.user, "deliveredSeq": one.aim().delivered, "readSeq": one.aim().read});
            self.publish(audience, EventKind::Receipts, &data, None).await;
            self.untold.lock().remove(&(one.user, id));
            self.marks.insert((one.user, id), one.aim());
        }
        Ok(read)
    }

    /// The conversation as it was at this row, or later: who is in it now, and who was when he got that.
    async fn state_upto(&self, id: ConversationId, upto: Seq) -> StoreResult<Arc<ConversationState>> {
        let known = self.appender.known(id).await?;
        if known.head.seq >= upto { Ok(known) } else { self.appender.state(id).await }
    }

    /// How far he may say that he is; none where a block keeps it from being said.
    async fn allowed(&self, state: &ConversationState, user: UserId, wanted: Marks) -> Result<Option<Marks>> {
        state.member(user)?;
        let shows = wanted.read == 0 || self.settings.privacy(user).await?.show_read_receipts;
        if let Some(peer) = state.peer(user)
            && self.settings.is_blocked_either(user, peer).await?
        {
            return Ok(None);
        }
        Ok(Some(Marks { delivered: wanted.upto(), read: if shows { wanted.read } else { 0 } }))
    }

    /// Notes that these are to be told, if they are news.
    fn begin(&self, id: ConversationId, Wanted { user, marks, known }: Wanted, there: Marks) -> Option<Moving> {
        let mut untold = self.untold.lock();
        let before = untold.get(&(user, id)).copied();
        let Untold { told, tried } = before.unwrap_or(Untold { told: there, tried: there });
        let ours = tried.max(marks);
        if before.is_none() && ours.max(there) == there {
            return None;
        }
        // Once the store has the marks, nothing but this says that they are still to be told: they may be there after an error too.
        untold.insert((user, id), Untold { told, tried: ours });
        let upto = if before.is_some() { ours.upto() } else { marks.upto() };
        Some(Moving { user, told, ours, there, upto, again: before.is_some(), known })
    }

    fn forget_untold(&self, id: ConversationId, users: &[UserId]) {
        let mut untold = self.untold.lock();
        for user in users {
            untold.remove(&(*user, id));
        }
    }

    fn others(&self, id: ConversationId, members: Vec<Member>) -> Vec<Other> {
        let untold = self.untold.lock();
        members.into_iter().map(|member| Other { untold: untold.get(&(member.user_id, id)).copied(), member }).collect()
    }

    async fn marks_of(&self, id: ConversationId, users: &[UserId]) -> StoreResult<HashMap<UserId, Marks>> {
        // Another node may have moved them since: what was read there must not be delivered anew.
        if !self.bus.has_others()
            && let Some(marks) = users.iter().map(|user| Some((*user, self.marks.get(&(*user, id))?))).collect()
        {
            return Ok(marks);
        }
        let members = match users {
            [user] => self.log.member(id, *user).await?.into_iter().collect(),
            _ => self.reader.active_members(id).await?,
        };
        Ok(members.into_iter().map(|member| (member.user_id, Marks { delivered: member.delivered_seq, read: member.read_seq })).collect())
    }

    /// The messages that his marks pass over.
    async fn turns_of(&self, state: &ConversationState, one: &Moving) -> Result<Vec<Turn>> {
        let (id, user, Moving { told, ours, there, .. }) = (state.id, one.user, one);
        let from = if one.aim().read > told.read { told.read.min(told.delivered) } else { told.delivered };
        // What was written while he was no member does not wait for him.
        let from = from.max(state.member(user)?.joined_seq - 1);
        let mut turns = match &one.known {
            // Only if nothing of others can lie between the last mark and them: what came while nobody was connected turns too.
            Some(turns)
                if !one.again && turns.iter().map(|turn| turn.seq).min().is_some_and(|first| self.are_own(user, id, from + 1, first)) =>
            {
                turns.iter().filter(|turn| turn.seq > from && turn.sender_id != user).copied().collect()
            }
            _ => self.turns(user, id, from, one.upto).await?,
        };
        // What is further by now than this node has ever tried, another one has moved, and told of.
        turns.retain(|turn| there.status_of(turn.seq) <= ours.status_of(turn.seq));
        Ok(turns)
    }

    /// Messages of others in (`from`, `upto`], ascending; the newest if there are too many.
    async fn turns(&self, user: UserId, id: ConversationId, from: Seq, upto: Seq) -> Result<Vec<Turn>> {
        let limit = usize::try_from(upto - from).unwrap_or(0).min(MAX_TURNS);
        let rows = self.reader.before(id, upto + 1, limit).await?;
        let of_others = |row: &LogRow| row.seq > from && row.sender_id != user && row.body.is_counted();
        let turn = |row: LogRow| Turn { seq: row.seq, message_id: row.message_id, sender_id: row.sender_id };
        Ok(rows.into_iter().rev().filter(of_others).map(turn).collect())
    }
}

/// What becomes of a message when these have it, whose others are at what they were told to be at.
fn risen(turn: Turn, movers: &[&Moving], others: &[Other]) -> Option<Risen> {
    let is_mover = |user: UserId| movers.iter().any(|one| one.user == user);
    let rest = others.iter().filter(|Other { member, .. }| !is_mover(member.user_id) && concerns(member, turn.sender_id, turn.seq));
    let rest = rest.map(|other| other.status_of(turn.seq)).min().unwrap_or(MessageStatus::Read);
    let of_all =
        |marks: fn(&Moving) -> Marks| movers.iter().map(|one| marks(one).status_of(turn.seq)).min().map_or(rest, |least| least.min(rest));
    let (before, after) = (of_all(|one| one.told), of_all(Moving::aim));
    let by = movers.iter().rfind(|one| one.aim().status_of(turn.seq) > one.told.status_of(turn.seq))?.user;
    (after > before).then_some(Risen { turn, status: after, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::id::MessageId;
    use crate::log::{MemberState, Role};

    const NOTHING: Marks = Marks { delivered: 0, read: 0 };

    fn has(delivered: Seq) -> Marks {
        Marks { delivered, read: 0 }
    }

    /// Somebody of whom this node has still to tell what it tried, and how far the store says that he is.
    fn other(there: Marks, told: Marks, tried: Marks) -> Other {
        let at = Timestamp(0);
        let member = Member {
            user_id: UserId::fresh(),
            state: MemberState::Active,
            role: Role::Member,
            change_seq: 1,
            joined_seq: 1,
            joined_at: at,
            delivered_seq: there.delivered,
            delivered_at: at,
            read_seq: there.read,
            read_at: at,
        };
        Other { member, untold: Some(Untold { told, tried }) }
    }

    fn moving(to: Marks) -> Moving {
        Moving { user: UserId::fresh(), told: NOTHING, ours: to, there: NOTHING, upto: to.upto(), again: false, known: None }
    }

    /// What the messages 1 to 7 become when somebody has all of them.
    fn turned_by_the_last(other: Other) -> Vec<(Seq, MessageStatus)> {
        let (last, others, sender_id) = (moving(has(7)), [other], UserId::fresh());
        let turn = |seq| Turn { seq, message_id: MessageId::fresh(), sender_id };
        let risen = (1..=7).filter_map(|seq| risen(turn(seq), &[&last], &others));
        risen.map(|risen| (risen.turn.seq, risen.status)).collect()
    }

    #[test]
    fn what_another_node_has_told_of_a_member_is_not_told_by_his_retry() {
        use MessageStatus::Delivered;
        assert_eq!(turned_by_the_last(other(has(7), NOTHING, has(5))), [(6, Delivered), (7, Delivered)]);
        // This node's own attempt is all there is: his retry tells of it.
        assert_eq!(turned_by_the_last(other(has(5), NOTHING, has(5))), []);
        assert_eq!(turned_by_the_last(other(has(5), has(3), has(5))), [(1, Delivered), (2, Delivered), (3, Delivered)]);
        // Read there: the retry of a delivery passes it over.
        let all: Vec<_> = (1..=7).map(|seq| (seq, Delivered)).collect();
        assert_eq!(turned_by_the_last(other(Marks { delivered: 7, read: 7 }, NOTHING, has(5))), all);
    }
}
