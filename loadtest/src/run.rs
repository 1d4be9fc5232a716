//! The field of a run: threads, sockets, sampler; and how one phase goes, from the first message to the last that is waited for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use loadtest::socket::SinkSocket;
use serde::Serialize;

use crate::{
    cli::{DoorName, Send, Settings},
    failure::{Failure, Result, Trying},
    histogram::{Latencies, Percentiles},
    outcome::{Outcome, ms},
    pacer::{Outlet, Paced, Pacer},
    people::User,
    plan::{Cast, Pace, Plan},
    post::Post,
    progress::Progress,
    sample::{Sample, Sampler, max_files},
    schedule::Stretch,
    shard::{Opening, Resumed, Seat, Shard, open},
    tally::{Counters, Part},
};

/// From the making of a plan to its first message.
const LEAD: Duration = Duration::from_millis(200);
/// When nothing comes for so long, nothing more will.
const QUIET: Duration = Duration::from_secs(2);
/// After all has come, doubles may still be on their way.
const LINGER: Duration = Duration::from_millis(200);
/// How often event loops are probed that no pacer probes.
pub const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Files that the harness needs beside its sockets.
const OTHER_FILES: u64 = 200;

/// How connecting went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connecting {
    /// Sockets that are open.
    pub open: u64,
    /// Why others are not.
    pub failed: BTreeMap<String, u64>,
    /// Until the last was open.
    pub seconds: f64,
    /// Until the first was open.
    pub first_ms: f64,
    /// How long each took.
    pub each: Percentiles,
}

/// See the module.
#[derive(Debug)]
pub struct Field {
    /// What the command line said.
    pub settings: Settings,
    /// The live line.
    pub progress: Progress,
    /// The threads.
    pub shards: Vec<Shard>,
    /// The sockets by number.
    pub sockets: Arc<[Option<SinkSocket>]>,
    /// What the processes cost.
    pub sampler: Sampler,
    /// Whose the sockets are.
    pub tokens: Vec<Arc<str>>,
}

impl Field {
    /// Threads for sockets of these users, none of them connected yet.
    pub fn new(settings: &Settings, users: &[User], progress: Progress) -> Result<Self> {
        let each = if settings.door == DoorName::Polling { 2 } else { 1 };
        let needed = users.len() as u64 * each + OTHER_FILES;
        if let Some(files) = max_files().filter(|files| *files < needed) {
            let words = format!("{} sockets need {needed} open files, and this process may have {files}: raise `ulimit -n`", users.len());
            return Err(Failure::new(words));
        }
        let shards = (0..settings.threads as usize).map(Shard::start).collect::<Result<_>>()?;
        let sampler = Sampler::start(&settings.pid)?;
        let tokens = users.iter().map(|user| Arc::clone(&user.token)).collect();
        Ok(Self { settings: settings.clone(), progress, shards, sockets: Arc::default(), sampler, tokens })
    }

    /// The sockets of one thread.
    fn sockets_of(&self, shard: usize) -> Vec<u32> {
        (shard as u32..self.tokens.len() as u32).step_by(self.shards.len()).collect()
    }

    /// Connects all users, each with one socket.
    pub async fn connect(&mut self, rate: f64, concurrency: usize) -> Result<Connecting> {
        self.connect_with(rate, concurrency, Vec::new()).await
    }

    /// The same; each sends the `resume` that stands at its place, if any, as soon as it is authenticated.
    pub async fn connect_with(&mut self, rate: f64, concurrency: usize, mut resumes: Vec<Option<String>>) -> Result<Connecting> {
        resumes.resize(self.tokens.len(), None);
        // Those of before would hear everything a second time.
        self.abort_all().await;
        for shard in &self.shards {
            shard.book.counters.closed.store(0, Ordering::Relaxed);
        }
        let threads = self.shards.len();
        let opening = Arc::new(Opening {
            settings: self.settings.clone(),
            door: self.settings.door.into(),
            sockets: self.tokens.len(),
            addresses: self.settings.addresses as usize,
            rate: rate / threads as f64,
            concurrency: concurrency.div_ceil(threads),
            timeout: Duration::from_secs(30),
        });
        let start = Instant::now();
        let tasks: Vec<_> = (self.shards.iter().enumerate())
            .map(|(number, shard)| {
                let seat = |(place, socket): (usize, u32)| {
                    let number = socket as usize;
                    Seat { socket, place, token: Arc::clone(&self.tokens[number]), resume: resumes[number].take() }
                };
                let seats = self.sockets_of(number).into_iter().enumerate().map(seat).collect();
                shard.handle.spawn(open(Arc::clone(&shard.book), seats, Arc::clone(&opening)))
            })
            .collect();
        let (mut connecting, mut each) = (Connecting::default(), Latencies::default());
        let mut sockets = vec![None; self.tokens.len()];
        let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
        for task in tasks {
            while !task.is_finished() {
                self.probe();
                tokio::time::sleep(PROBE_EVERY).await;
                self.progress.show(&format!("connecting {} sockets: {:.0} s", self.tokens.len(), start.elapsed().as_secs_f64()));
            }
            for opened in task.await.trying("connecting")? {
                match opened.outcome {
                    Ok(socket) => {
                        each.record_ns(opened.took.as_nanos() as u64);
                        let after = opened.at.duration_since(start);
                        (first, last) = (first.min(after), last.max(after));
                        sockets[opened.socket as usize] = Some(socket);
                        connecting.open += 1;
                    }
                    Err(error) => *connecting.failed.entry(error.to_string()).or_default() += 1,
                }
            }
        }
        if connecting.open == 0 {
            let why = connecting.failed.keys().next().cloned().unwrap_or_default();
            return Err(Failure::new(format!("no socket could be opened: {why}")));
        }
        self.sockets = sockets.into();
        (connecting.seconds, connecting.first_ms) = (last.as_secs_f64(), first.as_secs_f64() * 1000.0);
        connecting.each = each.percentiles();
        Ok(connecting)
    }

