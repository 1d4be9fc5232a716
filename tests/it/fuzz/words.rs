//! Phone numbers, names, and the words of messages and searches.

use bolero::check;
use urge::messages::{Query, TermMatch, terms};
use urge::phone::{Country, Phone};
use urge::text::{clean_line, clean_text, fold};

use super::compose;

const PIECES: [&str; 38] = [
    " ", "a", "e\u{301}", "é", "É", "ß", "ẞ", "İ", "ı", "ﬁ", "Ⅷ", "ǅ", "你", "好", "ひ", "カ", "ｶﾞ", "한", "ก็", "א", "\u{202e}", "\u{200b}",
    "\u{200d}", "👩", "🏽", "\u{0}", "\n", "1", "2", "٣", "½", "-", "'", "_", "word", "WORD", "\u{345}", "ΐ",
];

#[test]
fn phone_numbers_are_read_once() {
    let pieces = ["+", "0", "00", "1", "49", "44", "202", "555", "0123", "(", ")", "-", " ", ".", "/", "\u{200e}", "ext", "٣"];
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &pieces);
        for country in [None, Some(Country::US), Some(Country::DE)] {
            let Some(phone) = Phone::read(&text, country) else { continue };
            let digits = phone.as_str().strip_prefix('+').expect("E.164 begins with a plus");
            assert!((1..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()), "{phone}");
            assert_eq!(Phone::read(phone.as_str(), country).as_ref(), Some(&phone), "what was read reads the same again");
        }
    });
}

#[test]
fn a_message_is_found_by_its_own_words() {
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &PIECES);
        let Ok(Some(query)) = Query::parse(&text) else { return };
        assert!(query.matches(&text), "{text:?} does not match itself");
        let indexed = terms(&text);
        for lookup in query.lookups() {
            let found = match &lookup {
                TermMatch::Word(word) => indexed.contains(word),
                TermMatch::Prefix(prefix) => indexed.iter().any(|term| term.starts_with(prefix.as_str())),
            };
            assert!(found, "{lookup:?} is not among {indexed:?}");
        }
    });
}

#[test]
fn folded_and_cleaned_text_stays_as_it_is() {
    check!().for_each(|bytes: &[u8]| {
        let text = compose(bytes, &PIECES);
        let folded = fold(&text);
        assert_eq!(fold(&folded), folded, "{text:?}");
        let cleaned = clean_text(&text);
        assert_eq!(clean_text(&cleaned), cleaned, "{text:?}");
        if let Some(line) = clean_line(&text) {
            assert_eq!(clean_line(&line).as_deref(), Some(line.as_str()), "{text:?}");
        }
    });
}
