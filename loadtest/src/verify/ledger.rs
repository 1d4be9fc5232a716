//! What was sent and what was answered, in the order in which it was known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// Reasons that are kept.
const REASONS: usize = 3;

/// A message that somebody means to send once, however often it is tried.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Whose.
    pub user: String,
    /// What it says; nobody says the same.
    pub content: String,
    /// When it was tried first, and when it was acknowledged.
    pub began: Instant,
    pub ended: Instant,
    /// How long the attempt took that was acknowledged.
    pub took: Duration,
    /// Which message it has become, and its place.
    pub id: String,
    pub seq: i64,
    /// How often it was tried.
    pub tries: u32,
}

/// Keeps the first reasons, each once.
pub fn note_reason(reasons: &mut Vec<String>, why: String) {
    if reasons.len() < REASONS && !reasons.contains(&why) {
        reasons.push(why);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: Mutex<Vec<Sent>>,
    /// By what they say: whose.
    begun: Mutex<HashMap<String, String>>,
    refused: Mutex<Vec<String>>,
    given_up: AtomicUsize,
    failed_calls: AtomicUsize,
    /// The first reasons for which calls failed, each once.
    why_failed: Mutex<Vec<String>>,
    cut_off: AtomicUsize,
    stored_unanswered: AtomicUsize,
    internal_errors: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl Ledger {
    /// This person begins to send this.
    pub fn begin(&self, content: &str, user: &str) {
        self.begun.lock().insert(content.to_owned(), user.to_owned());
    }

    /// It is acknowledged.
    pub fn acknowledge(&self, sent: Sent) {
        self.sent.lock().push(sent);
        self.count.send_modify(|count| *count += 1);
    }

    /// It was refused for good, for this reason.
    pub fn refuse(&self, why: String) {
        self.refused.lock().push(why);
    }

    /// One that was begun is not tried again: it may be stored or not.
    pub fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were given up.
    pub fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    /// A send has failed, for this reason: no answer, or that it may work later.
    pub fn call_failed(&self, why: String) {
        self.failed_calls.fetch_add(1, Ordering::Relaxed);
        note_reason(&mut self.why_failed.lock(), why);
    }

    /// Why calls failed: the first reasons.
    pub fn why_failed(&self) -> Vec<String> {
        self.why_failed.lock().clone()
    }

    /// A socket ended before a send over it was answered.
    pub fn was_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    /// How often one did.
    pub fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// A send that was cut off had been stored by then: the node had taken it, and did not answer.
    pub fn was_stored_unanswered(&self) {
        self.stored_unanswered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many had been.
    pub fn stored_unanswered(&self) -> usize {
        self.stored_unanswered.load(Ordering::Relaxed)
    }

    /// A node has answered that it does not know what went wrong.
    pub fn internal_error(&self, what: String) {
        self.internal_errors.lock().push(what);
    }

    /// Those answers.
    pub fn internal_errors(&self) -> Vec<String> {
        self.internal_errors.lock().clone()
    }

    /// How many have.
    pub fn failed_calls(&self) -> usize {
        self.failed_calls.load(Ordering::Relaxed)
    }

    /// How many are acknowledged.
    pub fn acknowledged(&self) -> usize {
        *self.count.borrow()
    }

    /// The same, to wait for more.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// The last place that was acknowledged.
    pub fn last_seq(&self) -> i64 {
        self.sent.lock().iter().map(|sent| sent.seq).max().unwrap_or(0)
    }

    /// The same of those that this person has not written.
    pub fn last_seq_of_others(&self, user: &str) -> i64 {
        self.sent.lock().iter().filter(|sent| sent.user != user).map(|sent| sent.seq).max().unwrap_or(0)
    }

    /// All that was acknowledged.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }

    /// What was begun, acknowledged or not, and by whom.
    pub fn begun(&self) -> HashMap<String, String> {
        self.begun.lock().clone()
    }

    /// Why messages were refused.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().clone()
    }
}
