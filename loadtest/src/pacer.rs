//! Sends each message when it is due, whatever became of those before: a thread that sleeps to the instant and hands over.
//! The event loop's own timers are a millisecond coarse, and it would be late whenever it is busy with what comes back.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use loadtest::socket::SinkSocket;
use tokio::sync::mpsc;

use crate::{
    histogram::Latencies,
    plan::Plan,
    post::Post,
    tally::{Book, count},
};

/// How often the event loop is probed; also how soon a stop is noticed.
const PROBE_EVERY: Duration = Duration::from_millis(5);

/// The way that messages go.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// Over the sender's socket.
    Sockets(Arc<[Option<SinkSocket>]>),
    /// By POST /messages.
    Post(Post),
}

/// One thread's part of a phase.
#[derive(Debug)]
pub struct Pacer {
    /// What is due.
    pub plan: Arc<Plan>,
    /// Which of the senders are this thread's: those whose number leaves `shard` when divided by `shards`.
    pub shard: u32,
    /// How many threads there are.
    pub shards: u32,
    /// Where messages go.
    pub outlet: Outlet,
    /// Where counts go.
    pub book: Arc<Book>,
    /// The event loop's probe.
    pub probe: mpsc::UnboundedSender<Instant>,
    /// Set to end before the time.
    pub stop: Arc<AtomicBool>,
    /// Makes it late by so much with every message: for the test of the warning.
    pub hold: Duration,
}

/// What it did.
#[derive(Debug, Default)]
pub struct Paced {
    /// Messages handed over.
    pub sent: u64,
    /// Messages that could not be.
    pub unsent: u64,
    /// How late each was.
    pub lag: Latencies,
}

impl Pacer {
    /// Sends all, on this thread.
    pub fn run(self) -> Paced {
        sleep_precisely();
        let (mut paced, mut probed) = (Paced::default(), Instant::now());
        for (index, due_ns) in self.plan.due_ns.iter().enumerate() {
            let (stream, _) = self.plan.place(index);
            let Some(stream) = self.plan.cast.streams.get(stream as usize).filter(|stream| stream.sender % self.shards == self.shard)
            else {
                continue;
            };
            let due = self.plan.origin.at + Duration::from_nanos(*due_ns);
            let Some(lag) = self.wait(due, &mut probed) else { return paced };
            if self.plan.measured_ns.contains(due_ns) {
                paced.lag.record_ns(lag.as_nanos() as u64);
            }
            let data = self.plan.message(index);
            let taken = match &self.outlet {
                Outlet::Sockets(sockets) => {
                    let socket = sockets.get(stream.sender as usize).and_then(Option::as_ref);
                    socket.is_some_and(|socket| socket.send("message:sent", data, Some(self.plan.ack_id(index))).is_ok())
                }
                Outlet::Post(post) => post.send(stream.sender, self.plan.ack_id(index), data),
            };
            if taken {
                paced.sent += 1;
                count(&self.book.counters.sent);
            } else {
                paced.unsent += 1;
            }
            sleep(self.hold);
        }
        paced
    }

    /// Waits for the instant; says by how much it was missed. None: it is to stop.
    fn wait(&self, due: Instant, probed: &mut Instant) -> Option<Duration> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            if now.duration_since(*probed) >= PROBE_EVERY {
                *probed = now;
                // The loop has ended with its thread only when the run is over.
                let _ = self.probe.send(now);
            }
            match due.checked_duration_since(now) {
                Some(rest) if !rest.is_zero() => sleep(rest.min(PROBE_EVERY)),
                _ => return Some(now.saturating_duration_since(due)),
            }
        }
    }
}

/// Asks the system not to round this thread's sleeps up to its usual 50 us. Where it refuses, sleeps are that much longer.
fn sleep_precisely() {
    let thread = fs::read_link("/proc/thread-self").ok().and_then(|link| link.file_name().map(|name| Path::new("/proc").join(name)));
    if let Some(thread) = thread {
        let _ = fs::write(thread.join("timerslack_ns"), "1");
    }
}
