//! The websocket of `/ws` and of Socket.IO: the handshake, and the loop that reads, writes and flushes without one waiting for another.
//! A server that does not read holds back commands, never the reading: two sides that both insist on writing would wait for ever.

use std::{pin::Pin, task::Poll, time::Duration};

use futures_util::{Sink, SinkExt, StreamExt};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{
    Auth, Close, ConnectError, Ending, Options,
    engine::{Handshake, Packet},
    session::{Command, Dialect, Session, Step},
};
use crate::http::dial;

/// A websocket without TLS.
pub type Stream = WebSocketStream<TcpStream>;

/// How long the server may take to answer a close, and to take raw bytes.
const FAREWELL: Duration = Duration::from_secs(2);

/// What counts is memory: tungstenite's own read buffer is 128 KB a socket.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_message_size(Some(16 << 20))
        .max_frame_size(Some(16 << 20))
}

async fn handshake(options: &Options, path: &str, headers: &[(String, String)]) -> Result<Stream, ConnectError> {
    let mut request =
        format!("ws://{}{path}", options.authority()).into_client_request().map_err(|error| ConnectError::Protocol(error.to_string()))?;
    for (name, value) in headers.iter().chain(&options.headers) {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| ConnectError::Protocol(error.to_string()))?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| ConnectError::Protocol(error.to_string()))?;
        request.headers_mut().insert(name, value);
    }
    let stream = dial(options.authority(), options.source).await.map_err(|error| ConnectError::Io(error.to_string()))?;
    match client_async_with_config(request, stream, Some(config())).await {
        Ok((stream, _)) => Ok(stream),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            Err(ConnectError::Http { status: answer.status().as_u16(), body })
        }
        Err(error) => Err(ConnectError::Io(error.to_string())),
    }
}

/// Opens `/ws`; the token, if it does not come in the first frame, with it.
pub async fn connect_plain(options: &Options) -> Result<Stream, ConnectError> {
    match &options.auth {
        Auth::Token(token) => {
            let header = (AUTHORIZATION.as_str().to_owned(), format!("Bearer {token}"));
            handshake(options, "/ws", &[header]).await
        }
        Auth::Ticket(ticket) => handshake(options, &format!("/ws?ticket={ticket}"), &[]).await,
        Auth::Frame(_) | Auth::Missing => handshake(options, "/ws", &[]).await,
    }
}

/// Opens Socket.IO's websocket and reads the Engine.IO handshake.
pub async fn connect_engine(options: &Options) -> Result<(Stream, Handshake), ConnectError> {
    let mut stream = handshake(options, "/socket.io/?EIO=4&transport=websocket", &[]).await?;
    match read_packet_text(&mut stream).await?.map(|text| match Packet::parse(&text) {
        Ok(Packet::Open(handshake)) => Ok(handshake),
        other => Err(ConnectError::Protocol(format!("the first packet is {other:?}"))),
    }) {
        Ok(handshake) => Ok((stream, handshake?)),
        Err(close) => Err(ConnectError::Closed(close)),
    }
}

/// Opens a websocket for a session that polls, and sees whether the server answers on it.
pub async fn probe(options: &Options, sid: &str) -> Result<Stream, ConnectError> {
    let mut stream = handshake(options, &format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"), &[]).await?;
    stream.send(Message::text("2probe")).await.map_err(|error| ConnectError::Io(error.to_string()))?;
    match read_packet_text(&mut stream).await? {
        Ok(text) if text == "3probe" => Ok(stream),
        Ok(text) => Err(ConnectError::Protocol(format!("the answer to the probe is {text:.100}"))),
        Err(close) => Err(ConnectError::Closed(close)),
    }
}

/// The next text frame, or the end.
async fn read_packet_text(stream: &mut Stream) -> Result<Result<String, Close>, ConnectError> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Ok(text.as_str().to_owned())),
            Some(Ok(Message::Close(frame))) => return Ok(Err(close_of(frame))),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(ConnectError::Io(error.to_string())),
            None => return Ok(Err(lost("the connection ended"))),
        }
    }
}

fn lost(reason: &str) -> Close {
    Close::new(Ending::Lost, None, reason)
}

fn close_of(frame: Option<CloseFrame>) -> Close {
    match frame {
        Some(frame) => Close::new(Ending::CloseFrame, Some(frame.code.into()), &frame.reason),
        None => Close::new(Ending::CloseFrame, None, ""),
    }
}

/// What woke the loop.
enum Wake {
    Frame(Option<Result<Message, Error>>),
    Command(Option<Command>),
    /// Writing failed; reading may still tell why.
    Unwritable(Error),
    Late,
}

/// The loop of one socket.
struct Drive {
    stream: Stream,
    commands: mpsc::Receiver<Command>,
    /// Something waits to be flushed.
    unflushed: bool,
    reading: bool,
    /// A farewell has been said: what ends the socket now is this side's will.
    closing: bool,
    sleep: Pin<Box<Sleep>>,
}

