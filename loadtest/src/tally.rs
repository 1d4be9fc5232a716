//! What the sockets of one thread have seen in a phase. Each socket writes into it from its own task, so its lock is never fought for;
//! at the end it becomes a [`Part`], which can be written down, sent, and laid together with the parts of other threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    histogram::{Latencies, Windows},
    ledger::{Ledger, Ranges, Sight},
    plan::Plan,
    shard::Resumed,
    stamp::{self, Stamp},
};

/// Counters that may be read while a phase goes on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Handed to sockets.
    pub sent: AtomicU64,
    /// Answered with a message.
    pub acknowledged: AtomicU64,
    /// Answered with an error.
    pub refused: AtomicU64,
    /// Received, each once a receiver.
    pub received: AtomicU64,
    /// Other events.
    pub other_events: AtomicU64,
    /// Sockets that have ended.
    pub closed: AtomicU64,
}

impl Counters {
    fn reset(&self) {
        for counter in [&self.sent, &self.acknowledged, &self.refused, &self.received, &self.other_events] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a receiver keeps: a ledger for each stream that it hears.
#[derive(Debug)]
struct Receiver {
    socket: u32,
    first: u32,
    own: Option<u32>,
    ledgers: Vec<Ledger>,
    /// The highest place in the conversation that came.
    last_seq: u64,
}

/// What became of a message that this thread sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unanswered,
    Acknowledged,
    Refused,
}

/// A phase as one thread sees it.
#[derive(Debug)]
struct Tally {
    plan: Arc<Plan>,
    receivers: Vec<Receiver>,
    fates: Vec<Fate>,
    part: Part,
}

/// What one thread has to tell of a phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Messages handed to sockets.
    pub sent: u64,
    /// Messages that the harness could not hand over, for too many waited or the socket had ended.
    pub unsent: u64,
    /// Acknowledged numbers by stream.
    pub acknowledged: BTreeMap<u32, Ranges>,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
    /// What each receiver saw of each stream.
    pub heard: Vec<(u32, u32, Ledger)>,
    /// Acks that came while it was measured.
    pub acknowledged_in_time: u64,
    /// Deliveries that came while it was measured.
    pub received_in_time: u64,
    /// Messages of other phases or other runs.
    pub strays: u64,
    /// Acks that nobody asked for, or a second time.
    pub stray_acks: u64,
    /// How sockets ended, with how many.
    pub closed: BTreeMap<String, u64>,
    /// From the intended time to the ack.
    pub ack: Latencies,
    /// From the intended time to the delivery.
    pub receive: Latencies,
    /// Deliveries by the time that they were due.
    pub windows: Windows,
    /// How late the pacer was.
    pub pacer_lag: Latencies,
    /// How long what was handed to the thread's event loop waited there.
    pub loop_lag: Latencies,
}

impl Part {
    /// Lays another part of the same phase to it.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.acknowledged.extend(other.acknowledged);
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.heard.extend(other.heard);
        self.acknowledged_in_time += other.acknowledged_in_time;
        self.received_in_time += other.received_in_time;
        self.strays += other.strays;
        self.stray_acks += other.stray_acks;
        for (reason, count) in other.closed {
            *self.closed.entry(reason).or_default() += count;
        }
        self.ack.add(&other.ack);
        self.receive.add(&other.receive);
        self.windows.add(&other.windows);
        self.pacer_lag.add(&other.pacer_lag);
        self.loop_lag.add(&other.loop_lag);
    }
}

/// The book of one thread: its tally of the phase under way.
#[derive(Debug, Default)]
pub struct Book {
    /// What may be read meanwhile.
    pub counters: Counters,
    /// Sockets that asked to be brought up to date, and were answered.
    pub resumed: Mutex<Vec<Resumed>>,
    tally: Mutex<Option<Tally>>,
}

impl Book {
    /// Starts a phase for these sockets of the thread.
    pub fn begin(&self, plan: &Arc<Plan>, sockets: &[u32]) {
        let receiver = |socket: &u32| {
            let hearing = plan.cast.hearing.get(*socket as usize).cloned().unwrap_or_default();
            let ledgers = vec![Ledger::default(); hearing.streams.len()];
            Receiver { socket: *socket, first: hearing.streams.start, own: hearing.own, ledgers, last_seq: 0 }
        };
        let part = Part { windows: Windows::new(plan.pace.window.as_nanos() as u64, plan.measured_ns.end), ..Part::default() };
        let receivers = sockets.iter().map(receiver).collect();
        let fates = vec![Fate::Unanswered; plan.due_ns.len()];
        self.counters.reset();
        *self.tally.lock() = Some(Tally { plan: Arc::clone(plan), receivers, fates, part });
    }

