//! How much it bears: raises the rate, or the number of callers, until something breaks, and closes in on the place.
//! What broke is said too: latency, loss, a rate that was not reached, or the harness itself.

use std::time::Duration;

use serde_json::json;

use super::{fanout, pairs, rest::Calls};
use crate::{
    cli::{Call, MaxFigures, RestFigures, Settings, Target},
    closed::{Driven, Loop},
    failure::{Failure, Result},
    outcome::{Harness, Outcome, ms},
    people::{People, User},
    plan::{Cast, Pace},
    progress::Progress,
    report::Report,
    run::Field,
    schedule::Stretch,
    search::{Broke, Levels, Search, Step, search},
};

/// Before each step is measured.
const WARMUP: Duration = Duration::from_secs(1);
/// After a step that broke, the server comes to rest.
const REST: Duration = Duration::from_secs(2);
/// A step whose answers fall so far behind has broken, and is not sent to its end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of the intended rate, what must be reached.
const REACHED: f64 = 0.95;
/// Callers at most.
const MAX_CALLERS: f64 = 4000.0;

/// Runs it.
pub async fn run(settings: &Settings, figures: &MaxFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    match figures.what {
        Target::Pairs => {
            let (users, cast) = pairs::prepare(&mut people, figures.pairs as usize, &mut progress).await?;
            messages(settings, figures, &people, &users, &cast, 500.0, progress).await
        }
        Target::Fanout => {
            let (users, cast) = fanout::prepare(&mut people, figures.members as usize, figures.senders, &mut progress).await?;
            messages(settings, figures, &people, &users, &cast, 20.0, progress).await
        }
        Target::Post => calls(settings, figures, Call::Post, &mut people, progress).await,
        Target::Page => calls(settings, figures, Call::Page, &mut people, progress).await,
    }
}

/// Raises the rate of messages.
async fn messages(
    settings: &Settings,
    figures: &MaxFigures,
    people: &People,
    users: &[User],
    cast: &Cast,
    from: f64,
    progress: Progress,
) -> Result<()> {
    let mut field = Field::new(settings, users, progress)?;
    let mut outcomes = Vec::new();
    let levels = Levels { from: figures.from.unwrap_or(from), most: figures.most, is_whole: false };
    let found = search(levels, figures.retries, async |rate| {
        let outcome = phase(&mut field, figures, cast, rate).await?;
        let step = judge_phase(figures, rate, &outcome);
        field.progress.say(&step.told());
        outcomes.push((rate, outcome));
        Ok(step)
    });
    let found = found.await?;
    let best = best(&found)?;
    let mut parts = vec![format!("{} held at {:.0}/s", figures.what.name(), best.level)];
    if figures.what == Target::Fanout {
        parts.push(format!("{:.0} deliveries/s", best.deliveries));
    }
    parts.push(format!("p99 {} ms", ms(best.latency.p99_us)));
    parts.push(above(&found));
    // Of several tries at that level the last: it is the one that held.
    let held = outcomes.iter().rev().find(|(rate, _)| (rate - best.level).abs() < 1e-6).map(|(_, outcome)| outcome);
    parts.extend(held.map(|outcome| format!("at the held rate: {}", outcome.line())));
    publish(settings, figures, people, &mut field, &parts, &json!({"search": found, "held": held}))
}

/// Raises the number of callers.
async fn calls(settings: &Settings, figures: &MaxFigures, call: Call, people: &mut People, mut progress: Progress) -> Result<()> {
    let of_rest = RestFigures { call, concurrency: 1, pairs: figures.pairs, conversations: 1, messages: 1 };
    let calls = Calls::prepare(settings, &of_rest, people, &mut progress).await?;
    let mut field = Field::new(settings, &[], progress)?;
    let levels = Levels { from: figures.from.unwrap_or(2.0), most: figures.most.min(MAX_CALLERS), is_whole: true };
    let found = search(levels, figures.retries, async |callers| {
        let how = Loop { concurrency: callers as usize, warmup: WARMUP, length: Duration::from_secs_f64(figures.step_seconds) };
        let driven = calls.drive(&mut field, &format!("max {} with {callers:.0} callers", call.name()), how).await?;
        let step = judge_calls(figures, callers, &driven);
        field.progress.say(&step.told());
        Ok(step)
    });
    let found = found.await?;
    let best = best(&found)?;
    // More callers are not always more calls.
    let most = found.steps.iter().filter(|step| step.broke.is_none()).max_by(|one, other| one.achieved.total_cmp(&other.achieved));
    let parts = vec![
        format!("{} held with {:.0} callers", call.name(), best.level),
        format!("{:.0}/s, p99 {} ms", best.achieved, ms(best.latency.p99_us)),
        most.map_or_else(String::new, |most| format!("most {:.0}/s with {:.0} callers", most.achieved, most.level)),
        above(&found),
    ];
    publish(settings, figures, people, &mut field, &parts, &json!({"search": found}))
}

fn publish(
    settings: &Settings,
    figures: &MaxFigures,
    people: &People,
    field: &mut Field,
    parts: &[String],
    result: &serde_json::Value,
) -> Result<()> {
    field.progress.clear();
    Report::new("max", figures, parts.join("; "), result)?.publish(settings, people, &field.sampler)
}

fn best(found: &Search) -> Result<&Step> {
    found.best().ok_or_else(|| Failure::new("nothing held, not even the lowest level"))
}

fn above(found: &Search) -> String {
    found.worst().map_or_else(|| "nothing broke".to_owned(), |worst| format!("above it {}", worst.told()))
}

async fn phase(field: &mut Field, figures: &MaxFigures, cast: &Cast, rate: f64) -> Result<Outcome> {
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

/// What holds, holds: a late harness only adds to latencies. What breaks may have been its doing.
fn late(figures: &MaxFigures, harness: &Harness) -> Broke {
    let lag_us = harness.pacer_lag.p99_us.max(harness.loop_lag.p99_us);
    if lag_us as f64 > figures.slo_ms * 500.0 { Broke::Harness } else { Broke::P99 }
}

fn judge_phase(figures: &MaxFigures, rate: f64, outcome: &Outcome) -> Step {
    let latency = if outcome.receive.p99_us > outcome.ack.p99_us { outcome.receive } else { outcome.ack };
    let broke = if outcome.is_faulty() {
        Some(Broke::Loss)
    } else if outcome.stopped || latency.p99_us as f64 > figures.slo_ms * 1000.0 {
        Some(late(figures, &outcome.harness))
    } else if outcome.achieved_rate < outcome.intended_rate * REACHED {
        Some(if outcome.unsent > 0 { Broke::Harness } else { Broke::Rate })
    } else {
        None
    };
    Step { level: rate, achieved: outcome.achieved_rate, deliveries: outcome.delivery_rate, latency, broke }
}

fn judge_calls(figures: &MaxFigures, callers: f64, driven: &Driven) -> Step {
    let failed: u64 = driven.failed.values().sum();
    let broke = if driven.latency.p99_us as f64 > figures.slo_ms * 1000.0 {
        Some(late(figures, &driven.harness))
    } else if failed as f64 > (driven.calls + failed) as f64 * (1.0 - REACHED) {
        Some(Broke::Rate)
    } else {
        None
    };
    Step { level: callers, achieved: driven.rate, deliveries: 0.0, latency: driven.latency, broke }
}
