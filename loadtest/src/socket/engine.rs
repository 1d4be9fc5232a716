//! Engine.IO v4 packets in text: one type digit, then the payload; long-polling joins several with the record separator.
//! <https://socket.io/docs/v4/engine-io-protocol/>. No binary packets: the contract has none.

use serde::Deserialize;

/// What separates the packets of one long-polling body.
pub const SEPARATOR: char = '\u{1e}';

/// The server's first packet: the session and its timings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// The session's id.
    pub sid: String,
    /// To which transports the session may change.
    pub upgrades: Vec<String>,
    /// How often the server pings, milliseconds.
    pub ping_interval: u64,
    /// How long after a missed ping the session is dead, milliseconds.
    pub ping_timeout: u64,
    /// The largest body a client may POST, bytes.
    #[serde(default)]
    pub max_payload: Option<u64>,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the handshake.
    Open(Handshake),
    /// `1`: the session ends.
    Close,
    /// `2`: are you there? The payload is `probe` while upgrading, else empty.
    Ping(&'a str),
    /// `3`: the answer to a ping, with its payload.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// `5`: the client moves to this transport.
    Upgrade,
    /// `6`: nothing; ends a waiting poll.
    Noop,
}

impl<'a> Packet<'a> {
    /// Reads one packet; the error says what is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or("an empty engine packet")?;
        let payload = characters.as_str();
        match kind {
            '0' => serde_json::from_str(payload).map(Packet::Open).map_err(|error| format!("engine handshake: {error}")),
            '1' => Ok(Packet::Close),
            '2' => Ok(Packet::Ping(payload)),
            '3' => Ok(Packet::Pong(payload)),
            '4' => Ok(Packet::Message(payload)),
            '5' => Ok(Packet::Upgrade),
            '6' => Ok(Packet::Noop),
            other => Err(format!("engine packet of unknown type {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_kind_is_read() {
        let open = r#"0{"sid":"s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        let Packet::Open(handshake) = Packet::parse(open).unwrap() else { panic!("not an open packet") };
        assert_eq!((handshake.sid.as_str(), handshake.ping_interval, handshake.max_payload), ("s", 25_000, Some(1_000_000)));
        for (text, packet) in [
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("42[\"a\"]", Packet::Message("2[\"a\"]")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(Packet::parse(text), Ok(packet));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "7", "bAAAA", "é", "0{}", "0"] {
            assert!(Packet::parse(text).is_err(), "{text:?}");
        }
    }
}
