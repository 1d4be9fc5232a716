//! Finding people by name or number. The index of prefixes only proposes: every hit is read again and matched,
//! so a name changed a moment ago is found by what it is now. A number is found whole or not at all.

use futures_util::future::try_join_all;

use super::directory::begin;
use super::{Found, MAX_QUERY_CHARS, SHARDS, UserRecord, Users};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::page::Page;
use crate::phone::Phone;
use crate::text;

/// Shortest word that is searched for, in characters.
const MIN_PREFIX_CHARS: usize = 2;
/// Longest prefix that is listed; a longer word is looked up by its beginning and matched whole.
const MAX_PREFIX_CHARS: usize = 8;
/// Words of a name that are listed.
const MAX_WORDS: usize = 8;
/// Proposals that are read again in one search; then the cursor goes on.
const MAX_CANDIDATES: usize = 2_000;
/// Proposals that are read at once.
const CANDIDATES: usize = 100;
/// What cursors of searches are tagged with.
const CURSOR: &str = "user-search";

/// The prefixes under which a name is listed, each once, in order.
pub(super) fn prefixes(name: Option<&str>) -> Vec<String> {
    let mut prefixes = Vec::new();
    for word in text::words(name.unwrap_or_default()).iter().take(MAX_WORDS) {
        let ends = word.char_indices().map(|(at, c)| at + c.len_utf8()).take(MAX_PREFIX_CHARS).skip(MIN_PREFIX_CHARS - 1);
        prefixes.extend(ends.map(|end| word[..end].to_owned()));
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// The words of a query that can be searched for.
fn usable_words(query: &str) -> Vec<String> {
    let mut words = text::words(query);
    words.retain(|word| word.chars().count() >= MIN_PREFIX_CHARS);
    words.truncate(MAX_WORDS);
    words
}

fn beginning(word: &str) -> String {
    word.chars().take(MAX_PREFIX_CHARS).collect()
}

/// Whether each word of the query begins a word of the name.
fn matches(record: &UserRecord, words: &[String]) -> bool {
    let name = text::words(record.display_name.as_deref().unwrap_or_default());
    words.iter().all(|word| name.iter().take(MAX_WORDS).any(|part| part.starts_with(word.as_str())))
}

impl Users {
    /// People whom the caller may find: each word of two letters or more begins a word of the name, or the query is the
    /// whole phone number. The caller is not among them, nor is anybody who has blocked him.
    ///
    /// # Errors
    /// `RateLimited` beyond 30 a minute; `Invalid`: the query is too long, or the cursor none of this list.
    pub async fn search(&self, caller: UserId, query: &str, page: &Page) -> Result<Found> {
        self.searches.check(caller)?;
        if query.chars().count() > MAX_QUERY_CHARS {
            return Err(Error::invalid_at("query", "q", format!("q can be {MAX_QUERY_CHARS} characters long")));
        }
        let (after, before) = begin::<UserId>(page, CURSOR)?;
        if let Some(phone) = Phone::read(query, self.policy.default_country) {
            let found = self.by_phone(&phone).await?;
            let records = self.findable(caller, found.into_iter().collect()).await?;
            let records = records.into_iter().skip(page.offset).collect();
            return self.found::<UserId>(caller, records, before, None).await;
        }
        let words = usable_words(query);
        // The longest word proposes the fewest.
        let Some(rarest) = words.iter().max_by_key(|word| word.chars().count()) else {
            return self.found::<UserId>(caller, Vec::new(), before, None).await;
        };
        let skip = if after.is_some() { 0 } else { page.offset };
        let (records, next) = self.matching(caller, &beginning(rarest), &words, after, skip, page.limit).await?;
        self.found(caller, records, before, next.map(|place| (CURSOR, place))).await
    }

    /// People who match, by id; `skip` of them left out, at most `limit`; and where to go on, if there may be more.
    async fn matching(
        &self,
        caller: UserId,
        prefix: &str,
        words: &[String],
        mut after: Option<UserId>,
        mut skip: usize,
        limit: usize,
    ) -> Result<(Vec<UserRecord>, Option<UserId>)> {
        let mut found = Vec::new();
        let mut candidates = 0;
        loop {
            let proposed = self.proposed(prefix, after, CANDIDATES).await?;
            let is_last = proposed.len() < CANDIDATES;
            candidates += proposed.len();
            let last_proposed = proposed.last().copied();
            let mut records = self.records(&proposed).await?;
            records.retain(|record| matches(record, words));
            for record in self.findable(caller, records).await? {
                if skip > 0 {
                    skip -= 1;
                } else if found.len() < limit {
                    found.push(record);
                } else {
                    let place = found.last().map(|last: &UserRecord| last.id);
                    return Ok((found, place));
                }
            }
            after = last_proposed;
            if is_last {
                return Ok((found, None));
            }
            if candidates >= MAX_CANDIDATES {
                return Ok((found, after));
            }
        }
    }

    /// The next ids under a prefix, across its shards.
    async fn proposed(&self, prefix: &str, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let shards = (0..SHARDS).map(|shard| self.store.users_by_prefix(prefix, shard, after, limit));
        let mut ids: Vec<_> = try_join_all(shards).await?.into_iter().flatten().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        Ok(ids)
    }

    /// Those whom the caller may find.
    pub(super) async fn findable(&self, caller: UserId, mut records: Vec<UserRecord>) -> Result<Vec<UserRecord>> {
        let relations = self.settings.relations(caller).await?;
        records.retain(|record| {
            record.id != caller
                && !relations.blocked_by.contains_key(&record.id)
                && (record.is_verified || !self.policy.require_verified_phone)
        });
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn prefixes_are_folded_bounded_and_from_two_letters_on() {
        assert_eq!(prefixes(Some("Éva O")), ["ev", "eva"]);
        assert_eq!(prefixes(Some("Ada ADAM")), ["ad", "ada", "adam"]);
        assert!(prefixes(None).is_empty());
        let long = "abcdefghijklmnop ".repeat(20);
        assert_eq!(prefixes(Some(&long)).len(), MAX_PREFIX_CHARS - 1);
        let many: Vec<_> = (10..40).map(|n| format!("{n}abcdefghij")).collect();
        assert_eq!(prefixes(Some(&many.join(" "))).len(), MAX_WORDS * (MAX_PREFIX_CHARS - 1));
    }

    #[test]
    fn every_word_must_begin_a_word_of_the_name() {
        let mut record = UserRecord::new(UserId::fresh(), "+12025550123".into(), Timestamp(0));
        record.display_name = Some("Grace Brewster Hopper".into());
        let hit = |query: &str| matches(&record, &usable_words(query));
        assert!(hit("gra") && hit("HOP grace") && hit("brewster"));
        assert!(!hit("race") && !hit("grace x-ray") && !hit("hoppers"));
        assert!(usable_words("a b c !").is_empty());
    }
}
