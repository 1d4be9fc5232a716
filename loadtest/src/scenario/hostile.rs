//! People who write to each other while others attack: what these make of the latencies and of the server's memory, and
//! what is left of that when they are gone. Run it with the limits on, as a node has them that anybody can reach.

use std::time::Duration;

use serde_json::json;

use super::pairs;
use crate::{
    attack::Attack,
    cli::{HostileFigures, Settings},
    failure::Result,
    outcome::{Outcome, counts, ms, usage},
    people::People,
    progress::Progress,
    report::Report,
    run::Field,
};

/// The attackers.
const CIRCLE: &str = "hostile";

/// Runs it.
pub async fn run(settings: &Settings, figures: &HostileFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast) = pairs::prepare(&mut people, figures.pairs as usize, &mut progress).await?;
    let attackers = people.users(CIRCLE, figures.attackers as usize, &mut progress).await?;
    let group = people.group(CIRCLE, attackers.len()).await?;
    let mut field = Field::new(settings, &users, progress)?;
    field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;

    let mut short = field.pace(figures.rate);
    short.stretches[0].length = settings.warmup() + Duration::from_secs_f64(settings.seconds.min(5.0));
    let before = field.phase("before", cast.clone(), short.clone(), None).await?;
    let attack = Attack::start(figures.attack, settings, &attackers, &group)?;
    let during = field.phase("under attack", cast.clone(), field.pace(figures.rate), None).await?;
    let became = attack.finish().await?;
    let after = field.phase("after", cast, short, None).await?;
    field.progress.clear();

    let p99 = |outcome: &Outcome| ms(outcome.receive.p99_us);
    let mut parts = vec![
        format!("{} by {} attackers, {:.0} s", figures.attack.name(), figures.attackers, settings.seconds),
        format!("{:.0} messages/s, p99 before {} under attack {} after {} ms", figures.rate, p99(&before), p99(&during), p99(&after)),
    ];
    for ((before, during), after) in before.server.iter().zip(&during.server).zip(&after.server) {
        let mb = |kb: u64| kb / 1000;
        parts.push(format!("RSS before {} at most {} after {} MB", mb(before.rss_end_kb), mb(during.rss_peak_kb), mb(after.rss_end_kb)));
    }
    parts.extend(counts("attackers:", &became));
    parts.push(during.faults());
    parts.extend(usage(&during.server));
    parts.push(during.harness.line());
    let result = json!({"before": before, "during": during, "after": after, "attackers": became});
    Report::new("hostile", figures, parts.join("; "), &result)?.publish(settings, &people, &field.sampler)
}
