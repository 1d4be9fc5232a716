//! A WebSocket connection as both doors drive it: from the HTTP upgrade to the close handshake, in the task of its socket.
//! All that waits goes out in one write; reading goes on while a write is stuck. What frames mean is not known in here.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use poem::http::{StatusCode, header};
use poem::{OnUpgrade, Request, Response, Upgraded};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WireError, Message, Utf8Bytes};

use super::doors::{Settings, refused};
use super::{Batch, CloseReason, Gateway, Mark, Socket};
use crate::error::Error;

/// How long the peer may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// What is read and thrown away while the peer does not know yet that we close, in bytes.
const MAX_DISCARDED: usize = 8 << 20;
/// Read in one go; every socket keeps that much. Commands are smaller, and what is larger is read in several goes.
const READ_BUFFER: usize = 1024;
/// Small frames are gathered up to here before the write.
const WRITE_BUFFER: usize = 32 << 10;
/// What a stuck write may hold, in bytes.
const MAX_WRITE_BUFFER: usize = 4 << 20;
/// See [`Wire::controls`].
const MAX_CONTROLS: u32 = 16;

/// The answer to a request that asks for a WebSocket, and the connection to come.
///
/// # Errors
/// The HTTP answer to a request that is none.
pub fn accept(request: &Request) -> Result<(Response, OnUpgrade), Box<Response>> {
    let has = |name: header::HeaderName, token: &str| {
        let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let is_handshake = has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket") && has(header::SEC_WEBSOCKET_VERSION, "13");
    match (key, request.take_upgrade()) {
        (Some(key), Ok(upgrade)) if is_handshake => {
            let response = Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
                .finish();
            Ok((response, upgrade))
        }
        _ => {
            let mut response =
                refused(StatusCode::UPGRADE_REQUIRED, &Error::bad_request("this is a WebSocket: connect with a WebSocket client"));
            response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
            Err(Box::new(response))
        }
    }
}

/// What happened on the wire.
#[derive(Debug)]
pub enum Turn {
    /// A text frame came.
    Text(Utf8Bytes),
    /// A binary frame came; nothing of ours.
    Binary,
    /// The peer is alive.
    Alive,
    /// All that was queued is with the kernel, these messages with it.
    Written(Vec<Mark>),
    /// A frame over the limit is on its way.
    TooLarge,
    /// The connection is closed, lost or not spoken rightly.
    Gone,
}

/// See the module.
pub struct Wire {
    stream: WebSocketStream<Gate>,
    queued: std::vec::IntoIter<Utf8Bytes>,
    marks: Vec<Mark>,
    unflushed: bool,
    /// Answers of the protocol itself that wait to be flushed: a peer that asks for more of them must read some first.
    controls: u32,
    unreadable: bool,
}

impl Wire {
    /// Takes over an upgraded connection; what comes is bounded until [`Wire::trust`].
    pub async fn new(upgraded: Upgraded, settings: &Settings) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .max_frame_size(Some(settings.max_frame_bytes))
            .max_message_size(Some(settings.max_frame_bytes));
        let gate = Gate { stream: upgraded, allowance: Some(settings.max_stranger_bytes), has_moved: false };
        let stream = WebSocketStream::from_raw_socket(gate, Role::Server, Some(config)).await;
        Self { stream, queued: Vec::new().into_iter(), marks: Vec::new(), unflushed: false, controls: 0, unreadable: false }
    }

    /// The peer has authenticated: from here on only frames are bounded, no longer their sum.
    pub fn trust(&mut self) {
        self.stream.get_mut().allowance = None;
    }

    /// Whether everything queued has been written.
    pub fn is_idle(&self) -> bool {
        self.queued.len() == 0 && !self.unflushed
    }

    /// Queues frames; only while idle.
    fn queue(&mut self, batch: Batch) {
        debug_assert!(self.is_idle(), "frames are queued one batch at a time");
        self.unflushed |= !batch.frames.is_empty();
        self.queued = batch.frames.into_iter();
        self.marks = batch.marks;
    }

    /// Queues what waits for a socket; only while idle. When the socket closes, writes the rest at once and gives back why.
    pub async fn flow(&mut self, gateway: &dyn Gateway, socket: &Arc<Socket>) -> Option<CloseReason> {
        let batch = socket.take(usize::MAX);
        let closing = batch.closing;
        self.queue(batch);
        if closing.is_some() && !self.is_idle() {
            let marks = self.finish().await;
            if !marks.is_empty() {
                gateway.wrote(socket, &marks);
            }
        }
        closing
    }

    /// Queues one frame, in front of nothing: for the packets of the transport itself.
    pub fn put(&mut self, text: impl Into<Utf8Bytes>) -> bool {
        self.control(Message::Text(text.into()))
    }

    /// Queues a ping.
    pub fn ping(&mut self) -> bool {
        self.control(Message::Ping(Bytes::new()))
    }

    /// Whether the peer has taken something since this was asked last, or nothing waits for it. While nothing is read, a
    /// command being carried out, this says of a peer what else its answer to a ping does.
    pub fn is_moving(&mut self) -> bool {
        let has_moved = std::mem::take(&mut self.stream.get_mut().has_moved);
        has_moved || self.is_idle()
    }

    fn control(&mut self, message: Message) -> bool {
        self.unflushed = true;
        self.controls += 1;
        self.stream.start_send_unpin(message).is_ok()
    }

    /// Writes what is queued and, if `reading`, reads a frame: whichever is ready first. Safe to cancel.
    pub async fn turn(&mut self, reading: bool) -> Turn {
        poll_fn(|cx| self.poll_turn(reading, cx)).await
    }

    fn poll_turn(&mut self, reading: bool, cx: &mut Context<'_>) -> Poll<Turn> {
        // Reading first: each frame read makes the socket busy until it is answered, so writes cannot starve.
        if reading && !self.unreadable && self.controls < MAX_CONTROLS {
            match self.stream.poll_next_unpin(cx) {
                Poll::Ready(frame) => return Poll::Ready(self.read(frame)),
                Poll::Pending => {}
            }
        }
        match self.poll_write(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Turn::Written(std::mem::take(&mut self.marks))),
            Poll::Ready(Err(_)) => Poll::Ready(Turn::Gone),
            Poll::Pending => Poll::Pending,
        }
    }

    fn read(&mut self, frame: Option<Result<Message, WireError>>) -> Turn {
        match frame {
            Some(Ok(Message::Text(text))) => Turn::Text(text),
            Some(Ok(Message::Binary(_))) => Turn::Binary,
            Some(Ok(Message::Ping(_))) => {
                // tungstenite has queued the pong.
                self.controls += 1;
                self.unflushed = true;
                Turn::Alive
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Turn::Alive,
            Some(Err(WireError::Capacity(_))) => {
                self.unreadable = true;
                Turn::TooLarge
            }
            Some(Err(WireError::Io(error))) if error.kind() == io::ErrorKind::FileTooLarge => {
                self.unreadable = true;
                Turn::TooLarge
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Turn::Gone,
        }
    }

    /// Ready once all that was queued is flushed; pending while nothing is.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while self.queued.len() > 0 {
            match self.stream.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(text) = self.queued.next() {
                        self.stream.start_send_unpin(Message::Text(text))?;
                    }
                }
                other => return other,
            }
        }
        if !self.unflushed {
            return Poll::Pending;
        }
        match self.stream.poll_flush_unpin(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.controls = 0;
                self.queued = Vec::new().into_iter();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    /// Writes what is queued, at most for as long as a close may take; gives back the messages that were written.
    async fn finish(&mut self) -> Vec<Mark> {
        if self.is_idle() {
            return Vec::new();
        }
        match tokio::time::timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.poll_write(cx))).await {
            Ok(Ok(())) => std::mem::take(&mut self.marks),
            _ => Vec::new(),
        }
    }

    /// Says why, waits for the peer to say so too, and ends the connection. Never takes longer than twice the timeout.
    pub async fn close(self, reason: CloseReason, text: &str) {
        self.close_with(CloseCode::from(reason.code()), text).await;
    }

    /// Ends the connection without a close frame, once what is queued is written. A client whose library waits for its
    /// user to answer a close frame (OkHttp, under the official Java client) notices this, and would not notice that.
    pub async fn cut(mut self) {
        let _ = self.finish().await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.get_mut().stream.shutdown()).await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.discard()).await;
    }

    /// Ends the connection in peace: the peer, or its protocol, has said goodbye.
    pub async fn bye(self) {
        self.close_with(CloseCode::Normal, "").await;
    }

    async fn close_with(mut self, code: CloseCode, text: &str) {
        let end = (0..=text.len().min(123)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let frame = CloseFrame { code, reason: text[..end].into() };
        let said = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.close(Some(frame))).await;
        if matches!(said, Ok(Ok(()))) {
            // Ending the connection while something of the peer's is unread would reset it, and the close frame be lost.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.discard()).await;
        } else {
            // The peer has closed first: the answer to its close frame still waits.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.flush()).await;
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.get_mut().stream.shutdown()).await;
    }

    async fn discard(&mut self) {
        self.trust();
        while !self.unreadable {
            match self.stream.next().await {
                None | Some(Ok(Message::Close(_))) => return,
                Some(Ok(_)) => {}
                Some(Err(_)) => self.unreadable = true,
            }
        }
        let (mut left, mut buffer) = (MAX_DISCARDED, [0_u8; 1024]);
        while let Ok(count @ 1..) = self.stream.get_mut().read(&mut buffer).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    }
}

