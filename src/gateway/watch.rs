//! Presence and typing: who is told that somebody came, went or types. Only people who share a conversation,
//! only as privacy and blocks allow, and nobody of a socket that was gone for under [`GRACE`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Gateway as _;
use super::session::{Parts, Sessions};
use super::socket::{Outgoing, Socket};
use super::typing::TYPING_TTL;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Envelope, Event, EventKind, LooseEvent, Origin, RowEvent};
use crate::id::{ConversationId, UserId};
use crate::log::{ConversationKind, MemberState};
use crate::presence::Presence as _;

/// A user whose last socket went is online this long still: phones change networks.
pub const GRACE: Duration = Duration::from_secs(3);
/// People whom one user's presence concerns at most.
const MAX_WATCHERS: usize = 500;
/// Conversations that are looked through for them at most, the latest first.
const MAX_WATCHED: usize = 500;

impl Sessions {
    /// A socket of a user has come.
    pub(super) fn came(&self, user: UserId) {
        let Parts { online, tasks, .. } = &self.shared.parts;
        self.shared.gone.lock().remove(&user);
        if !online.set(user, true) {
            // He has others, or is back within the grace: nobody was told that he went.
            return;
        }
        let sessions = self.clone();
        tasks.spawn(async move {
            // Should this node die, nobody is left to write when he went.
            sessions.note_seen(user, sessions.shared.parts.clock.now()).await;
            sessions.tell_presence(user).await;
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
            if hub.seats().has(user) || !online.set(user, false) {
                return;
            }
            if hub.seats().has(user) {
                online.set(user, true);
                return;
            }
            sessions.note_seen(user, last_seen).await;
            // A node that goes tells of nobody: its users are back before the grace is over, on another one or on itself.
            if !sessions.is_draining() && !stopping.is_cancelled() {
                sessions.tell_presence(user).await;
            }
        });
    }

    async fn note_seen(&self, user: UserId, at: Timestamp) {
        if let Err(error) = self.shared.parts.users.mark_seen(user, at).await {
            tracing::warn!(%error, "when a user was last seen could not be written");
        }
    }

    /// Tells that a user has come or gone, whichever is so now. One at a time for each user: what is told last is what is.
    async fn tell_presence(&self, user: UserId) {
        let Some(mut round) = self.shared.presence.ask(user, (), |(), ()| ()) else { return };
        let mut told = None;
        while round.next().is_some() {
            let kind = self.state_of(user);
            if told != Some(kind) {
                match self.tell_watchers(user, kind).await {
                    Ok(()) => told = Some(kind),
                    Err(error) => tracing::warn!(%error, "a user's coming or going could not be told"),
                }
            }
        }
    }

    fn state_of(&self, user: UserId) -> EventKind {
        if self.shared.parts.online.is_online(user) { EventKind::UserOnline } else { EventKind::UserOffline }
    }

    async fn tell_watchers(&self, user: UserId, kind: EventKind) -> Result<()> {
        let watchers = self.watchers(user).await?;
        let data = self.presence_of(user, kind).await?;
        if let (Some(data), false) = (data, watchers.is_empty()) {
            self.publish(watchers.into(), kind, &data).await;
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

    /// Who may know of a user's presence: those who share a conversation with him, no block between them.
    async fn watchers(&self, user: UserId) -> Result<Vec<UserId>> {
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
                if other != user && !relations.is_blocked_either(other) && !watchers.contains(&other) {
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
            loop {
                let kind = self.state_of(person);
                let is_blocked = self.shared.parts.settings.is_blocked_either(person, socket.user_id).await?;
                let data = if is_blocked { None } else { self.presence_of(person, kind).await? };
                // Who came or went meanwhile has been told of already: this would be the older news.
                if self.state_of(person) != kind {
                    continue;
                }
                let (kind, data) = match data {
                    Some(data) => (kind, data),
                    None => (EventKind::UserOffline, json!({"userId": person, "lastSeen": null})),
                };
                if let Ok(event) = Event::new(kind, &data) {
                    socket.send(Outgoing::new(event, None));
                }
                return Ok::<(), Error>(());
            }
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "a user's state could not be told");
        }
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

    /// A message that was posted ends the typing of its sender; one that came by a socket did so there.
    pub fn note(&self, envelope: &Envelope) {
        if let Envelope::Row(RowEvent { conversation_id, posted: true, message: Some(message), .. }) = envelope
            && self.shared.typing.stop(*conversation_id, message.sender_id)
        {
            let (sessions, id, user) = (self.clone(), *conversation_id, message.sender_id);
            self.shared.parts.tasks.spawn(async move { sessions.tell_stopped(user, id).await });
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
