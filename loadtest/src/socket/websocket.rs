//! The websocket of `/ws` and of Socket.IO: the handshake, and the loop that reads, writes and flushes without one waiting for another.
//! A server that does not read holds back commands, never the reading: two sides that both insist on writing would wait for ever.
//! All sockets of a thread read into one buffer: a socket that waits holds no memory for what may come.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use base64::Engine as _;
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue},
};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::Sleep,
};

use super::{
    Auth, Close, ConnectError, Ending, Options,
    engine::{Handshake, Packet},
    frame::{self, Frame, Opcode, Reader},
    session::{Command, Dialect, Session, Step},
};
use crate::http::dial;

/// How long the server may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// What is read in one go.
const READ_BYTES: usize = 64 << 10;
/// The largest answer to a handshake.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What an empty write buffer may keep of its former size.
const KEPT_BYTES: usize = 1024;

thread_local! {
    /// What the sockets of this thread read into, one after another.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A websocket without TLS.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    reader: Reader,
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
}

impl Stream {
    /// Writes a text and waits until it is out.
    pub async fn send_text(&mut self, text: &str) -> io::Result<()> {
        frame::write(&mut self.out, Opcode::Text, text.as_bytes());
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Waits for the next text, or the end; what came with it is kept.
    pub async fn next_text(&mut self) -> Result<Result<String, Close>, ConnectError> {
        let mut bytes = Vec::new();
        loop {
            let shown = self.reader.feed(&bytes, |frame| match frame {
                Frame::Text(text) => Some(Ok(text.to_owned())),
                Frame::Close(reason) => Some(Err(close_of(reason))),
                Frame::Ping(payload) => {
                    frame::write(&mut self.out, Opcode::Pong, payload);
                    None
                }
                Frame::Binary | Frame::Pong => None,
            });
            if let Some(shown) = shown.map_err(|error| ConnectError::Protocol(error.to_owned()))? {
                return Ok(shown);
            }
            bytes.clear();
            if self.tcp.read_buf(&mut bytes).await.map_err(|error| ConnectError::Io(error.to_string()))? == 0 {
                return Ok(Err(lost("the connection ended")));
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.out[self.written..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.discard();
        Poll::Ready(Ok(()))
    }

    fn discard(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES);
        self.written = 0;
    }

    /// Reads once and shows the whole frames, with the time at which they were there. `on_frame` may write.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut on_frame: impl FnMut(Frame<'_>, Instant, &mut Vec<u8>) -> Option<Close>,
    ) -> Poll<Option<Close>> {
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        let polled = Pin::new(&mut self.tcp).poll_read(cx, &mut buffer);
        let end = match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(lost(&error.to_string()))),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Some(lost("the connection ended"))),
            Poll::Ready(Ok(())) => {
                let (at, out) = (Instant::now(), &mut self.out);
                let shown = self.reader.feed(buffer.filled(), |frame| on_frame(frame, at, out));
                Poll::Ready(shown.unwrap_or_else(|error| Some(Close::new(Ending::Protocol, None, error))))
            }
        };
        SCRATCH.set(scratch);
        end
    }
}