/// Drives a socket from its handshake to its end; `first` is sent before anything else.
pub async fn run(stream: Stream, mut session: Session, commands: mpsc::Receiver<Command>, first: Vec<String>) {
    let sleep = Box::pin(tokio::time::sleep(Duration::MAX));
    let mut drive = Drive { stream, commands, unflushed: false, reading: true, closing: false, sleep };
    let close = drive.run(&mut session, first).await;
    // An abort drops the connection as it is; a close frame that waits goes out in any other case.
    if drive.unflushed && close.ending != Ending::Local {
        let _ = tokio::time::timeout(FAREWELL, drive.stream.flush()).await;
    }
    drop(drive);
    session.finish(close);
}

impl Drive {
    async fn run(&mut self, session: &mut Session, first: Vec<String>) -> Close {
        for text in first {
            if let Err(close) = self.write(Message::text(text)) {
                return close;
            }
        }
        self.set_alarm(session.deadline());
        loop {
            let end = match self.wake().await {
                Wake::Frame(frame) => self.on_frame(frame, session),
                Wake::Command(command) => self.on_command(command, session).await,
                Wake::Unwritable(error) if !self.reading => Some(lost(&error.to_string())),
                // The server's last frames, its close code above all, may lie unread.
                Wake::Unwritable(_) => None,
                Wake::Late if self.closing => Some(Close::new(Ending::Local, None, "closed by this side")),
                Wake::Late => Some(Close::new(Ending::Silent, None, "no ping in time")),
            };
            if let Some(close) = end {
                return close;
            }
        }
    }

    fn set_alarm(&mut self, deadline: Option<Instant>) {
        // The farthest that tokio's timer goes is some two years.
        self.sleep.as_mut().reset(deadline.unwrap_or_else(|| Instant::now() + Duration::from_hours(8760)));
    }

    async fn wake(&mut self) -> Wake {
        std::future::poll_fn(|cx| {
            if self.unflushed {
                match self.stream.poll_flush_unpin(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => {
                        self.unflushed = false;
                        return Poll::Ready(Wake::Unwritable(error));
                    }
                    Poll::Pending => {}
                }
            }
            if self.reading
                && let Poll::Ready(frame) = self.stream.poll_next_unpin(cx)
            {
                return Poll::Ready(Wake::Frame(frame));
            }
            if !self.unflushed
                && !self.closing
                && let Poll::Ready(command) = self.commands.poll_recv(cx)
            {
                return Poll::Ready(Wake::Command(command));
            }
            if (self.reading || self.closing) && self.sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Late);
            }
            Poll::Pending
        })
        .await
    }

    fn write(&mut self, message: Message) -> Result<(), Close> {
        self.unflushed = true;
        Pin::new(&mut self.stream).start_send(message).map_err(|error| lost(&error.to_string()))
    }

    fn on_frame(&mut self, frame: Option<Result<Message, Error>>, session: &mut Session) -> Option<Close> {
        match frame {
            Some(Ok(Message::Text(text))) => match session.read(&text) {
                Step::Continue => None,
                Step::Reply(reply) => {
                    self.set_alarm(session.deadline());
                    self.write(Message::text(reply)).err()
                }
                Step::End(close) => Some(close),
            },
            // tungstenite has queued the pong; the flush sends it.
            Some(Ok(Message::Ping(_))) => {
                self.unflushed = true;
                None
            }
            Some(Ok(Message::Close(frame))) => {
                self.unflushed = true;
                Some(if self.closing { Close::new(Ending::Local, None, "closed by this side") } else { close_of(frame) })
            }
            Some(Ok(Message::Binary(_))) => Some(Close::new(Ending::Protocol, None, "a binary frame")),
            Some(Ok(_)) => None,
            Some(Err(_)) | None if self.closing => Some(Close::new(Ending::Local, None, "closed by this side")),
            Some(Err(error)) => Some(lost(&error.to_string())),
            None => Some(lost("the connection ended")),
        }
    }

    async fn on_command(&mut self, command: Option<Command>, session: &mut Session) -> Option<Close> {
        match command {
            Some(Command::Emit { event, data, reply }) => self.write(Message::text(session.encode(&event, &data, reply))).err(),
            Some(Command::Text(text)) => self.write(Message::text(text)).err(),
            Some(Command::Binary(bytes)) => self.write(Message::binary(bytes)).err(),
            Some(Command::Bytes(bytes)) => self.write_past_framing(&bytes).await.err(),
            Some(Command::Reading(reading)) => {
                self.reading = reading;
                session.revive();
                self.set_alarm(session.deadline());
                None
            }
            Some(Command::HalfClose) => {
                let ended = self.stream.get_mut().shutdown().await;
                ended.err().map(|error| lost(&error.to_string()))
            }
            Some(Command::Abort) => Some(Close::new(Ending::Local, None, "dropped by this side")),
            Some(Command::Close) | None => self.say_goodbye(session).err(),
        }
    }

    async fn write_past_framing(&mut self, bytes: &[u8]) -> Result<(), Close> {
        match tokio::time::timeout(FAREWELL, self.stream.get_mut().write_all(bytes)).await {
            Ok(written) => written.map_err(|error| lost(&error.to_string())),
            Err(_) => Err(lost("the server does not read")),
        }
    }

    fn say_goodbye(&mut self, session: &Session) -> Result<(), Close> {
        self.closing = true;
        self.reading = true;
        self.set_alarm(Some(Instant::now() + FAREWELL));
        if session.dialect() == Dialect::SocketIo {
            self.write(Message::text("41"))?;
        }
        self.write(Message::Close(None))
    }
}
