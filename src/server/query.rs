//! Query strings as apps send them: either spelling of a name, and empty values that mean nothing.
//! The text is not decoded here; what it says is the handlers' business.

use std::fmt::Write as _;

use poem::http::Uri;

use crate::rest::snake_case;

/// Whose empty value is a value: no words find nothing, while a search without them is a mistake.
const MAY_BE_EMPTY: &str = "q";

/// The same with snake_case names (of both spellings snake_case wins) and without empty parameters;
/// `None` when it is so already.
pub fn normalised(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let parameters: Vec<_> = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, ""))).collect();
    let is_camel = |name: &str| name.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_empty = |name: &str, value: &str| value.is_empty() && name != MAY_BE_EMPTY;
    if !parameters.iter().any(|(name, value)| is_camel(name) || is_empty(name, value)) {
        return None;
    }
    let kept: Vec<_> = parameters.into_iter().filter(|(name, value)| !is_empty(name, value)).collect();
    let is_given = |snake: &str| kept.iter().any(|(name, _)| *name == snake);
    let mut path_and_query = uri.path().to_owned();
    let mut separator = '?';
    for (name, value) in &kept {
        let snake = if is_camel(name) { snake_case(name) } else { (*name).to_owned() };
        if is_camel(name) && is_given(&snake) {
            continue;
        }
        let _ = write!(path_and_query, "{separator}{snake}={value}");
        separator = '&';
    }
    path_and_query.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Option<String> {
        uri.parse().ok().and_then(|uri| normalised(&uri)).map(|uri| uri.to_string())
    }

    #[test]
    fn camel_case_counts_and_snake_case_wins() {
        assert_eq!(read("/x?beforeSeq=20&limit=5").as_deref(), Some("/x?before_seq=20&limit=5"));
        assert_eq!(read("/x?beforeSeq=20&before_seq=7").as_deref(), Some("/x?before_seq=7"));
        assert_eq!(read("/x?beforeSeq=20&before_seq=").as_deref(), Some("/x?before_seq=20"));
    }

    #[test]
    fn empty_is_absent_but_for_the_words_of_a_search() {
        assert_eq!(read("/x?limit=&cursor=&offset=3").as_deref(), Some("/x?offset=3"));
        assert_eq!(read("/x?limit=").as_deref(), Some("/x"));
        assert_eq!(read("/x?q=&limit").as_deref(), Some("/x?q="));
    }

    #[test]
    fn values_stay_as_they_are_and_so_does_what_needs_nothing() {
        assert_eq!(read("/x?q=Ada%20B%26C=D&someKey=Va%3Dl").as_deref(), Some("/x?q=Ada%20B%26C=D&some_key=Va%3Dl"));
        assert_eq!(read("/x?q=Ada&limit=5"), None);
        assert_eq!(read("/x"), None);
    }
}
