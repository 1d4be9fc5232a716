//! The one wire object of a conversation and the one function that makes it for a caller.
//! Flags, unread count and cleared history are the caller's; people show what their privacy lets him see.

use std::collections::HashMap;
use std::sync::Arc;

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{ConversationKind, ConversationState, Member, MemberState, Membership, Role};
use crate::messages::Message;
use crate::users::Seen;

/// Somebody in a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Object)]
pub struct Participant {
    /// Who.
    pub id: UserId,
    /// What others call him.
    pub display_name: Option<String>,
    /// E.164.
    pub phone_number: Option<String>,
    /// His picture, if he shows it.
    pub avatar_url: Option<String>,
    /// Has a live socket, and shows it.
    pub is_online: bool,
    /// His office in a GROUP; MEMBER in a DIRECT conversation.
    pub role: Role,
}

/// A conversation as one member sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Conversation {
    /// Its id; the same two people have the same DIRECT one for ever.
    pub id: ConversationId,
    /// DIRECT or GROUP.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: ConversationKind,
    /// The group's name; the other person's in a DIRECT one.
    pub name: Option<String>,
    /// The group's picture; the other person's in a DIRECT one.
    pub avatar: Option<String>,
    /// The same again.
    pub avatar_url: Option<String>,
    /// The group's description.
    pub description: Option<String>,
    /// The first 8 in lists, the first 50 in the single view: by office, then by when they joined.
    pub participants: Vec<Participant>,
    /// All of them.
    pub participant_count: usize,
    /// The newest message that the caller sees.
    pub last_message: Option<Message>,
    /// When that was written.
    pub last_message_at: Option<Timestamp>,
    /// The last row of the log.
    pub last_seq: Seq,
    /// The caller has read up to here.
    pub read_seq: Seq,
    /// Messages of people that the caller has not read.
    pub unread_count: i64,
    /// Somebody else is typing.
    pub is_typing: bool,
    /// Who.
    pub typing_users: Vec<UserId>,
    /// Marked by the caller.
    pub is_favourite: bool,
    /// The caller wants no notifications.
    pub is_muted: bool,
    /// The caller keeps it apart from his list.
    pub is_archived: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something was last said in it.
    pub updated_at: Timestamp,
}

impl Example for Conversation {
    fn example() -> Self {
        let ada = Participant {
            id: UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10)),
            display_name: Some("Ada Lovelace".into()),
            phone_number: Some("+12025550123".into()),
            avatar_url: None,
            is_online: true,
            role: Role::Member,
        };
        Self {
            id: ConversationId(uuid::Uuid::from_u128(0x5d0f_2c11_9f7a_5b3e_8c44_2f6d_1a90_7b21)),
            kind: ConversationKind::Direct,
            name: ada.display_name.clone(),
            avatar: None,
            avatar_url: None,
            description: None,
            participant_count: 2,
            participants: vec![ada],
            last_message: None,
            last_message_at: None,
            last_seq: 1,
            read_seq: 0,
            unread_count: 0,
            is_typing: false,
            typing_users: Vec::new(),
            is_favourite: false,
            is_muted: false,
            is_archived: false,
            created_at: Timestamp(1_769_860_800_123),
            updated_at: Timestamp(1_769_860_800_123),
        }
    }
}

/// What a view is made of.
pub(super) struct Entry {
    pub state: Arc<ConversationState>,
    pub membership: Membership,
    pub last: Option<Message>,
    pub unread: i64,
}

/// The members that are shown: by office, then by when they joined.
pub(super) fn first_members(state: &ConversationState, limit: usize) -> Vec<Member> {
    let key = |member: &Member| (member.role, member.joined_seq, member.user_id);
    let mut members: Vec<_> = state.members.values().filter(|member| member.state == MemberState::Active).copied().collect();
    if members.len() > limit {
        members.select_nth_unstable_by_key(limit, key);
        members.truncate(limit);
    }
    members.sort_unstable_by_key(key);
    members
}

/// The conversation as its member sees it; `people` knows `members` and the peer as he sees them.
pub(super) fn conversation(entry: Entry, members: &[Member], people: &HashMap<UserId, Seen>, typing: Vec<UserId>) -> Conversation {
    let Entry { state, membership, last, unread } = entry;
    let record = state.record.as_deref();
    let profile = record.map(|record| &record.profile);
    let (name, avatar) = match membership.peer_id {
        Some(peer) => {
            let peer = people.get(&peer);
            (peer.map(|peer| peer.card.name().to_owned()), peer.and_then(|peer| peer.avatar_url.clone()))
        }
        None => (profile.and_then(|profile| profile.name.clone()), profile.and_then(|profile| profile.avatar_url.clone())),
    };
    let created_at = record.map_or(membership.head.at, |record| record.created_at);
    Conversation {
        id: membership.conversation_id,
        kind: membership.kind,
        name,
        avatar_url: avatar.clone(),
        avatar,
        description: profile.and_then(|profile| profile.description.clone()),
        participants: members.iter().map(|member| participant(member, people.get(&member.user_id))).collect(),
        participant_count: state.active().len(),
        last_message_at: last.as_ref().map(|message| message.created_at),
        last_message: last,
        last_seq: membership.head.seq,
        read_seq: membership.read_seq.max(membership.cleared_seq),
        unread_count: unread,
        is_typing: !typing.is_empty(),
        typing_users: typing,
        is_favourite: membership.favourite,
        is_muted: membership.muted,
        is_archived: membership.archived,
        created_at,
        updated_at: membership.head.at.max(created_at),
    }
}

fn participant(member: &Member, seen: Option<&Seen>) -> Participant {
    Participant {
        id: member.user_id,
        display_name: seen.and_then(|seen| seen.card.display_name().map(str::to_owned)),
        phone_number: seen.map(|seen| seen.card.phone().to_owned()),
        avatar_url: seen.and_then(|seen| seen.avatar_url.clone()),
        is_online: seen.is_some_and(|seen| seen.is_online),
        role: member.role,
    }
}
