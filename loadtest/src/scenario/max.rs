//! How much it bears: doubles the rate until something breaks, then closes in on the place between the last that held and the first that broke.
//! What broke is said too: latency, loss, a rate that was not reached, or the harness itself.

use std::time::Duration;

use serde::Serialize;

use super::{fanout, pairs};
use crate::{
    cli::{Max, Settings, Target},
    failure::{Failure, Result},
    histogram::Percentiles,
    outcome::{Outcome, ms},
    people::People,
    plan::{Cast, Pace},
    progress::Progress,
    report::Report,
    run::Field,
    schedule::Stretch,
};

/// Before each step is measured.
const WARMUP: Duration = Duration::from_secs(1);
/// After a step that broke, the server comes to rest.
const REST: Duration = Duration::from_secs(2);
/// A step whose answers fall so far behind has broken, and is not sent to its end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of the intended rate, what must be reached.
const REACHED: f64 = 0.95;
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

/// All steps and what they say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Search {
    /// In the order in which they were taken.
    pub steps: Vec<Step>,
    /// The place of the highest that held.
    pub held: Option<usize>,
    /// The place of the lowest that broke.
    pub broken: Option<usize>,
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
        (self.steps.len() < MAX_STEPS && (1.0..=most).contains(&next)).then_some(next)
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

/// Searches from this level up to that one. A step that broke is tried again before it is believed: machines have moods.
pub async fn search(from: f64, most: f64, retries: u32, mut step: impl AsyncFnMut(f64) -> Result<Step>) -> Result<Search> {
    let mut search = Search::default();
    while let Some(level) = search.next(from, most) {
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

/// Runs it.
pub async fn run(settings: &Settings, figures: &Max) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast, from) = match figures.what {
        Target::Pairs => {
            let (users, cast) = pairs::prepare(&mut people, figures.pairs as usize, &mut progress).await?;
            (users, cast, 500.0)
        }
        Target::Fanout => {
            let (users, cast) = fanout::prepare(&mut people, figures.members as usize, figures.senders, &mut progress).await?;
            (users, cast, 20.0)
        }
    };
    let mut field = Field::new(settings, &users, progress)?;
    let mut outcomes = Vec::new();
    let search = search(figures.from.unwrap_or(from), figures.most, figures.retries, async |rate| {
        let outcome = step(&mut field, figures, &cast, rate).await?;
        let step = judge(figures, rate, &outcome);
        field.progress.say(&told(&step));
        outcomes.push(outcome);
        Ok(step)
    })
    .await?;
    field.progress.clear();
    let best = search.best().ok_or_else(|| Failure::new("nothing held, not even the lowest rate"))?;
    let mut parts = vec![format!("{} held at {:.0}/s", figures.what.name(), best.level)];
    if figures.what == Target::Fanout {
        parts.push(format!("{:.0} deliveries/s", best.deliveries));
    }
    parts.push(format!("p99 {} ms", ms(best.latency.p99_us)));
    parts.push(search.worst().map_or_else(|| "nothing broke".to_owned(), |worst| format!("above it {}", told(worst))));
    // The outcome of the step itself, not of a try before it: the last at that level.
    let held = outcomes.iter().rev().find(|outcome| (outcome.intended_rate / best.level - 1.0).abs() < 0.01 && !outcome.stopped);
    parts.extend(held.map(|outcome| format!("at the held rate: {}", outcome.line())));
    let line = parts.join("; ");
    let result = serde_json::json!({"search": search, "held": held});
    Report::new("max", figures, line, &result)?.publish(settings, &people, &field.sampler)
}

async fn step(field: &mut Field, figures: &Max, cast: &Cast, rate: f64) -> Result<Outcome> {
    if field.sockets.is_empty() || field.closed() > 0 {
        let (rate, concurrency) = (field.settings.connect_rate, field.settings.connect_concurrency);
        field.connect(rate, concurrency as usize).await?;
    }
    let pace = Pace {
        stretches: vec![Stretch { rate, length: WARMUP + Duration::from_secs_f64(figures.step_seconds) }],
        warmup: WARMUP,
        last_delivery: figures.what == Target::Fanout,
        ..field.pace(rate)
    };
    let outcome = field.phase(&format!("max {} at {rate:.0}/s", figures.what.name()), cast.clone(), pace, Some(PATIENCE)).await?;
    if outcome.stopped {
        tokio::time::sleep(REST).await;
    }
    Ok(outcome)
}

fn judge(figures: &Max, rate: f64, outcome: &Outcome) -> Step {
    let latency = if outcome.receive.p99_us > outcome.ack.p99_us { outcome.receive } else { outcome.ack };
    let slo_us = (figures.slo_ms * 1000.0) as u64;
    let late = outcome.harness.pacer_lag.p99_us.max(outcome.harness.loop_lag.p99_us);
    let broke = if outcome.is_faulty() {
        Some(Broke::Loss)
    } else if outcome.stopped || latency.p99_us > slo_us {
        // A late harness only adds to latencies: what holds, holds. What breaks may have been its doing.
        Some(if late > slo_us / 2 { Broke::Harness } else { Broke::P99 })
    } else if outcome.achieved_rate < outcome.intended_rate * REACHED {
        Some(if outcome.unsent > 0 { Broke::Harness } else { Broke::Rate })
    } else {
        None
    };
    Step { level: rate, achieved: outcome.achieved_rate, deliveries: outcome.delivery_rate, latency, broke }
}

/// A step in words.
fn told(step: &Step) -> String {
    let end = step.broke.map_or_else(|| "held".to_owned(), |broke| format!("broke: {}", format!("{broke:?}").to_lowercase()));
    format!("{:.0}/s (reached {:.0}/s, p99 {} ms) {end}", step.level, step.achieved, ms(step.latency.p99_us))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Searches where everything above `limit` breaks.
    fn found(limit: f64, from: f64, most: f64) -> Search {
        let step = async |level: f64| {
            let broke = (level > limit).then_some(Broke::P99);
            Ok(Step { level, achieved: level, deliveries: 0.0, latency: Percentiles::default(), broke })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(search(from, most, 0, step)).unwrap()
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for from in [10.0, 1_000.0, 50_000.0] {
            let search = found(7_300.0, from, 1e6);
            let (held, broken) = (search.best().unwrap().level, search.worst().unwrap().level);
            assert!(held <= 7_300.0 && broken > 7_300.0 && broken / held <= CLOSE, "{held} {broken}");
        }
    }

    #[test]
    fn it_ends_where_nothing_breaks_and_where_nothing_holds() {
        let search = found(1e9, 10.0, 1000.0);
        assert_eq!((search.best().unwrap().level, search.worst().is_none()), (640.0, true));
        let search = found(0.1, 10.0, 1000.0);
        assert!(search.best().is_none());
    }
}
