//! Why the server closes a socket: the close codes of `/ws`, and what Socket.IO does instead. The only table of its kind.

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The token is bad or expired when connecting.
    Unauthenticated,
    /// The login has ended.
    Revoked,
    /// The account may not use sockets: not verified, or blocked by the operator.
    Forbidden,
    /// Nobody authenticated in time.
    AuthenticationTimeout,
    /// The user opened one socket too many: this one was the oldest.
    Replaced,
    /// A frame over the limit.
    TooLarge,
    /// Too many refusals in too short a time.
    Flood,
    /// The client does not read what it is sent.
    TooSlow,
    /// The node goes: connect again, to another one.
    Draining,
    /// The store is away: connect again in a moment.
    Unavailable,
}

impl CloseReason {
    /// Every reason, for tables and documents.
    pub const ALL: [Self; 10] = [
        Self::Unauthenticated,
        Self::Revoked,
        Self::Forbidden,
        Self::AuthenticationTimeout,
        Self::Replaced,
        Self::TooLarge,
        Self::Flood,
        Self::TooSlow,
        Self::Draining,
        Self::Unavailable,
    ];

    /// The close code of `/ws`.
    pub fn code(self) -> u16 {
        match self {
            Self::Unauthenticated | Self::Revoked => 4401,
            Self::Forbidden => 4403,
            Self::AuthenticationTimeout => 4408,
            Self::Replaced => 4409,
            Self::TooLarge => 4413,
            Self::Flood => 4429,
            Self::TooSlow | Self::Draining | Self::Unavailable => 4503,
        }
    }

    /// The close frame's words; at most 123 bytes.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unauthenticated => "the token is missing, wrong or expired",
            Self::Revoked => "this login has ended",
            Self::Forbidden => "this account may not connect",
            Self::AuthenticationTimeout => "not authenticated in time",
            Self::Replaced => "too many sockets of this user: the oldest is closed",
            Self::TooLarge => "the frame is too large",
            Self::Flood => "too many refused commands",
            Self::TooSlow => "too slow: connect again and resume",
            Self::Draining => "the server is going away: connect again and resume",
            Self::Unavailable => "the server cannot serve now: connect again and resume",
        }
    }

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Revoked => "revoked",
            Self::Forbidden => "forbidden",
            Self::AuthenticationTimeout => "authentication_timeout",
            Self::Replaced => "replaced",
            Self::TooLarge => "too_large",
            Self::Flood => "flood",
            Self::TooSlow => "too_slow",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether coming back with the same login is of no use. Socket.IO says such a one with a DISCONNECT packet, after which
    /// its clients stay away; for the others it closes the transport, after which they come back by themselves.
    pub fn is_final(self) -> bool {
        match self {
            Self::Unauthenticated | Self::Revoked | Self::Forbidden | Self::Replaced => true,
            Self::AuthenticationTimeout | Self::TooLarge | Self::Flood | Self::TooSlow | Self::Draining | Self::Unavailable => false,
        }
    }

    /// Whether what waits in the outbox is still written.
    pub(super) fn is_orderly(self) -> bool {
        matches!(self, Self::Draining | Self::Replaced | Self::Flood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_frames_fit() {
        assert!(CloseReason::ALL.iter().all(|reason| reason.text().len() <= 123));
    }
}
