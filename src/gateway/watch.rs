//! Presence and typing: who is told that somebody came, went or types. Only people who share a conversation,
//! only as privacy and blocks allow, and nobody of a socket that was gone for under [`GRACE`]. Who hides or blocks while
//! he is online goes offline for those who took him for online.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Gateway as _;
use super::session::{Parts, Sessions};
use super::socket::{CloseReason, Outgoing, Socket};
use super::typing::TYPING_TTL;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Envelope, Event, EventKind, LooseEvent, Origin, RowEvent};
use crate::id::{ConversationId, UserId};
use crate::log::{ConversationKind, MemberState};
use crate::presence::Presence as _;

/// A user whose last socket went is online this long still: phones change networks.
pub const GRACE: Duration = Duration::from_secs(3);
/// Users whose coming or going is written down and told at a time.
pub(super) const WATCHING: usize = 64;
/// Logins that are looked at again at a time.
const CHECKS: usize = 16;
/// People whom one user's presence concerns at most.
const MAX_WATCHERS: usize = 500;
/// Conversations that are looked through for them at most, the latest first.
const MAX_WATCHED: usize = 500;

impl Sessions {
    /// A socket of a user has come.
    pub(super) fn came(&self, user: UserId) {
        let Parts { online, tasks, .. } = &self.shared.parts;
        self.shared.gone.lock().remove(&user);
        if !online.came(user) {
            // He has others, or is back within the grace: nobody was told that he went.
            return;
        }
        if online.is_elsewhere(user) {
            // The other node has told of him.
            self.shared.shown.lock().insert(user);
        }
        let sessions = self.clone();
        let seen = self.shared.parts.clock.now();
        tasks.spawn(async move {
            let _turn = sessions.shared.watching.wait().await;
            // Should this node die, nobody is left to write when he went.
            sessions.note_seen(user, seen).await;
            sessions.tell_presence(user, Vec::new()).await;
        });
    }

    /// A user's last socket has gone.
    pub(super) fn went(&self, user: UserId) {
        let sessions = self.clone();
        let Parts { tasks, .. } = &self.shared.parts;
        let stopping = tasks.stopping();
        let since = Instant::now();
        self.shared.gone.lock().insert(user, since);
        tasks.spawn(async move {
            let Parts { hub, online, clock, .. } = &sessions.shared.parts;
            let last_seen = clock.now();
            let _ = stopping.run_until_cancelled(tokio::time::sleep(GRACE)).await;
            // Who came and went again meanwhile has a grace of his own.
            {
                let mut gone = sessions.shared.gone.lock();
                if gone.get(&user) != Some(&since) {
                    return;
                }
                gone.remove(&user);
            }
            if hub.seats().has(user) {
                return;
            }
            if !online.left(user, || hub.seats().has(user)) {
                if !online.is_here(user) {
                    // From now on the other node tells of him.
                    sessions.shared.shown.lock().remove(&user);
                }
                return;
            }
            let _turn = sessions.shared.watching.wait().await;
            sessions.note_seen(user, last_seen).await;
            // A node that goes tells of nobody: its users are back before the grace is over, on another one or on itself.
            if !sessions.is_draining() && !stopping.is_cancelled() {
                sessions.tell_presence(user, Vec::new()).await;
            }
        });
    }

    async fn note_seen(&self, user: UserId, at: Timestamp) {
        if let Err(error) = self.shared.parts.users.mark_seen(user, at).await {
            tracing::warn!(%error, "when a user was last seen could not be written");
        }
    }

    /// Tells that a user is online, or no longer, as far as he lets others know; to those in `toward`, a block having been
    /// set or ended, as it is between them. One at a time for each user: what is told last is what is.
    async fn tell_presence(&self, user: UserId, toward: Vec<UserId>) {
        let Some(mut round) = self.shared.presence.ask(user, toward, |some, others| [some, others].concat()) else { return };
        let mut was_shown = false;
        while let Some(toward) = round.next() {
            was_shown |= self.is_shown(user);
            let told = async {
                self.tell_all(user).await?;
                if toward.is_empty() { Ok(()) } else { self.tell_some(user, &toward, was_shown).await }
            };
            if let Err(error) = told.await {
                tracing::warn!(%error, "how a user is could not be told");
            }
        }
    }

