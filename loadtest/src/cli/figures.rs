//! The figures that each scenario takes for itself.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{rate, seconds};

/// What `verify` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct VerifyFigures {
    /// The nodes of the cluster, `http://host:port`, with commas between; people go to any of them, again and again.
    #[arg(long, required = true, value_delimiter = ',', value_parser = node)]
    pub nodes: Vec<String>,
    /// For how long people write: `90s`, `10m`, `1h`.
    #[arg(long = "for", default_value = "60s", value_parser = length)]
    pub length: Duration,
    /// People who write at the same time, in one conversation.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=50))]
    pub senders: u32,
    /// Messages a second, of all together; a node takes 10 a second of each.
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub rate: f64,
    /// How often each device drops its connection and comes back to another node: `200ms`, `5s`; as a rule only when it is cut off.
    #[arg(long, value_parser = length)]
    pub blink: Option<Duration>,
    /// A file with the access tokens of people who are there already, one a line and one more than --senders, for clusters that
    /// want a code before they register anybody. They get a group of their own.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
}

fn node(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("http://").ok_or_else(|| format!("{text} is no address like http://10.0.0.1:8080"))?;
    if host.is_empty() || host.contains('/') { Err(format!("{text} is more than http://host:port")) } else { Ok(url.to_owned()) }
}

fn length(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let unit = match &text[at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("{text} is no time like 200ms, 90s, 10m or 1h")),
    };
    let number: f64 = text[..at].parse().map_err(|_| format!("{text} begins with no number"))?;
    let seconds = number * unit;
    if (0.05..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} is not between 50ms and 24h"))
    }
}

/// What `idle` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct IdleFigures {
    /// How many sockets.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub sockets: u32,
}

/// What `pairs` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PairsFigures {
    /// How many twos; both sides write.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub pairs: u32,
    /// Messages a second, of all together.
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    pub rate: f64,
    /// After --seconds of it, messages a second of a surge; then --seconds of the rate again.
    #[arg(long, value_parser = rate)]
    pub surge_rate: Option<f64>,
    /// How long the surge lasts, seconds.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub surge_seconds: f64,
}

/// What `fanout` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct FanoutFigures {
    /// Members of the group, all online.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1001))]
    pub members: u32,
    /// How many of them write.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1001))]
    pub senders: u32,
    /// Messages a second, of all together.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub rate: f64,
}

/// What `reconnect` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct ReconnectFigures {
    /// How many phones.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub sockets: u32,
    /// Messages written while they are away, one a phone as far as there are phones.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub missed: u32,
    /// How long they are away at least, seconds.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub away: f64,
    /// How many connect at the same moment, each next one as soon as one is in.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub burst: u32,
}

/// What `login` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct LoginFigures {
    /// Logins under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: u32,
    /// How many twos write to each other meanwhile.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub pairs: u32,
    /// Their messages a second.
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    pub rate: f64,
}

/// The attacks that `hostile` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AttackName {
    /// Logins that connect and drop the connection, again and again.
    Storm,
    /// Members of a busy group who read nothing.
    Slow,
    /// Connections that begin something and fall silent.
    HalfOpen,
    /// One user whose ten sockets ask without a pause.
    Flood,
    /// Bad tokens and passwords from many addresses.
    Strangers,
}

impl AttackName {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Slow => "slow",
            Self::HalfOpen => "half-open",
            Self::Flood => "flood",
            Self::Strangers => "strangers",
        }
    }
}

/// What `hostile` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct HostileFigures {
    /// What the attackers do.
    #[arg(value_enum)]
    pub attack: AttackName,
    /// How many they are, each from an address of his own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub attackers: u32,
    /// How many twos write to each other meanwhile.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub pairs: u32,
    /// Their messages a second.
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    pub rate: f64,
}

/// The calls that `rest` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// POST /messages.
    Post,
    /// GET /conversations/{id}/messages, the newest 50.
    Page,
    /// GET /conversations of somebody with very many.
    List,
    /// POST /sync of somebody with very many, who lacks the last message of ten.
    Sync,
}

impl Call {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Page => "page",
            Self::List => "list",
            Self::Sync => "sync",
        }
    }
}

/// What `rest` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RestFigures {
    /// What is called.
    #[arg(long, value_enum)]
    pub call: Call,
    /// Calls under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub concurrency: u32,
    /// Conversations that `post` and `page` go round.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub pairs: u32,
    /// Conversations of the user of `list` and `sync`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub conversations: u32,
    /// Messages in them, all together; they are written the first time.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub messages: u32,
}

/// What `max` can drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// As `pairs`.
    Pairs,
    /// As `fanout`.
    Fanout,
    /// As `rest --call post`.
    Post,
    /// As `rest --call page`.
    Page,
}

impl Target {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Fanout => "fanout",
            Self::Post => "post",
            Self::Page => "page",
        }
    }
}

/// What `max` takes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct MaxFigures {
    /// What is driven.
    #[arg(value_enum)]
    pub what: Target,
    /// The 99th percentile that still holds, milliseconds.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub slo_ms: f64,
    /// How long a step is measured, seconds.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub step_seconds: f64,
    /// Where to begin: messages a second, or calls under way at once [default: pairs 500, fanout 20, post and page 2].
    #[arg(long, value_parser = rate)]
    pub from: Option<f64>,
    /// Where to end.
    #[arg(long, default_value_t = 200_000.0, value_parser = rate)]
    pub most: f64,
    /// How often a step that broke is tried again before it is believed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=5))]
    pub retries: u32,
    /// As of `pairs` and `rest`.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub pairs: u32,
    /// As of `fanout`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1001))]
    pub members: u32,
    /// As of `fanout`.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1001))]
    pub senders: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units_and_bounds() {
        let of = |text| length(text).map(|length| length.as_millis());
        assert_eq!([of("200ms"), of("90s"), of("1.5m"), of("1h")], [Ok(200), Ok(90_000), Ok(90_000), Ok(3_600_000)]);
        for wrong in ["", "10", "s", "10d", "0s", "25h", "-1s", "1ms"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nodes_are_addresses_without_a_path() {
        assert_eq!(node("http://10.0.0.1:8080/"), Ok("http://10.0.0.1:8080".to_owned()));
        for wrong in ["10.0.0.1:8080", "https://a", "http://", "http://a/api"] {
            assert!(node(wrong).is_err(), "{wrong}");
        }
    }
}
