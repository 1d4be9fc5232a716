//! One authenticated socket's side of the talk: it is let in, asks, and is answered, one command after the other.
//! Whoever drives the transport awaits [`Dialogue::advance`] beside its I/O, so a slow command holds up neither writes nor pings.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tracing::Level;

use super::doors::Doors;
use super::reply::{self, AckId};
use super::{CloseReason, Command, Door, Login, Socket, Throttle, command};
use crate::error::{Error, ErrorCode, Result};

/// What is being carried out.
struct Running {
    work: Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>,
    /// Who is answered; nobody while the login is being let in.
    asked: Asked,
    /// When it is given up.
    until: Option<Instant>,
    /// It changes something: given up or not, it is finished.
    is_lasting: bool,
}

enum Asked {
    /// To be let in; by a frame that wants an answer, perhaps.
    In(Option<AckId>),
    Command(Option<AckId>),
}

/// See the module. Dropping it tells the gateway that the socket is gone.
pub struct Dialogue {
    doors: Arc<Doors>,
    /// The socket that it is about.
    pub socket: Arc<Socket>,
    throttle: Throttle,
    running: Option<Running>,
}

impl Dialogue {
    /// Starts to let the login in. `greeting` goes out first; `authenticated` when it is in, and what answers to
    /// `ack`: what was written until then is the past, which the client reads, and what comes after it is told.
    pub fn start(
        doors: Arc<Doors>,
        login: Login,
        door: Door,
        ack: Option<AckId>,
        greeting: impl FnOnce(&Socket) -> Option<String>,
    ) -> Self {
        let socket = Socket::new(login, door, doors.settings.max_waiting);
        if let Some(greeting) = greeting(&socket) {
            socket.reply(greeting);
        }
        metrics::gauge!("urge_sockets", "door" => door.name()).increment(1.0);
        let opening = {
            let (gateway, socket) = (doors.gateway.clone(), socket.clone());
            async move { gateway.open(&socket).await.map(|()| Bytes::new()) }
        };
        let now = Instant::now();
        let throttle = Throttle::new(doors.settings.rate_limit, now);
        let until = Some(now + doors.settings.command_timeout);
        let running = Running { work: Box::pin(opening), asked: Asked::In(ack), until, is_lasting: false };
        Self { doors, socket, throttle, running: Some(running) }
    }

    /// Whether something is being carried out: the next command must wait.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Carries on with what is being carried out; pending for ever when there is nothing. Safe to cancel.
    pub async fn advance(&mut self) {
        let Some(running) = self.running.as_mut() else { return std::future::pending().await };
        let done = match running.until {
            Some(until) => timeout_at(until, running.work.as_mut()).await.ok(),
            None => Some(running.work.as_mut().await),
        };
        let Some(running) = self.running.take() else { return };
        let asked = running.asked;
        let answer = done.unwrap_or_else(|| {
            finish(&self.doors, running.work, running.is_lasting);
            Err(Error::unavailable("this took too long: it may have been done, try again").with_source("the command's deadline passed"))
        });
        self.reply_to(asked, answer);
        self.socket.asked(false);
    }

    fn reply_to(&self, asked: Asked, answer: Result<Bytes>) {
        match (asked, answer) {
            (Asked::In(ack), Ok(_)) => {
                let Socket { door, user_id, .. } = *self.socket;
                self.socket.reply(reply::authenticated(door, user_id));
                if let Some(id) = ack {
                    self.socket.reply(reply::ack(door, &id, json!({"userId": user_id}).to_string().as_bytes()));
                }
            }
            (Asked::Command(None), Ok(_)) => {}
            (Asked::In(_), Err(error)) => {
                note(&error, "a socket was not let in");
                self.socket.close(CloseReason::Unavailable);
            }
            (Asked::Command(Some(id)), Ok(data)) => self.socket.reply(reply::ack(self.socket.door, &id, &data)),
            (Asked::Command(ack), Err(error)) => {
                note(&error, "a command failed");
                self.answer(&error, ack.as_deref());
            }
        }
    }

    /// Takes a command; only while not busy. A socket that closes, perhaps because its login has ended, asks in vain.
    pub fn ask(&mut self, event: &str, data: Option<&RawValue>, ack: Option<&str>) {
        if self.socket.closing().is_some() {
            return;
        }
        let admitted = self.throttle.admit(event == "message:sent", Instant::now());
        match admitted.and_then(|()| Command::parse(event, data)) {
            Ok(command) => {
                let (gateway, socket) = (self.doors.gateway.clone(), self.socket.clone());
                metrics::counter!("urge_socket_commands", "event" => command.name()).increment(1);
                // A resume takes as long as its client takes to read.
                let until = (!matches!(command, Command::Resume { .. })).then(|| Instant::now() + self.doors.settings.command_timeout);
                self.socket.asked(until.is_some());
                let (asked, is_lasting) = (Asked::Command(ack.map(Into::into)), command.is_lasting());
                let work = Box::pin(async move { gateway.command(&socket, command).await });
                self.running = Some(Running { work, asked, until, is_lasting });
            }
            Err(error) => self.refuse(&error, ack),
        }
    }

    /// Answers what makes no sense, or comes too fast, and counts it.
    pub fn refuse(&mut self, error: &Error, ack: Option<&str>) {
        self.answer(error, ack);
        self.count_refusal();
    }

    /// Counts a refusal that needs no words.
    pub fn count_refusal(&mut self) {
        if self.throttle.refuse(Instant::now()) {
            self.socket.close(CloseReason::Flood);
        }
    }

    fn answer(&self, error: &Error, ack: Option<&str>) {
        let (door, failure) = (self.socket.door, command::failure(error));
        self.socket.reply(match ack {
            Some(id) => reply::refusal(door, id, &failure),
            None => reply::event(door, "error", &failure),
        });
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Who goes away in the middle of a change has not taken it back.
        if let Some(running) = self.running.take() {
            finish(&self.doors, running.work, running.is_lasting);
        }
        metrics::gauge!("urge_sockets", "door" => self.socket.door.name()).decrement(1.0);
        let reason = self.socket.closing().map_or("client", CloseReason::name);
        metrics::counter!("urge_sockets_closed", "door" => self.socket.door.name(), "reason" => reason).increment(1);
        self.socket.end();
        self.doors.gateway.closed(&self.socket);
    }
}

/// Finishes in the background what nobody waits for any more, if it changes something.
fn finish(doors: &Doors, work: Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>, is_lasting: bool) {
    if is_lasting && tokio::runtime::Handle::try_current().is_ok() {
        doors.tasks.spawn(work);
    }
}

/// The one place where errors of sockets are logged.
pub fn note(error: &Error, what: &'static str) {
    let source = error.source.as_ref().map(tracing::field::display);
    match error.level() {
        Level::ERROR => tracing::error!(source, "{what}: {}", error.message),
        Level::WARN => tracing::warn!(source, "{what}: {}", error.message),
        _ => tracing::debug!(code = error.code.name(), "{what}"),
    }
}

/// What becomes of a connection whose credentials were refused.
pub fn refusal_reason(error: &Error) -> CloseReason {
    match error.code {
        ErrorCode::Unauthenticated | ErrorCode::TotpRequired => CloseReason::Unauthenticated,
        ErrorCode::Forbidden | ErrorCode::PhoneUnverified => CloseReason::Forbidden,
        ErrorCode::RateLimited => CloseReason::Flood,
        _ => CloseReason::Unavailable,
    }
}
