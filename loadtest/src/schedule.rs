//! When each message is meant to be sent: made before anything is sent, so that no slow answer can move it.
//! Message `index` goes to stream `index % streams`, as its number `index / streams`.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Messages of one phase at most: what a schedule holds in memory.
pub const MAX_MESSAGES: usize = 20_000_000;

/// How messages follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Constant,
    /// At random, as those of many people who do not know of each other.
    Poisson,
}

/// A stretch of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Messages a second.
    pub rate: f64,
    /// How long.
    pub length: Duration,
}

/// The times of a phase's messages, nanoseconds from its start, in order.
pub fn build(stretches: &[Stretch], arrivals: Arrivals, seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut due, mut start) = (Vec::new(), 0.0);
    for stretch in stretches {
        let length = stretch.length.as_secs_f64();
        let gap = 1.0 / stretch.rate.max(1e-6);
        let mut at = match arrivals {
            Arrivals::Constant => 0.0,
            Arrivals::Poisson => exponential(&mut random) * gap,
        };
        let mut count = 0_u32;
        // Half a nanosecond, lest rounding lets one message more into a stretch.
        while at < length - 0.5e-9 && due.len() < MAX_MESSAGES {
            due.push(((start + at) * 1e9) as u64);
            count += 1;
            at = match arrivals {
                // Counted, not added up: the thousandth is where it belongs.
                Arrivals::Constant => f64::from(count) * gap,
                Arrivals::Poisson => at + exponential(&mut random) * gap,
            };
        }
        start += length;
    }
    due
}

fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(rate: f64, seconds: u64) -> Stretch {
        Stretch { rate, length: Duration::from_secs(seconds) }
    }

    #[test]
    fn constant_arrivals_keep_their_distance() {
        let due = build(&[stretch(1000.0, 2), stretch(4.0, 1)], Arrivals::Constant, 0);
        assert_eq!(due.len(), 2004);
        assert_eq!(due[..3], [0, 1_000_000, 2_000_000]);
        assert_eq!(due[1999], 1_999_000_000);
        assert_eq!(due[2000..], [2_000_000_000, 2_250_000_000, 2_500_000_000, 2_750_000_000]);
        assert_eq!(build(&[stretch(300.0, 7)], Arrivals::Constant, 0).len(), 2100);
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_its_scatter() {
        let due = build(&[stretch(1000.0, 100)], Arrivals::Poisson, 1);
        assert!((99_000..101_000).contains(&due.len()), "{}", due.len());
        assert!(due.is_sorted());
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance - 1.0).abs() < 0.05, "exponential: the variance is the square of the mean, here {variance}");
        assert_eq!(due, build(&[stretch(1000.0, 100)], Arrivals::Poisson, 1), "a seed repeats it");
    }
}
