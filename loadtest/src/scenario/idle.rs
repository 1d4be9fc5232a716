//! Sockets that are open and do nothing: what each costs in memory, and all together in processor time.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    cli::{IdleFigures, Settings},
    failure::Result,
    outcome::{counts, ms, usage},
    people::People,
    progress::Progress,
    report::Report,
    run::{Connecting, Field},
    sample::Usage,
};

/// Its people.
const CIRCLE: &str = "idle";

/// After the last socket is open, the server settles for so long.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Outcome {
    connecting: Connecting,
    /// How many ended by themselves.
    closed: u64,
    /// Resident memory that each socket cost each of the server's processes.
    rss_per_socket_bytes: Vec<i64>,
    /// What the server's processes did while nothing was asked of them.
    held: Vec<Usage>,
    /// What they did while sockets were opened.
    opening: Vec<Usage>,
}

/// Runs it.
pub async fn run(settings: &Settings, figures: &IdleFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let users = people.users(CIRCLE, figures.sockets as usize, &mut progress).await?;
    let mut field = Field::new(settings, &users, progress)?;
    // What making people has left behind settles, too.
    tokio::time::sleep(SETTLE).await;
    let before = field.sampler.mark();
    let connecting = field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;
    let connected = field.sampler.mark();
    tokio::time::sleep(SETTLE).await;
    let settled = field.sampler.mark();
    let start = Instant::now();
    while start.elapsed() < settings.length() {
        tokio::time::sleep(Duration::from_millis(100).min(settings.length())).await;
        field.progress.show(&format!("idle: {:.0} of {:.0} s", start.elapsed().as_secs_f64(), settings.seconds));
    }
    let held = field.sampler.mark();
    field.progress.clear();
    let grown = |usage: &Usage| (usage.rss_end_kb as i64 - usage.rss_start_kb as i64) * 1024 / connecting.open.max(1) as i64;
    let mut outcome = Outcome {
        closed: field.closed(),
        rss_per_socket_bytes: field.sampler.usage(&before, &held).iter().map(grown).collect(),
        held: field.sampler.usage(&settled, &held),
        opening: field.sampler.usage(&before, &connected),
        connecting,
    };
    // The harness's own are the last; they say nothing of the server.
    outcome.rss_per_socket_bytes.pop();
    let own = outcome.held.pop().unwrap_or_default();
    let connecting = &outcome.connecting;
    let mut parts = vec![format!(
        "{} sockets open in {:.2} s (each p50 {} p99 {} ms), held {:.0} s, {} closed by themselves",
        connecting.open,
        connecting.seconds,
        ms(connecting.each.p50_us),
        ms(connecting.each.p99_us),
        settings.seconds,
        outcome.closed,
    )];
    parts.extend(counts("not opened:", &connecting.failed));
    parts.extend(outcome.rss_per_socket_bytes.iter().map(|bytes| format!("{:.2} KiB a socket", *bytes as f64 / 1024.0)));
    parts.extend(usage(&outcome.held));
    parts.push(format!("harness {:.2} cores", own.cores));
    let line = parts.join("; ");
    Report::new("idle", figures, line, &outcome)?.publish(settings, &people, &field.sampler)
}
