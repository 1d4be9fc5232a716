//! The statements about messages beside the log: stars, what people hid from themselves, and the words of the search.
//! One partition a method, shaped after ScyllaDB. The messages themselves are rows of the log (`log::LogStore`).

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq, UserId};
use crate::store::StoreResult;

/// Rows of the log that one partition of the search index covers.
pub const SEARCH_BLOCK_ROWS: Seq = 16_384;

/// The partition of the search index that a row belongs to.
pub fn search_block_of(seq: Seq) -> i64 {
    seq / SEARCH_BLOCK_ROWS
}

/// A message that somebody starred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Star {
    /// Whose log it stands in.
    pub conversation_id: ConversationId,
    /// Its place there.
    pub seq: Seq,
    /// When it was starred.
    pub starred_at: Timestamp,
}

/// The words by which a row is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWords {
    /// The row.
    pub seq: Seq,
    /// Its version: what was read of it before it changed never takes the place of what was read after.
    pub version: i64,
    /// The folded words, letters and digits, each once; none when it is not to be found any more.
    pub words: Vec<String>,
}

/// The words whose rows are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermMatch {
    /// This word.
    Word(String),
    /// All words that begin like this.
    Prefix(String),
}

/// Stars, hidden messages and the search index.
/// Every write may be repeated; an error other than `Full` of a write means: perhaps done.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// Stars a message; an earlier star of the same message keeps its time.
    async fn put_star(&self, user: UserId, star: &Star) -> StoreResult<()>;

    /// Takes a star away, if it is there.
    async fn remove_star(&self, user: UserId, conversation: ConversationId, seq: Seq) -> StoreResult<()>;

    /// A person's stars by (conversation, seq), at most `limit`: the whole partition, which is bounded, so that
    /// order and total need no second table.
    async fn stars(&self, user: UserId, limit: usize) -> StoreResult<Vec<Star>>;

    /// Rows of the conversation from `from` to `to`, both included, that the person starred, ascending.
    async fn stars_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>>;

    /// Hides a row from a person, for ever; `counted`: it is a message of a person, of those that count as unread.
    async fn put_hidden(&self, user: UserId, conversation: ConversationId, seq: Seq, counted: bool) -> StoreResult<()>;

    /// Rows of the conversation from `from` to `to`, both included, that are hidden from the person, ascending.
    async fn hidden_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>>;

    /// How many rows after `after` are hidden from the person.
    async fn hidden_count(&self, user: UserId, conversation: ConversationId, after: Seq) -> StoreResult<i64>;

    /// How many rows from `from` to `to`, both included, are hidden from the person and counted.
    async fn hidden_unread(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<i64>;

    /// Finds these rows, all of them in this [`search_block_of`], by these words, and by no other of an earlier version.
    async fn put_words(&self, conversation: ConversationId, block: i64, rows: &[RowWords]) -> StoreResult<()>;

    /// Rows before `before` in this block that hold such a word or perhaps once did, descending, without repeats;
    /// `None` when the index holds more than `limit` entries of the kind.
    async fn term_rows(
        &self,
        conversation: ConversationId,
        block: i64,
        wanted: &TermMatch,
        before: Seq,
        limit: usize,
    ) -> StoreResult<Option<Vec<Seq>>>;
}
