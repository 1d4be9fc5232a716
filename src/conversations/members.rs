//! Who belongs to a group: adding, removing, leaving, offices. Each change is one row of the log that carries the
//! SYSTEM message members see; who may is decided behind all rows before it, so that no two changes cross.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Conversations, MAX_MEMBERS, MAX_PARTICIPANT_IDS};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, ConversationState, MemberState, MembersChange, Proposal, Role};

/// Changes that lose against others before we say that the group is busy.
const ATTEMPTS: usize = 16;
/// People whom a SYSTEM message names; the others are counted.
const NAMED: usize = 3;

type Wanted = Vec<(UserId, MemberState, Role)>;

impl Conversations {
    /// Adds people to a group; those who are in it stay what they are. Returns how many were added.
    ///
    /// # Errors
    /// `NotFound`: no such group or user; `Forbidden`: the caller may not add, or is blocked by one of them;
    /// `Invalid`: too many people.
    pub async fn add_members(&self, caller: UserId, id: ConversationId, users: &[UserId], origin: Origin) -> Result<usize> {
        if users.is_empty() || users.len() > MAX_PARTICIPANT_IDS {
            return Err(Error::invalid("user_ids", format!("user_ids must name 1 to {MAX_PARTICIPANT_IDS} people")));
        }
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        let others: Vec<_> = users.iter().copied().filter(|user| *user != caller).collect();
        self.group(caller, id).await?;
        self.must_be_reachable(caller, &others).await?;
        let names = self.names(&[&[caller], others.as_slice()].concat()).await?;
        let name = |user: &UserId| names.get(user).cloned().unwrap_or_default();
        self.change_members(caller, id, origin, |state| {
            let role = state.member(caller)?.role;
            let open = state.record()?.profile.rules.allow_member_invites;
            if !(open || matches!(role, Role::Founder | Role::Recruiter | Role::Moderator)) {
                return Err(Error::forbidden("only the founder, moderators and recruiters may add members"));
            }
            let new: Vec<_> = others.iter().copied().filter(|user| state.member(*user).is_err()).collect();
            if state.active().len() + new.len() > MAX_MEMBERS {
                return Err(Error::invalid("user_ids", format!("a group can have {MAX_MEMBERS} members")));
            }
            let text = format!("{} added {}", name(&caller), listed(&new, name));
            Ok((new.into_iter().map(|user| (user, MemberState::Active, Role::Member)).collect(), text))
        })
        .await
    }

