//! Password logins as fast as they are answered, while people go on writing to each other: hashing must not hold up messages.

use std::time::Duration;

use loadtest::{Rest, http::Http};
use serde_json::json;

use super::pairs;
use crate::{
    cli::{LoginFigures, Settings},
    failure::Result,
    histogram::Percentiles,
    logins::Logins,
    outcome::{counts, ms, spread, usage},
    people::{PASSWORD, People},
    progress::Progress,
    report::Report,
    run::Field,
};

/// Those who log in: enough for the sessions that each may have.
const CIRCLE: &str = "logins";
/// How many they are.
const USERS: usize = 64;

/// Runs it.
pub async fn run(settings: &Settings, figures: &LoginFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast) = pairs::prepare(&mut people, figures.pairs as usize, &mut progress).await?;
    let logins = people.users_with_password(CIRCLE, USERS, &mut progress).await?;
    let phones: Vec<String> = logins.iter().map(|user| user.phone.clone()).collect();
    let mut field = Field::new(settings, &users, progress)?;
    field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;

    // First without logins, to compare with.
    let alone_seconds = Duration::from_secs_f64(settings.seconds.min(5.0));
    let mut pace = field.pace(figures.rate);
    pace.stretches[0].length = settings.warmup() + alone_seconds;
    let alone = field.phase("pairs alone", cast.clone(), pace, None).await?;

    let rest = Rest::with_http(&settings.url, Http::new(None)).with_timeout(Duration::from_secs(30));
    let running = Logins::start(&rest, &phones, PASSWORD, figures.concurrency as usize, settings.warmup(), settings.length());
    let during = field.phase("pairs and logins", cast, field.pace(figures.rate), None).await?;
    let done = running.finish().await;
    field.progress.clear();

    let p99 = |figures: &Percentiles| ms(figures.p99_us);
    let mut parts =
        vec![format!("{:.1} logins/s at concurrency {}", done.rate, figures.concurrency), format!("login {}", spread(&done.latency))];
    parts.extend(counts("failed", &done.failed));
    parts.push(format!("{:.0} messages/s meanwhile", during.achieved_rate));
    parts.push(format!("their p99 {} ms, without logins {} ms", p99(&during.receive), p99(&alone.receive)));
    parts.push(during.faults());
    parts.extend(usage(&during.server));
    parts.push(during.harness.line());
    let result = json!({"logins": done, "alone": alone, "outcome": during});
    Report::new("login", figures, parts.join("; "), &result)?.publish(settings, &people, &field.sampler)
}
