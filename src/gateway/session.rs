//! What the doors talk to: a login's sockets are let in, their commands carried out, their marks taken, their going noticed.
//! No protocol and no bytes of a socket in here; `resume.rs` has the replay, `watch.rs` presence and typing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::command::Command;
use super::hub::Hub;
use super::online::Online;
use super::orphans::Orphans;
use super::resume::READING;
use super::rounds::Rounds;
use super::seat::Seat;
use super::socket::{CloseReason, Mark, Socket};
use super::typing::TypingNow;
use super::watch::{Look, WATCHING};
use super::{Credentials, Gateway, Login, Visitor};
use crate::auth::Auth;
use crate::bus::Bus;
use crate::conversations::TypingSet;
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::fail_point;
use crate::id::{ConversationId, UserId};
use crate::log::{Appender, ConversationState};
use crate::messages::{Messages, SendMessage, Sent, Turn};
use crate::rest;
use crate::settings::Settings;
use crate::task::{Gate, Tasks};
use crate::users::Users;

/// Live events wait this long for a `resume`; any other command of the client ends the wait.
pub const RESUME_WAIT: Duration = Duration::from_millis(250);
/// Heads are read again this long after a socket has come.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// The other nodes know within this time who has come, as a rule.
const KNOWN_SOON: Duration = Duration::from_millis(500);
/// How long after a socket has come its client may still resume.
const LATE_RESUME: Duration = Duration::from_secs(30);

/// The services behind the doors.
#[derive(Clone)]
pub struct Sessions {
    pub(super) shared: Arc<Shared>,
}

/// What sessions are made of.
pub struct Parts {
    /// The sockets.
    pub hub: Hub,
    /// Who somebody is.
    pub auth: Arc<Auth>,
    /// What people look like.
    pub users: Arc<Users>,
    /// What people let others see.
    pub settings: Arc<Settings>,
    /// What people write.
    pub messages: Messages,
    /// What conversations are.
    pub appender: Appender,
    /// How nodes tell each other.
    pub bus: Arc<dyn Bus>,
    /// Who is online.
    pub online: Arc<Online>,
    /// Who types, for the views.
    pub shown_typing: Arc<TypingSet>,
    /// What time it is.
    pub clock: crate::clock::SharedClock,
    /// Background work.
    pub tasks: Tasks,
}

pub(super) struct Shared {
    pub parts: Parts,
    pub typing: TypingNow,
    /// Resumes that read the store.
    pub replays: Gate,
    /// Comings and goings that are written down and told: when all phones come at once, these wait, and not the phones.
    pub watching: Gate,
    /// The users whose presence is being told.
    pub presence: Rounds<UserId, Look>,
    /// All logins being looked at again.
    pub checks: Rounds<(), ()>,
    /// Those whom this node has told of as online, and not as offline since.
    pub shown: Mutex<HashSet<UserId>>,
    /// Since when people without sockets are, until the grace is over.
    pub gone: Mutex<HashMap<UserId, Instant>>,
    /// Those whose node has ended.
    pub orphans: Orphans,
    draining: AtomicBool,
}

impl Sessions {
    /// Sessions of these parts.
    pub fn new(parts: Parts) -> Self {
        let (typing, presence, checks) = (TypingNow::default(), Rounds::default(), Rounds::default());
        let (shown, gone, orphans) = (Mutex::default(), Mutex::default(), Orphans::default());
        let (replays, watching) = (Gate::new("resume", READING), Gate::new("presence", WATCHING));
        let draining = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { parts, typing, replays, watching, presence, checks, shown, gone, orphans, draining }) }
    }

    /// No new sockets from now on; the open ones are told to go elsewhere, a few at a time.
    pub async fn drain(&self, batches: usize, pause: Duration) {
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.parts.hub.drain(batches, pause).await;
    }

    pub(super) async fn participant(&self, user: UserId, id: ConversationId) -> Result<Arc<ConversationState>> {
        let state = self.shared.parts.appender.state(id).await?;
        state.member(user)?;
        Ok(state)
    }

    async fn send_message(&self, socket: &Socket, body: &str) -> Result<Bytes> {
        let value: Value = serde_json::from_str(body).map_err(|_| Error::bad_request("the data is not valid JSON"))?;
        let command: SendMessage = rest::read_object(value, false)?;
        let (user, conversation) = (socket.user_id, command.conversation_id);
        let sent = Sent { origin: Origin { socket_id: Some(socket.id), session_id: None }, posted: false };
        let message = self.shared.parts.messages.send(user, command, sent).await?;
        fail_point::reached("send.appended");
        if let Some(conversation) = conversation {
            self.stop_typing(user, conversation).await;
        }
        answer(&message)
    }
}

#[async_trait]
impl Gateway for Sessions {
    async fn authenticate(&self, credentials: Credentials, _visitor: &Visitor) -> Result<Login> {
        let auth = &self.shared.parts.auth;
        let identity = match credentials {
            Credentials::Token(token) => auth.authenticate(&token).await?,
            Credentials::Ticket(ticket) => auth.redeem_ticket(&ticket).await?,
        };
        Ok(Login { user_id: identity.user_id, session_id: identity.session_id })
    }

