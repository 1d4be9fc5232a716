//! What the tests stand on: nodes that they start, and people who use them.
#![allow(dead_code, reason = "the features' tests come to use all of it")]

mod node;

pub use node::{TestServer, failure, json};
