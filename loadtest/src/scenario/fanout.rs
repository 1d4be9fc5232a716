//! One group with everybody online: each message goes to all but its sender. What counts is when the last of them has it.

use crate::{
    cli::{FanoutFigures, Settings},
    failure::{Failure, Result},
    people::{People, User},
    plan::{Cast, Hearing, Pace, Stream},
    progress::Progress,
    report::Report,
    run::Field,
};

/// Its people.
const CIRCLE: &str = "group";

/// Runs it.
pub async fn run(settings: &Settings, figures: &FanoutFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let (users, cast) = prepare(&mut people, figures.members as usize, figures.senders, &mut progress).await?;
    let mut field = Field::new(settings, &users, progress)?;
    let connecting = field.connect(settings.connect_rate, settings.connect_concurrency as usize).await?;
    let pace = Pace { last_delivery: true, ..field.pace(figures.rate) };
    let outcome = field.phase("fanout", cast, pace, None).await?;
    field.progress.clear();
    let line = format!("{} members, {} senders, {:.0} s, {}", figures.members, figures.senders, outcome.measured_seconds, outcome.line());
    let result = serde_json::json!({"connecting": connecting, "outcome": outcome});
    Report::new("fanout", figures, line, &result)?.publish(settings, &people, &field.sampler)
}

/// A group of the first so many people; the first of them send.
pub async fn prepare(people: &mut People, members: usize, senders: u32, progress: &mut Progress) -> Result<(Vec<User>, Cast)> {
    if senders as usize > members {
        return Err(Failure::new("more senders than members"));
    }
    let users = people.users(CIRCLE, members, progress).await?;
    let group = people.group(CIRCLE, members).await?;
    let stream = |sender: u32| Stream { sender, conversation_id: group.clone() };
    let hearing = |socket: u32| Hearing { streams: 0..senders, own: (socket < senders).then_some(socket) };
    let cast = Cast {
        streams: (0..senders).map(stream).collect(),
        hearing: (0..members as u32).map(hearing).collect(),
        receivers: members as u64 - 1,
    };
    Ok((users, cast))
}
