//! Socket.IO over long-polling: one GET that waits, one POST at a time, and the move to a websocket while both go on.
//! The order of the move is the protocol's: probe on the websocket, let the waiting GET end, then `5`; nothing is lost or doubled.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    time::{Duration, Instant as At},
};

use bytes::Bytes;
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::Full;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Close, ConnectError, Door, Ending, Options,
    engine::{Handshake, Packet, SEPARATOR},
    session::{Command, Session, Step},
    websocket::{self, Stream},
};
use crate::http::{Answer, Http, HttpError};

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A request under way.
type Exchange = Pin<Box<dyn Future<Output = Result<Answer, HttpError>> + Send>>;
/// A probe under way.
type Probe = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

/// What a POST carries.
enum Outgoing {
    /// An Engine.IO packet; several share a body.
    Packet(String),
    /// A body of its own, as a test wants it.
    Body(&'static str, Bytes),
}

/// A session whose handshake is done.
pub struct Polling {
    options: Options,
    http: Http,
    handshake: Handshake,
}

/// Begins a session.
pub async fn open(options: Options, http: Http) -> Result<Polling, ConnectError> {
    let url = format!("{}/socket.io/?EIO=4&transport=polling", options.url);
    let request = build(&options, Method::GET, &url, None)?;
    let answer = http.send(request, options.timeout).await.map_err(|error| ConnectError::Io(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(ConnectError::Http { status: answer.status.as_u16(), body: answer.text() });
    }
    match Packet::parse(&answer.text()) {
        Ok(Packet::Open(handshake)) => Ok(Polling { options, http, handshake }),
        other => Err(ConnectError::Protocol(format!("the first packet is {other:?}"))),
    }
}

fn build(options: &Options, method: Method, url: &str, body: Option<(&str, Bytes)>) -> Result<Request<Full<Bytes>>, ConnectError> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    let bytes = match body {
        Some((content_type, bytes)) => {
            request = request.header(CONTENT_TYPE, content_type);
            bytes
        }
        None => Bytes::new(),
    };
    request.body(Full::new(bytes)).map_err(|error| ConnectError::Protocol(error.to_string()))
}

/// Waits for what is under way; for ever when nothing is.
async fn under_way<T>(exchange: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match exchange {
        Some(exchange) => exchange.await,
        None => std::future::pending().await,
    }
}

/// What goes on beside the requests.
struct Progress {
    outbox: VecDeque<Outgoing>,
    reading: bool,
    probe: Option<Probe>,
    /// The websocket that answered the probe.
    candidate: Option<Stream>,
}

impl Polling {
    /// Drives the session to its end, through the upgrade if its door wants one.
    pub async fn run(self, mut session: Session, mut commands: mpsc::Receiver<Command>, connect: String) {
        session.begin(&self.handshake);
        match self.poll(&mut session, &mut commands, connect).await {
            Ok(stream) => {
                session.shared.set_upgraded();
                websocket::run(stream, session, commands, Vec::new()).await;
            }
            Err(close) => session.finish(close),
        }
    }

    /// Polls until the session ends or moves to the websocket that is returned.
    async fn poll(&self, session: &mut Session, commands: &mut mpsc::Receiver<Command>, connect: String) -> Result<Stream, Close> {
        let mut progress =
            Progress { outbox: VecDeque::from([Outgoing::Packet(connect)]), reading: true, probe: self.probe(), candidate: None };
        let (mut get, mut post): (Option<Exchange>, Option<Exchange>) = (None, None);
        loop {
            if post.is_none() && !progress.outbox.is_empty() {
                post = Some(self.post(&mut progress.outbox)?);
            }
            if get.is_none() && progress.reading && progress.candidate.is_none() {
                get = Some(self.get(session.patience())?);
            }
            if get.is_none()
                && post.is_none()
                && let Some(mut stream) = progress.candidate.take()
            {
                let moved = stream.send_text("5").await;
                return moved.map(|()| stream).map_err(|error| Close::new(Ending::Lost, None, &error.to_string()));
            }
            let deadline = session.deadline().unwrap_or_else(|| Instant::now() + self.options.timeout);
            tokio::select! {
                answer = under_way(&mut get) => {
                    get = None;
                    on_poll(answer, session, &mut progress)?;
                }
                answer = under_way(&mut post) => {
                    post = None;
                    check(answer)?;
                }
                probed = under_way(&mut progress.probe) => {
                    progress.probe = None;
                    // A websocket that does not come about is no harm: polling goes on.
                    progress.candidate = probed.ok();
                }
                command = commands.recv(), if progress.outbox.is_empty() && progress.candidate.is_none() => {
                    if matches!(command, Some(Command::HalfClose)) {
                        get = None;
                    }
                    if let Some(close) = on_command(command, session, &mut progress) {
                        if !progress.outbox.is_empty() {
                            self.say_goodbye(post, &mut progress.outbox).await?;
                        }
                        return Err(close);
                    }
                }
                () = tokio::time::sleep_until(deadline), if progress.reading => {
                    return Err(Close::new(Ending::Silent, None, "no ping in time"));
                }
            }
        }
    }

