//! What a load message says: which run, which stream, which message of it, and when it was meant to be sent.
//! It is found in a frame by its bytes alone, so a receiver need not read JSON. Words fill it up to the wanted size.

use std::{fmt::Write, sync::LazyLock};

use memchr::memmem::Finder;

/// What it begins with.
const MARK: &str = "~lt:";
/// Mark, run, stream, n, nanoseconds and the closing tilde.
pub const BYTES: usize = 4 + 8 + 6 + 8 + 16 + 1;
/// Ordinary words, so that the server's search has something to read.
const WORDS: &str = " see you at the station around seven, bring the tickets and something to eat for the long way home";

static MARK_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
static SEQ_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"seq\":"));

/// One message of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The phase that it belongs to.
    pub run: u32,
    /// The stream within the phase.
    pub stream: u32,
    /// Its number within the stream, from 0.
    pub n: u32,
    /// When it was meant to be sent, nanoseconds of Unix time.
    pub due_ns: u64,
}

impl Stamp {
    /// The content of the message, `bytes` long if the stamp leaves room for that. It needs no escapes in JSON.
    pub fn content(&self, bytes: usize) -> String {
        let mut content = String::with_capacity(bytes.max(BYTES));
        // Writing into a string cannot fail.
        let _ = write!(content, "{MARK}{:08x}{:06x}{:08x}{:016x}~", self.run, self.stream & 0x00ff_ffff, self.n, self.due_ns);
        while content.len() < bytes {
            content.push_str(&WORDS[..WORDS.len().min(bytes - content.len())]);
        }
        content
    }

    /// The stamp in this data, if there is one.
    pub fn find(data: &[u8]) -> Option<Self> {
        let start = MARK_FINDER.find(data)? + MARK.len();
        let digits: &[u8; BYTES - MARK.len()] = data.get(start..)?.first_chunk()?;
        let hex = |range: std::ops::Range<usize>| {
            digits[range].iter().try_fold(0_u64, |number, digit| {
                let digit = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                Some(number << 4 | u64::from(digit))
            })
        };
        let (run, stream, n, due_ns) = (hex(0..8)?, hex(8..14)?, hex(14..22)?, hex(22..38)?);
        (digits[38] == b'~').then_some(Self { run: run as u32, stream: stream as u32, n: n as u32, due_ns })
    }
}

/// The message's place in its conversation, as its data says.
pub fn seq(data: &[u8]) -> Option<u64> {
    let start = SEQ_FINDER.find(data)? + 6;
    let digits = data[start..].iter().take_while(|byte| byte.is_ascii_digit());
    let (count, seq) = digits.take(18).fold((0, 0), |(count, seq), digit| (count + 1, seq * 10 + u64::from(digit - b'0')));
    (count > 0).then_some(seq)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_found() {
        for (run, stream, n, due_ns) in
            [(0, 0, 0, 0), (u32::MAX, 0x00ff_ffff, u32::MAX, u64::MAX), (7, 1000, 12, 1_769_860_800_123_456_789)]
        {
            let stamp = Stamp { run, stream, n, due_ns };
            for bytes in [0, BYTES, 64, 500] {
                let content = stamp.content(bytes);
                assert_eq!(content.len(), bytes.max(BYTES));
                assert_eq!(serde_json::to_string(&content).unwrap(), format!("\"{content}\""), "no escapes");
                let data = format!(r#"{{"id":"~lt","seq":42,"changeSeq":43,"content":"{content}"}}"#);
                assert_eq!(Stamp::find(data.as_bytes()), Some(stamp));
                assert_eq!(seq(data.as_bytes()), Some(42));
            }
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_none() {
        let content = Stamp { run: 1, stream: 2, n: 3, due_ns: 4 }.content(0);
        for length in 0..content.len() {
            assert_eq!(Stamp::find(&content.as_bytes()[..length]), None);
        }
        assert_eq!(Stamp::find(content.replace('3', "x").as_bytes()), None);
        assert_eq!(Stamp::find(&content.as_bytes()[..content.len() - 1]), None);
        assert_eq!(seq(b"{\"seq\":null}"), None);
        assert_eq!(seq(b"{}"), None);
    }
}
