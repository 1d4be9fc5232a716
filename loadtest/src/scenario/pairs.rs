//! People who write to each other in twos: the everyday of a messenger, at a rate that does not care how the server is.

use crate::{
    cli::{Pairs, Settings},
    failure::Result,
    people::{People, User},
    plan::{Cast, Hearing, Stream},
    progress::Progress,
    report::Report,
    run::Field,
};

/// Runs it.
pub async fn run(settings: &Settings, figures: &Pairs) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast) = prepare(&mut people, figures.pairs as usize, &mut progress).await?;
    let mut field = Field::new(settings, &users, progress)?;
    let connecting = field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;
    let pace = field.pace(figures.rate);
    let outcome = field.phase("pairs", cast, pace, None).await?;
    field.progress.clear();
    let line = format!("{} pairs, {:.0} s, {}", figures.pairs, outcome.measured_seconds, outcome.line());
    let result = serde_json::json!({"connecting": connecting, "outcome": outcome});
    Report::new("pairs", figures, line, &result)?.publish(settings, &people, &field.sampler)
}

/// The first twos of people: user 2n and user 2n + 1 write to each other.
pub async fn prepare(people: &mut People, pairs: usize, progress: &mut Progress) -> Result<(Vec<User>, Cast)> {
    let users = people.users(pairs * 2, progress).await?;
    let twos: Vec<(usize, usize)> = (0..pairs).map(|pair| (pair * 2, pair * 2 + 1)).collect();
    let conversations = people.directs(&twos, progress).await?;
    let stream = |sender: u32| Stream { sender, conversation_id: conversations[sender as usize / 2].clone() };
    let hearing = |socket: u32| Hearing { streams: (socket ^ 1)..(socket ^ 1) + 1, own: None };
    let sockets = 0..users.len() as u32;
    let cast = Cast { streams: sockets.clone().map(stream).collect(), hearing: sockets.map(hearing).collect(), receivers: 1 };
    Ok((users, cast))
}
