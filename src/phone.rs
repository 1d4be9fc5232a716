//! Phone numbers as people type them, read into E.164. One reading for sign-up, login, contact lookup and search:
//! the same text is the same account everywhere. Nothing is sent and nothing is stored here.

use std::fmt;

use phonenumber::metadata::DATABASE;
use phonenumber::{Mode, PhoneNumber};
use serde::Serialize;

use crate::error::{Error, Result};

/// A country, as its two letters of ISO 3166-1.
pub use phonenumber::country::Id as Country;

/// More than this is no phone number: 15 digits and whatever people put between them.
const MAX_TEXT_BYTES: usize = 64;
/// Most digits of an E.164 number, country code included.
const MAX_DIGITS: usize = 15;

/// A phone number in E.164: `+` and at most 15 digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Phone(String);

impl Phone {
    /// Reads a number: first as E.164, else as dialled in `country` (if one is set), else with a `+` before it.
    /// Spaces, dashes, dots, slashes, brackets and the invisible marks of copied contacts do not matter.
    /// A number is taken when its shape fits its country's plan, even if the plan knows no such range (plans change);
    /// what the plan does know wins over what merely fits.
    ///
    /// `None`: no phone number.
    pub fn read(text: &str, country: Option<Country>) -> Option<Self> {
        let clean = digits_of(text)?;
        if clean.starts_with('+') {
            return accept(None, &clean, fits);
        }
        let with_plus = format!("+{clean}");
        let dialled = |is_number| country.and_then(|country| accept(Some(country), &clean, is_number));
        dialled(PhoneNumber::is_valid)
            .or_else(|| accept(None, &with_plus, PhoneNumber::is_valid))
            .or_else(|| dialled(fits))
            .or_else(|| accept(None, &with_plus, fits))
    }

    /// [`Phone::read`] for a field of a request's body.
    ///
    /// # Errors
    /// `Invalid` at `field`.
    pub fn parse(field: &str, text: &str, country: Option<Country>) -> Result<Self> {
        Self::read(text, country)
            .ok_or_else(|| Error::invalid(field, "not a phone number: send it with its country code, like +12025550123"))
    }

    /// A number that was read before and stored: not read again, so that it stays whose it is when plans change.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The number, `+` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number as text, `+` included.
    pub fn into_string(self) -> String {
        self.0
    }

    /// The country that it belongs to, when its plan tells.
    pub fn country(&self) -> Option<Country> {
        phonenumber::parse(None, &self.0).ok()?.country().id()
    }

    /// Whether it belongs to one of these countries. A number of a range that no plan knows may be of any country that
    /// shares its calling code.
    pub fn is_of(&self, countries: &[Country]) -> bool {
        let Ok(number) = phonenumber::parse(None, &self.0) else { return false };
        let calling_code = |country: &Country| DATABASE.by_id(country.as_ref()).map(phonenumber::Metadata::country_code);
        match number.country().id() {
            Some(country) => countries.contains(&country),
            None => countries.iter().any(|country| calling_code(country) == Some(number.country().code())),
        }
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers stay out of logs: Debug says only how long it is.
impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phone({} digits)", self.0.len().saturating_sub(1))
    }
}

/// The digits, with the leading `+` if there is one; nothing else may be in there but separators.
fn digits_of(text: &str) -> Option<String> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let mut clean = String::with_capacity(MAX_DIGITS + 1);
    for c in text.trim().chars() {
        match c {
            '0'..='9' => clean.push(c),
            '+' | '\u{ff0b}' if clean.is_empty() => clean.push('+'),
            c if is_separator(c) => {}
            _ => return None,
        }
    }
    (clean.len() >= 4).then_some(clean)
}

/// What people, and the contact apps that they copy from, put between digits: the second line are invisible marks.
fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '(' | ')' | '.' | '/')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn accept(country: Option<Country>, text: &str, is_number: fn(&PhoneNumber) -> bool) -> Option<Phone> {
    let e164 = |number: &PhoneNumber| number.format().mode(Mode::E164).to_string();
    let number = phonenumber::parse(country, text).ok().filter(is_number)?;
    let text = e164(&number);
    let digits = text.strip_prefix('+')?;
    let plain = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Some plans take digits for a prefix that are part of the number: who signed up with it could not log in as it is stored.
    let again = || phonenumber::parse(None, &text).is_ok_and(|number| fits(&number) && e164(&number) == text);
    (plain && again()).then_some(Phone(text))
}

