//! The one pagination: `limit` and `offset` as the app sends them, and the opaque [`Cursor`] that scales.
//! A cursor is a small typed value, encoded and tagged with what it belongs to; a foreign or damaged one is 422.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// The page size when the caller names none.
pub const DEFAULT_LIMIT: usize = 50;
/// The largest page; a larger wish is taken as this.
pub const MAX_LIMIT: usize = 100;
/// The furthest that `offset` reaches; beyond it cursors are the way.
pub const MAX_OFFSET: usize = 1_000;
/// A longer cursor is none of ours.
const MAX_CURSOR_BYTES: usize = 512;
/// A cursor that counts more than this before its page is none of ours: no list is as long.
pub const MAX_FOUND: usize = 1_000_000_000;

/// What a limit in a body must be, for the person who sent something else.
const WHOLE: &str = "a whole number, like 50";

/// What part of a list the caller wants.
#[derive(Clone, Debug)]
pub struct Page {
    /// How many items, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// How many to skip, up to [`MAX_OFFSET`]; ignored with a cursor.
    pub offset: usize,
    /// `next_cursor` of the page before.
    pub cursor: Option<Cursor>,
}

impl Page {
    /// The page for what the caller sent: limits are clamped, never refused.
    pub fn new(limit: Option<i64>, offset: Option<i64>, cursor: Option<String>) -> Self {
        let limit = limit.map_or(DEFAULT_LIMIT, |limit| limit.clamp(1, MAX_LIMIT as i64) as usize);
        let offset = offset.unwrap_or(0).clamp(0, MAX_OFFSET as i64) as usize;
        let cursor = cursor.filter(|text| !text.is_empty()).map(Cursor);
        Self { limit, offset, cursor }
    }

    /// The place that the cursor names, if there is one; `kind` must be the one it was made with.
    pub fn after<T: DeserializeOwned>(&self, kind: &str) -> Result<Option<T>> {
        self.cursor.as_ref().map(|cursor| cursor.open(kind)).transpose()
    }
}

/// A `limit` in a body: like the one in a query string it is never refused for its size.
///
/// # Errors
/// What is no whole number.
pub fn saturating<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i64>, D::Error> {
    let number = match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(serde_json::Value::Number(number)) => number,
        Some(_) => return Err(D::Error::invalid_type(Unexpected::Other("something else"), &WHOLE)),
    };
    let above = || number.as_u64().map(|_| i64::MAX);
    // So large that JSON has it as a float: the nearest there is.
    let far = || number.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64);
    let whole = number.as_i64().or_else(above).or_else(far);
    whole.map(Some).ok_or_else(|| D::Error::invalid_type(Unexpected::Float(number.as_f64().unwrap_or_default()), &WHOLE))
}

/// An opaque place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor of this kind of list that stands for `place`.
    pub fn new<T: Serialize>(kind: &str, place: &T) -> Self {
        let json = serde_json::to_vec(&(kind, place)).unwrap_or_default();
        let text = URL_SAFE_NO_PAD.encode(json);
        debug_assert!(text.len() <= MAX_CURSOR_BYTES, "a place of {kind} of {} bytes, which we would refuse", text.len());
        Self(text)
    }

    /// The place that it stands for.
    pub fn open<T: DeserializeOwned>(&self, kind: &str) -> Result<T> {
        if self.0.len() > MAX_CURSOR_BYTES {
            return Err(Self::foreign());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| Self::foreign())?;
        let (found, place): (String, T) = serde_json::from_slice(&bytes).map_err(|_| Self::foreign())?;
        if found == kind { Ok(place) } else { Err(Self::foreign()) }
    }

    /// The refusal of one that we have not made.
    pub fn foreign() -> Error {
        Error::invalid_at("query", "cursor", "not a cursor of this list: send next_cursor as it was given")
    }

    /// A cursor as the caller sent it, unchecked until [`Cursor::open`].
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text that goes out as `next_cursor`.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_clamped_and_never_refused() {
        let page = Page::new(Some(5_000), Some(-3), None);
        assert_eq!((page.limit, page.offset), (100, 0));
        let page = Page::new(Some(0), Some(99_999), Some(String::new()));
        assert_eq!((page.limit, page.offset, page.cursor), (1, 1_000, None));
        assert_eq!(Page::new(None, None, None).limit, 50);
    }

    #[test]
    fn a_limit_in_a_body_is_taken_whatever_its_size() {
        let read = |json: &str| saturating(&mut serde_json::Deserializer::from_str(json)).ok();
        assert_eq!(read("20"), Some(Some(20)));
        assert_eq!(read("18446744073709551615"), Some(Some(i64::MAX)));
        assert_eq!(read("99999999999999999999"), Some(Some(i64::MAX)));
        assert_eq!(read("-99999999999999999999"), Some(Some(i64::MIN)));
        assert_eq!(read("null"), Some(None));
        assert_eq!((read("1.5"), read("\"ten\"")), (None, None));
    }

    #[test]
    fn a_cursor_opens_for_its_own_list_only() {
        let cursor = Cursor::new("users", &(7, "x"));
        assert_eq!(cursor.open::<(i64, String)>("users").ok(), Some((7, "x".to_owned())));
        assert!(cursor.open::<(i64, String)>("messages").is_err());
        assert!(Cursor::from_text("!!".into()).open::<i64>("users").is_err());
        assert!(Cursor::from_text("A".repeat(600)).open::<i64>("users").is_err());
    }
}