    /// Ends it.
    pub fn end(&self) -> Part {
        self.tally.lock().take().map(Tally::finish).unwrap_or_default()
    }

    /// The highest place in its conversation that has come to a socket.
    pub fn known(&self, place: usize) -> u64 {
        self.tally.lock().as_ref().and_then(|tally| tally.receivers.get(place)).map_or(0, |receiver| receiver.last_seq)
    }

    /// A message has come to the socket at this place of the thread.
    pub fn received(&self, place: usize, data: &str, at: Instant) {
        if let Some(tally) = &mut *self.tally.lock() {
            match Stamp::find(data.as_bytes()) {
                Some(stamp) if stamp.run == tally.plan.run => tally.received(place, stamp, stamp::seq(data.as_bytes()), at, &self.counters),
                _ => tally.part.strays += 1,
            }
        }
    }

    /// A command has been answered.
    pub fn answered(&self, id: u64, answer: Result<&str, &str>, at: Instant) {
        if let Some(tally) = &mut *self.tally.lock() {
            tally.answered(id, answer, at, &self.counters);
        }
    }

    /// A socket has ended.
    pub fn closed(&self, reason: String) {
        count(&self.counters.closed);
        if let Some(tally) = &mut *self.tally.lock() {
            *tally.part.closed.entry(reason).or_default() += 1;
        }
    }

    /// What was handed to the event loop waited so long.
    pub fn loop_lag(&self, ns: u64) {
        if let Some(tally) = &mut *self.tally.lock() {
            tally.part.loop_lag.record_ns(ns);
        }
    }

    /// The deliveries that were due around this time, if a phase goes on.
    pub fn window_around(&self, at_ns: u64) -> Option<Latencies> {
        self.tally.lock().as_ref().and_then(|tally| tally.part.windows.around(at_ns).cloned())
    }
}

impl Tally {
    fn received(&mut self, place: usize, stamp: Stamp, seq: Option<u64>, at: Instant, counters: &Counters) {
        let (Some(index), Some(receiver)) = (self.plan.index(stamp.stream, stamp.n), self.receivers.get_mut(place)) else {
            self.part.strays += 1;
            return;
        };
        let ledger = stamp.stream.checked_sub(receiver.first).and_then(|place| receiver.ledgers.get_mut(place as usize));
        let Some(ledger) = ledger.filter(|_| receiver.own != Some(stamp.stream)) else {
            self.part.strays += 1;
            return;
        };
        let sight = ledger.see(stamp.n);
        if sight == Sight::Again {
            return;
        }
        let overtaken = seq.is_some_and(|seq| seq < receiver.last_seq);
        receiver.last_seq = receiver.last_seq.max(seq.unwrap_or(0));
        ledger.reordered += u64::from(overtaken || (self.plan.pace.in_order && sight == Sight::Late));
        count(&counters.received);

        let due = self.plan.due_ns[index];
        let came = self.plan.origin.since_ns(at);
        let took = came.saturating_sub(due);
        if self.plan.measured_ns.contains(&due) {
            self.part.receive.record_ns(took);
        }
        self.part.received_in_time += u64::from(self.plan.measured_ns.contains(&came));
        self.part.windows.record(due, took);
        self.plan.note_last(index, took);
    }

    fn answered(&mut self, id: u64, answer: Result<&str, &str>, at: Instant, counters: &Counters) {
        let Some(index) = self.plan.acknowledged(id).filter(|index| self.fates[*index] == Fate::Unanswered) else {
            self.part.stray_acks += 1;
            return;
        };
        match answer {
            Ok(_) => {
                self.fates[index] = Fate::Acknowledged;
                count(&counters.acknowledged);
                let due = self.plan.due_ns[index];
                let came = self.plan.origin.since_ns(at);
                if self.plan.measured_ns.contains(&due) {
                    self.part.ack.record_ns(came.saturating_sub(due));
                }
                self.part.acknowledged_in_time += u64::from(self.plan.measured_ns.contains(&came));
            }
            Err(error) => {
                self.fates[index] = Fate::Refused;
                count(&counters.refused);
                *self.part.refused.entry(code_of(error)).or_default() += 1;
            }
        }
    }

