//! Background work that shutdown waits for, and gates that keep one class of work from taking the whole node.
//! Nothing is spawned behind the node's back: what must not end with its request goes through [`Tasks`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::error::{Error, Result};

/// The node's background work.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// Starts `work`, in the caller's span; shutdown waits until it ends.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(work.in_current_span())
    }

    /// Calls `work` every `period`, for the first time after one, until the node stops.
    pub fn repeat<F, W>(&self, period: Duration, mut work: W)
    where
        W: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            while stopping.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
                // The next time it may go well: what is done now and then must not end with a panic.
                if AssertUnwindSafe(async { work().await }).catch_unwind().await.is_err() {
                    tracing::error!("repeated work panicked; it is done again after its period");
                }
            }
        });
    }

    /// Does `work` here; should whoever waits for it go away first, it is finished in the background.
    /// Must be dropped inside the runtime.
    pub fn carry_out<F>(&self, work: F) -> CarriedOut<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        CarriedOut { work: Some(Box::pin(work)), tracker: self.tracker.clone() }
    }

    /// For services that spawn by themselves: shutdown waits for what they track.
    pub fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    /// Cancelled when the node begins to stop: work that waits for something waits for this too.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Whether the node has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits for everything that was spawned, at most this long; false when something was left behind.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.stop();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

/// Work that its waiter cannot cancel by going away: see [`Tasks::carry_out`].
pub struct CarriedOut<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    work: Option<Pin<Box<F>>>,
    tracker: TaskTracker,
}

impl<F> Future for CarriedOut<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let output = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for CarriedOut<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn drop(&mut self) {
        // While a panic unwinds or the runtime is being taken down there is nobody left to finish it.
        if let Some(work) = self.work.take().filter(|_| !std::thread::panicking())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.tracker.spawn(work.in_current_span());
        }
    }
}

/// How much of one class of work may be under way; what comes on top is refused at once, with 503 and `Retry-After`.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    places: Arc<Semaphore>,
    queue: Option<Arc<Queue>>,
    told: Arc<Mutex<Option<Instant>>>,
}

/// Somebody who waits for a place, while he does.
struct Waiting(metrics::Gauge);

impl Waiting {
    fn before(gate: &'static str) -> Self {
        let gauge = metrics::gauge!("urge_gate_waiting", "gate" => gate);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A gate that refuses says so in the log once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Tells a burst, which is worked off, from a queue that stands: the idea of CoDel (RFC 8289), with places for time.
#[derive(Debug)]
struct Queue {
    /// How many places there are.
    most: usize,
    /// How many may be taken for good.
    standing: usize,
    /// How long more may be.
    patience: Duration,
    /// Since when more are.
    long_since: Mutex<Option<Instant>>,
}

impl Queue {
    /// Whether one more, beside those that have left `free` places, makes a burst.
    fn is_burst(&self, free: usize, now: Instant) -> bool {
        let mut long_since = self.long_since.lock();
        if self.most - free < self.standing {
            *long_since = None;
            return true;
        }
        now.duration_since(*long_since.get_or_insert(now)) <= self.patience
    }
}

impl Gate {
    /// A gate with this many places; the name is a metric's label.
    pub fn new(name: &'static str, places: usize) -> Self {
        Self { name, places: Arc::new(Semaphore::new(places)), queue: None, told: Arc::default() }
    }

    /// A gate that lets in `places` at once, but once more than `standing` have been in for longer than `patience`, no more than
    /// those: a burst is worked off, while what keeps coming faster than it is done makes nobody wait for long.
    pub fn for_bursts(name: &'static str, places: usize, standing: usize, patience: Duration) -> Self {
        let queue = Queue { most: places, standing, patience, long_since: Mutex::default() };
        Self { queue: Some(Arc::new(queue)), ..Self::new(name, places) }
    }

    /// A place as soon as there is one, for work whose caller has time: it is put off, not refused.
    pub async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::before(self.name);
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    fn tell(&self, now: Instant) {
        let mut told = self.told.lock();
        if told.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY) {
            *told = Some(now);
            tracing::warn!(gate = self.name, "the node is asked for more than it keeps up with, and refuses what is too much");
        }
    }

    /// A place until the permit is dropped.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit> {
        let stands = self.queue.as_ref().is_some_and(|queue| !queue.is_burst(self.places.available_permits(), Instant::now()));
        let place = if stands { None } else { Arc::clone(&self.places).try_acquire_owned().ok() };
        place.ok_or_else(|| {
            metrics::counter!("urge_gate_refusals_total", "gate" => self.name).increment(1);
            self.tell(Instant::now());
            Error::unavailable("the server is busy, try again in a moment")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::ErrorCode;

    #[tokio::test]
    async fn stopping_waits_for_what_was_spawned() {
        let tasks = Tasks::default();
        let stopping = tasks.stopping();
        let work = tasks.spawn(async move {
            stopping.cancelled().await;
            7
        });
        assert!(tasks.finish(Duration::from_secs(5)).await);
        assert_eq!(work.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_ends_no_repetition() {
        let tasks = Tasks::default();
        let (done, mut finished) = tokio::sync::mpsc::channel(1);
        let mut times = 0;
        tasks.repeat(Duration::from_millis(1), move || {
            times += 1;
            let done = done.clone();
            async move {
                assert!(times > 1, "the first time");
                done.send(times).await.unwrap();
            }
        });
        assert_eq!(finished.recv().await, Some(2));
        drop(finished);
        assert!(tasks.finish(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn stopping_does_not_wait_for_ever() {
        let tasks = Tasks::default();
        let _stuck = tasks.spawn(std::future::pending::<()>());
        assert!(!tasks.finish(Duration::from_millis(10)).await);
    }

    #[tokio::test]
    async fn work_goes_on_without_its_waiter() {
        let tasks = Tasks::default();
        let (begun, goes_on) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (done, finished) = tokio::sync::oneshot::channel();
        let work = {
            let (begun, goes_on) = (begun.clone(), goes_on.clone());
            async move {
                begun.notify_one();
                goes_on.notified().await;
                done.send(7).unwrap();
            }
        };
        let waiter = tokio::spawn(tasks.carry_out(work));
        begun.notified().await;
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        goes_on.notify_one();
        assert_eq!(finished.await.unwrap(), 7);
        assert!(tasks.finish(Duration::from_secs(5)).await);
        assert_eq!(tasks.carry_out(async { 8 }).await, 8);
    }

    #[test]
    fn a_full_gate_refuses_at_once() {
        let gate = Gate::new("test", 1);
        let place = gate.enter().unwrap();
        let error = gate.enter().unwrap_err();
        assert_eq!((error.code, error.retry_after), (ErrorCode::Unavailable, Some(Duration::from_secs(1))));
        drop(place);
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn a_burst_is_let_in_and_a_queue_that_stands_is_not() {
        let gate = Gate::for_bursts("test", 4, 2, Duration::from_mins(1));
        let places: Vec<_> = (0..4).map(|_| gate.enter().unwrap()).collect();
        assert!(gate.enter().is_err(), "a burst has an end");
        drop(places);

        let queue = Queue { most: 4, standing: 2, patience: Duration::from_millis(500), long_since: Mutex::default() };
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        assert!(queue.is_burst(1, now) && queue.is_burst(0, after(500)));
        assert!(!queue.is_burst(2, after(501)), "two and more for longer than half a second");
        assert!(queue.is_burst(3, after(502)), "one is no queue");
        assert!(queue.is_burst(2, after(600)) && queue.is_burst(2, after(1_100)), "the next burst");
        assert!(!queue.is_burst(2, after(1_101)));
    }
}
