//! A conversation as its log makes it: the projection that permissions, audiences and heads are taken from.
//! A stale one is safe: the appender learns of every later row before it may append behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Body, Cleared, ConversationKind, ConversationRecord, Head, LARGE_ABOVE, LogRow, Member, MemberState, Members, Role};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::Step;
use crate::id::{ConversationId, Seq, UserId};

/// What one row changed beside the head.
#[derive(Debug, Default)]
pub(super) struct Projection {
    /// Members whose state or role changed, as they are now.
    pub members: Vec<Member>,
    /// What the joiners among them do not see.
    pub cleared: Cleared,
    /// Name, rules or size changed.
    pub record: bool,
    /// To whom the conversation is new.
    pub introduces: Vec<UserId>,
}

/// A conversation at one place of its log.
#[derive(Clone, Debug)]
pub struct ConversationState {
    /// Which.
    pub id: ConversationId,
    /// Absent before row 1. Its own `head` is that of the store; [`ConversationState::head`] goes further.
    pub record: Option<Arc<ConversationRecord>>,
    /// The last row that this state includes.
    pub head: Head,
    /// When that row was written.
    pub last_at: Timestamp,
    /// Everybody who ever was a member.
    pub members: Members,
    /// The last row that changed them.
    pub members_seq: Seq,
    active: Arc<[UserId]>,
}

impl ConversationState {
    /// The state that the store's projections tell of; `last_at` is the last row's time.
    pub(super) fn projected(id: ConversationId, record: Option<ConversationRecord>, members: Vec<Member>, last_at: Timestamp) -> Self {
        let head = record.as_ref().map(|record| record.head).unwrap_or_default();
        let members: BTreeMap<_, _> = members.into_iter().map(|member| (member.user_id, member)).collect();
        let members_seq = members.values().map(|member| member.change_seq).max().unwrap_or(0);
        let active = active(&members);
        Self { id, record: record.map(Arc::new), head, last_at, members: Arc::new(members), members_seq, active }
    }

    /// Takes in the next row.
    pub(super) fn apply(&mut self, row: &LogRow) -> Projection {
        let before = self.head;
        let mut projection = Projection {
            // The row that lets somebody in is the first that he sees.
            cleared: Cleared { seq: row.seq - 1, n: before.n, total: before.total },
            ..Projection::default()
        };
        match &row.body {
            Body::Created(creation) => {
                self.record = Some(Arc::new(ConversationRecord {
                    kind: creation.kind,
                    created_by: row.sender_id,
                    created_at: row.created_at,
                    profile: creation.profile.clone(),
                    large: creation.members.len() > LARGE_ABOVE,
                    head: Head::default(),
                    indexed_seq: 0,
                }));
                projection.record = true;
                let members = creation.members.iter().map(|(user, role)| (*user, MemberState::Active, *role));
                self.change_members(row, members, &mut projection);
            }
            Body::Members(change) => self.change_members(row, change.members.iter().copied(), &mut projection),
            Body::Profile(change) => {
                if let Some(record) = &mut self.record {
                    Arc::make_mut(record).profile = change.profile.clone();
                    projection.record = true;
                }
            }
            Body::Message(_) | Body::Edited | Body::Deleted | Body::Unreadable => {}
        }
        self.head = before.after(row);
        self.last_at = self.last_at.max(row.created_at);
        projection
    }

    /// The state after the next row, a message.
    pub(super) fn moved(&self, seq: Seq, Step { n, total, at }: Step) -> Self {
        let head = Head { seq, n, total, message_seq: seq, at: self.head.at.max(at) };
        Self { head, last_at: self.last_at.max(at), ..self.clone() }
    }

    fn change_members(&mut self, row: &LogRow, changes: impl Iterator<Item = (UserId, MemberState, Role)>, projection: &mut Projection) {
        let members = Arc::make_mut(&mut self.members);
        for (user_id, state, role) in changes {
            let before = members.get(&user_id).copied();
            // A stale projection is read together with later rows: what it already holds is left as it is.
            if before.is_some_and(|member| member.change_seq > row.seq) {
                continue;
            }
            let joins = state == MemberState::Active
                && before.is_none_or(|member| member.state != MemberState::Active || member.joined_seq == row.seq);
            let seen = if joins { row.seq - 1 } else { 0 };
            let member = Member {
                user_id,
                state,
                role,
                change_seq: row.seq,
                joined_seq: if joins { row.seq } else { before.map_or(row.seq, |member| member.joined_seq) },
                joined_at: if joins { row.created_at } else { before.map_or(row.created_at, |member| member.joined_at) },
                delivered_seq: before.map_or(0, |member| member.delivered_seq).max(seen),
                delivered_at: before.map_or(Timestamp(0), |member| member.delivered_at),
                read_seq: before.map_or(0, |member| member.read_seq).max(seen),
                read_at: before.map_or(Timestamp(0), |member| member.read_at),
            };
            members.insert(user_id, member);
            projection.members.push(member);
            if joins {
                projection.introduces.push(user_id);
            }
        }
        self.members_seq = self.members_seq.max(row.seq);
        self.active = active(&self.members);
        // A node that learns of the growth from the log must know it too: what it projects says so to the joiners.
        if self.active.len() > LARGE_ABOVE
            && let Some(record) = &mut self.record
            && !record.large
        {
            Arc::make_mut(record).large = true;
        }
    }

    /// DIRECT or GROUP; an error when there is no such conversation.
    pub fn record(&self) -> Result<&ConversationRecord> {
        self.record.as_deref().ok_or_else(|| Error::not_found("there is no such conversation"))
    }

    /// Whether heads are read on demand and status stays SENT.
    pub fn is_large(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.large)
    }

    /// Whether it is between two people.
    pub fn is_direct(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.kind == ConversationKind::Direct)
    }

    /// The members of now.
    pub fn active(&self) -> &Arc<[UserId]> {
        &self.active
    }

    /// Somebody as an active member; 404 when there is no such conversation, 403 when it is not his.
    pub fn member(&self, user: UserId) -> Result<&Member> {
        self.record()?;
        let member = self.members.get(&user).filter(|member| member.state == MemberState::Active);
        member.ok_or_else(|| Error::forbidden("you are not a participant of this conversation"))
    }

    /// The other person of a DIRECT conversation.
    pub fn peer(&self, user: UserId) -> Option<UserId> {
        if self.is_direct() { self.members.keys().copied().find(|member| *member != user) } else { None }
    }

    /// Who may know of a row: its members of then, and whom it let in or put out. An edit or deletion is for those
    /// who could see its target.
    pub fn audience_of(&self, row: &LogRow) -> Arc<[UserId]> {
        let (seq, seen_from) = (row.seq, row.target_seq.unwrap_or(row.seq));
        if seen_from > self.members_seq {
            return Arc::clone(&self.active);
        }
        let knew = |member: &&Member| member.joined_seq <= seen_from && (member.state == MemberState::Active || member.change_seq >= seq);
        self.members.values().filter(knew).map(|member| member.user_id).collect()
    }
}

fn active(members: &BTreeMap<UserId, Member>) -> Arc<[UserId]> {
    members.values().filter(|member| member.state == MemberState::Active).map(|member| member.user_id).collect()
}
