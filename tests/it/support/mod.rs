//! What the tests stand on: nodes that they start, and people who use them.
#![allow(dead_code, reason = "the features' tests come to use all of it")]

mod node;
mod sms;

pub use node::{PATIENCE, TestServer, failure, json};
pub use sms::Outbox;