    /// Drops all sockets without a word.
    pub async fn abort_all(&mut self) {
        for socket in std::mem::take(&mut self.sockets).iter().flatten() {
            socket.abort().await;
        }
    }

    /// Hands the time to each event loop, which notes how long it lay there.
    pub fn probe(&self) {
        for shard in &self.shards {
            // The loop ends with its thread, and that with the run.
            let _ = shard.probe.send(Instant::now());
        }
    }

    /// How many sockets were answered to their `resume`.
    pub fn resumed(&self) -> u64 {
        self.shards.iter().map(|shard| shard.book.resumed.lock().len() as u64).sum()
    }

    /// Those.
    pub fn take_resumed(&self) -> Vec<Resumed> {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut *shard.book.resumed.lock())).collect()
    }

    /// The highest place in its conversation that has come to a socket.
    pub fn known(&self, socket: u32) -> u64 {
        let threads = self.shards.len();
        self.shards[socket as usize % threads].book.known(socket as usize / threads)
    }

    /// Opens the books of a phase.
    pub fn begin(&self, plan: &Arc<Plan>) {
        for (number, shard) in self.shards.iter().enumerate() {
            shard.book.begin(plan, &self.sockets_of(number));
        }
    }

    /// The pace that the command line asks for, at one rate.
    pub fn pace(&self, rate: f64) -> Pace {
        let settings = &self.settings;
        Pace {
            stretches: vec![Stretch { rate, length: settings.warmup() + settings.length() }],
            arrivals: settings.arrivals,
            seed: settings.seed,
            warmup: settings.warmup(),
            window: Duration::from_millis(settings.window_ms.into()),
            bytes: settings.bytes as usize,
            client_ids: !settings.no_client_ids,
            in_order: settings.send == Send::Socket,
            last_delivery: false,
        }
    }

    /// One phase. With `patience` it ends early when more messages are unanswered than came due in that time.
    pub async fn phase(&mut self, label: &str, cast: Cast, pace: Pace, patience: Option<Duration>) -> Result<Outcome> {
        let plan = Arc::new(Plan::new(LEAD, cast, pace));
        self.begin(&plan);
        let stop = Arc::<AtomicBool>::default();
        let pacers = self.start_pacers(&plan, &stop)?;
        let mut watch = Watch::new(label, &plan, patience);
        let stopped = watch.follow(self, &plan, &pacers, &stop).await;
        let mut part = Part::default();
        for pacer in pacers {
            let paced = pacer.join().map_err(|_| Failure::new("a pacer has panicked"))?;
            (part.sent, part.unsent) = (part.sent + paced.sent, part.unsent + paced.unsent);
            part.pacer_lag.add(&paced.lag);
        }
        self.drain(label, plan.cast.receivers).await;
        for shard in &self.shards {
            part.add(shard.book.end());
        }
        let usage = match (watch.first, watch.last) {
            (Some(first), Some(last)) => self.sampler.usage(&first, &last),
            _ => Vec::new(),
        };
        Ok(Outcome::new(&plan, part, usage, self.max_lag(), stopped))
    }

    fn start_pacers(&self, plan: &Arc<Plan>, stop: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<Paced>>> {
        let start = |(number, shard): (usize, &Shard)| {
            let outlet = match self.settings.send {
                Send::Socket => Outlet::Sockets(Arc::clone(&self.sockets)),
                Send::Post => Outlet::Post(Post::start(shard, &self.settings.url, &self.tokens)),
            };
            let pacer = Pacer {
                plan: Arc::clone(plan),
                shard: number as u32,
                shards: self.shards.len() as u32,
                outlet,
                book: Arc::clone(&shard.book),
                probe: shard.probe.clone(),
                stop: Arc::clone(stop),
                hold: Duration::from_micros(self.settings.hold_us),
            };
            std::thread::Builder::new().name(format!("pacer-{number}")).spawn(move || pacer.run()).trying("starting a pacer")
        };
        self.shards.iter().enumerate().map(start).collect()
    }

    /// How late the harness may be.
    pub fn max_lag(&self) -> Duration {
        Duration::from_secs_f64(self.settings.max_lag_ms / 1000.0)
    }

    /// The counters of all threads.
    fn total(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(&shard.book.counters).load(Ordering::Relaxed)).sum()
    }

    /// Sockets that have ended by themselves.
    pub fn closed(&self) -> u64 {
        self.total(|counters| &counters.closed)
    }

    fn counts(&self) -> Counts {
        Counts {
            sent: self.total(|counters| &counters.sent),
            acknowledged: self.total(|counters| &counters.acknowledged),
            refused: self.total(|counters| &counters.refused),
            received: self.total(|counters| &counters.received),
        }
    }

    /// Waits until everything acknowledged has arrived, or nothing comes any more, or for as long as is allowed.
    pub async fn drain(&mut self, label: &str, receivers: u64) {
        let start = Instant::now();
        let (mut counts, mut changed) = (self.counts(), Instant::now());
        while start.elapsed().as_secs_f64() < self.settings.drain && changed.elapsed() < QUIET {
            if counts.unanswered() == 0 && counts.received >= counts.acknowledged * receivers {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = self.counts();
            if now != counts {
                (counts, changed) = (now, Instant::now());
            }
            let missing = (counts.acknowledged * receivers).saturating_sub(counts.received);
            self.progress.show(&format!("{label}: waiting for {} answers and {missing} deliveries", counts.unanswered()));
        }
        tokio::time::sleep(LINGER).await;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    sent: u64,
    acknowledged: u64,
    refused: u64,
    received: u64,
}

impl Counts {
    fn unanswered(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged + self.refused)
    }
}

