//! People who write to each other in twos: the everyday of a messenger, at a rate that does not care how the server is.
//! With a surge in the middle it shows what many times the everyday does, and how long its traces last.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{PairsFigures, Settings},
    failure::Result,
    histogram::Percentiles,
    outcome::{Outcome, ms},
    people::{People, User},
    plan::{Cast, Hearing, Stream},
    progress::Progress,
    report::Report,
    run::Field,
    schedule::Stretch,
};

/// Its people.
const CIRCLE: &str = "pairs";
/// So many windows in a row must be normal before it is normal again.
const IN_A_ROW: usize = 2;

/// What a surge did.
#[derive(Clone, Copy, Debug, Serialize)]
struct Surge {
    /// Deliveries that were due before it,
    before: Percentiles,
    /// in it,
    during: Percentiles,
    /// and after it.
    after: Percentiles,
    /// From its end until the 99th percentile of the windows was within twice of before; none if it never was.
    normal_after_ms: Option<u64>,
}

/// Runs it.
pub async fn run(settings: &Settings, figures: &PairsFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast) = prepare(&mut people, figures.pairs as usize, &mut progress).await?;
    let mut field = Field::new(settings, &users, progress)?;
    let connecting = field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;
    let mut pace = field.pace(figures.rate);
    if let Some(rate) = figures.surge_rate {
        pace.stretches.push(Stretch { rate, length: Duration::from_secs_f64(figures.surge_seconds) });
        pace.stretches.push(Stretch { rate: figures.rate, length: settings.length() });
    }
    let outcome = field.phase("pairs", cast, pace, None).await?;
    field.progress.clear();
    let surge = figures.surge_rate.map(|_| judge(settings, figures, &outcome));
    let mut parts = vec![format!("{} pairs", figures.pairs), format!("{:.0} s", outcome.measured_seconds)];
    if let (Some(surge), Some(rate)) = (&surge, figures.surge_rate) {
        let normal = surge.normal_after_ms.map_or_else(|| "not normal again".to_owned(), |after| format!("normal again after {after} ms"));
        let p99 = |figures: &Percentiles| ms(figures.p99_us);
        parts.push(format!(
            "surge of {rate:.0}/s for {:.0} s: p99 before {} in it {} after it {} ms, {normal}",
            figures.surge_seconds,
            p99(&surge.before),
            p99(&surge.during),
            p99(&surge.after),
        ));
    }
    parts.push(outcome.line());
    let result = json!({"connecting": connecting, "surge": surge, "outcome": outcome});
    Report::new("pairs", figures, parts.join(", "), &result)?.publish(settings, &people, &field.sampler)
}

fn judge(settings: &Settings, figures: &PairsFigures, outcome: &Outcome) -> Surge {
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    let start = ns(settings.warmup + settings.seconds);
    let end = start + ns(figures.surge_seconds);
    let over = |from: u64, to: u64| outcome.series.over(from..to).percentiles();
    let before = over(ns(settings.warmup), start);
    let rows: Vec<_> = outcome.windows.iter().filter(|window| window.from_ms * 1_000_000 >= end && window.count > 0).collect();
    let normal = rows.windows(IN_A_ROW).find(|row| row.iter().all(|window| window.p99_us <= before.p99_us * 2));
    Surge {
        before,
        during: over(start, end),
        after: over(end, u64::MAX),
        normal_after_ms: normal.map(|row| row[0].from_ms - end / 1_000_000),
    }
}

/// The first twos of people: user 2n and user 2n + 1 write to each other.
pub async fn prepare(people: &mut People, pairs: usize, progress: &mut Progress) -> Result<(Vec<User>, Cast)> {
    let users = people.users(CIRCLE, pairs * 2, progress).await?;
    let twos: Vec<(usize, usize)> = (0..pairs).map(|pair| (pair * 2, pair * 2 + 1)).collect();
    let conversations = people.directs(CIRCLE, &twos, progress).await?;
    let stream = |sender: u32| Stream { sender, conversation_id: conversations[sender as usize / 2].clone() };
    let hearing = |socket: u32| Hearing { streams: (socket ^ 1)..(socket ^ 1) + 1, own: None };
    let sockets = 0..users.len() as u32;
    let cast = Cast { streams: sockets.clone().map(stream).collect(), hearing: sockets.map(hearing).collect(), receivers: 1 };
    Ok((users, cast))
}
