//! What is to happen in one phase: who sends what to whom, and when. Made before it starts and shared by all threads.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    histogram::Latencies,
    schedule::{self, Arrivals, Stretch},
    stamp::Stamp,
};

/// A point in time on both clocks: intervals are of the steady one, stamps carry Unix time, which other processes know too.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// On the steady clock.
    pub at: Instant,
    /// The same in Unix time.
    pub unix_ns: u64,
}

impl Origin {
    /// A point so far from now.
    pub fn after(delay: Duration) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + delay;
        Self { at: Instant::now() + delay, unix_ns: unix.as_nanos() as u64 }
    }

    /// How long after it this is; 0 when before.
    pub fn since_ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.at).as_nanos() as u64
    }
}

/// One sender's messages into one conversation.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The socket that sends them.
    pub sender: u32,
    /// Where to.
    pub conversation_id: String,
}

/// Which streams a socket hears.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    /// These,
    pub streams: Range<u32>,
    /// but for its own: who sends over a socket is answered by the ack.
    pub own: Option<u32>,
}

/// Who writes to whom.
#[derive(Clone, Debug)]
pub struct Cast {
    /// All streams; a stream's number is its place.
    pub streams: Vec<Stream>,
    /// What each socket hears.
    pub hearing: Vec<Hearing>,
    /// How many receive each message.
    pub receivers: u64,
}

/// How a phase goes.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Its rates.
    pub stretches: Vec<Stretch>,
    /// Constant or at random.
    pub arrivals: Arrivals,
    /// What repeats the random.
    pub seed: u64,
    /// What is left out of the histograms at its start.
    pub warmup: Duration,
    /// The length of the windows.
    pub window: Duration,
    /// The length of a message.
    pub bytes: usize,
    /// Whether messages carry a client_message_id.
    pub client_ids: bool,
    /// Whether a stream's messages are sent one after the other over one socket, so that they must come in that order.
    pub in_order: bool,
    /// Whether each message's last delivery is looked at.
    pub last_delivery: bool,
}

/// One phase.
#[derive(Debug)]
pub struct Plan {
    /// What its stamps say.
    pub run: u32,
    /// Its start.
    pub origin: Origin,
    /// How it goes.
    pub pace: Pace,
    /// Who writes to whom.
    pub cast: Cast,
    /// When each message is due, from the start.
    pub due_ns: Vec<u64>,
    /// What counts for the histograms, by when it was due.
    pub measured_ns: Range<u64>,
    /// The longest delivery of each message, if that is wanted.
    last_ns: Vec<AtomicU64>,
}

impl Plan {
    /// A phase that starts so long after everything has been thought out.
    pub fn new(lead: Duration, cast: Cast, pace: Pace) -> Self {
        let due_ns = schedule::build(&pace.stretches, pace.arrivals, pace.seed);
        let length: Duration = pace.stretches.iter().map(|stretch| stretch.length).sum();
        let last = if pace.last_delivery { due_ns.len() } else { 0 };
        Self {
            run: fastrand::u32(1..),
            measured_ns: pace.warmup.min(length).as_nanos() as u64..length.as_nanos() as u64,
            last_ns: (0..last).map(|_| AtomicU64::new(0)).collect(),
            due_ns,
            cast,
            pace,
            origin: Origin::after(lead),
        }
    }

    /// How long messages are sent.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.measured_ns.end)
    }

    /// Which stream a message belongs to, and as which number.
    pub fn place(&self, index: usize) -> (u32, u32) {
        let streams = self.cast.streams.len().max(1);
        ((index % streams) as u32, (index / streams) as u32)
    }

    /// The message of a stream's number; none if none was planned.
    pub fn index(&self, stream: u32, n: u32) -> Option<usize> {
        let index = n as usize * self.cast.streams.len() + stream as usize;
        (index < self.due_ns.len()).then_some(index)
    }

    /// The stamp of a message.
    pub fn stamp(&self, index: usize) -> Stamp {
        let (stream, n) = self.place(index);
        Stamp { run: self.run, stream, n, due_ns: self.origin.unix_ns + self.due_ns[index] }
    }

    /// The JSON of a message; doors and REST take the same.
    pub fn message(&self, index: usize) -> String {
        let stamp = self.stamp(index);
        let conversation_id = self.cast.streams.get(stamp.stream as usize).map_or("", |stream| &stream.conversation_id);
        let content = stamp.content(self.pace.bytes);
        let client_id = if self.pace.client_ids {
            format!(r#","clientMessageId":"{:08x}-{}-{}""#, stamp.run, stamp.stream, stamp.n)
        } else {
            String::new()
        };
        format!(r#"{{"conversationId":"{conversation_id}","content":"{content}","messageType":"TEXT"{client_id}}}"#)
    }

    /// The ack id of a message; it tells phases apart.
    pub fn ack_id(&self, index: usize) -> u64 {
        u64::from(self.run & 0xffff) << 32 | index as u64
    }

    /// The message of an ack id; none if it is of another phase.
    pub fn acknowledged(&self, id: u64) -> Option<usize> {
        let index = (id & 0xffff_ffff) as usize;
        (id >> 32 == u64::from(self.run & 0xffff) && index < self.due_ns.len()).then_some(index)
    }

    /// Takes note of how long a delivery took.
    pub fn note_last(&self, index: usize, ns: u64) {
        if let Some(last) = self.last_ns.get(index) {
            last.fetch_max(ns.max(1), Ordering::Relaxed);
        }
    }

    /// How long the last delivery of each measured message took; those that nobody received are not among them.
    pub fn last_deliveries(&self) -> Option<Latencies> {
        let mut last = Latencies::default();
        for (due, ns) in self.due_ns.iter().zip(&self.last_ns) {
            let ns = ns.load(Ordering::Relaxed);
            if ns > 0 && self.measured_ns.contains(due) {
                last.record_ns(ns);
            }
        }
        self.pace.last_delivery.then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_again() {
        let streams = (0..3).map(|sender| Stream { sender, conversation_id: sender.to_string() }).collect();
        let cast = Cast { streams, hearing: Vec::new(), receivers: 1 };
        let pace = Pace {
            stretches: vec![Stretch { rate: 10.0, length: Duration::from_secs(2) }],
            arrivals: Arrivals::Constant,
            seed: 0,
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(1),
            bytes: 0,
            client_ids: false,
            in_order: true,
            last_delivery: true,
        };
        let plan = Plan::new(Duration::ZERO, cast, pace);
        for index in 0..20 {
            let (stream, n) = plan.place(index);
            assert_eq!(plan.index(stream, n), Some(index));
            assert_eq!(plan.acknowledged(plan.ack_id(index)), Some(index));
            plan.note_last(index, 1_000_000);
        }
        assert_eq!((plan.index(2, 6), plan.acknowledged(plan.ack_id(20)), plan.acknowledged(3)), (None, None, None));
        let counted = plan.last_deliveries().map(|last| last.count());
        assert_eq!(counted, Some(10), "the warm-up is left out");
    }
}
