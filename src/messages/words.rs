//! The words of messages: what the search index holds of a content, what a query asks for, and whether the two agree.
//! Both sides are cut and folded by the same functions, so that neither case, accents nor width stand between them.
//! Scripts that are written without spaces are indexed by character; a query in them must stand in the content as it is.

use std::collections::HashSet;

use super::TermMatch;
use crate::error::{Error, Result};
use crate::text::{fold, words};

/// Characters of a word that the index holds.
const MAX_TERM_CHARS: usize = 64;
/// The longest query, in characters.
const MAX_QUERY_CHARS: usize = 256;
/// Words of a query that the index is asked about; the others are looked for in what it proposes.
const MAX_LOOKUPS: usize = 6;

/// The words that the index holds of this content, each once: all of them, for what a message may hold bounds them.
pub fn terms(content: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let pieces = words(content).into_iter().flat_map(|word| pieces(&word));
    pieces.map(|word| clip(&word)).filter(|word| seen.insert(word.clone())).collect()
}

/// What somebody looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Words that must be there.
    whole: Vec<String>,
    /// The beginning of a word that must be there.
    last: Option<String>,
    /// Runs of characters, of scripts without spaces, that must be there.
    runs: Vec<String>,
}

impl Query {
    /// The query that this text means; `None` when there is no usable word in it.
    ///
    /// # Errors
    /// `Invalid`: too long.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.chars().count() > MAX_QUERY_CHARS {
            return Err(Error::invalid_at("query", "q", format!("q may have at most {MAX_QUERY_CHARS} characters")));
        }
        let mut query = Self { whole: Vec::new(), last: None, runs: Vec::new() };
        let mut all = words(text);
        let last = all.pop();
        for word in all {
            let kind = if is_unspaced(&word) { &mut query.runs } else { &mut query.whole };
            if !kind.contains(&word) {
                kind.push(word);
            }
        }
        match last {
            Some(word) if is_unspaced(&word) => query.runs.push(word),
            last => query.last = last,
        }
        let usable = query.last.is_some() || !query.runs.is_empty();
        Ok(usable.then_some(query))
    }

    /// What the index is to be asked, the most telling first: every row that matches stands in each of the answers.
    pub fn lookups(&self) -> Vec<TermMatch> {
        let of_runs = self.runs.iter().flat_map(|run| pieces(run));
        let mut whole: Vec<String> = self.whole.iter().cloned().chain(of_runs).map(|word| clip(&word)).collect();
        whole.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        whole.dedup();
        let last = self.last.as_deref().map(|word| TermMatch::Prefix(clip(word)));
        let room = MAX_LOOKUPS - usize::from(last.is_some());
        whole.into_iter().take(room).map(TermMatch::Word).chain(last).collect()
    }

    /// Whether this content has everything that is looked for.
    pub fn matches(&self, content: &str) -> bool {
        let folded = fold(content);
        if self.runs.iter().any(|run| !folded.contains(run.as_str())) {
            return false;
        }
        if self.whole.is_empty() && self.last.is_none() {
            return true;
        }
        let words: HashSet<String> = words(content).iter().flat_map(|word| pieces(word)).collect();
        self.whole.iter().all(|word| words.contains(word))
            && self.last.as_ref().is_none_or(|last| words.iter().any(|word| word.starts_with(last.as_str())))
    }
}

/// A word as it is indexed: unspaced characters one by one, the runs between them whole.
fn pieces(word: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut run = String::new();
    for c in word.chars() {
        if has_no_spaces(c) {
            if !run.is_empty() {
                pieces.push(std::mem::take(&mut run));
            }
            pieces.push(c.to_string());
        } else {
            run.push(c);
        }
    }
    if !run.is_empty() {
        pieces.push(run);
    }
    pieces
}

fn is_unspaced(word: &str) -> bool {
    word.chars().any(has_no_spaces)
}

/// Han, Kana, Thai, Lao, Burmese and Khmer.
fn has_no_spaces(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}' | '\u{3040}'..='\u{30ff}')
        || matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

fn clip(word: &str) -> String {
    word.chars().take(MAX_TERM_CHARS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap().unwrap()
    }

    #[test]
    fn a_message_is_indexed_by_its_words_each_once() {
        assert_eq!(terms("The FOX, the Été & 3rd fox!"), ["the", "fox", "ete", "3rd"]);
        assert_eq!(terms("abc你好"), ["abc", "你", "好"]);
        assert!(terms("🦊 …").is_empty());
        let long = (0..2_000).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
        assert_eq!(terms(&long).len(), 2_000);
        assert_eq!(terms(&"x".repeat(9_000)), ["x".repeat(MAX_TERM_CHARS)]);
    }

    #[test]
    fn every_word_must_be_there_and_the_last_may_be_a_beginning() {
        assert!(query("quick fo").matches("The quick brown fox"));
        assert!(query("FOX QUICK").matches("The quick brown fox"));
        assert!(!query("qui fox").matches("The quick brown fox"));
        assert!(!query("quick cat").matches("The quick brown fox"));
        assert!(query("ecole").matches("À l’École"));
        assert!(query("ÉCOLE").matches("ecole"));
        assert!(query("strasse").matches("Hauptstr., Straße 5"));
        assert!(query("محم").matches("مرحبا محمد"));
        assert!(query("o'ne").matches("Mr O'Neil"));
    }

    #[test]
    fn scripts_without_spaces_are_found_within_a_sentence() {
        assert!(query("你好").matches("我说你好吗"));
        assert!(!query("你好").matches("好…你"));
        assert!(query("สวัส").matches("พูดสวัสดี"));
        assert!(query("hello 世界").matches("Hello,世界!"));
        assert_eq!(query("你好").lookups(), [TermMatch::Word("你".into()), TermMatch::Word("好".into())]);
    }

    #[test]
    fn the_index_is_asked_for_few_words_the_longest_first() {
        assert_eq!(
            query("a quick fo").lookups(),
            [TermMatch::Word("quick".into()), TermMatch::Word("a".into()), TermMatch::Prefix("fo".into())]
        );
        let many = (10..60).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        assert_eq!(query(&many).lookups().len(), MAX_LOOKUPS);
        assert_eq!(query(&"x".repeat(200)).lookups(), [TermMatch::Prefix("x".repeat(MAX_TERM_CHARS))]);
    }

    #[test]
    fn what_has_no_word_looks_for_nothing() {
        for text in ["", "  ", "🦊", "-- !", "\u{200b}"] {
            assert_eq!(Query::parse(text).unwrap(), None, "{text:?}");
        }
        assert!(Query::parse(&"x".repeat(257)).is_err());
    }

    #[test]
    fn what_matches_is_always_proposed() {
        let contents = ["The quick brown fox", "abc你好 def", "Straße 12b", "สวัสดีครับ", "İstanbul'da", "안녕하세요 세계"];
        for content in contents {
            let indexed = terms(content);
            for asked in ["quick", "the fo", "你好", "strasse 12", "ดีค", "istanbul", "안녕 세", "안녕하세요 세"] {
                let query = query(asked);
                let proposed = query.lookups().iter().all(|lookup| match lookup {
                    TermMatch::Word(word) => indexed.contains(word),
                    TermMatch::Prefix(prefix) => indexed.iter().any(|term| term.starts_with(prefix.as_str())),
                });
                assert!(!query.matches(content) || proposed, "{asked} in {content}");
            }
        }
    }
}
