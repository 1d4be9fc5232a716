//! Messages on loan to a worker. While he has them, waiting or worked on, the server is told so now and then: it would lend
//! them to others else, and each loan counts as a try, though nobody has tried anything.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::super::link::Link;

/// How often the server is told within the time that it would wait.
const TIMES: u32 = 3;
/// What it waits if nothing is said. Where it waits longer it is told as often: what has been given back is forgotten then, too.
const SERVERS_WAIT: Duration = Duration::from_secs(30);

/// See the module. What has been dropped is on loan no more, whether it was given back or not.
pub(super) struct Lent {
    messages: Mutex<Vec<Weak<Message>>>,
    next: Mutex<Next>,
}

/// When the server is told the next time, and how long after that again.
struct Next {
    at: Instant,
    pause: Duration,
}

impl Default for Lent {
    fn default() -> Self {
        Self { messages: Mutex::default(), next: Mutex::new(Next { at: Instant::now(), pause: SERVERS_WAIT / TIMES }) }
    }
}

impl Lent {
    /// The server takes for given back what it hears nothing of for so long.
    pub fn server_waits(&self, ack_wait: Duration) {
        let ack_wait = if ack_wait.is_zero() { SERVERS_WAIT } else { ack_wait };
        *self.next.lock() = Next { at: Instant::now(), pause: ack_wait.min(SERVERS_WAIT) / TIMES };
    }

    /// One more; the loan ends with the last of its clones.
    pub fn take(&self, message: Message) -> Arc<Message> {
        let message = Arc::new(message);
        self.messages.lock().push(Arc::downgrade(&message));
        message
    }

    /// Tells the server of those that are there, for ever. Begun anew, it goes on where it was.
    pub async fn keep(&self, link: &Link) -> Infallible {
        loop {
            let at = self.next.lock().at;
            sleep_until(at).await;
            let messages = {
                let mut next = self.next.lock();
                next.at = Instant::now() + next.pause;
                let mut messages = self.messages.lock();
                messages.retain(|message| message.strong_count() > 0);
                messages.clone()
            };
            for message in messages {
                // Each at the last moment: of one that has been given back meanwhile nothing more is said.
                if let Some(message) = message.upgrade()
                    && link.is_up()
                    && let Err(error) = message.ack_with(AckKind::Progress).await
                {
                    tracing::debug!(%error, "that an event is worked on could not be said");
                }
            }
        }
    }
}
