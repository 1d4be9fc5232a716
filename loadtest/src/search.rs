//! Searches for the highest level that holds: doubles it until something breaks, then closes in between the last that held and the first
//! that broke. What a level is, and what breaks, is for the caller to say.

use serde::Serialize;

use crate::{failure::Result, histogram::Percentiles, outcome::ms};

/// The last that held and the first that broke are so close in the end.
const CLOSE: f64 = 1.05;
/// Steps at most.
const MAX_STEPS: usize = 60;

/// What broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Broke {
    /// The 99th percentile went over the limit.
    P99,
    /// Something was lost, doubled or out of order.
    Loss,
    /// Less than 95 % of the intended rate was reached.
    Rate,
    /// The harness was so late that the latency is its own.
    Harness,
}

/// A step, without its histograms.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was asked for: messages a second, or requests under way at once.
    pub level: f64,
    /// What came of it, a second.
    pub achieved: f64,
    /// Deliveries a second.
    pub deliveries: f64,
    /// What it is judged by.
    pub latency: Percentiles,
    /// What broke, if anything.
    pub broke: Option<Broke>,
}

/// Where to search.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// From here on,
    pub from: f64,
    /// up to here.
    pub most: f64,
    /// Levels are whole numbers.
    pub is_whole: bool,
}

/// All steps and what they say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Search {
    /// In the order in which they were taken.
    pub steps: Vec<Step>,
    /// The place of the highest that held.
    pub held: Option<usize>,
    /// The place of the lowest that broke.
    pub broken: Option<usize>,
    /// Levels are whole numbers.
    #[serde(skip)]
    is_whole: bool,
}

impl Search {
    /// The highest that held.
    pub fn best(&self) -> Option<&Step> {
        self.steps.get(self.held?)
    }

    /// The lowest that broke.
    pub fn worst(&self) -> Option<&Step> {
        self.steps.get(self.broken?)
    }

    /// The level of the next step; none when it is found.
    fn next(&self, from: f64, most: f64) -> Option<f64> {
        let next = match (self.best(), self.worst()) {
            (None, None) => from,
            (Some(held), None) => held.level * 2.0,
            (None, Some(broken)) => broken.level / 2.0,
            (Some(held), Some(broken)) if broken.level / held.level > CLOSE => (held.level * broken.level).sqrt(),
            _ => return None,
        };
        let next = if self.is_whole { next.round() } else { next };
        let is_new = [self.best(), self.worst()].into_iter().flatten().all(|step| (step.level - next).abs() > 1e-6);
        (is_new && self.steps.len() < MAX_STEPS && (1.0..=most).contains(&next)).then_some(next)
    }

    fn take(&mut self, step: Step) {
        let place = self.steps.len();
        if step.broke.is_some() {
            self.broken = Some(place);
        } else {
            self.held = Some(place);
        }
        self.steps.push(step);
    }
}

/// Searches in this range. A step that broke is tried again before it is believed: machines have moods.
pub async fn search(range: Levels, retries: u32, mut step: impl AsyncFnMut(f64) -> Result<Step>) -> Result<Search> {
    let mut search = Search { is_whole: range.is_whole, ..Search::default() };
    while let Some(level) = search.next(range.from, range.most) {
        let mut taken = step(level).await?;
        for _ in 0..retries {
            if taken.broke.is_none() || taken.broke == Some(Broke::Loss) {
                break;
            }
            taken = step(level).await?;
        }
        search.take(taken);
    }
    Ok(search)
}

impl Step {
    /// In words.
    pub fn told(&self) -> String {
        let end = self.broke.map_or_else(|| "held".to_owned(), |broke| format!("broke: {}", format!("{broke:?}").to_lowercase()));
        format!("{:.0}/s (reached {:.0}/s, p99 {} ms) {end}", self.level, self.achieved, ms(self.latency.p99_us))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Searches where everything above `limit` breaks.
    fn found(limit: f64, from: f64, most: f64, is_whole: bool) -> Search {
        let step = async |level: f64| {
            let broke = (level > limit).then_some(Broke::P99);
            Ok(Step { level, achieved: level, deliveries: 0.0, latency: Percentiles::default(), broke })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(search(Levels { from, most, is_whole }, 0, step)).unwrap()
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for from in [10.0, 1_000.0, 50_000.0] {
            let search = found(7_300.0, from, 1e6, false);
            let (held, broken) = (search.best().unwrap().level, search.worst().unwrap().level);
            assert!(held <= 7_300.0 && broken > 7_300.0 && broken / held <= CLOSE, "{held} {broken}");
        }
    }

    #[test]
    fn it_ends_where_nothing_breaks_and_where_nothing_holds() {
        let search = found(1e9, 10.0, 1000.0, false);
        assert_eq!((search.best().unwrap().level, search.worst().is_none()), (640.0, true));
        let search = found(0.1, 10.0, 1000.0, false);
        assert!(search.best().is_none());
    }

    #[test]
    fn whole_levels_end_where_none_is_between() {
        let search = found(11.0, 2.0, 1000.0, true);
        assert_eq!((search.best().unwrap().level, search.worst().unwrap().level), (11.0, 12.0));
    }
}
