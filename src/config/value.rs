//! The kinds of values that settings have, each with the words that say what is wrong with a bad one.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::StoreSettings;
use crate::phone::Country;

/// No number is larger.
const MOST: usize = 1_000_000_000;
/// No length of time is longer: ten years.
const LONGEST: Duration = Duration::from_hours(24 * 3_650);

/// A value as text becomes what it means, or words that follow "it".
pub type Parsed<T> = Result<T, String>;

/// `127.0.0.1:8080`
pub fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "is not an IP address with a port".to_owned())
}

/// `sqlite`, `scylla://host:9042,host:9042/keyspace`
pub fn store(text: &str) -> Parsed<StoreSettings> {
    if text == "sqlite" {
        return Ok(StoreSettings::Embedded);
    }
    let wrong = || "is neither sqlite nor scylla://host:9042,host:9042/keyspace".to_owned();
    let (nodes, keyspace) = text.strip_prefix("scylla://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let node = |node: &str| match node.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(node.to_owned()),
        None if !node.is_empty() => Ok(format!("{node}:9042")),
        _ => Err(wrong()),
    };
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(1..=48).contains(&keyspace.len()) || !keyspace.starts_with(|c: char| c.is_ascii_lowercase()) || !keyspace.chars().all(is_letter) {
        return Err("names no keyspace behind its hosts: up to 48 of a-z, 0-9 and _, a letter first".to_owned());
    }
    Ok(StoreSettings::Cluster {
        nodes: list(nodes).map(node).collect::<Parsed<_>>()?,
        keyspace: keyspace.to_owned(),
        login: None,
        replicas: 0,
    })
}

/// `30d`, `12h`, `5m`, `10s`, `250ms`
pub fn duration(text: &str) -> Parsed<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || "is not a length of time: a whole number, then ms, s, m, h or d".to_owned();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(wrong);
    let duration = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => seconds(1)?,
        "m" => seconds(60)?,
        "h" => seconds(3_600)?,
        "d" => seconds(86_400)?,
        _ => return Err(wrong()),
    };
    match duration {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        // Far beyond what anybody means, and near enough for clocks to count.
        long if long > LONGEST => Err("must be 3650d or less".to_owned()),
        duration => Ok(duration),
    }
}

/// A whole number, 1 or more.
pub fn count(text: &str) -> Parsed<usize> {
    count_within(1..=MOST)(text)
}

/// A whole number, `least` or more.
pub fn count_from(least: usize) -> impl Fn(&str) -> Parsed<usize> {
    count_within(least..=MOST)
}

/// A whole number from 1 to `most`.
pub fn count_to(most: usize) -> impl Fn(&str) -> Parsed<usize> {
    count_within(1..=most)
}

fn count_within(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> {
    move |text| match text.parse() {
        Ok(number) if number < *range.start() => Err(format!("must be {} or more", range.start())),
        Ok(number) if number > *range.end() => Err(format!("must be {} or less", range.end())),
        Ok(number) => Ok(number),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

/// `on`, `true`, `yes`, `1` and their opposites
pub fn switch(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("is neither on nor off".to_owned()),
    }
}

/// The items between commas.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `10.0.0.0/8, 192.168.1.7`
pub fn networks(text: &str) -> Parsed<Vec<IpNet>> {
    let network = |item: &str| item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
    list(text).map(|item| network(item).map_err(|_| format!("has {item:?}, which is neither an address nor a network"))).collect()
}

/// `US`
pub fn country(text: &str) -> Parsed<Country> {
    text.to_ascii_uppercase().parse().map_err(|_| "is not a country of two letters".to_owned())
}

/// `https://chat.example.com`, without a slash at the end
pub fn url(text: &str) -> Parsed<String> {
    let wrong = || "is not a URL that begins with http:// or https://".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let good = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    if good { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

/// `https://app.example.com`: scheme, host and port, nothing behind
pub fn origin(text: &str) -> Parsed<String> {
    let plain = url(text).ok().filter(|origin| origin.splitn(4, '/').count() == 3);
    plain.ok_or_else(|| format!("has {text:?}, which is not an origin (scheme, host and port, no path)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "30", "d", "3x", "-1s", "0s", "3651d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!((count("1"), count_to(64)("64"), count_from(16)("16")), (Ok(1), Ok(64), Ok(16)));
        assert_eq!(count_to(64)("65"), Err("must be 64 or less".to_owned()));
        assert_eq!(count_from(16)("15"), Err("must be 16 or more".to_owned()));
        for wrong in ["0", "-1", "1.5", "", "1000000001", "99999999999999999999"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_addresses_or_prefixes() {
        assert_eq!(networks("10.0.0.0/8, ::1").map(|networks| networks.len()), Ok(2));
        assert!(networks("10.0.0.0/33").is_err());
        assert_eq!(networks(""), Ok(Vec::new()));
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin("https://a.example:8443"), Ok("https://a.example:8443".to_owned()));
        assert_eq!(origin("https://a.example/"), Ok("https://a.example".to_owned()));
        assert!(origin("https://a.example/x").is_err());
        assert!(origin("a.example").is_err());
    }
}
