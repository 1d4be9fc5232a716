//! How nodes tell each other: `bus` names the place, `bus_nats.…` the login and what else there is to say of it.

use std::path::PathBuf;

use super::Reader;
use super::value::{self, Parsed};
use crate::bus::NatsSettings;

/// A stream has at most so many copies.
const MAX_REPLICAS: usize = 5;

/// How nodes tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusSettings {
    /// There is one node.
    Local,
    /// NATS JetStream.
    Nats(NatsSettings),
}

/// The bus that the settings name; what is wrong with them is noted in `read`.
pub(super) fn bus(read: &Reader<'_>) -> BusSettings {
    let settings = NatsSettings {
        servers: read.need("bus", servers, Vec::new()),
        name: read.need("bus_nats.name", name, String::new()),
        login: read.login("bus_nats.user", "bus_nats.password").map(|(user, password)| (user, password.reveal().to_owned())),
        credentials: read.text("bus_nats.credentials").map(PathBuf::from),
        ca: read.text("bus_nats.ca").map(PathBuf::from),
        replicas: read.need("bus_nats.replicas", value::count_to(MAX_REPLICAS), 1),
    };
    if settings.servers.is_empty() { BusSettings::Local } else { BusSettings::Nats(settings) }
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