    async fn open(&self, socket: &Arc<Socket>) -> Result<()> {
        let Parts { hub, auth, bus, tasks, .. } = &self.shared.parts;
        let seat = hub.seats().seat(Arc::clone(socket));
        // Let in before the node began to drain, seated after it looked whom to tell: nobody else would tell it.
        if self.is_draining() {
            socket.close(CloseReason::Draining);
            return Err(Error::unavailable("the server is going away: connect again"));
        }
        // A revocation between the check of the token and here found no socket to close.
        if let Err(error) = auth.recheck(socket.user_id, socket.session_id).await {
            socket.close(if error.retry_after.is_some() { CloseReason::Unavailable } else { CloseReason::Revoked });
            return Err(error);
        }
        // The other nodes send what concerns him from about now on; what falls between this and the heads is found below.
        self.came(socket.user_id);
        let opened = Instant::now();
        let memberships = hub.memberships(socket.user_id).await?;
        hub.ensure(socket.user_id, &memberships).await?;
        hub.leave_out_the_past(&seat, &memberships);
        seat.heads_read(opened);
        hub.catch_up(&seat, &memberships).await?;
        let hold = seat.hold();
        let (hub, bus) = (hub.clone(), Arc::clone(bus));
        let (socket, stopping) = (Arc::clone(socket), tasks.stopping());
        tasks.spawn(async move {
            let seat_at = async |time| {
                stopping.run_until_cancelled(tokio::time::sleep_until(opened + time)).await?;
                hub.seats().seat_of(&socket)
            };
            let looks = async {
                tokio::time::sleep(RESUME_WAIT).await;
                seat.release(Some(hold)).await;
                drop(seat);
                if let Some(seat) = seat_at(SECOND_LOOK).await {
                    look_again(&hub, &seat, opened + SECOND_LOOK).await;
                }
                if let Some(seat) = seat_at(LATE_RESUME).await {
                    seat.resumes_no_more();
                }
            };
            let routed = async {
                if bus.has_others() {
                    bus.known().await;
                    let known = Instant::now();
                    if let Some(seat) = seat_at(Duration::ZERO).await {
                        look_again(&hub, &seat, known).await;
                    }
                    // The others heard of him late: what they may not have sent is looked for as late.
                    if known.duration_since(opened) > KNOWN_SOON
                        && let Some(seat) = seat_at(known.duration_since(opened) + SECOND_LOOK).await
                    {
                        look_again(&hub, &seat, known + SECOND_LOOK).await;
                    }
                }
            };
            // Of who goes away again nothing is left: those who come and go all the time would pile up.
            tokio::select! {
                () = socket.ended() => {}
                ((), ()) = async { tokio::join!(looks, routed) } => {}
            }
        });
        Ok(())
    }

    async fn command(&self, socket: &Arc<Socket>, command: Command) -> Result<Bytes> {
        let Parts { hub, messages, .. } = &self.shared.parts;
        let seat = hub.seats().seat_of(socket).ok_or_else(|| Error::unavailable("this socket is closing"))?;
        if !matches!(command, Command::Resume { .. }) {
            seat.release_early();
        }
        let (user, origin) = (socket.user_id, Origin { socket_id: Some(socket.id), session_id: None });
        match command {
            Command::Join { conversation_id, bare } => {
                let state = self.participant(user, conversation_id).await?;
                let peer = state.peer(user);
                socket.opened(conversation_id, bare, peer);
                if let (true, Some(peer)) = (bare, peer) {
                    self.tell_state_of(peer, socket).await;
                }
                Ok(done())
            }
            Command::Leave { conversation_id } => {
                socket.left(conversation_id);
                Ok(done())
            }
            Command::Send(body) => self.send_message(socket, body.get()).await,
            Command::Delivered { message_id } => {
                messages.delivered(user, message_id).await?;
                Ok(done())
            }
            Command::Read { message_id, conversation_id } => {
                let updated = messages.read(user, message_id, conversation_id, origin).await?;
                answer(&json!({"success": true, "updated": updated}))
            }
            Command::TypingStart { conversation_id } => {
                self.start_typing(user, conversation_id).await?;
                Ok(done())
            }
            Command::TypingStop { conversation_id } => {
                self.participant(user, conversation_id).await?;
                self.stop_typing(user, conversation_id).await;
                Ok(done())
            }
            Command::Resume { known } => {
                let answered = self.resume(socket, &seat, known).await;
                seat.release(None).await;
                answer(&answered?)
            }
        }
    }

    fn wrote(&self, socket: &Arc<Socket>, marks: &[Mark]) {
        let receipts = self.shared.parts.messages.receipts();
        for marks in marks.chunk_by(|one, next| one.conversation_id == next.conversation_id) {
            let others = || marks.iter().filter(|mark| mark.sender_id != socket.user_id);
            let Some(last) = others().max_by_key(|mark| mark.seq) else { continue };
            if last.is_large {
                receipts.deliver_large(socket.user_id, last.conversation_id, last.seq);
            } else {
                let turn = |mark: &Mark| Turn { seq: mark.seq, message_id: mark.message_id, sender_id: mark.sender_id };
                receipts.deliver(socket.user_id, last.conversation_id, last.seq, others().map(turn).collect());
            }
        }
    }

    fn closed(&self, socket: &Arc<Socket>) {
        if self.shared.parts.hub.seats().unseat(socket) {
            self.went(socket.user_id);
        }
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }
}

/// Reads the heads of somebody who has been let in again, unless they have been read since: rows may have been on their way when he
/// came. A resume that waits for its turn is going to.
async fn look_again(hub: &Hub, seat: &Seat, since: Instant) {
    drop(seat.resuming().await);
    if seat.heads_read_since(since) {
        return;
    }
    let now = Instant::now();
    match hub.repair_user(seat.socket.user_id).await {
        Ok(()) => seat.heads_read(now),
        Err(error) => tracing::warn!(%error, socket = %seat.socket.id, "heads could not be read a second time"),
    }
}

fn done() -> Bytes {
    Bytes::from_static(br#"{"success":true}"#)
}

fn answer<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Error::internal)
}