    fn probe(&self) -> Option<Probe> {
        let wanted = self.options.door == Door::Upgrade && self.handshake.upgrades.iter().any(|name| name == "websocket");
        wanted.then(|| {
            let (options, sid) = (self.options.clone(), self.handshake.sid.clone());
            let probe: Probe = Box::pin(async move { websocket::probe(&options, &sid).await });
            probe
        })
    }

    fn exchange(&self, method: Method, body: Option<(&str, Bytes)>, limit: Duration) -> Result<Exchange, Close> {
        let url = format!("{}/socket.io/?EIO=4&transport=polling&sid={}", self.options.url, self.handshake.sid);
        let request = build(&self.options, method, &url, body).map_err(|error| Close::new(Ending::Protocol, None, &error.to_string()))?;
        let http = self.http.clone();
        Ok(Box::pin(async move { http.send(request, limit).await }))
    }

    fn get(&self, patience: Option<Duration>) -> Result<Exchange, Close> {
        self.exchange(Method::GET, None, patience.unwrap_or(self.options.timeout))
    }

    /// The next POST: what is first in the outbox, with as many packets as one body may carry.
    fn post(&self, outbox: &mut VecDeque<Outgoing>) -> Result<Exchange, Close> {
        let limit = self.handshake.max_payload.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let (content_type, body) = next_body(outbox, limit);
        self.exchange(Method::POST, Some((content_type, body)), self.options.timeout)
    }

    async fn say_goodbye(&self, under_way: Option<Exchange>, outbox: &mut VecDeque<Outgoing>) -> Result<(), Close> {
        let goodbye = async {
            if let Some(post) = under_way {
                check(post.await)?;
            }
            check(self.post(outbox)?.await).map(drop)
        };
        tokio::time::timeout(FAREWELL, goodbye).await.unwrap_or(Ok(()))
    }
}

fn on_poll(answer: Result<Answer, HttpError>, session: &mut Session, progress: &mut Progress) -> Result<(), Close> {
    let answer = check(answer)?;
    let body = std::str::from_utf8(&answer.body).map_err(|_| Close::new(Ending::Protocol, None, "a poll's body is not UTF-8"))?;
    let at = At::now();
    for packet in body.split(SEPARATOR) {
        match session.read(packet, at) {
            Step::Continue => {}
            Step::Reply(reply) => progress.outbox.push_back(Outgoing::Packet(reply)),
            Step::End(close) => return Err(close),
        }
    }
    Ok(())
}

fn next_body(outbox: &mut VecDeque<Outgoing>, limit: usize) -> (&'static str, Bytes) {
    let mut body = String::new();
    while let Some(next) = outbox.pop_front() {
        match next {
            Outgoing::Packet(packet) if body.is_empty() => body = packet,
            Outgoing::Packet(packet) if body.len() + 1 + packet.len() <= limit => {
                body.push(SEPARATOR);
                body.push_str(&packet);
            }
            Outgoing::Body(content_type, bytes) if body.is_empty() => return (content_type, bytes),
            later => {
                outbox.push_front(later);
                break;
            }
        }
    }
    ("text/plain;charset=UTF-8", body.into())
}

fn check(answer: Result<Answer, HttpError>) -> Result<Answer, Close> {
    let answer = answer.map_err(|error| Close::new(Ending::Lost, None, &error.to_string()))?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(Close::new(Ending::Http(answer.status.as_u16()), None, &answer.text()))
}

/// Queues what the command asks for; the close when it ends the session.
fn on_command(command: Option<Command>, session: &mut Session, progress: &mut Progress) -> Option<Close> {
    match command {
        Some(Command::Emit { event, data, reply }) => {
            progress.outbox.push_back(Outgoing::Packet(session.encode(&event, &data, reply)));
            None
        }
        Some(Command::Text(text)) => {
            progress.outbox.push_back(Outgoing::Body("text/plain;charset=UTF-8", text.into()));
            None
        }
        Some(Command::Binary(bytes)) => {
            progress.outbox.push_back(Outgoing::Body("application/octet-stream", bytes.into()));
            None
        }
        Some(Command::Bytes(_)) => None,
        Some(Command::Reading(reading)) => {
            progress.reading = reading;
            session.revive();
            None
        }
        Some(Command::HalfClose) => {
            progress.reading = false;
            None
        }
        Some(Command::Abort) => Some(Close::new(Ending::Local, None, "dropped by this side")),
        Some(Command::Close) | None => {
            progress.outbox.push_back(Outgoing::Packet("41".to_owned()));
            progress.outbox.push_back(Outgoing::Packet("1".to_owned()));
            Some(Close::new(Ending::Local, None, "closed by this side"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_what_fits() {
        let packet = |text: &str| Outgoing::Packet(text.to_owned());
        let mut outbox =
            VecDeque::from([packet("41"), packet("3"), packet("42[\"long\"]"), Outgoing::Body("x/y", "raw".into()), packet("6")]);
        let mut bodies = Vec::new();
        while !outbox.is_empty() {
            let (content_type, body) = next_body(&mut outbox, 6);
            bodies.push((content_type, String::from_utf8_lossy(&body).into_owned()));
        }
        let text = "text/plain;charset=UTF-8";
        assert_eq!(
            bodies,
            [(text, "41\u{1e}3".to_owned()), (text, "42[\"long\"]".to_owned()), ("x/y", "raw".to_owned()), (text, "6".to_owned()),]
        );
    }
}