/// Follows a phase while it is sent: takes the samples that it is measured by, shows the live line, ends what runs away.
struct Watch {
    label: String,
    start: Instant,
    measured: Instant,
    end: Instant,
    /// Unanswered messages at which it ends.
    most_unanswered: Option<u64>,
    shown: (Instant, Counts),
    first: Option<Sample>,
    last: Option<Sample>,
}

impl Watch {
    fn new(label: &str, plan: &Plan, patience: Option<Duration>) -> Self {
        let start = plan.origin.at;
        let rate = plan.due_ns.len() as f64 / plan.length().as_secs_f64().max(0.001);
        Self {
            label: label.to_owned(),
            start,
            measured: start + Duration::from_nanos(plan.measured_ns.start),
            end: start + plan.length(),
            most_unanswered: patience.map(|patience| (rate * patience.as_secs_f64()) as u64 + 200),
            shown: (start, Counts::default()),
            first: None,
            last: None,
        }
    }

    async fn follow(&mut self, field: &mut Field, plan: &Plan, pacers: &[JoinHandle<Paced>], stop: &AtomicBool) -> Option<Duration> {
        let mut stopped = None;
        loop {
            let now = Instant::now();
            if self.first.is_none() && now >= self.measured {
                self.first = Some(field.sampler.mark());
            }
            if self.last.is_none() && now >= self.end {
                self.last = Some(field.sampler.mark());
            }
            let is_over = self.last.is_some() || stopped.is_some();
            if is_over && pacers.iter().all(JoinHandle::is_finished) {
                self.last = self.last.take().or_else(|| Some(field.sampler.mark()));
                return stopped;
            }
            let counts = field.counts();
            if stopped.is_none() && self.most_unanswered.is_some_and(|most| counts.unanswered() > most) {
                stop.store(true, Ordering::Relaxed);
                stopped = Some(now.duration_since(self.start));
            }
            if field.progress.is_due() && now > self.start {
                let line = self.line(field, plan, now, counts);
                field.progress.show(&line);
                self.shown = (now, counts);
            }
            let next = [self.measured, self.end].into_iter().filter(|mark| *mark > now).min();
            let nap = Duration::from_millis(50);
            tokio::time::sleep(next.map_or(nap, |next| nap.min(next - now))).await;
        }
    }

    fn line(&self, field: &Field, plan: &Plan, now: Instant, counts: Counts) -> String {
        let (before, since) = (self.shown.1, now.duration_since(self.shown.0).as_secs_f64().max(0.001));
        let rate = |now: u64, before: u64| (now.saturating_sub(before)) as f64 / since;
        let at_ns = plan.origin.since_ns(now).saturating_sub(1_000_000_000);
        let mut window = Latencies::default();
        for shard in &field.shards {
            if let Some(latencies) = shard.book.window_around(at_ns) {
                window.add(&latencies);
            }
        }
        let usage: Vec<String> = (field.sampler.lately().iter().zip(field.sampler.pids()))
            .map(|(usage, pid)| {
                let who = if *pid == std::process::id() { "harness" } else { "server" };
                format!(", {who} {:.2} cores {} MB", usage.cores, usage.rss_end_kb / 1024)
            })
            .collect();
        format!(
            "{} {:.0} of {:.0} s: {:.0}/s sent, {:.0}/s acknowledged, {:.0}/s received, p99 {} ms, {} unanswered{}",
            self.label,
            now.duration_since(self.start).as_secs_f64(),
            plan.length().as_secs_f64(),
            rate(counts.sent, before.sent),
            rate(counts.acknowledged, before.acknowledged),
            rate(counts.received, before.received),
            ms(window.at(99.0)),
            counts.unanswered(),
            usage.concat(),
        )
    }
}
