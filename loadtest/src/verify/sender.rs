//! Somebody who writes: each message is tried under one client_message_id until it is acknowledged, each time through another node
//! by chance; every other one over the socket of his device, if that is open, and half of those over it each time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::device::Seen;
use super::ledger::{Ledger, Sent};
use super::{Nodes, PATIENCE, PAUSE, is_final};
use crate::rest::{Account, draft};
use crate::socket::CallError;

/// Codes of refusals that say nothing of the message: the same again may be taken.
const PASSING: [&str; 3] = ["unavailable", INTERNAL, "rate_limited"];
/// The one of them that no failure explains.
const INTERNAL: &str = "internal_error";

/// See the module.
#[derive(Debug)]
pub struct Sender {
    pub number: usize,
    pub nodes: Arc<Nodes>,
    pub account: Account,
    pub seen: Arc<Mutex<Seen>>,
    pub conversation: Arc<str>,
    pub ledger: Arc<Ledger>,
}

/// What an attempt came to.
enum Attempt {
    Acknowledged {
        id: String,
        seq: i64,
        /// When its node says that it was stored.
        at: Option<DateTime<Utc>>,
    },
    Refused(String),
    /// The socket has ended; perhaps stored.
    CutOff,
    /// Perhaps stored.
    Unknown,
}

impl Sender {
    /// Writes, this pause apart, until told to stop; what has begun then is still brought to its end.
    pub async fn write(self, pause: Duration, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(pause);
        // Who had to wait does not make up for it: so the rate is the most that is asked.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u64;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            count += 1;
            self.send(count).await;
        }
    }

    async fn send(&self, count: u64) {
        let content = format!("{} of {}", count, self.number);
        let (began, mut tries, mut cut_off_at) = (Instant::now(), 0, None::<DateTime<Utc>>);
        self.ledger.begin(&content, &self.account.user_id);
        loop {
            tries += 1;
            let attempt = Instant::now();
            let over_socket = count.is_multiple_of(4) || (count.is_multiple_of(2) && tries == 1);
            match self.attempt(&content, over_socket).await {
                Attempt::Acknowledged { id, seq, at } => {
                    // It was tried again only a while later.
                    if cut_off_at.zip(at).is_some_and(|(cut_off, stored)| stored <= cut_off) {
                        self.ledger.was_stored_unanswered();
                    }
                    let (user, ended) = (self.account.user_id.clone(), Instant::now());
                    let took = ended - attempt;
                    return self.ledger.acknowledge(Sent { user, content, began, ended, took, id, seq, tries });
                }
                Attempt::Refused(why) => return self.ledger.refuse(why),
                attempt => {
                    cut_off_at = matches!(attempt, Attempt::CutOff).then(|| DateTime::from(SystemTime::now()));
                    // Nobody says when a node would answer.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn attempt(&self, content: &str, over_socket: bool) -> Attempt {
        let draft = draft(&self.conversation, content, Some(content));
        let emitter = if over_socket { self.seen.lock().emitter.borrow().clone() } else { None };
        let answer = match emitter {
            Some(emitter) => match tokio::time::timeout(PATIENCE, emitter.call("message:sent", &draft)).await {
                Ok(Ok(message)) => message,
                Ok(Err(CallError::Refused(error))) if !PASSING.iter().any(|code| error["code"] == *code) => {
                    return Attempt::Refused(error.to_string());
                }
                Ok(Err(CallError::Refused(error))) => {
                    self.ledger.call_failed(error.to_string());
                    if error["code"] == INTERNAL {
                        self.ledger.internal_error(error.to_string());
                    }
                    return Attempt::Unknown;
                }
                Ok(Err(_)) => {
                    self.ledger.was_cut_off();
                    return Attempt::CutOff;
                }
                Err(late) => {
                    self.ledger.call_failed(format!("over a socket: {late}"));
                    return Attempt::Unknown;
                }
            },
            None => match self.nodes.any().as_account(&self.account).post("/messages", &draft).await {
                Ok(message) => message,
                Err(error) if is_final(&error) => return Attempt::Refused(error.to_string()),
                Err(error) => {
                    self.ledger.call_failed(error.to_string());
                    if error.status() == 500 {
                        self.ledger.internal_error(error.to_string());
                    }
                    return Attempt::Unknown;
                }
            },
        };
        match (answer["id"].as_str(), answer["seq"].as_i64()) {
            (Some(id), Some(seq)) => {
                let at = answer["createdAt"].as_str().and_then(|at| at.parse().ok());
                Attempt::Acknowledged { id: id.to_owned(), seq, at }
            }
            _ => Attempt::Refused(format!("the answer is no message: {answer}")),
        }
    }
}
