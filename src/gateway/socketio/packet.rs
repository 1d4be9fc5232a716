//! Socket.IO protocol v5: the packets that ride in Engine.IO messages. Parsed in place, without copies of their data.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest ack id, in digits.
const MAX_ACK_DIGITS: usize = 18;
/// The longest namespace, in bytes; the only one there is has one.
const MAX_NAMESPACE: usize = 256;

/// What a client says.
#[derive(Debug)]
pub enum Packet<'a> {
    /// 0: let me into this namespace.
    Connect {
        /// Which; `/` when not named.
        namespace: &'a str,
        /// The client's `auth` option.
        auth: Option<&'a RawValue>,
    },
    /// 1: goodbye.
    Disconnect,
    /// 2: an event with its first argument; further ones are ignored.
    Event {
        /// In which namespace.
        namespace: &'a str,
        /// Digits; an ack is asked for.
        ack: Option<&'a str>,
        /// Its name.
        name: Cow<'a, str>,
        /// Its data.
        data: Option<&'a RawValue>,
    },
    /// 3: an answer to an event of ours; we never ask for one.
    Ack,
    /// 5 or 6: something with binary attachments, which are refused.
    Binary {
        /// Digits; an ack is asked for.
        ack: Option<&'a str>,
    },
}

/// Not a Socket.IO packet.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Socket.IO packet")]
pub struct Malformed;

impl<'a> Packet<'a> {
    /// Reads the text of an Engine.IO message.
    ///
    /// # Errors
    /// [`Malformed`], whatever is wrong.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let kind = text.as_bytes().first().ok_or(Malformed)?;
        let rest = text.get(1..).ok_or(Malformed)?;
        match kind {
            b'0' => {
                let (namespace, payload) = namespace(rest)?;
                Ok(Self::Connect { namespace, auth: json(payload)? })
            }
            b'1' => Ok(Self::Disconnect),
            b'2' => {
                let (namespace, rest) = namespace(rest)?;
                let (ack, payload) = ack(rest)?;
                let Arguments { name, data } = serde_json::from_str(payload).map_err(|_| Malformed)?;
                Ok(Self::Event { namespace, ack, name, data })
            }
            b'3' => Ok(Self::Ack),
            b'5' | b'6' => {
                let (count, rest) = rest.split_once('-').ok_or(Malformed)?;
                if count.is_empty() || !count.bytes().all(|digit| digit.is_ascii_digit()) {
                    return Err(Malformed);
                }
                let (_, rest) = namespace(rest)?;
                let (ack, _) = ack(rest)?;
                Ok(Self::Binary { ack: ack.filter(|_| *kind == b'5') })
            }
            _ => Err(Malformed),
        }
    }
}

fn namespace(rest: &str) -> Result<(&str, &str), Malformed> {
    if !rest.starts_with('/') {
        return Ok(("/", rest));
    }
    let (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    // A client may add a query to the name.
    let namespace = namespace.split_once('?').map_or(namespace, |(name, _)| name);
    if namespace.len() > MAX_NAMESPACE { Err(Malformed) } else { Ok((namespace, rest)) }
}

fn ack(rest: &str) -> Result<(Option<&str>, &str), Malformed> {
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    match digits.len() {
        0 => Ok((None, rest)),
        1..=MAX_ACK_DIGITS => Ok((Some(digits), rest)),
        _ => Err(Malformed),
    }
}

fn json(payload: &str) -> Result<Option<&RawValue>, Malformed> {
    if payload.is_empty() { Ok(None) } else { serde_json::from_str(payload).map(Some).map_err(|_| Malformed) }
}

/// `["name", data, …]`.
struct Arguments<'a> {
    name: Cow<'a, str>,
    data: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Arguments<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        struct ArgumentsVisitor;
        impl<'de> Visitor<'de> for ArgumentsVisitor {
            type Value = Arguments<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with a name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let Name(name) = seq.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                let data = seq.next_element()?;
                if data.is_some() {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                }
                Ok(Arguments { name, data })
            }
        }
        deserializer.deserialize_seq(ArgumentsVisitor)
    }
}

