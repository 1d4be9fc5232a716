//! What waits for one socket: bounded in frames and bytes, losing typing and presence first, and whatever is put in while it
//! closes. Who wakes whom is the socket's business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::close::CloseReason;
use super::outgoing::Outgoing;
use super::socketio::dialect::Dialect;
use crate::id::ConversationId;

/// Bytes that may wait for one socket.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// How long a socket that closes in good order may take to read what waits.
const ORDERLY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Frame {
    Event(Arc<Outgoing>),
    /// Encoded by the door that writes it.
    Reply(Utf8Bytes),
}

impl Frame {
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(outgoing) => outgoing.weight(),
            Self::Reply(text) => text.len(),
        }
    }

    pub fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Event(outgoing) if outgoing.is_ephemeral())
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    pub max_waiting: usize,
    pub frames: VecDeque<Frame>,
    pub bytes: usize,
    pub closing: Option<CloseReason>,
    /// When a stuck write is waited for no longer, once it closes.
    pub closed_at: Option<Instant>,
    /// A command is under way: a close in good order waits for its answer.
    pub is_asked: bool,
    /// Its side of the talk is over: nobody makes room any more.
    pub is_over: bool,
    pub opened: Vec<ConversationId>,
    pub dialect: Dialect,
}

impl Outbox {
    pub fn new(max_waiting: usize) -> Self {
        let (opened, dialect) = (Vec::new(), Dialect::default());
        Self {
            max_waiting,
            frames: VecDeque::new(),
            bytes: 0,
            closing: None,
            closed_at: None,
            is_asked: false,
            is_over: false,
            opened,
            dialect,
        }
    }

    pub fn has_room(&self, weight: usize) -> bool {
        self.frames.len() < self.max_waiting && self.bytes + weight <= MAX_WAITING_BYTES
    }

    pub fn is_crowded(&self) -> bool {
        self.frames.len() >= self.max_waiting / 2 || self.bytes >= MAX_WAITING_BYTES / 2
    }

    pub fn push(&mut self, frame: Frame) {
        let weight = frame.weight();
        let is_answer = matches!(frame, Frame::Reply(_)) && self.awaits_answer();
        if (self.closing.is_some() && !is_answer) || self.is_over || (frame.is_ephemeral() && self.is_crowded()) {
            return;
        }
        if !self.has_room(weight) {
            self.frames.retain(|frame| !frame.is_ephemeral());
            self.bytes = self.frames.iter().map(Frame::weight).sum();
        }
        if self.has_room(weight) {
            self.bytes += weight;
            self.frames.push_back(frame);
        } else {
            self.close(CloseReason::TooSlow);
        }
    }

    /// Whether it closes, once what is under way has been answered.
    pub fn awaits_answer(&self) -> bool {
        self.is_asked && self.closing.is_some_and(CloseReason::is_orderly)
    }

    /// Why it closes, when nothing is to be waited for any more.
    pub fn closes(&self) -> Option<CloseReason> {
        self.closing.filter(|_| !self.awaits_answer())
    }

    pub fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
            self.closed_at = Some(Instant::now() + if reason.is_orderly() { ORDERLY_TIMEOUT } else { Duration::ZERO });
            if !reason.is_orderly() {
                self.frames = VecDeque::new();
                self.bytes = 0;
            }
        }
    }
}
