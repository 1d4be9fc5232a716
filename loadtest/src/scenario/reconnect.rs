//! All phones lose their connection at once and come back at once: how long until each is back, authenticated and brought up to date,
//! and whether what was written to some of them meanwhile is there, once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loadtest::Rest;
use serde::Serialize;

use crate::{
    cli::{ReconnectFigures, Settings},
    failure::Result,
    histogram::{Latencies, Percentiles},
    outcome::{Harness, Outcome, counts, ms, usage},
    people::{People, spread},
    plan::{Cast, Hearing, Pace, Plan, Stream},
    post::post,
    progress::Progress,
    report::Report,
    run::{Connecting, Field, PROBE_EVERY},
    sample::Usage,
    schedule::Stretch,
    shard::Resumed,
    tally::Part,
};

/// How many people write to them all. Not to be chosen: each phone has one conversation only, whatever was run before.
const WRITERS: usize = 10;
/// Its people.
const CIRCLE: &str = "phones";

/// How long the last answers to `resume` are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what may still come, though it should not.
const LINGER: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Serialize)]
struct Returned {
    /// Until they were connected and authenticated.
    connecting: Connecting,
    /// Until they were brought up to date, from the moment when all began.
    resumed: Percentiles,
    /// The first of them,
    first_ms: f64,
    /// and the last.
    last_ms: f64,
    /// How many were brought up to date.
    back: u64,
    /// How many were told to call /sync instead, or were refused.
    not_recovered: u64,
    /// What the server's processes cost until the last was back.
    server: Vec<Usage>,
    /// How the harness itself did: it was the limit when its event loops let things wait for a twentieth of the whole and more.
    harness: Harness,
    /// What became of the messages.
    messages: Outcome,
}

/// Runs it.
pub async fn run(settings: &Settings, figures: &ReconnectFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (senders, phones) = (WRITERS, figures.sockets as usize);
    let users = people.users(CIRCLE, senders + phones, &mut progress).await?;
    let twos: Vec<(usize, usize)> = (0..phones).map(|phone| (phone % senders, senders + phone)).collect();
    let conversations = people.directs(CIRCLE, &twos, &mut progress).await?;
    let writers: Arc<[Rest]> = users[..senders].iter().map(|user| people.rest.with_token(&user.token)).collect();
    let mut field = Field::new(settings, &users[senders..], progress)?;
    field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;

    let stream = |conversation_id: String| Stream { sender: 0, conversation_id };
    let hearing = |phone: u32| Hearing { streams: phone..phone + 1, own: None };
    let cast = Cast {
        streams: conversations.into_iter().map(stream).collect(),
        hearing: (0..figures.sockets).map(hearing).collect(),
        receivers: 1,
    };
    // One message to each while all are there, from which they know where their conversation stands; then those that are missed.
    let messages = phones + figures.missed as usize;
    let stretches = vec![Stretch { rate: messages as f64, length: Duration::from_secs(1) }];
    let pace = Pace { stretches, warmup: Duration::ZERO, in_order: false, ..field.pace(1.0) };
    let plan = Arc::new(Plan::new(Duration::ZERO, cast, pace));
    field.begin(&plan);
    let mut sent = write(&field, &plan, &writers, 0..phones).await?;
    field.drain("reconnect", 1).await;

    field.abort_all().await;
    let away = Instant::now();
    sent += write(&field, &plan, &writers, phones..messages).await?;
    tokio::time::sleep(Duration::from_secs_f64(figures.away).saturating_sub(away.elapsed())).await;

    let (start, first) = (Instant::now(), field.sampler.mark());
    let known = |phone: u32| {
        let known = field.known(phone);
        Some(format!(r#"{{"known":{{"{}":{known}}}}}"#, plan.cast.streams[phone as usize].conversation_id))
    };
    let commands = (0..figures.sockets).map(known).collect();
    let connecting = field.connect_with(0.0, figures.burst as usize, commands).await?;
    while field.resumed() < connecting.open && start.elapsed() < PATIENCE {
        field.probe();
        tokio::time::sleep(PROBE_EVERY).await;
    }
    let last = field.sampler.mark();
    let resumed = field.take_resumed();
    tokio::time::sleep(LINGER).await;
    field.progress.clear();

    let mut part = Part { sent, ..Part::default() };
    field.shards.iter().for_each(|shard| part.add(shard.book.end()));
    let messages = Outcome::new(&plan, part, vec![Usage::default()], Duration::MAX, None);
    let returned = judge(connecting, &resumed, start, field.sampler.usage(&first, &last), messages);
    let line = line(settings, figures, &returned);
    Report::new("reconnect", figures, line, &returned)?.publish(settings, &people, &field.sampler)
}

/// Posts these messages, some at once; how many there were.
async fn write(field: &Field, plan: &Arc<Plan>, writers: &Arc<[Rest]>, messages: std::ops::Range<usize>) -> Result<u64> {
    // Who keeps the answers does not matter, so long as it is one.
    let book = Arc::clone(&field.shards[0].book);
    let count = messages.len() as u64;
    let posting = spread(messages.collect(), |index| {
        let (plan, writers, book) = (Arc::clone(plan), Arc::clone(writers), Arc::clone(&book));
        async move {
            let (stream, _) = plan.place(index);
            let data = plan.message(index);
            post(&writers[stream as usize % writers.len()], plan.ack_id(index), data, &book).await;
            Ok(())
        }
    });
    posting.await?;
    Ok(count)
}

fn judge(connecting: Connecting, resumed: &[Resumed], start: Instant, mut usage: Vec<Usage>, messages: Outcome) -> Returned {
    let own = usage.pop().unwrap_or_default();
    let after: Vec<Duration> = resumed.iter().map(|one| one.at.duration_since(start)).collect();
    let mut latencies = Latencies::default();
    for after in &after {
        latencies.record_ns(after.as_nanos() as u64);
    }
    let ms = |after: Option<&Duration>| after.map_or(0.0, |after| after.as_secs_f64() * 1000.0);
    let recovered = resumed.iter().filter(|one| one.recovered).count() as u64;
    Returned {
        resumed: latencies.percentiles(),
        first_ms: ms(after.iter().min()),
        last_ms: ms(after.iter().max()),
        back: recovered,
        not_recovered: connecting.open - recovered,
        connecting,
        server: usage,
        harness: Harness::new(
            Percentiles::default(),
            messages.harness.loop_lag,
            own.cores,
            after.iter().max().map_or(Duration::ZERO, |last| *last / 20),
        ),
        messages,
    }
}

fn line(settings: &Settings, figures: &ReconnectFigures, returned: &Returned) -> String {
    let mut parts = vec![
        format!("{} sockets dropped, {} messages missed", figures.sockets, figures.missed),
        format!("{} back and up to date in {:.2} s", returned.back, returned.last_ms / 1000.0),
        format!("first {:.0} ms, p50 {} p99 {} ms", returned.first_ms, ms(returned.resumed.p50_us), ms(returned.resumed.p99_us)),
        format!("{} threads, {} at once", settings.threads, figures.burst),
    ];
    parts.extend(counts("not opened:", &returned.connecting.failed));
    if returned.not_recovered > 0 {
        parts.push(format!("{} not brought up to date", returned.not_recovered));
    }
    parts.push(returned.messages.faults());
    parts.extend(usage(&returned.server));
    parts.push(returned.harness.line());
    parts.join("; ")
}
