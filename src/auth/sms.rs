//! How one-time codes reach people: [`Twilio`] over its HTTP API, or a line on standard output in development.

mod log;
mod twilio;

use async_trait::async_trait;
pub use log::LogSms;
pub use twilio::{Twilio, TwilioAccount};

use crate::phone::Phone;

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
pub enum SmsError {
    /// The provider will not send to this number, now or later.
    #[error("the provider refused the number: {0}")]
    Refused(String),
    /// The provider is away, too slow, busy, or does not know us.
    #[error("the provider did not take the message: {0}")]
    Unavailable(String),
}

/// A way to send codes.
#[async_trait]
pub trait Sms: Send + Sync + 'static {
    /// Sends the code; `Ok` means that the provider took it.
    async fn send_code(&self, to: &Phone, code: &str) -> Result<(), SmsError>;
}