    /// Removes somebody from a group.
    ///
    /// # Errors
    /// `NotFound`: no such group, or he is no member; `Forbidden`: the caller may not remove, or it is the founder.
    pub async fn remove_member(&self, caller: UserId, id: ConversationId, user: UserId, origin: Origin) -> Result<()> {
        if user == caller {
            return self.leave(caller, id, origin).await;
        }
        self.group(caller, id).await?;
        let names = self.names(&[caller, user]).await?;
        let name = |user: &UserId| names.get(user).cloned().unwrap_or_default();
        self.change_members(caller, id, origin, |state| {
            if !matches!(state.member(caller)?.role, Role::Founder | Role::Moderator) {
                return Err(Error::forbidden("only the founder and moderators may remove members"));
            }
            let role = member_role(state, user)?;
            if role == Role::Founder {
                return Err(Error::forbidden("nobody removes the founder"));
            }
            Ok((vec![(user, MemberState::Removed, role)], format!("{} removed {}", name(&caller), name(&user))))
        })
        .await
        .map(drop)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// `NotFound`: no such group; `Forbidden`: no member, or the founder, who must give the group to another first.
    pub async fn leave(&self, caller: UserId, id: ConversationId, origin: Origin) -> Result<()> {
        self.group(caller, id).await?;
        let names = self.names(&[caller]).await?;
        let name = names.get(&caller).cloned().unwrap_or_default();
        self.change_members(caller, id, origin, |state| {
            let role = state.member(caller)?.role;
            if role == Role::Founder {
                return Err(Error::forbidden("the founder cannot leave: transfer the group first"));
            }
            Ok((vec![(caller, MemberState::Left, role)], format!("{name} left")))
        })
        .await
        .map(drop)
    }

    /// Gives a member another office. The founder's own is transferred, not given.
    ///
    /// # Errors
    /// `NotFound`: no such group, or he is no member; `Forbidden`: the caller is not the founder; `BadRequest`: FOUNDER.
    pub async fn change_role(&self, caller: UserId, id: ConversationId, user: UserId, role: Role, origin: Origin) -> Result<()> {
        if role == Role::Founder {
            return Err(Error::bad_request("a group has one founder: transfer it instead"));
        }
        self.group(caller, id).await?;
        let names = self.names(&[caller, user]).await?;
        let name = |user: &UserId| names.get(user).cloned().unwrap_or_default();
        self.change_members(caller, id, origin, |state| {
            if state.member(caller)?.role != Role::Founder {
                return Err(Error::forbidden("only the founder gives offices"));
            }
            let text = format!("{} made {} {}", name(&caller), name(&user), office(role));
            match member_role(state, user)? {
                Role::Founder => Err(Error::forbidden("the founder stays founder until the group is transferred")),
                old if old == role => Ok((Vec::new(), text)),
                _ => Ok((vec![(user, MemberState::Active, role)], text)),
            }
        })
        .await
        .map(drop)
    }

    async fn group(&self, caller: UserId, id: ConversationId) -> Result<()> {
        let state = self.parts.appender.state(id).await?;
        state.record()?;
        if state.is_direct() {
            return Err(Error::bad_request("this is a conversation of two people, not a group"));
        }
        state.member(caller).map(drop)
    }

    /// Appends what `wanted` says of the members as they are; asked again when others changed them meanwhile.
    /// Nothing is appended for an empty wish. Returns how many it changed.
    async fn change_members(
        &self,
        caller: UserId,
        conversation_id: ConversationId,
        origin: Origin,
        wanted: impl Fn(&ConversationState) -> Result<(Wanted, String)> + Send + std::marker::Sync,
    ) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let state = self.parts.appender.state(conversation_id).await?;
            let (members, text) = wanted(&state)?;
            let count = members.len();
            if count == 0 {
                self.parts.appender.redo(conversation_id).await?;
                return Ok(0);
            }
            let crossed = Arc::new(AtomicBool::new(false));
            let permit = {
                let (crossed, seen) = (Arc::clone(&crossed), state.members_seq);
                move |state: &ConversationState| {
                    if state.members_seq == seen {
                        return Ok(());
                    }
                    crossed.store(true, Ordering::Relaxed);
                    Err(busy())
                }
            };
            let proposal = Proposal {
                conversation_id,
                message_id: MessageId::fresh(),
                may_exist: false,
                sender_id: caller,
                body: Body::Members(MembersChange { members, text }),
                permit: Arc::new(permit),
                origin,
                posted: false,
            };
            match self.parts.appender.append(proposal).await {
                Ok(_) => return Ok(count),
                Err(_) if crossed.load(Ordering::Relaxed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(busy())
    }
}

fn busy() -> Error {
    Error::unavailable("the members of this group are being changed from many places at once, try again in a moment")
}

fn member_role(state: &ConversationState, user: UserId) -> Result<Role> {
    state.member(user).map(|member| member.role).map_err(|_| Error::not_found("this person is no member of the group"))
}

fn listed(users: &[UserId], name: impl Fn(&UserId) -> String) -> String {
    let named: Vec<_> = users.iter().take(NAMED).map(name).collect();
    match users.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        1 => format!("{} and one more", named.join(", ")),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What an office is called.
fn office(role: Role) -> &'static str {
    match role {
        Role::Founder => "founder",
        Role::Accountant => "accountant",
        Role::Moderator => "moderator",
        Role::Recruiter => "recruiter",
        Role::Support => "support",
        Role::Cheerleader => "cheerleader",
        Role::Member => "a member",
    }
}
