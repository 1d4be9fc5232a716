//! Engine.IO protocol v4, the layer below Socket.IO: its packets, the handshake, and its own form of errors.

use poem::Response;
use poem::http::StatusCode;
use serde_json::json;

use crate::gateway::Settings;

/// Stands between the packets of one polling payload.
pub const SEPARATOR: char = '\u{1e}';
/// Packets in one polling answer: the Python client refuses more.
pub const MAX_PACKETS: usize = 16;

/// Our ping.
pub const PING: &str = "2";
/// Releases a poll that waits.
pub const NOOP: &str = "6";
/// Our answer to the probe of an upgrade.
pub const PROBED: &str = "3probe";

/// What a client's packet is.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// 1: the transport closes.
    Close,
    /// 2, with what the answer repeats: the probe of an upgrade.
    Ping(&'a str),
    /// 3: the answer to our ping.
    Pong,
    /// 4: a Socket.IO packet.
    Message(&'a str),
    /// 5: the websocket is the transport from here on.
    Upgrade,
    /// 6: nothing.
    Noop,
    /// b: binary in base64.
    Binary,
}

/// The longest payload of a ping that is repeated, in bytes.
const MAX_PING: usize = 125;

impl<'a> Packet<'a> {
    /// Reads a packet; `None` when it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.get(1..)?;
        Some(match text.as_bytes().first()? {
            b'1' => Self::Close,
            b'2' if rest.len() <= MAX_PING => Self::Ping(rest),
            b'3' => Self::Pong,
            b'4' => Self::Message(rest),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            b'b' => Self::Binary,
            _ => return None,
        })
    }
}

/// The packets of a polling payload.
pub fn packets(payload: &str) -> impl Iterator<Item = &str> {
    payload.split(SEPARATOR)
}

/// The answer to a ping.
pub fn pong(data: &str) -> String {
    format!("3{data}")
}

/// The OPEN packet.
pub fn open(sid: &str, transport: Transport, settings: &Settings) -> String {
    let upgrades: &[&str] = match transport {
        Transport::Polling => &["websocket"],
        Transport::WebSocket => &[],
    };
    let handshake = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": settings.ping_interval.as_millis() as u64,
        "pingTimeout": settings.ping_timeout.as_millis() as u64,
        "maxPayload": settings.max_frame_bytes,
    });
    format!("0{handshake}")
}

/// A fresh session id: 128 random bits.
pub fn fresh_sid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// How bytes get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Long-polling by GET, and POST.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The query of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// By which transport.
    pub transport: Transport,
    /// In which session; a new one when absent.
    pub sid: Option<String>,
    /// The request's name, which clients add against caches: the same again is the same request, made again.
    pub name: Option<String>,
}

impl Handshake {
    /// Reads a query string.
    ///
    /// # Errors
    /// Another version or an unknown transport.
    pub fn parse(query: &str) -> Result<Self, TransportError> {
        let value =
            |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value);
        let transport = match value("transport") {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(TransportError::UnknownTransport),
        };
        match value("EIO") {
            Some("4") => {}
            _ => return Err(TransportError::UnsupportedVersion),
        }
        if value("j").is_some() {
            return Err(TransportError::BadRequest);
        }
        Ok(Self { transport, sid: value("sid").map(str::to_owned), name: value("t").map(str::to_owned) })
    }
}

/// Errors in the form of Engine.IO: numbers that its clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// 0
    UnknownTransport,
    /// 1: also after the session has ended.
    UnknownSession,
    /// 2
    BadHandshakeMethod,
    /// 3: two polls at once, the wrong transport, a payload that is none.
    BadRequest,
    /// 4
    Forbidden,
    /// 5
    UnsupportedVersion,
    /// A payload over the limit; not in the protocol's list.
    TooLarge,
}

impl TransportError {
    /// The number and words of the reference server.
    pub fn code(self) -> (u8, &'static str) {
        match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadHandshakeMethod => (2, "Bad handshake method"),
            Self::BadRequest => (3, "Bad request"),
            Self::Forbidden => (4, "Forbidden"),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
            Self::TooLarge => (3, "Payload too large"),
        }
    }

    /// The HTTP answer.
    pub fn response(self) -> Response {
        let status = match self {
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        let (code, message) = self.code();
        Response::builder().status(status).content_type("application/json").body(json!({"code": code, "message": message}).to_string())
    }
}

/// The HTTP answer with packets.
pub fn payload(text: String) -> Response {
    Response::builder().content_type("text/plain; charset=UTF-8").header("cache-control", "no-store").body(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_packet_is_read() {
        use Packet::*;
        let all: Vec<_> =
            packets("1\u{1e}2\u{1e}2probe\u{1e}3\u{1e}4é\u{1e}5\u{1e}6\u{1e}bAA==").map(Packet::parse).map(Option::unwrap).collect();
        assert_eq!(all, [Close, Ping(""), Ping("probe"), Pong, Message("é"), Upgrade, Noop, Binary]);
        let long = format!("2{}", "x".repeat(200));
        for bad in ["", "0{}", "7", "é4", &long] {
            assert_eq!(Packet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_handshake_names_version_and_transport() {
        let ok = |transport, sid: Option<&str>, name: Option<&str>| {
            Ok(Handshake { transport, sid: sid.map(Into::into), name: name.map(Into::into) })
        };
        assert_eq!(Handshake::parse("EIO=4&transport=polling&t=abc"), ok(Transport::Polling, None, Some("abc")));
        assert_eq!(Handshake::parse("transport=websocket&EIO=4&sid=ab"), ok(Transport::WebSocket, Some("ab"), None));
        assert_eq!(Handshake::parse("EIO=4"), Err(TransportError::UnknownTransport));
        assert_eq!(Handshake::parse("EIO=3&transport=polling"), Err(TransportError::UnsupportedVersion));
        assert_eq!(Handshake::parse("EIO=4&transport=polling&j=0"), Err(TransportError::BadRequest));
    }

    #[test]
    fn open_tells_the_settings() {
        let text = open("a", Transport::Polling, &Settings::default());
        let json: serde_json::Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(
            json,
            json!({"sid": "a", "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_048_576})
        );
        assert_ne!(fresh_sid(), fresh_sid());
        assert_eq!(fresh_sid().len(), 32);
    }
}