/// Asks for a websocket. `Err` is an answer that is none.
async fn handshake(options: &Options, path: &str, headers: &[(String, String)]) -> Result<Stream, ConnectError> {
    let io_error = |error: io::Error| ConnectError::Io(error.to_string());
    let protocol_error = |error: &dyn std::fmt::Display| ConnectError::Protocol(error.to_string());
    let key = base64::prelude::BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    let own = [
        ("host", options.authority()),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", &key),
    ];
    let given = headers.iter().chain(&options.headers).map(|(name, value)| (name.as_str(), value.as_str()));
    let mut fields = HeaderMap::new();
    for (name, value) in own.into_iter().chain(given) {
        let name = HeaderName::try_from(name).map_err(|error| protocol_error(&error))?;
        fields.insert(name, HeaderValue::try_from(value).map_err(|error| protocol_error(&error))?);
    }
    let mut request = format!("GET {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &fields {
        request.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");

    let mut tcp = dial(options.authority(), options.source).await.map_err(io_error)?;
    tcp.write_all(&request).await.map_err(io_error)?;
    let mut answer = Vec::with_capacity(512);
    loop {
        if tcp.read_buf(&mut answer).await.map_err(io_error)? == 0 {
            return Err(ConnectError::Io("the connection ended amid the handshake".to_owned()));
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        if let httparse::Status::Complete(length) = head.parse(&answer).map_err(|error| protocol_error(&error))? {
            let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
            let status = head.code.unwrap_or_default();
            if status != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
                let size = field(CONTENT_LENGTH.as_str()).and_then(|size| std::str::from_utf8(size).ok()?.parse().ok()).unwrap_or(0);
                let body = answer.split_off(length);
                return Err(ConnectError::Http { status, body: rest_of_body(tcp, body, size).await });
            }
            let expected = base64::prelude::BASE64_STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
            if field("sec-websocket-accept") != Some(expected.as_bytes()) {
                return Err(ConnectError::Protocol("the answer to the handshake is of another key".to_owned()));
            }
            let mut reader = Reader::default();
            reader.keep(&answer[length..]);
            return Ok(Stream { tcp, reader, out: Vec::new(), written: 0 });
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(ConnectError::Protocol("the answer to the handshake is too long".to_owned()));
        }
    }
}

/// The body of a refusal; what cannot be read of it is left out.
async fn rest_of_body(tcp: TcpStream, mut body: Vec<u8>, size: usize) -> String {
    let missing = size.min(MAX_ANSWER_BYTES).saturating_sub(body.len());
    let _ = tcp.take(missing as u64).read_to_end(&mut body).await;
    String::from_utf8_lossy(&body).into_owned()
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
    match stream.next_text().await?.map(|text| match Packet::parse(&text) {
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
    stream.send_text("2probe").await.map_err(|error| ConnectError::Io(error.to_string()))?;
    match stream.next_text().await? {
        Ok(text) if text == "3probe" => Ok(stream),
        Ok(text) => Err(ConnectError::Protocol(format!("the answer to the probe is {text:.100}"))),
        Err(close) => Err(ConnectError::Closed(close)),
    }
}

fn lost(reason: &str) -> Close {
    Close::new(Ending::Lost, None, reason)
}

fn close_of(reason: Option<(u16, &str)>) -> Close {
    let (code, reason) = reason.map_or((None, ""), |(code, reason)| (Some(code), reason));
    Close::new(Ending::CloseFrame, code, reason)
}

/// The loop of one socket.
struct Drive {
    stream: Stream,
    commands: mpsc::Receiver<Command>,
    reading: bool,
    /// A farewell has been said: what ends the socket now is this side's will.
    closing: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Drives a socket from its handshake to its end; `first` is sent before anything else.
pub async fn run(stream: Stream, mut session: Session, commands: mpsc::Receiver<Command>, first: Vec<String>) {
    let mut drive = Drive { stream, commands, reading: true, closing: false, alarm: None };
    for text in first {
        drive.write(Opcode::Text, text.as_bytes());
    }
    drive.set_alarm(session.deadline());
    let close = match drive.read_kept(&mut session) {
        Some(close) => close,
        None => std::future::poll_fn(|cx| drive.poll(cx, &mut session)).await,
    };
    // An abort drops the connection as it is; a close frame that waits goes out in any other case.
    if !drive.stream.is_flushed() && close.ending != Ending::Local {
        let _ = tokio::time::timeout(FAREWELL, std::future::poll_fn(|cx| drive.stream.poll_flush(cx))).await;
    }
    drop(drive);
    session.finish(close);
}

impl Drive {
    fn set_alarm(&mut self, deadline: Option<tokio::time::Instant>) {
        match (deadline, &mut self.alarm) {
            (Some(deadline), Some(alarm)) => alarm.as_mut().reset(deadline),
            (Some(deadline), none) => *none = Some(Box::pin(tokio::time::sleep_until(deadline))),
            (None, alarm) => *alarm = None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Close> {
        loop {
            if !self.stream.is_flushed()
                && let Poll::Ready(Err(error)) = self.stream.poll_flush(cx)
            {
                self.stream.discard();
                // While reading, the server's last frames, its close code above all, may lie unread.
                if !self.reading {
                    return Poll::Ready(lost(&error.to_string()));
                }
            }
            if self.reading
                && let Poll::Ready(end) = self.poll_frames(cx, session)
            {
                match end {
                    Some(close) => return Poll::Ready(close),
                    None => continue,
                }
            }
            if self.stream.is_flushed()
                && !self.closing
                && let Poll::Ready(command) = self.commands.poll_recv(cx)
            {
                match self.on_command(cx, command, session) {
                    Some(close) => return Poll::Ready(close),
                    None => continue,
                }
            }
            if (self.reading || self.closing)
                && let Some(alarm) = &mut self.alarm
                && alarm.as_mut().poll(cx).is_ready()
            {
                let (ending, reason) =
                    if self.closing { (Ending::Local, "closed by this side") } else { (Ending::Silent, "no ping in time") };
                return Poll::Ready(Close::new(ending, None, reason));
            }
            return Poll::Pending;
        }
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Option<Close>> {
        let deadline = session.deadline();
        let closing = self.closing;
        let end = ready!(self.stream.poll_read(cx, |frame, at, out| on_frame(frame, at, out, session)));
        if session.deadline() != deadline && !closing {
            self.set_alarm(session.deadline());
        }
        Poll::Ready(end.map(|close| self.judge(close)))
    }

    /// What the handshake read beyond its own end.
    fn read_kept(&mut self, session: &mut Session) -> Option<Close> {
        let (at, out) = (Instant::now(), &mut self.stream.out);
        let shown = self.stream.reader.feed(&[], |frame| on_frame(frame, at, out, session));
        shown.unwrap_or_else(|error| Some(Close::new(Ending::Protocol, None, error)))
    }

    /// Once this side has said goodbye, however the connection ends is as it wished.
    fn judge(&self, close: Close) -> Close {
        if self.closing && matches!(close.ending, Ending::CloseFrame | Ending::Lost) {
            return Close::new(Ending::Local, None, "closed by this side");
        }
        close
    }

    fn write(&mut self, opcode: Opcode, payload: &[u8]) {
        frame::write(&mut self.stream.out, opcode, payload);
    }

    fn on_command(&mut self, cx: &mut Context<'_>, command: Option<Command>, session: &mut Session) -> Option<Close> {
        match command {
            Some(Command::Emit { event, data, reply }) => {
                let text = session.encode(&event, &data, reply);
                self.write(Opcode::Text, text.as_bytes());
            }
            Some(Command::Text(text)) => self.write(Opcode::Text, text.as_bytes()),
            Some(Command::Binary(bytes)) => self.write(Opcode::Binary, &bytes),
            Some(Command::Bytes(bytes)) => self.stream.out.extend_from_slice(&bytes),
            Some(Command::Reading(reading)) => {
                self.reading = reading;
                session.revive();
                self.set_alarm(session.deadline());
            }
            Some(Command::HalfClose) => {
                if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream.tcp).poll_shutdown(cx) {
                    return Some(lost(&error.to_string()));
                }
            }
            Some(Command::Abort) => return Some(Close::new(Ending::Local, None, "dropped by this side")),
            Some(Command::Close) | None => self.say_goodbye(session),
        }
        None
    }

    fn say_goodbye(&mut self, session: &Session) {
        self.closing = true;
        self.reading = true;
        self.set_alarm(Some(tokio::time::Instant::now() + FAREWELL));
        if session.dialect() == Dialect::SocketIo {
            self.write(Opcode::Text, b"41");
        }
        self.write(Opcode::Close, &[]);
    }
}

fn on_frame(frame: Frame<'_>, at: Instant, out: &mut Vec<u8>, session: &mut Session) -> Option<Close> {
    match frame {
        Frame::Text(text) => match session.read(text, at) {
            Step::Continue => None,
            Step::Reply(reply) => {
                frame::write(out, Opcode::Text, reply.as_bytes());
                None
            }
            Step::End(close) => Some(close),
        },
        Frame::Ping(payload) => {
            frame::write(out, Opcode::Pong, payload);
            None
        }
        Frame::Pong => None,
        Frame::Binary => Some(Close::new(Ending::Protocol, None, "a binary frame")),
        Frame::Close(reason) => {
            let code = reason.map(|(code, _)| code.to_be_bytes());
            frame::write(out, Opcode::Close, code.as_ref().map_or(&[], |code| &code[..]));
            Some(close_of(reason))
        }
    }
}
