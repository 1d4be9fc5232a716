//! WebSocket frames (RFC 6455) as a client reads and writes them: the server's unmasked, its own masked.
//! Reading works on whatever the network gave: whole frames are looked at where they lie, only the rest of a cut one is kept.
//! No extensions; what the protocol forbids is an error, for it is the server that is being tested.

/// The longest frame, and the longest message of several frames, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What an empty buffer may keep of its former size, in bytes.
const KEPT_BYTES: usize = 4096;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// A text, or its first part.
    Text = 1,
    /// Bytes, or their first part.
    Binary = 2,
    /// The end, with its reason.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// Yes.
    Pong = 10,
}

/// Something that the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text.
    Text(&'a str),
    /// The beginning of binary data; nothing of ours.
    Binary,
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping of ours.
    Pong,
    /// The end: code and reason, if it gave one.
    Close(Option<(u16, &'a str)>),
}

/// A frame as it lies in the bytes.
struct Raw<'a> {
    is_last: bool,
    opcode: Opcode,
    payload: &'a [u8],
    /// Header and payload.
    length: usize,
}

/// The first frame of `bytes`; `None` while it is not all there.
fn first(bytes: &[u8]) -> Result<Option<Raw<'_>>, &'static str> {
    let &[head, size, ..] = bytes else { return Ok(None) };
    if head & 0x70 != 0 {
        return Err("a frame with reserved bits");
    }
    if size & 0x80 != 0 {
        return Err("a masked frame from the server");
    }
    let opcode = match head & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err("a frame of unknown kind"),
    };
    let is_last = head & 0x80 != 0;
    if opcode as u8 >= 8 && (size > 125 || !is_last) {
        return Err("a control frame that is too long or in parts");
    }
    let (start, size) = match size {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|size| <[u8; 8]>::try_from(size).ok()) {
            Some(size) => (10, usize::try_from(u64::from_be_bytes(size)).unwrap_or(usize::MAX)),
            None => return Ok(None),
        },
        size => (2, usize::from(size)),
    };
    if (start == 4 && size < 126) || (start == 10 && size < 65_536) {
        return Err("a frame whose length is written too long");
    }
    if size > MAX_BYTES {
        return Err("a frame that is too large");
    }
    let length = start + size;
    Ok(bytes.get(start..length).map(|payload| Raw { is_last, opcode, payload, length }))
}

/// What has come of frames that are not whole yet.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a frame.
    pending: Vec<u8>,
    /// The beginning of a text whose last frame has not come.
    parts: Option<Vec<u8>>,
}