/// CONNECT accepted, with the Engine.IO type before it.
pub fn connected(sid: &str) -> String {
    format!(r#"40{{"sid":"{sid}"}}"#)
}

/// CONNECT refused: `connect_error` at the client, who does not come back by himself.
pub fn connect_error(namespace: &str, message: &str, code: &str) -> String {
    let place = if namespace == "/" { String::new() } else { format!("{namespace},") };
    format!("44{place}{}", serde_json::json!({"message": message, "data": {"code": code}}))
}

/// DISCONNECT: the client does not come back by himself.
pub const DISCONNECT: &str = "41";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(text: &str) -> (String, Option<String>, String, Option<String>) {
        match Packet::parse(text).unwrap() {
            Packet::Event { namespace, ack, name, data } => {
                (namespace.into(), ack.map(Into::into), name.into(), data.map(|data| data.get().to_owned()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_packet_is_read() {
        assert!(matches!(Packet::parse("0").unwrap(), Packet::Connect { namespace: "/", auth: None }));
        assert!(
            matches!(Packet::parse(r#"0{"token":"x"}"#).unwrap(), Packet::Connect { auth: Some(auth), .. } if auth.get() == r#"{"token":"x"}"#)
        );
        assert!(matches!(Packet::parse("0/chat,").unwrap(), Packet::Connect { namespace: "/chat", auth: None }));
        assert!(matches!(Packet::parse("0/chat?a=b").unwrap(), Packet::Connect { namespace: "/chat", .. }));
        assert!(matches!(Packet::parse("1").unwrap(), Packet::Disconnect));
        assert!(matches!(Packet::parse("37[1]").unwrap(), Packet::Ack));
        assert!(matches!(Packet::parse(r#"51-7["a",{"_placeholder":true,"num":0}]"#).unwrap(), Packet::Binary { ack: Some("7") }));
        assert!(matches!(Packet::parse("61-7[]").unwrap(), Packet::Binary { ack: None }));
        assert_eq!(event(r#"2["a"]"#), ("/".into(), None, "a".into(), None));
        assert_eq!(event(r#"213["a",{"b": 1},2,[3]]"#), ("/".into(), Some("13".into()), "a".into(), Some(r#"{"b": 1}"#.into())));
        assert_eq!(event(r#"2/chat,0["a\u0062","x"]"#), ("/chat".into(), Some("0".into()), "ab".into(), Some("\"x\"".into())));
    }

    #[test]
    fn what_is_none_is_malformed() {
        let long = format!("0/{},", "n".repeat(300));
        let deep = format!("2[\"a\",{}", "[".repeat(200_000));
        for bad in [
            "",
            "4{}",
            "7",
            "é",
            "2",
            "2[]",
            "2[1]",
            "2{}",
            "2[\"a\"",
            "2[\"a\"]x",
            "0{",
            "5[\"a\"]",
            "5x-[]",
            "5-",
            "21234567890123456789[\"a\"]",
            &long,
            &deep,
        ] {
            assert_eq!(Packet::parse(bad).unwrap_err(), Malformed, "{bad:.40}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        use super::super::engine;
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(5);
        let alphabet: Vec<char> = "0123456789/,-?[]{}\":abé\u{1e}\\u ".chars().collect();
        for _ in 0..50_000 {
            let text: String = (0..random.random_range(0..24)).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect();
            let _ = Packet::parse(&text);
            assert!(engine::packets(&text).map(engine::Packet::parse).count() > 0);
        }
    }

    #[test]
    fn answers_are_what_clients_expect() {
        assert_eq!(connected("a"), r#"40{"sid":"a"}"#);
        assert_eq!(connect_error("/", "no", "x"), r#"44{"data":{"code":"x"},"message":"no"}"#);
        assert!(connect_error("/chat", "no", "x").starts_with("44/chat,{"));
    }
}