    fn state_of(&self, user: UserId) -> EventKind {
        if self.shared.parts.online.is_online(user) { EventKind::UserOnline } else { EventKind::UserOffline }
    }

    /// Whether others take him for online, for all that they were told.
    fn is_shown(&self, user: UserId) -> bool {
        self.shared.shown.lock().contains(&user)
    }

    /// Tells everybody who may know what has become of a user, if they take him for something else.
    async fn tell_all(&self, user: UserId) -> Result<()> {
        let state = self.state_of(user);
        // In the eyes of others who hides has gone; when he does go, they take him for gone already.
        let (kind, data) = self.presence_of(user, state).await?.map_or_else(|| unknown(user), |data| (state, data));
        let is_online = kind == EventKind::UserOnline;
        if is_online != self.is_shown(user) {
            let watchers = self.watchers(user, &[]).await?;
            self.publish(watchers.into(), kind, &data).await;
            let mut shown = self.shared.shown.lock();
            let _ = if is_online { shown.insert(user) } else { shown.remove(&user) };
        }
        Ok(())
    }

    /// Tells those with whom a block was set or ended how a user is for them now.
    async fn tell_some(&self, user: UserId, toward: &[UserId], was_shown: bool) -> Result<()> {
        let relations = self.shared.parts.settings.relations(user).await?;
        let mut concerned = self.watchers(user, toward).await?;
        concerned.retain(|other| toward.contains(other));
        let (blocked, others): (Vec<_>, Vec<_>) = concerned.into_iter().partition(|other| relations.is_blocked_either(*other));
        if was_shown && !blocked.is_empty() {
            let (kind, data) = unknown(user);
            self.publish(blocked.into(), kind, &data).await;
        }
        if self.is_shown(user) && !others.is_empty() {
            self.publish(others.into(), EventKind::UserOnline, &json!({"userId": user})).await;
        }
        Ok(())
    }

    /// What others may know of a user's state; none when he hides it.
    async fn presence_of(&self, user: UserId, kind: EventKind) -> Result<Option<Value>> {
        let Parts { settings, users, .. } = &self.shared.parts;
        let privacy = settings.privacy(user).await?;
        if !privacy.show_online_status {
            return Ok(None);
        }
        if kind == EventKind::UserOnline {
            return Ok(Some(json!({"userId": user})));
        }
        let last_seen = if privacy.show_last_seen { users.find(user).await?.map(|record| record.last_seen) } else { None };
        Ok(Some(json!({"userId": user, "lastSeen": last_seen})))
    }

    /// Who may know of a user's presence: those who share a conversation with him, no block between them; those of
    /// `toward` also with one.
    async fn watchers(&self, user: UserId, toward: &[UserId]) -> Result<Vec<UserId>> {
        let Parts { hub, settings, appender, .. } = &self.shared.parts;
        let relations = settings.relations(user).await?;
        let mut memberships = hub.memberships(user).await?;
        memberships.retain(|membership| membership.state == MemberState::Active && !membership.large);
        memberships.sort_by_key(|membership| std::cmp::Reverse(membership.head.at));
        let mut watchers: Vec<UserId> = Vec::new();
        for membership in memberships.into_iter().take(MAX_WATCHED) {
            let others = match (membership.kind, membership.peer_id) {
                (ConversationKind::Direct, Some(peer)) => vec![peer],
                _ => appender.state(membership.conversation_id).await?.active().to_vec(),
            };
            for other in others {
                let may_know = !relations.is_blocked_either(other) || toward.contains(&other);
                if other != user && may_know && !watchers.contains(&other) {
                    watchers.push(other);
                }
            }
            if watchers.len() >= MAX_WATCHERS {
                break;
            }
        }
        Ok(watchers)
    }

