//! What the bus brings beside what the hub delivers: logins that have ended, and what other nodes leave to this one to tell of
//! people. Settings and sessions that were read before are forgotten elsewhere (`Auth::note`, `Settings::note`), before this.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::time::Instant;

use super::orphans::KEPT;
use super::session::{Parts, Sessions};
use super::socket::{CloseReason, Socket};
use super::watch::{GRACE, Look};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::event::{Envelope, Event, EventKind, Parting, RowEvent};
use crate::id::{SessionId, UserId};
use crate::presence::Presence as _;

/// Logins that are looked at again at a time.
const CHECKS: usize = 16;
/// What the store keeps from being found out, of a login or of who is online, is tried again after this, doubled each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(2);
/// A process that was to wake after this, and wakes so much later, stood still: what it was to hear may be gone.
const WAKE_EVERY: Duration = Duration::from_secs(1);
const STOOD_STILL: Duration = Duration::from_secs(4);

/// What is read of `user:online` and `user:offline`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    user_id: UserId,
    last_seen: Option<Timestamp>,
}

impl Sessions {
    /// Notes what an envelope says. A message that was posted ends the typing of its sender; one that came by a socket did so
    /// there. Who hides, shows himself, blocks or unblocks is told of by whoever has his sockets.
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
            Envelope::Revoked { user_id, session_id, except, late } => self.revoke(*user_id, *session_id, *except, *late),
            Envelope::Left { user_id, parting } => self.left_another(*user_id, *parting),
            Envelope::Orphans { users, gone_at } => {
                self.adopt(users, *gone_at);
                if !users.is_empty() {
                    // What it was to tell of logins may have ended with it.
                    self.check_all_logins();
                }
            }
            Envelope::Loose(loose) if matches!(loose.event.kind, EventKind::UserOnline | EventKind::UserOffline) => {
                self.note_told(&loose.event);
            }
            Envelope::Missed { logins: true } => self.check_all_logins(),
            Envelope::Buried => self.tell_again(),
            Envelope::Typing(typists) => {
                let shown = &self.shared.parts.shown_typing;
                typists.iter().for_each(|typist| shown.set(typist.conversation_id, typist.user_id, typist.types));
            }
            Envelope::Row(_)
            | Envelope::Loose(_)
            | Envelope::Refresh { .. }
            | Envelope::Overlooked { .. }
            | Envelope::Missed { logins: false } => {}
        }
    }

    fn sockets(&self) -> Vec<Arc<Socket>> {
        let hub = &self.shared.parts.hub;
        hub.seats().users().into_iter().flat_map(|user| self.sockets_of(user)).collect()
    }

    fn sockets_of(&self, user: UserId) -> Vec<Arc<Socket>> {
        self.shared.parts.hub.seats().of(user).iter().map(|seat| Arc::clone(&seat.socket)).collect()
    }

    /// Logins have ended: their sockets close. Of news that all of a person's have which come late, the store says whom they concern.
    fn revoke(&self, user: UserId, session: Option<SessionId>, except: Option<SessionId>, late: bool) {
        let is_concerned =
            |socket: &Arc<Socket>| session.is_none_or(|ended| ended == socket.session_id) && except != Some(socket.session_id);
        let sockets = self.sockets_of(user).into_iter().filter(is_concerned);
        if late && session.is_none() {
            let (sessions, sockets) = (self.clone(), sockets.collect());
            self.shared.parts.tasks.spawn(async move { sessions.look_at_logins(sockets).await });
        } else {
            sockets.for_each(|socket| socket.close(CloseReason::Revoked));
        }
    }

    /// Looks at everybody's login again; asked for while it is at it, once more.
    pub fn check_all_logins(&self) {
        let sessions = self.clone();
        self.shared.parts.tasks.spawn(async move {
            let Some(mut round) = sessions.shared.checks.ask((), (), |(), ()| ()) else { return };
            while round.next().is_some() {
                sessions.look_at_logins(sessions.sockets()).await;
            }
        });
    }

    /// Looks at the login of each of these sockets again, as the store has it, and closes those whose login has ended. One that
    /// cannot be looked at is, later: as long as its socket is there.
    async fn look_at_logins(&self, sockets: Vec<Arc<Socket>>) {
        let Parts { hub, auth, tasks, .. } = &self.shared.parts;
        let check = async |socket: Arc<Socket>| {
            let checked = auth.look_up(socket.user_id, socket.session_id).await;
            match checked {
                Err(error) if error.code == ErrorCode::Unauthenticated => socket.close(CloseReason::Revoked),
                Err(_) if hub.seats().seat_of(&socket).is_some() => return Some(socket),
                _ => {}
            }
            None
        };
        let (mut left, mut pause) = (sockets, FIRST_PAUSE);
        while !left.is_empty() {
            let checked = futures_util::stream::iter(left).map(check).buffer_unordered(CHECKS);
            left = checked.filter_map(async |left| left).collect().await;
            if !left.is_empty() {
                tracing::warn!(sockets = left.len(), "logins could not be looked at; they are tried again");
                if tasks.stopping().run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = LAST_PAUSE.min(pause * 2);
            }
        }
    }

    /// A user has left another node, and is on no other one. If he is here, telling of him is this node's business now.
    fn left_another(&self, user: UserId, parting: Parting) {
        let online = &self.shared.parts.online;
        let is_gone = parting == Parting::Untold && online.was_handed_over(user) && !online.is_online(user);
        if online.is_here(user) || is_gone {
            let gone_at = is_gone.then(|| self.shared.parts.clock.now());
            self.take_over(user, parting != Parting::Told, gone_at);
        }
    }

    /// Another node has ended. Its users are back before the grace is over, here or elsewhere, or they have gone; one of the
    /// nodes that are left then tells of those, and of those whom it was that node's business to tell of.
    fn adopt(&self, users: &[UserId], gone_at: Timestamp) {
        let sessions = self.clone();
        let tasks = &self.shared.parts.tasks;
        let stopping = tasks.stopping();
        self.shared.orphans.leave(users, gone_at, Instant::now());
        tasks.spawn(async move {
            if stopping.run_until_cancelled(tokio::time::sleep(GRACE)).await.is_none() {
                return;
            }
            sessions.see_to_orphans();
            if stopping.run_until_cancelled(tokio::time::sleep(KEPT)).await.is_some() {
                // Nothing of them is kept for ever.
                sessions.shared.orphans.due(Instant::now());
            }
        });
    }

    fn see_to_orphans(&self) {
        let Parts { online, bus, .. } = &self.shared.parts;
        let orphans = &self.shared.orphans;
        for (user, gone_at) in orphans.due(Instant::now()) {
            let is_gone = !online.is_online(user);
            if is_gone && !bus.is_first() {
                continue;
            }
            if is_gone || online.is_here(user) {
                self.take_over(user, true, is_gone.then_some(gone_at));
            }
            orphans.settle(user);
        }
    }

    /// A node has told how somebody is. Of who hides, or is blocked, nobody is told since when; such news is not for everybody.
    fn note_told(&self, event: &Event) {
        let Ok(told) = serde_json::from_slice::<Told>(&event.data) else { return };
        let went = event.kind == EventKind::UserOffline && told.last_seen.is_some();
        self.shared.orphans.told(told.user_id, went, self.shared.parts.online.is_online(told.user_id), Instant::now());
    }

    /// Tells of a user of whom another node has told so far, the last that he is online or not; `gone_at` when he has gone.
    fn take_over(&self, user: UserId, told: bool, gone_at: Option<Timestamp>) {
        self.look_at(user, Look { toward: Vec::new(), told: Some(told), seen: gone_at });
    }

    /// The others have told that everybody here is offline.
    fn tell_again(&self) {
        for user in self.shared.parts.hub.seats().users() {
            self.take_over(user, false, None);
        }
    }

    /// Notices that the process stood still, or its machine: what it was to hear meanwhile may be gone.
    pub async fn watch_for_pauses(self) {
        let Parts { hub, tasks, .. } = &self.shared.parts;
        let stopping = tasks.stopping();
        loop {
            let before = Instant::now();
            if stopping.run_until_cancelled(tokio::time::sleep(WAKE_EVERY)).await.is_none() {
                return;
            }
            if before.elapsed() >= WAKE_EVERY + STOOD_STILL {
                tracing::warn!(paused_ms = before.elapsed().as_millis() as u64, "the process stood still: heads and logins are read again");
                self.check_all_logins();
                hub.repair().await;
            }
        }
    }
}