    fn finish(mut self) -> Part {
        for (index, fate) in self.fates.iter().enumerate() {
            if *fate == Fate::Acknowledged {
                let (stream, n) = self.plan.place(index);
                self.part.acknowledged.entry(stream).or_default().push(n, n + 1);
            }
        }
        for receiver in self.receivers {
            for (stream, ledger) in (receiver.first..).zip(receiver.ledgers) {
                if receiver.own != Some(stream) {
                    self.part.heard.push((receiver.socket, stream, ledger));
                }
            }
        }
        self.part
    }
}

/// The machine code of a refusal.
fn code_of(error: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
    }
    serde_json::from_str(error).map_or_else(|_| "no code".to_owned(), |refusal: Refusal| refusal.code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::{
        outcome::Outcome,
        plan::{Cast, Hearing, Pace, Stream},
        sample::Usage,
        schedule::{Arrivals, Stretch},
    };

    /// Two people who write to each other ten times each, one on each thread.
    fn plan() -> Arc<Plan> {
        let stream = |sender| Stream { sender, conversation_id: "c".to_owned() };
        let hearing = |socket: u32| Hearing { streams: (socket ^ 1)..(socket ^ 1) + 1, own: None };
        let cast = Cast { streams: vec![stream(0), stream(1)], hearing: vec![hearing(0), hearing(1)], receivers: 1 };
        let pace = Pace {
            stretches: vec![Stretch { rate: 20.0, length: Duration::from_secs(1) }],
            arrivals: Arrivals::Constant,
            seed: 0,
            warmup: Duration::ZERO,
            window: Duration::from_millis(500),
            bytes: 0,
            client_ids: true,
            in_order: true,
            last_delivery: false,
        };
        Arc::new(Plan::new(Duration::ZERO, cast, pace))
    }

    #[test]
    fn parts_of_threads_are_laid_together_after_a_journey() {
        let plan = plan();
        let books = [Book::default(), Book::default()];
        for (socket, book) in (0..).zip(&books) {
            book.begin(&plan, &[socket]);
        }
        let at = |index: usize| plan.origin.at + Duration::from_nanos(plan.due_ns[index]) + Duration::from_millis(3);
        for index in 0..20 {
            let (stream, n) = plan.place(index);
            let sender = stream as usize;
            match n {
                3 => books[sender].answered(plan.ack_id(index), Err(r#"{"code":"rate_limited"}"#), at(index)),
                4 => {}
                _ => books[sender].answered(plan.ack_id(index), Ok("{}"), at(index)),
            }
            // The fifth never arrives; the seventh does so twice.
            let data = plan.message(index);
            for _ in 0..[1, 1, 1, 1, 1, 0, 1, 2, 1, 1][n as usize] {
                books[1 - sender].received(0, &data, at(index));
            }
        }
        books[0].answered(7, Ok("{}"), at(0));
        books[0].received(0, "no stamp", at(0));
        books[1].received(0, &plan.message(1), at(0));
        let mut sum = Part { sent: 20, ..Part::default() };
        for book in &books {
            let written = serde_json::to_string(&book.end()).unwrap();
            sum.add(serde_json::from_str(&written).unwrap());
        }
        let outcome = Outcome::new(&plan, sum, vec![Usage::default()], Duration::from_secs(1), None);
        assert_eq!((outcome.acknowledged, outcome.unanswered, outcome.refused["rate_limited"]), (16, 2, 2));
        assert_eq!((outcome.received, outcome.lost, outcome.doubled, outcome.reordered), (18, 2, 2, 0));
        assert_eq!((outcome.strays, outcome.stray_acks), (2, 1));
        assert_eq!((outcome.receive.count, outcome.receive.p50_us / 10), (18, 300));
        assert_eq!(outcome.windows.iter().map(|window| window.count).collect::<Vec<_>>(), [10, 8]);
    }

    #[test]
    fn what_is_overtaken_is_reordered_by_either_number() {
        let plan = plan();
        let book = Book::default();
        book.begin(&plan, &[1]);
        let at = plan.origin.at;
        let with_seq = |index: usize, seq: u64| plan.message(index).replacen('{', &format!(r#"{{"seq":{seq},"#), 1);
        // Stream 0, numbers 1, 0, 2, 3: the second is late by its number, the fourth by its place in the conversation.
        for (index, seq) in [(2, 2), (0, 3), (4, 9), (6, 8)] {
            book.received(0, &with_seq(index, seq), at);
        }
        let part = book.end();
        assert_eq!(part.heard.iter().map(|(_, _, ledger)| ledger.reordered).sum::<u64>(), 2);
    }
}