    /// Tells one socket how a person is now. Of whom it may not know he is offline, since nobody knows when: the app goes
    /// on showing the state of whoever was open before.
    pub(super) async fn tell_state_of(&self, person: UserId, socket: &Arc<Socket>) {
        let told = async {
            let mut found = self.state_for(person, socket.user_id).await?;
            loop {
                // Whatever changed meanwhile has been told of already: this would be the older news.
                let again = self.state_for(person, socket.user_id).await?;
                if again == found {
                    break;
                }
                found = again;
            }
            let (kind, data) = found;
            if let Ok(event) = Event::new(kind, &data) {
                socket.send(Outgoing::new(event, None));
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "a user's state could not be told");
        }
    }

    /// A person's state as `viewer` may know it.
    async fn state_for(&self, person: UserId, viewer: UserId) -> Result<(EventKind, Value)> {
        let kind = self.state_of(person);
        let is_blocked = self.shared.parts.settings.is_blocked_either(person, viewer).await?;
        let data = if is_blocked { None } else { self.presence_of(person, kind).await? };
        Ok(data.map_or_else(|| unknown(person), |data| (kind, data)))
    }

    /// A user types.
    pub(super) async fn start_typing(&self, user: UserId, id: ConversationId) -> Result<()> {
        let Parts { users, tasks, .. } = &self.shared.parts;
        let Some(others) = self.others(user, id).await? else { return Ok(()) };
        let started = self.shared.typing.start(id, user, Instant::now());
        self.shared.parts.shown_typing.set(id, user, true);
        // Before anything that may fail or be given up: nobody types for ever.
        if started.watch {
            let sessions = self.clone();
            let stopping = tasks.stopping();
            tasks.spawn(async move {
                let mut until = Instant::now() + TYPING_TTL;
                loop {
                    if stopping.run_until_cancelled(tokio::time::sleep_until(until)).await.is_none() {
                        return;
                    }
                    match sessions.shared.typing.expired(id, user, Instant::now()) {
                        Ok(later) => until = later,
                        Err(tell) => {
                            if tell {
                                sessions.tell_stopped(user, id).await;
                            }
                            return;
                        }
                    }
                }
            });
        }
        if started.tell {
            let name = users.card(user).await?.map(|card| card.name().to_owned());
            self.publish(others, EventKind::TypingStart, &json!({"conversationId": id, "userId": user, "userName": name})).await;
        }
        Ok(())
    }

    /// What the bus brings that concerns typing and presence. A message that was posted ends the typing of its sender; one
    /// that came by a socket did so there. Who hides, shows himself, blocks or unblocks is told of by whoever has his sockets.
    pub fn note(&self, envelope: &Envelope) {
        match envelope {
            Envelope::Row(RowEvent { conversation_id, posted: true, message: Some(message), .. }) => {
                if self.shared.typing.stop(*conversation_id, message.sender_id) {
                    let (sessions, id, user) = (self.clone(), *conversation_id, message.sender_id);
                    self.shared.parts.tasks.spawn(async move { sessions.tell_stopped(user, id).await });
                }
            }
            Envelope::Visibility { user_id, other: None } => self.look_anew(*user_id, None),
            Envelope::Visibility { user_id, other: Some(other) } => {
                self.look_anew(*user_id, Some(*other));
                self.look_anew(*other, Some(*user_id));
            }
            Envelope::Left { user_id, untold } => self.left_another(*user_id, *untold),
            Envelope::Orphans(users) => self.adopt(Arc::clone(users)),
            Envelope::Missed => self.check_logins(),
            Envelope::Row(_) | Envelope::Loose(_) | Envelope::Refresh { .. } | Envelope::Revoked { .. } => {}
        }
    }

    /// A user has left another node, and is on no other one. If he is here, telling of him is this node's business now.
    fn left_another(&self, user: UserId, untold: bool) {
        let online = &self.shared.parts.online;
        let is_gone = untold && online.was_handed_over(user) && !online.is_online(user);
        if online.is_here(user) || is_gone {
            self.take_over(user, is_gone.then(|| self.shared.parts.clock.now()));
        }
    }

