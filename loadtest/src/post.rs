//! Messages by POST /messages: each request in a task of its own on the thread's event loop, so that none waits for another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::Method;
use loadtest::{Rest, http::Http};
use tokio::sync::mpsc;

use crate::{shard::Shard, tally::Book};

/// Requests under way at once; each is a connection.
const MAX_UNDER_WAY: usize = 4000;

/// A message to be posted.
struct Job {
    sender: u32,
    id: u64,
    data: String,
}

/// The way in. Clones lead to the same event loop.
#[derive(Clone, Debug)]
pub struct Post {
    jobs: mpsc::UnboundedSender<Job>,
    under_way: Arc<AtomicUsize>,
}

impl Post {
    /// Posts as the owners of these tokens, on the thread's event loop.
    pub fn start(shard: &Shard, url: &str, tokens: &[Arc<str>]) -> Self {
        let (jobs, mut waiting) = mpsc::unbounded_channel::<Job>();
        let under_way = Arc::<AtomicUsize>::default();
        let (book, ended, url) = (Arc::clone(&shard.book), Arc::clone(&under_way), url.to_owned());
        let tokens = tokens.to_vec();
        shard.handle.spawn(async move {
            let rest = Rest::with_http(&url, Http::new(None));
            while let Some(job) = waiting.recv().await {
                let rest = tokens.get(job.sender as usize).map_or_else(|| rest.clone(), |token| rest.with_token(token));
                let (book, ended) = (Arc::clone(&book), Arc::clone(&ended));
                tokio::spawn(async move {
                    post(&rest, job.id, job.data, &book).await;
                    ended.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { jobs, under_way }
    }

    /// Hands a message over; false when too many are under way.
    pub fn send(&self, sender: u32, id: u64, data: String) -> bool {
        if self.under_way.load(Ordering::Relaxed) >= MAX_UNDER_WAY {
            return false;
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job { sender, id, data }).is_ok()
    }
}

/// Posts a message and writes its answer into the book.
pub async fn post(rest: &Rest, id: u64, data: String, book: &Book) {
    // No answer is no answer: it counts as such.
    if let Ok(answer) = rest.send(Method::POST, "/messages", &[("content-type", "application/json")], data).await {
        let text = answer.text();
        book.answered(id, if answer.status.is_success() { Ok(&text) } else { Err(&text) }, Instant::now());
    }
}
