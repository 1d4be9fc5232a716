//! What a node stands on, as the settings name it: the store and the bus.

use std::path::PathBuf;

use super::secrecy::Hidden;
use super::value::Parsed;
use super::{MAX_REPLICAS, Reader, value};

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// One file in the data folder.
    Sqlite,
    /// ScyllaDB or Cassandra.
    Scylla {
        /// `host:port` of some of its nodes.
        nodes: Vec<String>,
        /// The keyspace.
        keyspace: String,
    },
}

/// How nodes tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusSettings {
    /// There is one node.
    Local,
    /// NATS JetStream.
    Nats(NatsSettings),
}

/// Where NATS is, and who this node is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`, some of the servers.
    pub servers: Vec<String>,
    /// What streams and subjects begin with: clusters of different names share servers without hearing each other.
    pub name: String,
    /// A user, and his password.
    pub user: Option<(String, Hidden)>,
    /// A file with a JWT and its seed.
    pub credentials: Option<PathBuf>,
    /// The certificate of the authority that has signed the servers'.
    pub ca: Option<PathBuf>,
    /// Copies of each stream that is made.
    pub replicas: usize,
}

impl Reader<'_> {
    pub(super) fn bus(&self) -> BusSettings {
        let servers = self.need("bus", servers, Vec::new());
        let (user, password) = (self.text("bus_nats.user"), self.hidden("bus_nats.password"));
        if user.is_some() != password.is_some() {
            self.refuse("bus_nats.password", "is to be set together with bus_nats.user");
        }
        let settings = NatsSettings {
            servers,
            name: self.need("bus_nats.name", name, String::new()),
            user: user.zip(password),
            credentials: self.text("bus_nats.credentials").map(PathBuf::from),
            ca: self.text("bus_nats.ca").map(PathBuf::from),
            replicas: self.need("bus_nats.replicas", value::count_to(MAX_REPLICAS), 1),
        };
        if settings.servers.is_empty() { BusSettings::Local } else { BusSettings::Nats(settings) }
    }
}

/// `local` (none), or `nats://host:4222,host:4222`; with `tls://` all are spoken to by TLS.
fn servers(text: &str) -> Parsed<Vec<String>> {
    if text == "local" {
        return Ok(Vec::new());
    }
    let wrong = || "is neither local nor nats://host:4222,host:4222 (or tls://)".to_owned();
    let (scheme, hosts) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "nats" | "tls")).ok_or_else(wrong)?;
    if hosts.contains('@') {
        return Err("has a user in it: set bus_nats.user and bus_nats.password, or bus_nats.credentials".to_owned());
    }
    let server = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(format!("{scheme}://{host}")),
        None if !host.is_empty() && !host.contains('/') => Ok(format!("{scheme}://{host}:4222")),
        _ => Err(wrong()),
    };
    value::list(hosts).map(server).collect()
}

fn name(text: &str) -> Parsed<String> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.len() > 32 || !text.chars().all(is_letter) {
        return Err("is not up to 32 of a-z, 0-9 and _".to_owned());
    }
    Ok(text.to_owned())
}

/// The one place for files that this build has; the others are recognised, so that the words fit.
pub(super) fn file(text: &str) -> Parsed<()> {
    match text.split_once("://") {
        None if text == "file" => Ok(()),
        Some((scheme @ ("s3" | "gs" | "az"), rest)) if !rest.is_empty() => Err(format!("names {scheme}, but this build has only file")),
        _ => Err("is not known: this build has only file".to_owned()),
    }
}
