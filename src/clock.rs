//! Time as the services see it: a [`Timestamp`] in milliseconds and a [`Clock`] that is passed in,
//! so that tests can hold it still or shift it. Timers and deadlines use tokio's clock, not this one.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "fail-points")]
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch; RFC 3339 in UTC with milliseconds on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as i64))
    }

    /// This moment less `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_millis() as i64))
    }

    /// The time from `earlier` to this moment; zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Whole seconds since the epoch, as JWT counts.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, chrono::ParseError> {
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("not a time like 2026-01-31T12:00:00.123Z"))
    }
}

impl Type for Timestamp {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> std::borrow::Cow<'static, str> {
        "string_date-time".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for Timestamp {
    fn parse_from_json(value: Option<serde_json::Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl ToJSON for Timestamp {
    fn to_json(&self) -> Option<serde_json::Value> {
        Some(serde_json::Value::String(self.to_string()))
    }
}

/// Where the services get the time from.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// A clock as everybody holds it.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis() as i64 + wrong_by_ms())
    }
}

/// By how much a test sets the clock of this process wrong: ahead, or behind when negative.
#[cfg(feature = "fail-points")]
pub fn wrong_by_ms() -> i64 {
    static WRONG_BY: LazyLock<i64> =
        LazyLock::new(|| std::env::var("URGE_TEST_CLOCK_OFFSET_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
    *WRONG_BY
}

/// The machine's clock is believed.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub const fn wrong_by_ms() -> i64 {
    0
}

/// The machine's clock as the nodes of a cluster set it right (`bus/nats/clocks.rs`): one that is wrong orders no lists.
pub struct AgreedClock {
    machine: SharedClock,
    ahead_ms: AtomicI64,
}

impl AgreedClock {
    /// This clock, which is believed until something else is agreed on.
    pub fn new(machine: SharedClock) -> Self {
        Self { machine, ahead_ms: AtomicI64::new(0) }
    }

    /// What the machine takes the time for.
    pub fn machine(&self) -> Timestamp {
        self.machine.now()
    }

    /// It is agreed that the machine's clock is so much ahead, or behind when negative.
    pub fn set_ahead_by(&self, ms: i64) {
        if !stays_wrong() {
            self.ahead_ms.store(ms, Ordering::Relaxed);
        }
    }
}

impl Clock for AgreedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.machine().0 - self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// Whether a test wants a clock that is wrong to stay so, whatever the others say.
#[cfg(feature = "fail-points")]
fn stays_wrong() -> bool {
    static STAYS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("URGE_TEST_CLOCK_STAYS_WRONG").is_some());
    *STAYS
}

/// The others are believed.
#[cfg(not(feature = "fail-points"))]
#[inline]
const fn stays_wrong() -> bool {
    false
}

/// The machine's clock moved by an amount that tests change: codes expire and days pass at will.
#[derive(Debug, Default)]
pub struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    /// Moves the clock back.
    pub fn rewind(&self, by: Duration) {
        self.0.fetch_sub(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp(RealClock.now().0 + self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        let time = Timestamp(1_769_860_800_123);
        assert_eq!(time.to_string(), "2026-01-31T12:00:00.123Z");
        assert_eq!("2026-01-31T13:00:00.123+01:00".parse::<Timestamp>().ok(), Some(time));
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    }
}
