//! Text that people type, made comparable and presentable: folding for search, cleaning of names.
//! What counts as a letter, a mark or invisible is decided here once, for names of people, groups and for messages.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// More marks than this on one letter are decoration that covers the lines above and below.
const MAX_MARKS: usize = 4;

/// The text without case, accents and width: what two spellings of one word have in common.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'đ' | 'ð' => folded.push('d'),
            'ł' => folded.push('l'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            'ς' => folded.push('σ'),
            // Lowercase of İ leaves a mark behind.
            c if is_combining_mark(c) => {}
            c => folded.push(c),
        }
    }
    folded
}

/// The folded words of a text: runs of letters and digits, in order.
pub fn words(text: &str) -> Vec<String> {
    fold(text).split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// One line fit to be shown as somebody's or something's name: composed (NFC), without control characters, without
/// characters that turn the direction of what follows or are there only to be unseen, spaces run together.
///
/// `None`: nothing visible is left.
pub fn clean_line(text: &str) -> Option<String> {
    let mut line = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.nfc() {
        if c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
            continue;
        }
        if c.is_control() || is_hidden(c) {
            continue;
        }
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks <= MAX_MARKS {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line.chars().any(is_visible).then_some(line)
}

/// Several lines: as they are, composed, without control characters other than the line's end and the tab,
/// and without what turns directions. Empty when nothing visible is left.
pub fn clean_text(text: &str) -> String {
    let kept: String = text.nfc().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || turns_direction(*c))).collect();
    if kept.chars().any(is_visible) { kept.trim().to_owned() } else { String::new() }
}

/// Embeddings, overrides and isolates: they outlive the name and turn the text around it.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Unseen and of no use in a name. The joiners (U+200C, U+200D) stay: Persian, Hindi and emoji are written with them.
fn is_hidden(c: char) -> bool {
    turns_direction(c)
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2065}')
        || matches!(c, '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}')
}

/// Leaves ink: not a space, a joiner, a mark without a letter, a filler or a selector.
fn is_visible(c: char) -> bool {
    let blank = matches!(c, '\u{200c}' | '\u{200d}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}')
        || matches!(c, '\u{3164}' | '\u{ffa0}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}');
    !(blank || c.is_whitespace() || c.is_control() || is_hidden(c) || is_combining_mark(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_leaves_what_spellings_have_in_common() {
        assert_eq!(fold("ÉCOLE Straße"), "ecole strasse");
        assert_eq!(fold("e\u{301}"), fold("é"));
        assert_eq!(fold("ＡＤＡ"), "ada");
        assert_eq!(fold("İstanbul"), "istanbul");
        assert_eq!(fold("Łódź Øre"), "lodz ore");
        assert_eq!(fold("ΣΟΦΟΣ"), fold("σοφος"));
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(words("  Jean-Luc O'Neil, 3rd 🦊"), ["jean", "luc", "o", "neil", "3rd"]);
        assert!(words("🦊 -- !").is_empty());
        assert_eq!(words("محمد علي"), ["محمد", "علي"]);
    }

    #[test]
    fn names_keep_their_letters_and_lose_tricks() {
        assert_eq!(clean_line("  Ada \n\t Lovelace\u{7} ").as_deref(), Some("Ada Lovelace"));
        assert_eq!(clean_line("e\u{301}va").as_deref(), Some("éva"));
        assert_eq!(clean_line("Bob\u{202e}gpj.exe").as_deref(), Some("Bobgpj.exe"));
        assert_eq!(clean_line("a\u{200b}d\u{feff}min").as_deref(), Some("admin"));
        assert_eq!(clean_line("محمد").as_deref(), Some("محمد"));
        assert_eq!(clean_line("👩\u{200d}💻").as_deref(), Some("👩\u{200d}💻"));
        assert_eq!(clean_line("🏴󠁧󠁢󠁥󠁮󠁧󠁿").as_deref(), Some("🏴󠁧󠁢󠁥󠁮󠁧󠁿"));
        let dripping = format!("Z{}", "\u{30d}".repeat(50));
        assert_eq!(clean_line(&dripping).map(|name| name.chars().count()), Some(5));
    }

    #[test]
    fn a_name_that_nobody_can_see_is_none() {
        for text in ["", "   ", "\u{200b}\u{200d}", "\u{3164}", "\u{2800}\u{2800}", "\u{301}", "\u{0}\u{1}", "\u{202e}", "\u{fe0f}"] {
            assert_eq!(clean_line(text), None, "{text:?}");
        }
    }

    #[test]
    fn texts_keep_their_lines() {
        assert_eq!(clean_text(" one\r\ntwo\u{202e}\u{0} "), "one\ntwo");
        assert_eq!(clean_text("\u{200b}\n"), "");
    }
}
