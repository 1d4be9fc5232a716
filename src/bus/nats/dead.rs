//! Copies of what a worker has given up for now: as they came, with where they came from and why in their headers.

use std::time::Duration;

use async_nats::HeaderValue;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, Message};
use tokio::time::timeout;

use super::events::failed;
use crate::bus::BusError;

/// How long the server may take to acknowledge a copy.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 512;

/// Puts a copy into the stream of this subject, and waits for the server's word.
pub(super) async fn copy(context: &Context, message: &Message, subject: String, reason: Option<&str>) -> Result<(), BusError> {
    let place = message.info().map(|info| format!("{}:{}", info.stream, info.stream_sequence)).map_err(failed)?;
    // A copy that is made twice is one; it is another one than the original, which the server may still remember.
    let mut copy = PublishMessage::build().payload(message.payload.clone()).message_id(format!("{subject}:{place}"));
    if let Some(reason) = reason {
        copy =
            copy.header("Urge-Reason", line(reason)).header("Urge-Subject", message.subject.as_str()).header("Urge-Place", place.as_str());
    }
    let copied = async { context.send_publish(subject, copy).await.map_err(failed)?.await.map(drop).map_err(failed) };
    timeout(TIMEOUT, copied).await.unwrap_or_else(|_| Err(BusError("the server does not answer in time".into())))
}

/// One line, as headers want it, and not a long one.
fn line(reason: &str) -> HeaderValue {
    let end = reason.floor_char_boundary(REASON_BYTES);
    let line: String = reason[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    HeaderValue::from(line.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(line("two\r\nlines").as_str(), "two  lines");
        assert_eq!(line(&"é".repeat(REASON_BYTES)).as_str().len(), REASON_BYTES);
    }
}
