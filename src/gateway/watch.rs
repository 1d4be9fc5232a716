//! Presence and typing: who is told that somebody came, went or types. Only people who share a conversation,
//! only as privacy and blocks allow, and nobody of a socket that was gone for under [`GRACE`]. Who hides or blocks while
//! he is online goes offline for those who took him for online.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Gateway as _;
use super::heard::{FIRST_PAUSE, LAST_PAUSE};
use super::session::{Parts, Sessions};
use super::socket::{Outgoing, Socket};
use super::typing::TYPING_TTL;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Envelope, Event, EventKind, LooseEvent, Origin, Typist};
use crate::id::{ConversationId, UserId};
use crate::log::{ConversationKind, MemberState, unless_spoilt};
use crate::presence::Presence as _;

/// A user whose last socket went is online this long still: phones change networks.
pub const GRACE: Duration = Duration::from_secs(3);
/// Users whose coming or going is written down and told at a time.
pub(super) const WATCHING: usize = 64;
/// People whom one user's presence concerns at most.
const MAX_WATCHERS: usize = 500;
/// Conversations that are looked through for them at most, the latest first.
const MAX_WATCHED: usize = 500;

/// What is to be found out of a user's presence, and told.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Those toward whom a block was set or ended: how he is for them.
    pub toward: Vec<UserId>,
    /// Another node has told of him: that he is online, or that he is not.
    pub told: Option<bool>,
    /// When he came, or went: it is to be written down.
    pub seen: Option<Timestamp>,
}

impl Look {
    fn and(self, later: Self) -> Self {
        Self { toward: [self.toward, later.toward].concat(), told: later.told.or(self.told), seen: self.seen.max(later.seen) }
    }
}

