//! Socket.IO v5 packets, the payload of Engine.IO messages: `<type>[<namespace>,][<ack id>]<JSON>`.
//! <https://socket.io/docs/v4/socket-io-protocol/>. The JSON is left as text; binary attachments are refused, the contract has none.

/// The seven kinds, less the two binary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `0`: join a namespace (client), joined (server).
    Connect,
    /// `1`: leave it, for good.
    Disconnect,
    /// `2`: an event, `["name", arguments…]`.
    Event,
    /// `3`: the answer to an event with an id, `[arguments…]`.
    Ack,
    /// `4`: the connection is refused.
    ConnectError,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `/` when none is written.
    pub namespace: &'a str,
    /// The id of the ack that is wanted or given.
    pub id: Option<u64>,
    /// Its JSON, maybe empty.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads one packet; the error says what is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let kind = match text.as_bytes().first() {
            Some(b'0') => Kind::Connect,
            Some(b'1') => Kind::Disconnect,
            Some(b'2') => Kind::Event,
            Some(b'3') => Kind::Ack,
            Some(b'4') => Kind::ConnectError,
            Some(b'5' | b'6') => return Err("a binary packet".to_owned()),
            _ => return Err(format!("socket.io packet of unknown type: {text:.40}")),
        };
        let mut rest = &text[1..];
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (id, data) = rest.split_at(digits);
        let id = if id.is_empty() { None } else { Some(id.parse().map_err(|_| "an ack id out of range".to_owned())?) };
        Ok(Self { kind, namespace, id, data })
    }
}

/// An event of the default namespace, with its Engine.IO type digit. `data` is JSON.
pub fn event(name: &str, data: &str, id: Option<u64>) -> String {
    let name = serde_json::Value::from(name);
    match id {
        Some(id) => format!("42{id}[{name},{data}]"),
        None => format!("42[{name},{data}]"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn packets_are_read() {
        let packet = |kind, namespace, id, data| Packet { kind, namespace, id, data };
        for (text, expected) in [
            (r#"0{"sid":"x"}"#, packet(Kind::Connect, "/", None, r#"{"sid":"x"}"#)),
            ("1", packet(Kind::Disconnect, "/", None, "")),
            (r#"2["a",{"b":[1,2]}]"#, packet(Kind::Event, "/", None, r#"["a",{"b":[1,2]}]"#)),
            (r#"2/admin,17["a"]"#, packet(Kind::Event, "/admin", Some(17), r#"["a"]"#)),
            ("30[]", packet(Kind::Ack, "/", Some(0), "[]")),
            (r#"4{"message":"no"}"#, packet(Kind::ConnectError, "/", None, r#"{"message":"no"}"#)),
            ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
            ("1/admin", packet(Kind::Disconnect, "/admin", None, "")),
        ] {
            assert_eq!(Packet::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "9", "51-[]", "x", "é2", "299999999999999999999[]"] {
            assert!(Packet::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn events_are_written_as_they_are_read() {
        let text = event("a \"b\"", r#"{"c":"é"}"#, Some(3));
        assert_eq!(text, r#"423["a \"b\"",{"c":"é"}]"#);
        let packet = Packet::parse(&text[1..]).unwrap();
        assert_eq!((packet.kind, packet.id), (Kind::Event, Some(3)));
    }
}
