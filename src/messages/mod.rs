//! Messages: what people write into the log of a conversation, and what each does with it for himself.

mod sqlite;
mod store;

pub use store::{MessageStore, SEARCH_BLOCK_ROWS, Star, Term, TermMatch, search_block_of};
