//! The streams, as `nats/*.json` says, which `urge migrate` and the chart read too. A stream that is missing is made, also
//! in mid-run: a server that has forgotten everything is served again at once. One that is different is used as it is and
//! said to be: it is never changed behind its operator's back.

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Info, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use crate::bus::{BusError, Worker};
use crate::id::{ConversationId, NodeId};

/// Envelopes on their way to one node each.
pub(super) const LIVE: &str = include_str!("../../../nats/live.json");
/// What goes to all nodes.
pub(super) const PRESENCE: &str = include_str!("../../../nats/presence.json");

/// Growths, for workers.
pub(super) const EVENTS: &str = include_str!("../../../nats/events.json");
/// What no worker could work on.
pub(super) const DEAD: &str = include_str!("../../../nats/dead.json");

/// Subjects that growths are spread over.
const EVENT_SHARDS: u8 = 16;

/// What streams and subjects are called in the cluster of this name; in the files it is `urge`.
#[derive(Clone, Debug)]
pub(super) struct Names(pub String);

impl Names {
    /// What a node is to deliver.
    pub fn live(&self, node: NodeId) -> String {
        format!("{}.live.{}", self.0, node.0.simple())
    }

    /// What nodes answer when this one asks how far its numbers have come to them: in no stream, it is asked again.
    pub fn heard(&self, node: NodeId) -> String {
        format!("{}.heard.{}", self.0, node.0.simple())
    }

    /// What a node says of itself.
    pub fn presence(&self, node: NodeId) -> String {
        format!("{}.presence.{}", self.0, node.0.simple())
    }

    /// What all nodes must know.
    pub fn control(&self) -> String {
        format!("{}.control.all", self.0)
    }

    /// That a conversation has grown.
    pub fn event(&self, conversation: ConversationId) -> String {
        format!("{}.event.{}", self.0, conversation.0.as_bytes()[15] % EVENT_SHARDS)
    }

    /// What this worker could not work on.
    pub fn dead(&self, worker: Worker) -> String {
        format!("{}.dead.{}", self.0, worker.name())
    }

    fn stream(&self, name: &str) -> String {
        name.replacen("URGE", &self.0.to_uppercase(), 1)
    }

    fn subject(&self, subject: &str) -> String {
        subject.replacen("urge", &self.0, 1)
    }
}

/// How a stream, or a consumer, was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// As it should be.
    Good,
    /// It was missing, and is made.
    Made,
    /// In this it is another.
    Different(Vec<&'static str>),
}

impl Found {
    /// What is there, with what is different in it.
    pub fn of(differs: Vec<&'static str>) -> Self {
        if differs.is_empty() { Self::Good } else { Self::Different(differs) }
    }
}

/// A stream as it should be.
#[derive(Clone, Debug)]
pub(super) struct Spec(Config);

impl Spec {
    /// A stream of this JSON.
    pub fn read(json: &str, names: &Names, replicas: usize) -> Result<Self, BusError> {
        let config: Config = serde_json::from_str(json).map_err(|error| BusError(format!("a stream's JSON cannot be read: {error}")))?;
        let subjects = config.subjects.iter().map(|subject| names.subject(subject)).collect();
        Ok(Self(Config { name: names.stream(&config.name), subjects, num_replicas: replicas, ..config }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The stream; made if it is missing.
    pub async fn ensure(&self, context: &Context) -> Result<Stream<Info>, BusError> {
        let (stream, found) = self.find_or_make(context).await?;
        if let Found::Different(differs) = found {
            let (stream, differs) = (self.name(), differs.join(", "));
            tracing::warn!(stream, differs, "a stream is not as it should be, and used as it is: change it with the nats command");
        }
        Ok(stream)
    }

    /// The stream, and how it was found.
    pub async fn find_or_make(&self, context: &Context) -> Result<(Stream<Info>, Found), BusError> {
        let wanted = &self.0;
        match context.get_stream(self.name()).await {
            Ok(stream) => {
                let differs = differences(wanted, &stream.cached_info().config);
                metrics::gauge!("urge_bus_stream_differs", "stream" => self.name().to_owned()).set(differs.len() as f64);
                Ok((stream, Found::of(differs)))
            }
            Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND) =>
            {
                let made = context.create_stream(wanted).await.map_err(|error| self.failed("cannot be made", &error))?;
                tracing::info!(stream = self.name(), replicas = wanted.num_replicas, "a stream is made");
                Ok((made, Found::Made))
            }
            Err(error) => Err(self.failed("cannot be looked at", &error)),
        }
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> BusError {
        BusError(format!("the stream {} {what}: {error}", self.name()))
    }
}

/// What matters to the nodes; limits are the operator's to raise.
fn differences(wanted: &Config, there: &Config) -> Vec<&'static str> {
    let differs = [
        ("subjects", wanted.subjects != there.subjects),
        ("storage", wanted.storage != there.storage),
        ("retention", wanted.retention != there.retention),
        ("discard", wanted.discard != there.discard),
        ("max_age", there.max_age < wanted.max_age && !there.max_age.is_zero()),
        ("num_replicas", there.num_replicas < wanted.num_replicas),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_files_are_what_the_code_takes_them_for() {
        let (node, ours, theirs) = (NodeId::fresh(), Names("urge".into()), Names("staging".into()));
        let files = [(LIVE, "LIVE", "live"), (PRESENCE, "PRESENCE", "presence"), (EVENTS, "EVENTS", "event"), (DEAD, "DEAD", "dead")];
        for (json, name, subject) in files {
            let Spec(config) = Spec::read(json, &ours, 3).unwrap();
            assert_eq!((config.name, config.num_replicas), (format!("URGE_{name}"), 3));
            let Spec(config) = Spec::read(json, &theirs, 1).unwrap();
            assert_eq!((config.name, &config.subjects[0]), (format!("STAGING_{name}"), &format!("staging.{subject}.>")));
        }
        assert_eq!(ours.live(node), format!("urge.live.{}", node.0.simple()));
        assert_eq!((ours.dead(Worker::Index), theirs.dead(Worker::Index)), ("urge.dead.index".into(), "staging.dead.index".into()));
        assert_eq!((ours.control(), theirs.control()), ("urge.control.all".into(), "staging.control.all".into()));
    }

    #[test]
    fn a_stream_may_be_larger_but_not_another() {
        let Spec(wanted) = Spec::read(LIVE, &Names("urge".into()), 1).unwrap();
        let larger = Config { max_age: wanted.max_age * 2, num_replicas: 3, max_bytes: -1, ..wanted.clone() };
        assert!(differences(&wanted, &larger).is_empty());
        let other = Config { subjects: vec!["urge.live.*".into()], max_age: wanted.max_age / 2, ..wanted.clone() };
        assert_eq!(differences(&wanted, &other), ["subjects", "max_age"]);
    }
}
