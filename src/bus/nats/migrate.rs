//! Everything that the nodes need on the server, made ahead of them: what `urge migrate` does for the bus. What is there is left
//! as it is.

use std::time::Duration;

use tokio::time::timeout;

use super::consume;
use super::events::context;
use super::link::Link;
use super::streams::{DEAD, EVENTS, Found, LIVE, Names, PRESENCE, Spec};
use super::{Nats, NatsSettings};
use crate::bus::{BusError, Worker};
use crate::id::NodeId;

/// How long servers may take to be connected to.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What was found on the server.
#[derive(Debug, Default)]
pub struct Migrated {
    /// What was missing, and is made.
    pub made: Vec<String>,
    /// What is not as it should be, each with what is different.
    pub different: Vec<String>,
}

impl Migrated {
    fn note(&mut self, name: String, found: Found) {
        match found {
            Found::Good => {}
            Found::Made => self.made.push(name),
            Found::Different(differs) => self.different.push(format!("{name} ({})", differs.join(", "))),
        }
    }
}

impl Nats {
    /// Makes the streams and consumers that are missing.
    ///
    /// # Errors
    /// No server answers, or none makes them; credentials or certificates that cannot be read.
    pub async fn migrate(settings: &NatsSettings) -> Result<Migrated, BusError> {
        let mut link = Link::open(settings, "migrate", NodeId::fresh()).await?;
        let connected = timeout(CONNECT_LIMIT, link.state.wait_for(|state| state.is_up)).await.is_ok();
        if !connected {
            let (servers, limit_s) = (settings.servers.join(","), CONNECT_LIMIT.as_secs());
            return Err(BusError(format!("no NATS server of {servers} lets this in within {limit_s} s")));
        }
        let (context, names) = (context(&link), Names(settings.name.clone()));
        let mut migrated = Migrated::default();
        for json in [LIVE, PRESENCE, DEAD, EVENTS] {
            let spec = Spec::read(json, &names, settings.replicas)?;
            let (stream, found) = spec.find_or_make(&context).await?;
            migrated.note(spec.name().to_owned(), found);
            if json == EVENTS {
                let (_, found) = consume::find_or_make(&stream, Worker::Index).await?;
                migrated.note(format!("{}/{}", spec.name(), Worker::Index.name()), found);
            }
        }
        Ok(migrated)
    }
}