/// Whether the country code exists and the number has a shape that one of its plans gives to numbers at large.
fn fits(number: &PhoneNumber) -> bool {
    let national = number.national().to_string();
    let whole = |found: std::ops::Range<usize>| found == (0..national.len());
    DATABASE.by_code(&number.code().value()).is_some_and(|plans| {
        plans.iter().any(|plan| plan.descriptors().general().national_number().find(&national).is_some_and(|found| whole(found.range())))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Option<String> {
        Phone::read(text, Some(Country::US)).map(Phone::into_string)
    }

    #[test]
    fn one_number_in_many_spellings() {
        for text in [
            "+12025550123",
            "+1 (202) 555-0123",
            "12025550123",
            "1-202-555-0123",
            "(202) 555-0123",
            "202.555.0123",
            "\u{202a}+1 202 555 0123\u{202c}",
            "\u{ff0b}1 202\u{a0}555\u{2011}0123",
            " 2025550123 ",
        ] {
            assert_eq!(read(text).as_deref(), Some("+12025550123"), "{text:?}");
        }
    }

    #[test]
    fn a_number_of_elsewhere_is_read_with_a_plus_before_it() {
        assert_eq!(read("4915123456789").as_deref(), Some("+4915123456789"));
        assert_eq!(read("447911123456").as_deref(), Some("+447911123456"));
        assert_eq!(Phone::read("0151 23456789", Some(Country::DE)).unwrap().as_str(), "+4915123456789");
        assert_eq!(Phone::read("0049 151 23456789", Some(Country::DE)).unwrap().as_str(), "+4915123456789");
        assert_eq!(Phone::read("06 1234 5678", Some(Country::IT)).unwrap().as_str(), "+390612345678", "Italy keeps its zero");
    }

    #[test]
    fn a_range_that_the_plan_does_not_know_yet_is_taken_by_its_shape() {
        assert_eq!(read("+15551234567").as_deref(), Some("+15551234567"));
        assert_eq!(read("5551234567").as_deref(), Some("+15551234567"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "+",
            "123",
            "abc",
            "+1202555012a",
            "+1202",
            "+120255501234",
            "+12025550123456",
            "+9999999999999",
            "+1 202 555 0123 ext 5",
            "1-800-FLOWERS",
            "++12025550123",
            "12\u{0}025550123",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read(&"1".repeat(65)), None);
        assert_eq!(read(&"1".repeat(16)), None);
    }

    #[test]
    fn any_digits_are_read_or_refused_without_a_panic() {
        for code in 1..1_000 {
            for rest in ["", "1", "000000", "12345678", "0612345678", "99999999999"] {
                let _ = Phone::read(&format!("+{code}{rest}"), Some(Country::US));
                let _ = Phone::read(&format!("{code}{rest}"), Some(Country::DE)).map(|phone| phone.country());
            }
        }
    }

    #[test]
    fn the_country_is_known_and_the_number_stays_out_of_debug_output() {
        let phone = Phone::read("+4915123456789", Some(Country::US)).unwrap();
        assert_eq!(phone.country(), Some(Country::DE));
        assert!(!format!("{phone:?}").contains("4915"));
    }

    #[test]
    fn a_number_that_no_plan_knows_may_be_of_any_country_of_its_code() {
        let is_of = |text: &str, countries: &[Country]| Phone::read(text, None).unwrap().is_of(countries);
        for (unknown, country) in [("+447700900123", Country::GB), ("+390612345678", Country::IT)] {
            assert_eq!(Phone::read(unknown, None).unwrap().country(), None);
            assert!(is_of(unknown, &[Country::FR, country]), "{unknown}");
            assert!(!is_of(unknown, &[Country::FR, Country::US]), "{unknown}");
        }
        // What the plan does know is nobody else's, whoever shares the code.
        assert!(is_of("+12025550123", &[Country::US]));
        assert!(!is_of("+18765550123", &[Country::US]), "Jamaica's");
        assert!(!is_of("+12025550123", &[]));
    }
}
