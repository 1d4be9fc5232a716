//! Hostile text for everything that reads what strangers send: whatever comes, it is understood or refused, never a panic, and what
//! is understood keeps its promises. Each test is a fuzz target (bolero): `cargo test` runs it with random input and with everything
//! under `__fuzz__`; `run.sh` looks for more, guided by coverage.

mod doors;
mod words;

/// Text from bytes: the first ones stand for pieces that the reader knows, the others for characters, so that random
/// bytes come close to what it takes.
fn compose(bytes: &[u8], pieces: &[&str]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        match pieces.get(usize::from(*byte)) {
            Some(piece) => text.push_str(piece),
            None => text.push(char::from(*byte)),
        }
    }
    text
}
