//! The SMS provider of the tests: it keeps what it is told to send, and fails when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use urge::auth::sms::{Sms, SmsError};
use urge::phone::Phone;

use super::PATIENCE;

/// Everything that was sent.
#[derive(Default)]
pub struct Outbox {
    sent: Mutex<Vec<(String, String)>>,
    down: AtomicBool,
    refusing: AtomicBool,
    held: Mutex<Option<Arc<Semaphore>>>,
    reached: tokio::sync::Notify,
    changed: tokio::sync::Notify,
}

impl Outbox {
    /// Whether the provider is away from now on.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Whether the provider sends to no number from now on.
    pub fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// From now on messages wait until [`Outbox::fail_held`].
    pub fn hold(&self) {
        *self.held.lock() = Some(Arc::new(Semaphore::new(0)));
    }

    /// Waits until a message waits.
    pub async fn reached(&self) {
        tokio::time::timeout(PATIENCE, self.reached.notified()).await.expect("no message came");
    }

    /// Lets the one that waits fail, and those to come pass.
    pub fn fail_held(&self) {
        if let Some(held) = self.held.lock().take() {
            held.close();
        }
    }

    /// How many codes went out in all.
    pub fn len(&self) -> usize {
        self.sent.lock().len()
    }

    /// The last code that went to this number (E.164).
    pub fn last(&self, phone: &str) -> Option<String> {
        self.sent.lock().iter().rev().find(|(to, _)| to == phone).map(|(_, code)| code.clone())
    }

    /// How many codes went to this number.
    pub fn count(&self, phone: &str) -> usize {
        self.sent.lock().iter().filter(|(to, _)| to == phone).count()
    }

    /// Waits until so many codes have gone to this number, and gives the last one.
    pub async fn wait(&self, phone: &str, count: usize) -> String {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                if self.count(phone) >= count {
                    return self.last(phone).unwrap();
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("no code was sent")
    }
}

#[async_trait]
impl Sms for Outbox {
    async fn send_code(&self, to: &Phone, code: &str) -> Result<(), SmsError> {
        let held = self.held.lock().clone();
        if let Some(held) = held {
            self.reached.notify_one();
            if held.acquire().await.is_err() {
                return Err(SmsError::Unavailable("the test let it fail".into()));
            }
        }
        if self.refusing.load(Ordering::SeqCst) {
            return Err(SmsError::Refused("the test knows no such number".into()));
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(SmsError::Unavailable("the test has switched it off".into()));
        }
        if self.refusing.load(Ordering::SeqCst) {
            return Err(SmsError::Refused("the test has blocked it".into()));
        }
        self.sent.lock().push((to.as_str().to_owned(), code.to_owned()));
        self.changed.notify_waiters();
        Ok(())
    }
}
