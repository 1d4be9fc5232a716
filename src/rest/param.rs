//! Query parameters as apps send them: numbers of any size, and words in any case. What is wrong is said in words fit
//! for the person in front of the app. That an empty parameter is an absent one is the server's doing (`server::query`).

use std::borrow::Cow;
use std::num::IntErrorKind;

use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use serde_json::Value;

use crate::page::Page;

/// A whole number; one that is too large is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole(pub i64);

/// The page that these parameters ask for.
pub fn page(limit: Option<Whole>, offset: Option<Whole>, cursor: Option<String>) -> Page {
    Page::new(limit.map(|limit| limit.0), offset.map(|offset| offset.0), cursor)
}

impl ParseFromParameter for Whole {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        match value.trim().parse() {
            Ok(number) => Ok(Self(number)),
            Err(error) => match error.kind() {
                IntErrorKind::PosOverflow => Ok(Self(i64::MAX)),
                IntErrorKind::NegOverflow => Ok(Self(i64::MIN)),
                _ => Err(ParseError::custom("must be a whole number")),
            },
        }
    }
}

impl Type for Whole {
    const IS_REQUIRED: bool = true;
    type RawValueType = i64;
    type RawElementValueType = i64;

    fn name() -> Cow<'static, str> {
        i64::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        i64::schema_ref()
    }

    fn as_raw_value(&self) -> Option<&i64> {
        Some(&self.0)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a i64> + 'a> {
        Box::new(std::iter::once(&self.0))
    }
}

/// Yes or no as clients spell it: `true`, `false`, `1` or `0`, in whatever case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl ParseFromParameter for Flag {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err(ParseError::custom("must be true or false")),
        }
    }
}

impl Type for Flag {
    const IS_REQUIRED: bool = true;
    type RawValueType = bool;
    type RawElementValueType = bool;

    fn name() -> Cow<'static, str> {
        bool::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        bool::schema_ref()
    }

    fn as_raw_value(&self) -> Option<&bool> {
        Some(&self.0)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a bool> + 'a> {
        Box::new(std::iter::once(&self.0))
    }
}

/// One of the values of an enum, in whatever case it is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T>(pub T);

impl<T: ParseFromParameter> ParseFromParameter for Choice<T> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let value = value.trim();
        let spellings = [value.to_owned(), value.to_ascii_lowercase(), value.to_ascii_uppercase()];
        match spellings.iter().find_map(|spelling| T::parse_from_parameter(spelling).ok()) {
            Some(choice) => Ok(Self(choice)),
            None => Err(ParseError::custom(format!("must be {}", choices::<T>()))),
        }
    }
}

impl<T: Type> Type for Choice<T> {
    const IS_REQUIRED: bool = T::IS_REQUIRED;
    type RawValueType = T::RawValueType;
    type RawElementValueType = T::RawElementValueType;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        self.0.as_raw_value()
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        self.0.raw_element_iter()
    }
}

/// The values of an enum as its schema lists them: `a, b or c`.
fn choices<T: Type>() -> String {
    let mut registry = Registry::new();
    T::register(&mut registry);
    let values: Vec<_> = registry.schemas.values().flat_map(|schema| &schema.enum_items).filter_map(Value::as_str).collect();
    match values.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "one of the documented values".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Debug, PartialEq, poem_openapi::Enum)]
    #[oai(rename_all = "UPPERCASE")]
    enum Kind {
        Text,
        Image,
        Voice,
    }

    #[test]
    fn a_number_of_any_size_is_taken() {
        let read = |text: &str| Whole::parse_from_parameter(text).ok().map(|number| number.0);
        assert_eq!(read("20"), Some(20));
        assert_eq!(read(" 5"), Some(5));
        assert_eq!(read("99999999999999999999"), Some(i64::MAX));
        assert_eq!(read("-99999999999999999999"), Some(i64::MIN));
        assert_eq!((read("ten"), read("1.5"), read("")), (None, None, None));
    }

    #[test]
    fn yes_and_no_are_taken_as_clients_spell_them() {
        let read = |text: &str| Flag::parse_from_parameter(text).ok().map(|flag| flag.0);
        for (text, flag) in [("true", true), ("True", true), ("TRUE", true), ("1", true), ("false", false), ("False", false), ("0", false)]
        {
            assert_eq!(read(text), Some(flag), "{text}");
        }
        for bad in ["yes", "2", "", "maybe"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn choices_are_taken_in_any_case_and_named() {
        for text in ["image", "IMAGE", "Image"] {
            assert_eq!(Choice::<Kind>::parse_from_parameter(text).unwrap().0, Kind::Image);
        }
        let words = Choice::<Kind>::parse_from_parameter("song").unwrap_err().into_message();
        assert!(words.ends_with("must be TEXT, IMAGE or VOICE"), "{words}");
    }
}
