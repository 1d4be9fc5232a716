//! Keys for each purpose, derived from the one secret of the settings (HKDF, RFC 5869), so that what is signed for one
//! purpose is worth nothing for another. Two secrets hold at once, the current and the previous one: new things are
//! signed with the first, and both are believed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A derived key, or a tag made with one.
pub type Bytes32 = [u8; 32];

/// The keys that come of one secret.
#[derive(Clone)]
pub struct Keys {
    /// The name of the access-token key (JWT `kid`): public, tells which secret.
    pub kid: String,
    /// Signs access tokens.
    pub access: Bytes32,
    /// Signs refresh tokens.
    pub refresh: Bytes32,
    /// Signs registration tokens.
    pub registration: Bytes32,
    /// Hashes one-time codes and backup codes.
    pub codes: Bytes32,
}

impl Keys {
    /// The keys of this secret.
    pub fn derive(secret: &[u8]) -> Self {
        let root = tag(b"urge", &[secret]);
        let expand = |purpose: &str| tag(&root, &[purpose.as_bytes(), &[1]]);
        let kid = hex(&expand("key id")[..4]);
        Self {
            kid,
            access: expand("access token"),
            refresh: expand("refresh token"),
            registration: expand("registration token"),
            codes: expand("one-time code"),
        }
    }
}

/// The keys in force: the current ones, and the previous ones while the secret is being replaced.
#[derive(Clone)]
pub struct KeyRing {
    /// What is signed now.
    pub current: Keys,
    /// What is still believed.
    pub previous: Option<Keys>,
}

impl KeyRing {
    /// The ring of these secrets.
    pub fn new(secret: &[u8], previous: Option<&[u8]>) -> Self {
        Self { current: Keys::derive(secret), previous: previous.map(Keys::derive) }
    }

    /// All keys that are believed, the current ones first.
    pub fn believed(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// HMAC-SHA256 of the parts, each with its length before it, so that no two lists of parts are the same text.
pub fn tag(key: &[u8], parts: &[&[u8]]) -> Bytes32 {
    // HMAC takes keys of any length; the error branch does not exist.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256, for what is random enough to need no key.
pub fn digest(bytes: &[u8]) -> Bytes32 {
    Sha256::digest(bytes).into()
}

/// Whether both are the same, in a time that does not say where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_and_every_secret_has_its_own_key() {
        let (a, b) = (Keys::derive(b"one secret"), Keys::derive(b"another"));
        let all = [a.access, a.refresh, a.registration, a.codes, b.access, b.refresh, b.registration, b.codes];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_ne!(a.kid, b.kid);
        assert_eq!(a.access, Keys::derive(b"one secret").access);
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        assert_ne!(tag(b"k", &[b"ab", b"c"]), tag(b"k", &[b"a", b"bc"]));
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
