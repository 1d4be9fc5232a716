//! Frames that were read lately, so that the same bytes to a thousand sockets of a thread are parsed once.
//! A frame is taken for known only if every byte of it is the same: nothing passes here that the parser has not accepted.

use std::{cell::RefCell, ops::Range};

use super::session::Dialect;

/// How many are kept. A group's message reaches all sockets of a thread within a few other messages.
const SLOTS: usize = 256;
/// Longer ones are not kept.
const MAX_BYTES: usize = 4096;

/// A frame with an event, and where in it name and data are.
struct Seen {
    dialect: Dialect,
    text: String,
    name: Range<usize>,
    data: Range<usize>,
}

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

/// A few words of the text, from its beginning to its end.
fn slot(text: &str) -> Option<usize> {
    const WORDS: usize = 12;
    let bytes = text.as_bytes();
    let last = bytes.len().checked_sub(8).filter(|_| bytes.len() <= MAX_BYTES)?;
    let mut hash = bytes.len() as u64;
    for n in 0..=WORDS {
        let at = last * n / WORDS;
        let word = bytes.get(at..at + 8)?.try_into().ok()?;
        hash = (hash.rotate_left(23) ^ u64::from_ne_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Some((hash >> 32) as usize % SLOTS)
}

/// Where name and data of the event are, if this very text was kept lately on this thread.
pub fn find(dialect: Dialect, text: &str) -> Option<(Range<usize>, Range<usize>)> {
    SEEN.with_borrow(|seen| {
        let seen = seen.get(slot(text)?)?;
        (seen.text == text && seen.dialect == dialect).then(|| (seen.name.clone(), seen.data.clone()))
    })
}

/// Keeps a text that the parser has read; `name` and `data` are parts of it. A name that was written with escapes is none.
pub fn keep(dialect: Dialect, text: &str, name: &str, data: &str) {
    let (Some(slot), Some(name), Some(data)) = (slot(text), part_of(text, name), part_of(text, data)) else { return };
    SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize_with(SLOTS, || Seen { dialect, text: String::new(), name: 0..0, data: 0..0 });
        }
        let place = &mut seen[slot];
        place.text.clear();
        place.text.push_str(text);
        (place.dialect, place.name, place.data) = (dialect, name, data);
    });
}

/// Where `part` lies in `whole`.
fn part_of(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let range = start..start + part.len();
    (range.end <= whole.len()).then_some(range)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use parking_lot::Mutex;
    use std::sync::Arc;

    use super::super::{
        Close,
        session::{Dialect, Output, Session, Step},
        sink::Sink,
    };

    /// Writes down what it is told.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Sink for Notes {
        fn event(&self, name: &str, data: &str, _at: Instant) {
            self.0.lock().push(format!("{name} {data}"));
        }

        fn ack(&self, id: u64, answer: Result<&str, &str>, _at: Instant) {
            self.0.lock().push(format!("{id} {answer:?}"));
        }

        fn closed(&self, _close: &Close) {}
    }

    /// What a new session makes of these frames. On a thread of its own nothing is known from before.
    fn told(dialect: Dialect, frames: &[String]) -> Vec<(Step, Vec<String>)> {
        let notes = Arc::new(Notes::default());
        let mut session = Session::new(dialect, Output::Sink(notes.clone()), None, Arc::default());
        frames.iter().map(|frame| (session.read(frame, Instant::now()), std::mem::take(&mut *notes.0.lock()))).collect()
    }

    #[test]
    fn known_frames_read_as_the_parser_reads_them() {
        let data = |n: usize| format!(r#"{{"id":"{n:036}","content":"é \" }} ,\"event\":\"x\"","list":[1,{{"a":null}}]}}"#);
        let mut frames: Vec<(Dialect, String)> = Vec::new();
        for n in 0..200 {
            let data = data(n);
            frames.push((Dialect::Plain, format!(r#"{{"event":"message:received","data":{data}}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"data":{data},"event":"message:received"}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"a\u0062","data":{data}}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"a","data":{data},"event":"b"}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"a","data":{data}}}}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"a","data":{data}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"ack","id":{n},"data":{data}}}"#)));
            frames.push((Dialect::Plain, format!(r#"{{"event":"ack","id":{n},"error":{data}}}"#)));
            frames.push((Dialect::Plain, r#"{"event":"bare"}"#.to_owned()));
            frames.push((Dialect::SocketIo, format!(r#"42["message:received",{data}]"#)));
            frames.push((Dialect::SocketIo, format!(r#"42["message:received",{data},1]"#)));
            frames.push((Dialect::SocketIo, format!(r#"42["message:received",{data}"#)));
            frames.push((Dialect::SocketIo, format!("43{n}[{data}]")));
            frames.push((Dialect::SocketIo, format!(r#"43{n}[{{"error":{data}}}]"#)));
        }
        for dialect in [Dialect::Plain, Dialect::SocketIo] {
            let own: Vec<String> = frames.iter().filter(|(of, _)| *of == dialect).map(|(_, frame)| frame.clone()).collect();
            let thrice: Vec<String> = own.iter().flat_map(|frame| [frame.clone(), frame.clone(), frame.clone()]).collect();
            let many = std::thread::spawn(move || told(dialect, &thrice)).join().unwrap();
            for (n, frame) in own.into_iter().enumerate() {
                let alone = std::thread::spawn(move || told(dialect, &[frame])).join().unwrap().remove(0);
                assert!(many[n * 3..n * 3 + 3].iter().all(|again| *again == alone), "{alone:?}");
            }
        }
    }

    #[test]
    fn a_frame_that_differs_in_one_byte_is_not_known() {
        let text = format!(r#"{{"event":"a","data":"{}"}}"#, "x".repeat(300));
        let name = &text[10..11];
        super::keep(Dialect::Plain, &text, name, &text[20..text.len() - 1]);
        assert!(super::find(Dialect::Plain, &text).is_some());
        assert!(super::find(Dialect::SocketIo, &text).is_none());
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            assert!(super::find(Dialect::Plain, &String::from_utf8(other).unwrap()).is_none(), "at {at}");
        }
        assert!(super::find(Dialect::Plain, "").is_none());
        super::keep(Dialect::Plain, &text, "a name from elsewhere", "");
    }
}