impl Sessions {
    /// A socket of a user has come.
    pub(super) fn came(&self, user: UserId) {
        let Parts { online, clock, .. } = &self.shared.parts;
        self.shared.gone.lock().remove(&user);
        if !online.came(user) {
            // He has others, or is back within the grace: nobody was told that he went.
            return;
        }
        // If he is on another node too, that one has told of him; unless it has ended, which others have found out before this one.
        let is_told = online.is_elsewhere(user) && !self.shared.orphans.was_told_gone(user);
        let told = is_told.then_some(true);
        // Should this node die, nobody is left to write when he went.
        self.look_at(user, Look { toward: Vec::new(), told, seen: Some(clock.now()) });
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
            // A node that goes tells of nobody: its users are back before the grace is over, on another one or on itself. Those who
            // are not, the other nodes see to; until it has said goodbye they take them for still here.
            if sessions.is_draining() || stopping.is_cancelled() {
                if let Err(error) = sessions.shared.parts.users.mark_seen(user, last_seen).await {
                    tracing::warn!(%error, "when a user was last seen could not be written");
                }
                return;
            }
            if !online.left(user, || hub.seats().has(user)) {
                if !online.is_here(user) {
                    // From now on the other node tells of him.
                    sessions.shared.shown.lock().remove(&user);
                }
                return;
            }
            sessions.tell_presence(user, Look { seen: Some(last_seen), ..Look::default() }).await;
        });
    }

    /// The same as [`Sessions::tell_presence`], in the background.
    pub(super) fn look_at(&self, user: UserId, look: Look) {
        let sessions = self.clone();
        self.shared.parts.tasks.spawn(async move { sessions.tell_presence(user, look).await });
    }

    /// Writes down when a user was seen, and tells that he is online, or no longer, as far as he lets others know. One at a time
    /// for each user: what is told last is what is. What the store keeps from being done is done when it is back.
    async fn tell_presence(&self, user: UserId, look: Look) {
        let Some(mut round) = self.shared.presence.ask(user, look, Look::and) else { return };
        let stopping = self.shared.parts.tasks.stopping();
        let (mut was_shown, mut pause) = (false, FIRST_PAUSE);
        while let Some(mut look) = round.next() {
            // Who hides or blocks does not wait for all those who come and go, unless he is tried again like them.
            let waits = look.seen.is_some() || look.told.is_some() || pause > FIRST_PAUSE;
            let turn = if waits { self.shared.watching.wait().await } else { None };
            let found_out = self.find_out(user, &mut look, &mut was_shown).await;
            // While this one pauses others have their turn.
            drop(turn);
            match found_out {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) if error.retry_after.is_none() => tracing::warn!(%error, "how a user is could not be told"),
                Err(error) => {
                    if pause == FIRST_PAUSE {
                        tracing::warn!(%error, "how a user is could not be told; it is tried again");
                    }
                    if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = LAST_PAUSE.min(pause * 2);
                    round.again(look, Look::and);
                }
            }
        }
    }

    /// One round; what is done is taken out of `look`.
    async fn find_out(&self, user: UserId, look: &mut Look, was_shown: &mut bool) -> Result<()> {
        let Parts { online, users, .. } = &self.shared.parts;
        let (mut written, seen) = (Ok(()), look.seen);
        if let Some(seen) = seen {
            // A store that takes no writes keeps nobody from being told, nor of when.
            written = users.mark_seen(user, seen).await;
            look.seen = look.seen.filter(|_| written.is_err());
        }
        if let Some(told) = look.told {
            self.was_told(user, told).await?;
            look.told = None;
        }
        *was_shown |= self.is_shown(user);
        self.tell_all(user, seen).await?;
        if !look.toward.is_empty() {
            self.tell_some(user, &look.toward, *was_shown).await?;
            look.toward.clear();
        }
        if !online.is_here(user) && online.is_elsewhere(user) {
            // He came there while this was being told: from now on that node tells of him.
            self.shared.shown.lock().remove(&user);
        }
        written
    }

    /// Another node has told of him until now: of one who hides, nothing.
    async fn was_told(&self, user: UserId, online: bool) -> Result<()> {
        let is_shown = online && self.shared.parts.settings.privacy(user).await?.show_online_status;
        let mut shown = self.shared.shown.lock();
        let _ = if is_shown { shown.insert(user) } else { shown.remove(&user) };
        Ok(())
    }

    fn state_of(&self, user: UserId) -> EventKind {
        if self.shared.parts.online.is_online(user) { EventKind::UserOnline } else { EventKind::UserOffline }
    }

    /// Whether others take him for online, for all that they were told.
    fn is_shown(&self, user: UserId) -> bool {
        self.shared.shown.lock().contains(&user)
    }

    /// Tells everybody who may know what has become of a user, if they take him for something else; once more, should that have
    /// changed meanwhile: he may have come to another node, whose news was told before this. When he was seen may not be in the
    /// store yet.
    async fn tell_all(&self, user: UserId, seen: Option<Timestamp>) -> Result<()> {
        loop {
            let state = self.state_of(user);
            // In the eyes of others who hides has gone; when he does go, they take him for gone already.
            let (kind, data) = self.presence_of(user, state, seen).await?.map_or_else(|| unknown(user), |data| (state, data));
            let is_online = kind == EventKind::UserOnline;
            if is_online != self.is_shown(user) {
                let watchers = self.watchers(user, &[]).await?;
                self.publish(watchers.into(), kind, &data).await;
                let mut shown = self.shared.shown.lock();
                let _ = if is_online { shown.insert(user) } else { shown.remove(&user) };
            }
            if self.state_of(user) == state {
                return Ok(());
            }
        }
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
    async fn presence_of(&self, user: UserId, kind: EventKind, seen: Option<Timestamp>) -> Result<Option<Value>> {
        let Parts { settings, users, .. } = &self.shared.parts;
        let privacy = settings.privacy(user).await?;
        if !privacy.show_online_status {
            return Ok(None);
        }
        if kind == EventKind::UserOnline {
            return Ok(Some(json!({"userId": user})));
        }
        let stored = if privacy.show_last_seen { users.find(user).await? } else { None };
        let last_seen = stored.map(|record| seen.map_or(record.last_seen, |seen| seen.max(record.last_seen)));
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
            let others = if let (ConversationKind::Direct, Some(peer)) = (membership.kind, membership.peer_id) {
                vec![peer]
            } else {
                let id = membership.conversation_id;
                unless_spoilt(id, appender.known(id).await)?.map_or_else(Vec::new, |state| state.active().to_vec())
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
        let data = if is_blocked { None } else { self.presence_of(person, kind, None).await? };
        Ok(data.map_or_else(|| unknown(person), |data| (kind, data)))
    }

    /// A user types.
    pub(super) async fn start_typing(&self, user: UserId, id: ConversationId) -> Result<()> {
        let Parts { users, tasks, .. } = &self.shared.parts;
        let Some(others) = self.others(user, id).await? else { return Ok(()) };
        let started = self.shared.typing.start(id, user, Instant::now());
        self.show_typing(user, id, true, started.tell);
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

    /// Finds out anew how a user is in the eyes of others. Of one who is neither here nor taken for it there is no news:
    /// when he comes, his settings are read then.
    pub(super) fn look_anew(&self, user: UserId, toward: Option<UserId>) {
        if self.is_shown(user) || self.shared.parts.online.is_here(user) {
            self.look_at(user, Look { toward: toward.into_iter().collect(), ..Look::default() });
        }
    }

    /// A user no longer types, if he did.
    pub(super) async fn stop_typing(&self, user: UserId, id: ConversationId) {
        if self.shared.typing.stop(id, user) {
            self.tell_stopped(user, id).await;
        }
    }

    pub(super) async fn tell_stopped(&self, user: UserId, id: ConversationId) {
        self.show_typing(user, id, false, true);
        match self.others(user, id).await {
            Ok(Some(others)) => self.publish(others, EventKind::TypingStop, &json!({"conversationId": id, "userId": user})).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the end of typing was not told; clients end it by themselves"),
        }
    }

    /// Shows in lists that somebody types, or no longer: in those of other nodes too, if they are to be told.
    fn show_typing(&self, user_id: UserId, conversation_id: ConversationId, types: bool, tell: bool) {
        let Parts { bus, shown_typing, .. } = &self.shared.parts;
        shown_typing.set(conversation_id, user_id, types);
        if tell {
            bus.types(Typist { conversation_id, user_id, types });
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
