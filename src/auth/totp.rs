//! The second factor: time-based one-time passwords (RFC 6238: HMAC-SHA1, 30 s, 6 digits) and backup codes.
//! A code is taken one step early or late, and each step and each backup code works once.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::keys::{self, KeyRing};
use crate::clock::Timestamp;
use crate::users::Totp;

/// Seconds of a time step.
const STEP_S: i64 = 30;
/// Steps that the phone's clock may be off.
const DRIFT: i64 = 1;
const DIGITS: usize = 6;

/// Uses a code up: whether it was a right one that had not been used before.
pub fn spend(totp: &mut Totp, given: &str, ring: &KeyRing, now: Timestamp) -> bool {
    let given: String = given.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    if given.len() == DIGITS && given.bytes().all(|byte| byte.is_ascii_digit()) {
        let current = now.seconds().div_euclid(STEP_S);
        let Some(secret) = base32(&totp.secret) else { return false };
        let fits = |step: &i64| *step > totp.last_step && keys::same(code_at(&secret, *step).as_bytes(), given.as_bytes());
        let Some(step) = (current - DRIFT..=current + DRIFT).find(fits) else { return false };
        totp.last_step = step;
        return true;
    }
    let hashes: Vec<String> = ring.believed().map(|keys| backup_hash(&keys.codes, &given)).collect();
    let known = |stored: &String| hashes.iter().any(|hash| keys::same(hash.as_bytes(), stored.as_bytes()));
    match totp.backup_codes.iter().position(known) {
        Some(place) => {
            totp.backup_codes.remove(place);
            true
        }
        None => false,
    }
}

/// How a backup code is stored: its keyed hash; case does not matter.
pub fn backup_hash(key: &[u8], code: &str) -> String {
    keys::hex(&keys::tag(key, &[b"backup", code.to_ascii_uppercase().as_bytes()]))
}

/// The code of a time step (RFC 4226, 5.3).
fn code_at(secret: &[u8], step: i64) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { unreachable!("HMAC takes keys of any length") };
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 0x0f);
    let word = u32::from_be_bytes([digest[offset] & 0x7f, digest[offset + 1], digest[offset + 2], digest[offset + 3]]);
    format!("{:06}", word % 1_000_000)
}

/// The bytes of a secret as authenticator apps write it (RFC 4648, 6; padding is optional).
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::with_capacity(text.len() * 5 / 8));
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// "12345678901234567890", the secret of RFC 6238, appendix B.
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn totp() -> Totp {
        Totp { secret: SECRET.into(), enabled: true, ..Totp::default() }
    }

    fn ring() -> KeyRing {
        KeyRing::new(b"secret", None)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    #[test]
    fn the_rfcs_values() {
        // RFC 6238, appendix B, the last six of eight digits.
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_111_111_111, "050471"), (1_234_567_890, "005924"), (2_000_000_000, "279037")]
        {
            assert!(spend(&mut totp(), code, &ring(), at(seconds)), "{seconds}");
        }
    }

    #[test]
    fn one_step_early_or_late_and_each_step_once() {
        for (seconds, right) in [(59 - 60, false), (59 - 30, true), (59, true), (59 + 30, true), (59 + 60, false)] {
            assert_eq!(spend(&mut totp(), "287 082", &ring(), at(seconds)), right, "{seconds}");
        }
        let mut totp = totp();
        assert!(spend(&mut totp, "287082", &ring(), at(59)));
        assert!(!spend(&mut totp, "287082", &ring(), at(59)));
        assert!(!spend(&mut totp, "287082", &ring(), at(70)));
    }

    #[test]
    fn a_backup_code_works_once() {
        let key = ring().current.codes;
        let mut totp = Totp { backup_codes: vec![backup_hash(&key, "ABCDE12345"), backup_hash(&key, "ZZZZZ99999")], ..totp() };
        assert!(!spend(&mut totp, "nonsense", &ring(), at(59)));
        assert!(spend(&mut totp, "abcde-12345", &ring(), at(59)));
        assert!(!spend(&mut totp, "ABCDE12345", &ring(), at(59)));
        assert_eq!(totp.backup_codes.len(), 1);
    }

    #[test]
    fn what_is_no_secret_fits_no_code() {
        let mut broken = Totp { secret: "0189".into(), ..totp() };
        assert!(!spend(&mut broken, "287082", &ring(), at(59)));
        assert_eq!(base32("MZXW6YTBOI======").unwrap(), b"foobar");
        assert_eq!(base32(""), None);
    }
}
