//! Making conversations. The DIRECT one of two people has an id that both compute, and row 1 decides who made it:
//! two who make it at the same moment, on whatever nodes, get the same one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Conversation, Conversations, CreateConversation, MAX_PARTICIPANT_IDS, group_name, group_picture};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, ConversationKind, Creation, Profile, Proposal, Role};

impl Conversations {
    /// Makes a conversation; the DIRECT one that is there already is answered with.
    ///
    /// # Errors
    /// `Invalid`: too many or too few people, no name; `BadRequest`: a DIRECT one with oneself; `NotFound`: nobody has such
    /// an id; `Forbidden`: a block stands between the caller and one of them, and it is not there yet.
    pub async fn create(&self, caller: UserId, command: CreateConversation, origin: Origin) -> Result<Conversation> {
        let CreateConversation { kind, participant_ids, name, avatar_url } = command;
        if participant_ids.len() > MAX_PARTICIPANT_IDS {
            return Err(Error::invalid("participant_ids", format!("participant_ids can name {MAX_PARTICIPANT_IDS} people")));
        }
        let mut others: BTreeSet<UserId> = participant_ids.iter().copied().collect();
        let names_himself = others.remove(&caller);
        match kind {
            ConversationKind::Direct => {
                let peer = match (others.first(), others.len(), names_himself) {
                    (Some(peer), 1, _) => *peer,
                    (None, _, true) => return Err(Error::bad_request("you cannot have a conversation with yourself")),
                    _ => return Err(Error::invalid("participant_ids", "a DIRECT conversation takes exactly one other person")),
                };
                self.create_direct(caller, peer, origin).await
            }
            ConversationKind::Group => {
                let name = group_name(name.as_deref())?;
                let profile = Profile { name: Some(name), avatar_url: group_picture(avatar_url), ..Profile::default() };
                self.create_group(caller, others, profile, origin).await
            }
        }
    }

    async fn create_direct(&self, caller: UserId, peer: UserId, origin: Origin) -> Result<Conversation> {
        let id = ConversationId::direct(caller, peer);
        let state = self.parts.appender.state(id).await?;
        if state.record.is_none() {
            self.must_be_reachable(caller, &[peer]).await?;
            let (low, high) = if caller <= peer { (caller, peer) } else { (peer, caller) };
            let members = vec![(low, Role::Member), (high, Role::Member)];
            let creation = Creation { kind: ConversationKind::Direct, profile: Profile::default(), members };
            // Derived from the conversation alone: whoever tries, and tries again, means the same row.
            let message_id = MessageId::derived(UserId(id.0), id, "created");
            self.begin(caller, id, message_id, true, creation, origin).await?;
        } else if state.head.seq == 1 {
            // Nobody has written there yet: its maker may not have lived to tell of it.
            self.parts.appender.redo(id).await?;
        }
        self.view_for(caller, id).await
    }

    async fn create_group(&self, caller: UserId, others: BTreeSet<UserId>, profile: Profile, origin: Origin) -> Result<Conversation> {
        let others: Vec<_> = others.into_iter().collect();
        self.must_be_reachable(caller, &others).await?;
        let id = ConversationId::fresh();
        let members = std::iter::once((caller, Role::Founder)).chain(others.into_iter().map(|user| (user, Role::Member))).collect();
        let creation = Creation { kind: ConversationKind::Group, profile, members };
        self.begin(caller, id, MessageId::fresh(), false, creation, origin).await?;
        self.view_for(caller, id).await
    }

    async fn begin(
        &self,
        caller: UserId,
        conversation_id: ConversationId,
        message_id: MessageId,
        may_exist: bool,
        creation: Creation,
        origin: Origin,
    ) -> Result<()> {
        let proposal = Proposal {
            conversation_id,
            message_id,
            may_exist,
            sender_id: caller,
            body: Body::Created(creation),
            permit: Arc::new(|_| Ok(())),
            origin,
            posted: false,
        };
        self.parts.appender.append(proposal).await.map(drop)
    }

    /// All of these people exist, and no block stands between any of them and the caller.
    pub(super) async fn must_be_reachable(&self, caller: UserId, others: &[UserId]) -> Result<()> {
        let cards = self.parts.users.cards(others).await?;
        if others.iter().any(|user| !cards.contains_key(user)) {
            return Err(Error::not_found(if others.len() == 1 { "there is no such user" } else { "one of these users does not exist" }));
        }
        let relations = self.parts.settings.relations(caller).await?;
        if others.iter().any(|user| relations.is_blocked_either(*user)) {
            return Err(Error::forbidden("you cannot start a conversation with somebody whom you blocked or who blocked you"));
        }
        Ok(())
    }
}
