//! The command line: one scenario, its own figures, and what all have in common.

mod figures;

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::Door;
use serde::Serialize;

pub use figures::{
    AttackName, Call, FanoutFigures, HostileFigures, IdleFigures, LoginFigures, MaxFigures, PairsFigures, ReconnectFigures, RestFigures,
    Target, VerifyFigures,
};

use crate::{
    failure::{Failure, Result},
    schedule::Arrivals,
};

/// Loads a running URGE node and says how well it bore it: latencies from the intended send time, lost, doubled and reordered
/// messages, and what the node's processes cost meanwhile. It loads this machine alone; `verify`, which is gentle, any nodes.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub scenario: Scenario,
    /// What all scenarios take.
    #[command(flatten)]
    pub settings: Settings,
}

/// The scenarios.
#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Opens sockets and holds them: memory a socket, processor time of doing nothing.
    Idle(IdleFigures),
    /// People who write to each other in twos.
    Pairs(PairsFigures),
    /// One group, all of whose members are online.
    Fanout(FanoutFigures),
    /// All sockets are dropped, and come back at once.
    Reconnect(ReconnectFigures),
    /// Password logins, while people write to each other.
    Login(LoginFigures),
    /// People who write to each other while others attack.
    Hostile(HostileFigures),
    /// One call of REST, again and again.
    Rest(RestFigures),
    /// The highest rate that holds.
    Max(MaxFigures),
    /// Whether a cluster keeps its promise; fails when it does not.
    Verify(VerifyFigures),
}

/// What all scenarios take.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Settings {
    /// The server; only 127.0.0.0/8 is loaded.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// A further node of the same cluster; may be given several times. Sockets go to all nodes in turn: two people who write to
    /// each other are on different ones.
    #[arg(long, global = true)]
    pub other_url: Vec<String>,
    /// The door that sockets go through.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub door: DoorName,
    /// How messages are sent: over the sender's socket, or by POST /messages.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub send: Send,
    /// Threads of the harness, each with its own event loop and share of the sockets.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// How long it is measured, seconds.
    #[arg(long, global = true, default_value_t = 30.0, value_parser = seconds)]
    pub seconds: f64,
    /// What goes before it and is left out of the latencies, seconds.
    #[arg(long, global = true, default_value_t = 2.0, value_parser = seconds)]
    pub warmup: f64,
    /// How messages follow each other.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// What repeats the random of the arrivals.
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Length of a message's content; its stamp takes 43.
    #[arg(long, global = true, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub bytes: u32,
    /// Messages without a client_message_id.
    #[arg(long, global = true)]
    pub no_client_ids: bool,
    /// A process of the server, to be sampled; may be given several times.
    #[arg(long, global = true)]
    pub pid: Vec<u32>,
    /// Where to write the whole result.
    #[arg(long, global = true)]
    pub json: Option<PathBuf>,
    /// Where users, tokens and conversations are kept for the next run [default: target/loadtest/people-HOST-PORT.json].
    #[arg(long, global = true)]
    pub people: Option<PathBuf>,
    /// From how many addresses of this machine the sockets come; a node limits what comes from one.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub addresses: u32,
    /// Sockets begun a second while they are opened.
    #[arg(long, global = true, default_value_t = 2000.0, value_parser = rate)]
    pub connect_rate: f64,
    /// Sockets under way at once while they are opened.
    #[arg(long, global = true, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connect_concurrency: u32,
    /// Length of the windows in which latencies are looked at over time, milliseconds.
    #[arg(long, global = true, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub window_ms: u32,
    /// How long to wait for what was acknowledged and has not come, seconds.
    #[arg(long, global = true, default_value_t = 30.0, value_parser = seconds)]
    pub drain: f64,
    /// The harness is the limit when the 99th percentile of its own delays is above this, milliseconds.
    #[arg(long, global = true, default_value_t = 2.0, value_parser = rate)]
    pub max_lag_ms: f64,
    /// Delays every message by so much: shows what a late harness looks like.
    #[arg(long, global = true, hide = true, default_value_t = 0)]
    pub hold_us: u64,
}