/// The connection, with what strangers may send before they have said who they are.
struct Gate {
    stream: Upgraded,
    allowance: Option<usize>,
    /// Bytes have been written since [`Wire::is_moving`].
    has_moved: bool,
}

impl AsyncRead for Gate {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.allowance == Some(0) {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.saturating_sub(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.has_moved |= matches!(written, Poll::Ready(Ok(1..)));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a heartbeat asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    /// Ping the peer.
    Ping,
    /// It did not answer the last one: it is gone, and nobody told us.
    Dead,
}

/// Pings at the settings' pace; a peer that stays silent after one is dead.
pub struct Heartbeat {
    sleep: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
    /// The last ping.
    pinged_at: Instant,
    is_waiting: bool,
}

impl Heartbeat {
    /// The first ping comes early by up to half an interval, at random: sockets that came together do not ping together.
    pub fn new(settings: &Settings) -> Self {
        let first = settings.ping_interval.mul_f32(0.5 + rand::random::<f32>() / 2.0);
        Self {
            sleep: Box::pin(tokio::time::sleep(first)),
            interval: settings.ping_interval,
            timeout: settings.ping_timeout,
            pinged_at: Instant::now(),
            is_waiting: false,
        }
    }

    /// The next beat. Safe to cancel.
    pub async fn beat(&mut self) -> Beat {
        self.sleep.as_mut().await;
        if self.is_waiting {
            return Beat::Dead;
        }
        (self.is_waiting, self.pinged_at) = (true, Instant::now());
        self.sleep.as_mut().reset(self.pinged_at + self.timeout);
        Beat::Ping
    }

    /// Something came from the peer. The next ping keeps the pace of the last one, however late that is: a client gives up when there
    /// was none for an interval and a timeout.
    pub fn heard(&mut self) {
        if self.is_waiting {
            self.is_waiting = false;
            self.sleep.as_mut().reset(self.pinged_at + self.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pings_keep_their_pace_however_late_the_peer_is_heard() {
        let (ping_interval, ping_timeout) = (Duration::from_millis(20), Duration::from_millis(10));
        let mut heartbeat = Heartbeat::new(&Settings { ping_interval, ping_timeout, ..Settings::default() });
        for _ in 0..3 {
            assert!(matches!(heartbeat.beat().await, Beat::Ping));
            let pinged_at = heartbeat.pinged_at;
            // Of a peer whose command is being carried out nothing is read: that he is alive shows when his answer is overdue.
            assert!(matches!(heartbeat.beat().await, Beat::Dead));
            heartbeat.heard();
            assert_eq!(heartbeat.sleep.deadline(), pinged_at + ping_interval);
        }
    }
}
