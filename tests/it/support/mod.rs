//! What the tests stand on: nodes that they start, and people who use them.

mod node;

pub use node::{TestServer, failure, json};
