//! A thread with an event loop and the sockets that live on it. Threads share nothing but the plan of a phase;
//! what a thread has seen is in its book. More threads, processes or machines are more of the same.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use loadtest::{
    Auth, Door, Options,
    http::Http,
    socket::{Close, ConnectError, Ending, Sink, SinkSocket},
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
};

use crate::{
    cli::Settings,
    failure::{Result, Trying},
    tally::{Book, count},
};

/// Commands that may wait for a socket which does not take them.
const QUEUE: usize = 4096;
/// Sockets that leave from one address; it has some 28,000 ports.
const SOCKETS_PER_SOURCE: usize = 20_000;

/// See the module. Dropping it ends the thread and all its sockets.
#[derive(Debug)]
pub struct Shard {
    /// What its sockets have seen.
    pub book: Arc<Book>,
    /// To start tasks on its event loop.
    pub handle: Handle,
    /// Takes the time at which something was handed to the event loop.
    pub probe: mpsc::UnboundedSender<Instant>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Shard {
    /// Starts the thread.
    pub fn start(number: usize) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().trying("starting an event loop")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (probe, mut probes) = mpsc::unbounded_channel::<Instant>();
        let book = Arc::<Book>::default();
        let written = Arc::clone(&book);
        let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
            runtime.spawn(async move {
                while let Some(handed) = probes.recv().await {
                    written.loop_lag(handed.elapsed().as_nanos() as u64);
                }
            });
            // Ended by the value or by the sender's drop alike.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        let thread = Some(thread.trying("starting a thread")?);
        Ok(Self { book, handle, probe, stop: Some(stop), thread })
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

/// A socket to be opened.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its number in the whole run.
    pub socket: u32,
    /// Its place among the thread's.
    pub place: usize,
    /// Whose it is.
    pub token: Arc<str>,
    /// The data of a `resume` that is its first command.
    pub resume: Option<String>,
}

/// A socket that was brought up to date.
#[derive(Clone, Copy, Debug)]
pub struct Resumed {
    /// When the answer came.
    pub at: Instant,
    /// Whether it was; else it is to call /sync.
    pub recovered: bool,
}

/// The ack id of every socket's `resume`; no message has one so high.
const RESUME: u64 = 1 << 50;

/// How sockets are opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where the servers are.
    pub settings: Settings,
    /// The way in.
    pub door: Door,
    /// How many of all threads' sockets there will be.
    pub sockets: usize,
    /// From how many addresses of this machine they come at least.
    pub addresses: usize,
    /// How many are begun a second; 0: as many as it goes.
    pub rate: f64,
    /// How many are under way at once.
    pub concurrency: usize,
    /// How long one may take.
    pub timeout: Duration,
}

impl Opening {
    /// The loopback address that a socket leaves from; the system's choice as long as one address is enough.
    pub fn source(&self, socket: u32) -> Option<IpAddr> {
        let sources = self.sockets.div_ceil(SOCKETS_PER_SOURCE).max(self.addresses);
        (sources > 1).then(|| Ipv4Addr::new(127, 0, 0, 2 + (socket as usize % sources) as u8).into())
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub socket: u32,
    /// When it was open, or was not.
    pub at: Instant,
    /// How long that took.
    pub took: Duration,
    /// The socket.
    pub outcome: std::result::Result<SinkSocket, ConnectError>,
}

/// Connections of long-polling, by the address that they leave from.
type Pools = Mutex<Vec<(Option<IpAddr>, Http)>>;

/// Opens sockets on the event loop that this runs on.
pub async fn open(book: Arc<Book>, seats: Vec<Seat>, opening: Arc<Opening>) -> Vec<Opened> {
    let (start, total) = (tokio::time::Instant::now(), seats.len());
    let waiting = Arc::new(Mutex::new(seats.into_iter().enumerate().collect::<VecDeque<_>>()));
    let pools = Arc::<Pools>::default();
    let workers = (0..opening.concurrency.clamp(1, total.max(1))).map(|_| {
        let (book, waiting, opening, pools) = (Arc::clone(&book), Arc::clone(&waiting), Arc::clone(&opening), Arc::clone(&pools));
        tokio::spawn(async move {
            let mut opened = Vec::new();
            loop {
                let Some((turn, seat)) = waiting.lock().pop_front() else { return opened };
                if opening.rate > 0.0 {
                    tokio::time::sleep_until(start + Duration::from_secs_f64(turn as f64 / opening.rate)).await;
                }
                let source = opening.source(seat.socket);
                let http = (opening.door == Door::Polling).then(|| pool(&pools, source));
                let auth = Auth::Token(seat.token.to_string());
                let options = Options {
                    source,
                    http,
                    timeout: opening.timeout,
                    queue: QUEUE,
                    ..Options::new(opening.settings.url_of(seat.socket), opening.door, auth)
                };
                let begun = Instant::now();
                let outcome = options.connect_sink(Arc::new(Ear { place: seat.place, book: Arc::clone(&book) })).await;
                if let (Ok(socket), Some(resume)) = (&outcome, seat.resume) {
                    // It has just been opened; should it have ended, there is no answer, which is seen.
                    let _ = socket.send("resume", resume, Some(RESUME));
                }
                opened.push(Opened { socket: seat.socket, at: Instant::now(), took: begun.elapsed(), outcome });
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut opened = Vec::with_capacity(total);
    for worker in workers {
        opened.extend(worker.await.unwrap_or_default());
    }
    opened
}

/// The connections of long-polling that leave from this address.
fn pool(pools: &Pools, source: Option<IpAddr>) -> Http {
    let mut pools = pools.lock();
    if let Some((_, http)) = pools.iter().find(|(of, _)| *of == source) {
        return http.clone();
    }
    let http = Http::new(source);
    pools.push((source, http.clone()));
    http
}

/// What listens to one socket.
#[derive(Debug)]
struct Ear {
    place: usize,
    book: Arc<Book>,
}

impl Sink for Ear {
    fn event(&self, name: &str, data: &str, at: Instant) {
        if name == "message:received" {
            self.book.received(self.place, data, at);
        } else {
            count(&self.book.counters.other_events);
        }
    }

    fn ack(&self, id: u64, answer: std::result::Result<&str, &str>, at: Instant) {
        if id == RESUME {
            let recovered = answer.is_ok_and(|answer| answer.contains(r#""recovered":true"#));
            self.book.resumed.lock().push(Resumed { at, recovered });
        } else {
            self.book.answered(id, answer, at);
        }
    }

    fn closed(&self, close: &Close) {
        if close.ending != Ending::Local {
            self.book.closed(close.code.map_or_else(|| format!("{:?}", close.ending), |code| code.to_string()));
        }
    }
}