    /// Another node has ended. Its users are back before the grace is over, here or elsewhere, or they have gone.
    fn adopt(&self, users: Arc<[UserId]>) {
        let sessions = self.clone();
        let Parts { tasks, clock, .. } = &self.shared.parts;
        let (stopping, gone_at) = (tasks.stopping(), clock.now());
        tasks.spawn(async move {
            if stopping.run_until_cancelled(tokio::time::sleep(GRACE)).await.is_none() {
                return;
            }
            for user in users.iter() {
                let online = &sessions.shared.parts.online;
                if online.is_here(*user) || !online.is_online(*user) {
                    sessions.take_over(*user, (!online.is_online(*user)).then_some(gone_at));
                }
            }
        });
    }

    /// Tells of a user of whom another node has told so far; `gone_at` when he has gone.
    fn take_over(&self, user: UserId, gone_at: Option<Timestamp>) {
        // For all that others were told he is online.
        self.shared.shown.lock().insert(user);
        let sessions = self.clone();
        self.shared.parts.tasks.spawn(async move {
            let _turn = sessions.shared.watching.wait().await;
            if let Some(gone_at) = gone_at {
                sessions.note_seen(user, gone_at).await;
            }
            sessions.tell_presence(user, Vec::new()).await;
        });
    }

    /// Revocations may have been missed: each socket's login is looked at again.
    fn check_logins(&self) {
        let sessions = self.clone();
        self.shared.parts.tasks.spawn(async move {
            let Parts { hub, auth, .. } = &sessions.shared.parts;
            let sockets = hub.seats().users().into_iter().flat_map(|user| hub.seats().of(user)).map(|seat| Arc::clone(&seat.socket));
            let check = async |socket: Arc<Socket>| {
                let checked = auth.recheck(socket.user_id, socket.session_id).await;
                if checked.is_err_and(|error| error.code == ErrorCode::Unauthenticated) {
                    socket.close(CloseReason::Revoked);
                }
            };
            futures_util::stream::iter(sockets).for_each_concurrent(CHECKS, check).await;
        });
    }

    /// Finds out anew how a user is in the eyes of others. Of one who is neither here nor taken for it there is no news:
    /// when he comes, his settings are read then.
    fn look_anew(&self, user: UserId, toward: Option<UserId>) {
        if self.is_shown(user) || self.shared.parts.online.is_here(user) {
            let sessions = self.clone();
            self.shared.parts.tasks.spawn(async move { sessions.tell_presence(user, toward.into_iter().collect()).await });
        }
    }

    /// A user no longer types, if he did.
    pub(super) async fn stop_typing(&self, user: UserId, id: ConversationId) {
        if self.shared.typing.stop(id, user) {
            self.tell_stopped(user, id).await;
        }
    }

    async fn tell_stopped(&self, user: UserId, id: ConversationId) {
        self.shared.parts.shown_typing.set(id, user, false);
        match self.others(user, id).await {
            Ok(Some(others)) => self.publish(others, EventKind::TypingStop, &json!({"conversationId": id, "userId": user})).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the end of typing was not told; clients end it by themselves"),
        }
    }

    /// The others in a conversation; none when a block forbids to tell them.
    async fn others(&self, user: UserId, id: ConversationId) -> Result<Option<Arc<[UserId]>>> {
        let state = self.participant(user, id).await?;
        if let Some(peer) = state.peer(user)
            && self.shared.parts.settings.is_blocked_either(user, peer).await?
        {
            return Ok(None);
        }
        Ok(Some(state.active().iter().copied().filter(|member| *member != user).collect()))
    }

    async fn publish(&self, audience: Arc<[UserId]>, kind: EventKind, data: &Value) {
        let Ok(event) = Event::new(kind, data) else { return };
        let envelope = Envelope::Loose(LooseEvent { audience, event, origin: Origin::default(), receipt_of: None });
        if let Err(error) = self.shared.parts.bus.publish(envelope).await {
            tracing::debug!(%error, "an ephemeral event was not published");
        }
    }
}

/// How somebody is of whom one may not know: nobody knows since when.
fn unknown(user: UserId) -> (EventKind, Value) {
    (EventKind::UserOffline, json!({"userId": user, "lastSeen": null}))
}