/// The doors by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DoorName {
    /// Plain WebSocket, /ws.
    #[default]
    Ws,
    /// Socket.IO over WebSocket.
    Socketio,
    /// Socket.IO over long-polling.
    Polling,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Send {
    /// The command `message:sent`.
    #[default]
    Socket,
    /// POST /messages.
    Post,
}

/// A length of time in seconds, bounded.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    bounded(text, 0.0, 3600.0)
}

/// A number above nothing, bounded.
fn rate(text: &str) -> std::result::Result<f64, String> {
    bounded(text, 0.01, 1_000_000.0)
}

fn bounded(text: &str, least: f64, most: f64) -> std::result::Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("{text} is not between {least} and {most}")) }
}

impl From<DoorName> for Door {
    fn from(name: DoorName) -> Self {
        match name {
            DoorName::Ws => Self::WebSocket,
            DoorName::Socketio => Self::SocketIo,
            DoorName::Polling => Self::Polling,
        }
    }
}

impl DoorName {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Socketio => "socketio",
            Self::Polling => "polling",
        }
    }
}

impl Settings {
    /// The same with the servers' addresses as `http://127.x.y.z:port`; refuses any other machine.
    pub fn checked(mut self) -> Result<Self> {
        for url in std::iter::once(&mut self.url).chain(&mut self.other_url) {
            *url = on_this_machine(url)?;
        }
        Ok(self)
    }

    /// The node of this socket.
    pub fn url_of(&self, socket: u32) -> &str {
        let nodes = 1 + self.other_url.len();
        match socket as usize % nodes {
            0 => &self.url,
            other => &self.other_url[other - 1],
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Where people are kept.
    pub fn people_path(&self) -> PathBuf {
        self.people.clone().unwrap_or_else(|| format!("target/loadtest/people-{}.json", self.authority().replace(':', "-")).into())
    }

    /// How long it is measured.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// What goes before.
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

fn on_this_machine(url: &str) -> Result<String> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    match (host.parse::<Ipv4Addr>(), port.parse::<u16>()) {
        (Ok(host), Ok(port)) if host.is_loopback() => Ok(format!("http://{host}:{port}")),
        _ => {
            let words = "only servers on this machine are loaded: give an address like http://127.0.0.1:8080, not";
            Err(Failure::new(format!("{words} {url}")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn sockets_go_to_all_nodes_in_turn() {
        let line = ["loadtest", "idle", "--url", "http://127.0.0.1:1", "--other-url", "http://127.0.0.1:2/"];
        let settings = Cli::try_parse_from(line).unwrap().settings.checked().unwrap();
        let nodes: Vec<_> = (0..3).map(|socket| settings.url_of(socket)).collect();
        assert_eq!(nodes, ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:1"]);
        let line = ["loadtest", "idle", "--other-url", "http://10.0.0.1:2"];
        assert!(Cli::try_parse_from(line).unwrap().settings.checked().is_err());
    }

    fn url(url: &str) -> Result<String> {
        let cli = Cli::try_parse_from(["loadtest", "idle", "--url", url]).unwrap();
        cli.settings.checked().map(|settings| settings.url)
    }

    #[test]
    fn only_this_machine_is_loaded() {
        Cli::command().debug_assert();
        assert_eq!(url("http://localhost:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(url("http://127.3.2.1:81").unwrap(), "http://127.3.2.1:81");
        assert_eq!(url("http://127.0.0.1").unwrap(), "http://127.0.0.1:80");
        for elsewhere in [
            "http://10.0.0.1:8080",
            "http://example.com",
            "https://127.0.0.1:8080",
            "http://127.0.0.1@example.com:80",
            "http://127.0.0.1:8080@example.com",
            "http://127.0.0.1.example.com:80",
            "http://[::1]:8080",
            "127.0.0.1:8080",
            "http://0.0.0.0:8080",
            "",
        ] {
            let error = url(elsewhere).unwrap_err().to_string();
            assert!(error.starts_with("only servers on this machine"), "{elsewhere}: {error}");
        }
    }

    #[test]
    fn figures_are_bounded() {
        for wrong in [["--seconds", "1e9"], ["--rate", "0"], ["--rate", "nan"], ["--pairs", "0"], ["--bytes", "999999"]] {
            assert!(Cli::try_parse_from(["loadtest", "pairs"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