impl Reader {
    /// Keeps bytes for later.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Takes what has just come, together with what was kept, and shows each frame that is whole, until one ends it all.
    pub fn feed<T>(&mut self, bytes: &[u8], mut show: impl FnMut(Frame<'_>) -> Option<T>) -> Result<Option<T>, &'static str> {
        if self.pending.is_empty() {
            let (used, end) = self.scan(bytes, &mut show)?;
            self.pending.extend_from_slice(&bytes[used..]);
            return Ok(end);
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let (used, end) = self.scan(&pending, &mut show)?;
        pending.drain(..used);
        if pending.is_empty() {
            pending.shrink_to(KEPT_BYTES);
        }
        self.pending = pending;
        Ok(end)
    }

    fn scan<T>(&mut self, bytes: &[u8], show: &mut impl FnMut(Frame<'_>) -> Option<T>) -> Result<(usize, Option<T>), &'static str> {
        let mut used = 0;
        while let Some(raw) = first(&bytes[used..])? {
            used += raw.length;
            if let Some(end) = self.take(&raw, show)? {
                return Ok((used, Some(end)));
            }
        }
        Ok((used, None))
    }

    fn take<T>(&mut self, raw: &Raw<'_>, show: &mut impl FnMut(Frame<'_>) -> Option<T>) -> Result<Option<T>, &'static str> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8");
        Ok(match raw.opcode {
            Opcode::Text | Opcode::Binary if self.parts.is_some() => return Err("a new message amid the parts of another"),
            Opcode::Text if raw.is_last => show(Frame::Text(text(raw.payload)?)),
            Opcode::Text => {
                self.parts = Some(raw.payload.to_vec());
                None
            }
            Opcode::Binary => show(Frame::Binary),
            Opcode::Continuation => {
                let mut parts = self.parts.take().ok_or("a part of no message")?;
                if parts.len() + raw.payload.len() > MAX_BYTES {
                    return Err("a message that is too large");
                }
                parts.extend_from_slice(raw.payload);
                if raw.is_last {
                    show(Frame::Text(text(&parts)?))
                } else {
                    self.parts = Some(parts);
                    None
                }
            }
            Opcode::Ping => show(Frame::Ping(raw.payload)),
            Opcode::Pong => show(Frame::Pong),
            Opcode::Close => match raw.payload {
                [] => show(Frame::Close(None)),
                [_] => return Err("a close frame with half a code"),
                [high, low, reason @ ..] => show(Frame::Close(Some((u16::from_be_bytes([*high, *low]), text(reason)?)))),
            },
        })
    }
}

/// Appends a frame of this side's.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(payload.len() + 14);
    out.push(0x80 | opcode as u8);
    match payload.len() {
        size @ ..126 => out.push(0x80 | size as u8),
        size @ 126..65_536 => {
            out.push(0x80 | 0x7e);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(0x80 | 0x7f);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    let key = fastrand::u32(..).to_ne_bytes();
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    for bytes in out[start..].chunks_mut(4) {
        for (byte, key) in bytes.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A frame as the server writes it.
    fn plain(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![head];
        match payload.len() {
            size @ ..126 => bytes.push(size as u8),
            size @ 126..65_536 => {
                bytes.push(126);
                bytes.extend_from_slice(&(size as u16).to_be_bytes());
            }
            size => {
                bytes.push(127);
                bytes.extend_from_slice(&(size as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<String>, &'static str> {
        let mut seen = Vec::new();
        reader.feed(bytes, |frame| {
            seen.push(format!("{frame:?}"));
            None::<()>
        })?;
        Ok(seen)
    }

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let mut bytes = plain(0x81, "é".as_bytes());
        bytes.extend(plain(0x89, b"p"));
        bytes.extend(plain(0x01, b"a"));
        bytes.extend(plain(0x8a, b""));
        bytes.extend(plain(0x80, b"b"));
        bytes.extend(plain(0x81, &[b'x'; 300]));
        bytes.extend(plain(0x81, "y".repeat(70_000).as_bytes()));
        bytes.extend(plain(0x88, &[0x11, 0x31, b'n', b'o']));
        let whole = read(&mut Reader::default(), &bytes).unwrap();
        assert_eq!(whole.len(), 7);
        assert_eq!(whole[..4], [r#"Text("é")"#, "Ping([112])", "Pong", r#"Text("ab")"#]);
        assert_eq!(whole[6], r#"Close(Some((4401, "no")))"#);
        for size in [1, 2, 3, 7, 100, 4096, 65_537] {
            let mut reader = Reader::default();
            let cut: Vec<String> = bytes.chunks(size).flat_map(|chunk| read(&mut reader, chunk).unwrap()).collect();
            assert!(cut == whole, "in pieces of {size}");
        }
    }

    #[test]
    fn reading_stops_where_it_is_told() {
        let mut bytes = plain(0x81, b"a");
        bytes.extend(plain(0x81, b"b"));
        let mut count = 0;
        let end = Reader::default().feed(&bytes, |_| {
            count += 1;
            Some("enough")
        });
        assert_eq!((end, count), (Ok(Some("enough")), 1));
    }

    #[test]
    fn what_the_protocol_forbids_is_an_error() {
        let long = |head, size: &[u8]| [&[head][..], size].concat();
        for (bytes, reason) in [
            (plain(0xc1, b"a"), "reserved"),
            (vec![0x81, 0x81, 0, 0, 0, 0, 0], "masked"),
            (plain(0x83, b""), "unknown"),
            (plain(0x09, b""), "control"),
            (plain(0x89, &[0; 126]), "control"),
            (plain(0x80, b"a"), "part of no"),
            ([plain(0x01, b"a"), plain(0x81, b"b")].concat(), "amid"),
            (plain(0x81, &[0xff]), "UTF-8"),
            (plain(0x88, &[3]), "half a code"),
            (long(0x81, &[126, 0, 5]), "too long"),
            (long(0x81, &[127, 0, 0, 0, 0, 0, 0, 1, 0]), "too long"),
            (long(0x81, &[127, 0, 0, 0, 0, 0xff, 0, 0, 0]), "too large"),
        ] {
            let error = read(&mut Reader::default(), &bytes).unwrap_err();
            assert!(error.contains(reason), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_masked_and_whole() {
        for size in [0, 5, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, Opcode::Text, &payload);
            assert_eq!((bytes[0], bytes[1] & 0x80), (0x81, 0x80));
            let start = bytes.len() - size;
            let key = <[u8; 4]>::try_from(&bytes[start - 4..start]).unwrap();
            let read: Vec<u8> = bytes[start..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert_eq!(read, payload);
            let header = plain(0x81, &payload).len() - size;
            assert_eq!(start - 4, header, "the length takes as many bytes as the server's");
        }
    }
}
