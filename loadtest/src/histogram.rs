//! Latencies: histograms that can be laid together and written down, their percentiles, and a row of windows over time.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer as V2Reader, Serializer as _, V2Serializer},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

/// The longest latency that is told from longer ones, microseconds.
const MAX_US: u64 = 60_000_000;

/// Latencies in microseconds, up to a minute, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::with_digits(3)
    }
}

impl Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram takes")]
    fn with_digits(digits: u8) -> Self {
        Self(Histogram::new_with_bounds(1, MAX_US, digits).expect("bounds that a histogram takes"))
    }

    /// Takes note of one; those over a minute count as a minute.
    pub fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// Takes note of one.
    pub fn record_ns(&mut self, ns: u64) {
        self.record_us(ns / 1000);
    }

    /// Adds those of another part.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that so many percent do not exceed, microseconds.
    pub fn at(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The usual figures.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.count(),
            mean_us: self.0.mean(),
            p50_us: self.at(50.0),
            p90_us: self.at(90.0),
            p99_us: self.at(99.0),
            p999_us: self.at(99.9),
            max_us: if self.0.is_empty() { 0 } else { self.0.max() },
        }
    }
}

/// As base64 of HdrHistogram's own V2 format, which its tools read.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        V2Reader::new().deserialize(&mut bytes.as_slice()).map(Self).map_err(D::Error::custom)
    }
}

/// The usual figures of a histogram, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// Half of them took at most this.
    pub p50_us: u64,
    /// 90 %.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Latencies by the time at which they were due, in windows of equal length; two digits each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Windows {
    length_ns: u64,
    windows: Vec<Latencies>,
}

/// What one window says.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Window {
    /// Its beginning, from the start of the phase.
    pub from_ms: u64,
    /// How many were due in it.
    pub count: u64,
    /// Half of them took at most this.
    pub p50_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Windows {
    /// Windows of this length over a phase of that one.
    pub fn new(length_ns: u64, phase_ns: u64) -> Self {
        let count = phase_ns.div_ceil(length_ns.max(1)).min(100_000);
        Self { length_ns: length_ns.max(1), windows: (0..count).map(|_| Latencies::with_digits(2)).collect() }
    }

    /// Takes note of one that was due so long after the start.
    pub fn record(&mut self, due_ns: u64, ns: u64) {
        if let Some(window) = self.windows.get_mut((due_ns / self.length_ns) as usize) {
            window.record_ns(ns);
        }
    }

    /// Adds those of another part of the same phase.
    pub fn add(&mut self, other: &Self) {
        if self.windows.is_empty() {
            self.clone_from(other);
            return;
        }
        for (own, other) in self.windows.iter_mut().zip(&other.windows) {
            own.add(other);
        }
    }

    /// What the window around this time says.
    pub fn around(&self, at_ns: u64) -> Option<&Latencies> {
        self.windows.get((at_ns / self.length_ns.max(1)) as usize)
    }

    /// Those of the windows that begin in this time.
    pub fn over(&self, time_ns: std::ops::Range<u64>) -> Latencies {
        let mut sum = Latencies::with_digits(2);
        for (n, window) in self.windows.iter().enumerate() {
            if time_ns.contains(&(n as u64 * self.length_ns)) {
                sum.add(window);
            }
        }
        sum
    }

    /// What each window says.
    pub fn rows(&self) -> Vec<Window> {
        let row = |(n, window): (usize, &Latencies)| {
            let (from_ms, figures) = (n as u64 * self.length_ns / 1_000_000, window.percentiles());
            Window { from_ms, count: figures.count, p50_us: figures.p50_us, p99_us: figures.p99_us, max_us: figures.max_us }
        };
        self.windows.iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parts_add_up_after_they_were_written_down() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        (1..=99).for_each(|us| one.record_us(us));
        other.record_us(5_000);
        let read: Latencies = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
        one.add(&read);
        let figures = one.percentiles();
        assert_eq!((figures.count, figures.p50_us, figures.p99_us), (100, 50, 99));
        assert!((4_990..=5_010).contains(&figures.max_us));
        one.record_us(u64::MAX);
        assert!(one.percentiles().max_us >= MAX_US);
        assert_eq!(Latencies::default().percentiles().max_us, 0);
    }

    #[test]
    fn windows_go_by_what_was_due() {
        let mut windows = Windows::new(500_000_000, 1_200_000_000);
        windows.record(0, 3_000_000);
        windows.record(499_999_999, 1_000_000);
        windows.record(1_100_000_000, 9_000);
        windows.record(9_000_000_000, 1);
        let mut sum = Windows::default();
        sum.add(&windows);
        sum.add(&windows);
        let rows: Vec<(u64, u64, u64)> = sum.rows().iter().map(|row| (row.from_ms, row.count, row.p50_us)).collect();
        assert_eq!(rows, [(0, 4, 1003), (500, 0, 0), (1000, 2, 9)]);
    }
}
